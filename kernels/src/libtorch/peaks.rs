//! What libtorch reaches on a device.

use tch::{Device, Kind, Tensor as Torch};

use super::synchronize;
use crate::device::{DevicePeaks, Probe};
use crate::error::BackendError;

pub(super) fn measure(device: Device, probe: Probe) -> Result<DevicePeaks, BackendError> {
    let _no_grad = tch::no_grad_guard();
    let sync = || synchronize(device);
    let copy_gb_s = {
        let from = Torch::f_ones([probe.elements as i64], (Kind::Float, device))?;
        let mut to = Torch::f_empty_like(&from)?;
        let copy = || to.f_copy_(&from).map_err(BackendError::from);
        probe.best_rate(probe.copied_bytes(), copy, sync)?
    };
    let order = probe.order as i64;
    let product = |kind| {
        // Random as the elements of a real matrix are: a GPU is faster, and cooler, on constants.
        let a = Torch::f_randn([order, order], (Kind::Float, device))?.f_to_kind(kind)?;
        let out = Torch::f_empty_like(&a)?;
        let multiply = || a.f_matmul_out(&out, &a).map(drop).map_err(BackendError::from);
        probe.best_rate(probe.product_flops(), multiply, sync)
    };
    Ok(DevicePeaks {
        copy_gb_s,
        f32_gflops: product(Kind::Float)?,
        f16_gflops: product(Kind::Half)?,
        bf16_gflops: product(Kind::BFloat16)?,
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
        let peaks = measure(Device::Cpu, probe).unwrap();
        let rates = [peaks.copy_gb_s, peaks.f32_gflops, peaks.f16_gflops, peaks.bf16_gflops];
        assert!(rates.iter().all(|rate| rate.is_finite() && *rate > 0.0), "{peaks:?}");
    }
}
