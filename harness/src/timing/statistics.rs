//! The distribution of the time of one iteration over a set of slices.

use touchstone_reports::statistics::{quantile, sorted};

/// The distribution of the time of one iteration, in integer nanoseconds.
///
/// Each slice contributes its mean iteration; the quantiles are over slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Slices.
    pub slices: usize,
    /// The fastest.
    pub min: u64,
    /// The 10 % quantile.
    pub p10: u64,
    /// The median.
    pub median: u64,
    /// The 90 % quantile.
    pub p90: u64,
    /// The mean.
    pub mean: u64,
    /// Median absolute deviation from the median, not scaled.
    pub mad: u64,
}

impl Summary {
    /// Summarises slices of `iterations` iterations each; nothing when there are none.
    pub fn of(slices_ns: &[u64], iterations: u64) -> Option<Summary> {
        let per_iteration = |ns: f64| (ns / iterations.max(1) as f64).round() as u64;
        let ns = sorted(slices_ns.iter().map(|&ns| ns as f64));
        let median = quantile(&ns, 0.5)?;
        let deviations = sorted(ns.iter().map(|x| (x - median).abs()));
        Some(Summary {
            slices: ns.len(),
            min: per_iteration(ns[0]),
            p10: per_iteration(quantile(&ns, 0.1)?),
            median: per_iteration(median),
            p90: per_iteration(quantile(&ns, 0.9)?),
            mean: per_iteration(ns.iter().sum::<f64>() / ns.len() as f64),
            mad: per_iteration(quantile(&deviations, 0.5)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn summary_of_known_numbers() {
        let slices: Vec<u64> = (0..=10).map(|i| 1000 + 100 * i).rev().collect();
        let summary = Summary::of(&slices, 10).unwrap();
        let expected = Summary { slices: 11, min: 100, p10: 110, median: 150, p90: 190, mean: 150, mad: 30 };
        assert_eq!(summary, expected);
        assert_eq!(Summary::of(&[], 1), None);
        assert_eq!(Summary::of(&[7], 2).unwrap().median, 4);
    }

    proptest! {
        #[test]
        fn summary_is_ordered_and_ignores_order(mut slices in prop::collection::vec(1u64..1 << 40, 1..50)) {
            let summary = Summary::of(&slices, 1).unwrap();
            prop_assert!(summary.min <= summary.p10 && summary.p10 <= summary.median);
            prop_assert!(summary.median <= summary.p90);
            slices.reverse();
            prop_assert_eq!(Summary::of(&slices, 1).unwrap(), summary);
        }
    }
}
