//! CUDA events in candle's stream.

use std::sync::Arc;
use std::time::Duration;

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, DriverError};

use crate::device::Stopwatch;
use crate::error::BackendError;

/// Two events around what is timed. Their resolution is about half a microsecond.
pub(super) struct Events {
    stream: Arc<CudaStream>,
    start: Option<CudaEvent>,
}

impl Events {
    pub(super) fn new(device: &CudaDevice) -> Self {
        Events { stream: device.cuda_stream(), start: None }
    }

    fn record(&self) -> Result<CudaEvent, BackendError> {
        self.stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(failed)
    }
}

impl Stopwatch for Events {
    fn start(&mut self) -> Result<(), BackendError> {
        self.start = Some(self.record()?);
        Ok(())
    }

    fn stop(&mut self) -> Result<Duration, BackendError> {
        let end = self.record()?;
        let start = self.start.take().ok_or_else(|| BackendError::Library {
            library: "candle",
            message: "the stopwatch has not been started".into(),
        })?;
        // It waits for both.
        let milliseconds = start.elapsed_ms(&end).map_err(failed)?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) * 1e-3))
    }
}

fn failed(error: DriverError) -> BackendError {
    BackendError::Library { library: "candle", message: format!("CUDA events: {error}") }
}
