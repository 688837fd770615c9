//! What candle reaches on a device.

use candle_core::{DType, Device, Tensor};

use crate::device::{DevicePeaks, Probe};
use crate::error::BackendError;

pub(super) fn measure(device: &Device, probe: Probe) -> Result<DevicePeaks, BackendError> {
    let sync = || Ok(device.synchronize()?);
    let copy_gb_s = {
        let from = Tensor::ones(probe.elements, DType::F32, device)?;
        let copy = || from.copy().map(drop).map_err(BackendError::from);
        probe.best_rate(probe.copied_bytes(), copy, sync)?
    };
    let product = |dtype| {
        // Random as the elements of a real matrix are: a GPU is faster, and cooler, on constants.
        let a = Tensor::randn(0f32, 1.0, (probe.order, probe.order), device)?.to_dtype(dtype)?;
        let multiply = || a.matmul(&a).map(drop).map_err(BackendError::from);
        probe.best_rate(probe.product_flops(), multiply, sync)
    };
    Ok(DevicePeaks {
        copy_gb_s,
        f32_gflops: product(DType::F32)?,
        f16_gflops: product(DType::F16)?,
        bf16_gflops: product(DType::BF16)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The CPU stands in for a device, which need not be there.
    #[test]
    fn rates_are_measured() {
        let probe = Probe { elements: 1 << 16, order: 32, time: Duration::from_millis(1) };
        let peaks = measure(&Device::Cpu, probe).unwrap();
        let rates = [peaks.copy_gb_s, peaks.f32_gflops, peaks.f16_gflops, peaks.bf16_gflops];
        assert!(rates.iter().all(|rate| rate.is_finite() && *rate > 0.0), "{peaks:?}");
    }
}
