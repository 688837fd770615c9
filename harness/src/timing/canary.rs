//! A loop that stays as it is.
//!
//! The regression gate runs it on both sides of a comparison. Nothing in it ever changes, so when
//! its time does, it is the machine or the build that differs, and no kernel can be blamed.
//!
//! **Do not change this file**: a candidate with another loop would move its own canary.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// 256 KiB: beyond the first level of cache, within the second.
const NUMBERS: usize = 1 << 15;

/// The time of `passes` passes, after one that is not timed.
pub fn canary(passes: u64) -> Duration {
    let numbers: Vec<f64> = (0..NUMBERS).map(|i| 1.0 + (i % 127) as f64 / 128.0).collect();
    black_box(pass(black_box(&numbers)));
    let start = Instant::now();
    for _ in 0..passes {
        black_box(pass(black_box(&numbers)));
    }
    start.elapsed()
}

/// Each step waits for the one before: the time is that of the processor's multiplication and
/// addition, and does not depend on how the code around it happens to be laid out.
#[inline(never)]
fn pass(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |sum, x| sum * 0.5 + x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_as_ever() {
        let numbers: Vec<f64> = (0..100).map(f64::from).collect();
        // Σ i·2^(i − 99) = 2·99 − 2·(1 − 2⁻⁹⁹) and a rounding.
        assert!((pass(&numbers) - 196.0).abs() < 1e-12);
        assert!(canary(3) > Duration::ZERO);
    }
}
