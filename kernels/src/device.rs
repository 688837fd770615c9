//! What only a device has: a clock of its own, and rates that its libraries reach.

use std::time::{Duration, Instant};

use crate::dtype::DType;
use crate::error::BackendError;

/// The clock of a device's queue: CUDA events.
///
/// A host sees the time from its first launch until it learns of the end, the way there and back
/// included; the queue's own clock runs from the first kernel to the last.
pub trait Stopwatch {
    /// Marks the beginning: all that has been enqueued before does not count.
    ///
    /// # Errors
    /// [`BackendError`] when the library fails.
    fn start(&mut self) -> Result<(), BackendError>;

    /// The time from the beginning until all that has been enqueued since is done, for which it
    /// waits.
    ///
    /// # Errors
    /// [`BackendError`] when the library fails.
    fn stop(&mut self) -> Result<Duration, BackendError>;
}

/// The clock that a time was taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The host's monotonic clock.
    Wall,
    /// The device's own, a [`Stopwatch`]: CUDA events for candle.
    Device,
}

crate::named_enum!(Clock, "clock", {
    Clock::Wall => "wall",
    Clock::Device => "device",
});

/// The rates of a device, as measured with a library's own copy and matrix product: the roofline
/// of what runs there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DevicePeaks {
    /// Copying within the device's memory, in GB (10⁹ bytes) a second: read and written together.
    pub copy_gb_s: f64,
    /// Matrix products of f32, in 10⁹ floating-point operations a second.
    pub f32_gflops: f64,
    /// Of f16, accumulated in f32.
    pub f16_gflops: f64,
    /// Of bf16, accumulated in f32.
    pub bf16_gflops: f64,
}

/// How much is copied and multiplied to find [`DevicePeaks`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// Elements of f32 to copy.
    pub(crate) elements: usize,
    /// Rows and columns of each of the matrices.
    pub(crate) order: usize,
    /// Time for one measurement.
    pub(crate) time: Duration,
}

#[cfg_attr(
    not(any(test, feature = "candle", feature = "libtorch")),
    expect(dead_code, reason = "only these two have devices to probe")
)]
impl Probe {
    /// 512 MiB to copy, four times the largest cache of a GPU to date, and products of 10¹² operations:
    /// enough for any device to come up to speed, in 1.8 GB of its memory.
    #[cfg(any(feature = "candle", feature = "libtorch"))]
    pub(crate) const DEVICE: Probe =
        Probe { elements: 1 << 27, order: 8192, time: Duration::from_millis(50) };

    /// The best rate of `run`, each doing `work`, in 10⁹ a second. The time of many is taken, so that
    /// neither launching nor waiting counts.
    pub(crate) fn best_rate(
        self,
        work: f64,
        mut run: impl FnMut() -> Result<(), BackendError>,
        sync: impl Fn() -> Result<(), BackendError>,
    ) -> Result<f64, BackendError> {
        const MEASUREMENTS: usize = 5;
        let mut time = |count: u32| {
            let start = Instant::now();
            for _ in 0..count {
                run()?;
            }
            sync()?;
            Ok::<_, BackendError>(start.elapsed())
        };
        let mut count = 1;
        // The first run pays for what the library does once.
        time(count)?;
        while time(count)? < self.time {
            count *= 2;
        }
        let mut best = Duration::MAX;
        for _ in 0..MEASUREMENTS {
            best = best.min(time(count)?);
        }
        Ok(work * f64::from(count) / best.as_secs_f64() / 1e9)
    }

    /// Bytes read and written by a copy.
    pub(crate) fn copied_bytes(self) -> f64 {
        8.0 * self.elements as f64
    }

    /// Operations of a product of two square matrices.
    pub(crate) fn product_flops(self) -> f64 {
        2.0 * (self.order as f64).powi(3)
    }
}

impl DevicePeaks {
    /// The rate of matrix products.
    pub fn gflops(&self, dtype: DType) -> f64 {
        match dtype {
            DType::F32 => self.f32_gflops,
            DType::F16 => self.f16_gflops,
            DType::BF16 => self.bf16_gflops,
        }
    }

    /// The better of two libraries' in each respect: a limit is what anything reaches.
    #[must_use]
    pub fn best_of(self, other: DevicePeaks) -> DevicePeaks {
        DevicePeaks {
            copy_gb_s: self.copy_gb_s.max(other.copy_gb_s),
            f32_gflops: self.f32_gflops.max(other.f32_gflops),
            f16_gflops: self.f16_gflops.max(other.f16_gflops),
            bf16_gflops: self.bf16_gflops.max(other.bf16_gflops),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_rate_is_of_what_has_been_waited_for() {
        let probe = Probe { elements: 2, order: 3, time: Duration::from_millis(2) };
        let (enqueued, waits) = (Cell::new(0_u32), Cell::new(0));
        let run = || {
            enqueued.set(enqueued.get() + 1);
            Ok(())
        };
        let sync = || {
            std::thread::sleep(Duration::from_micros(100) * enqueued.take());
            waits.set(waits.get() + 1);
            Ok(())
        };
        // A million units of work in at least 100 µs each.
        let rate = probe.best_rate(1e6, run, sync).unwrap();
        assert!(rate > 0.0 && rate <= 10.0, "{rate}");
        assert!(waits.get() >= 7, "one wait for many runs: {}", waits.get());
        assert_eq!((probe.copied_bytes(), probe.product_flops()), (16.0, 54.0));
        let failing = || Err(BackendError::Unsupported { reason: "no".into() });
        assert!(probe.best_rate(1.0, failing, || Ok(())).is_err());
    }
}
