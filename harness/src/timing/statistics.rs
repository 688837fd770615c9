//! What a set of slices says: quantiles per iteration, and ratios with intervals.

use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

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

/// The ratio of two medians with its bootstrap 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// median(numerator) ÷ median(denominator).
    pub estimate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Bootstrap resamples. The 2.5 % quantile of 2,000 has a standard error of 0.35 % in
/// probability, small beside what 15 rounds leave open; ten times as many change no digit shown.
const RESAMPLES: usize = 2_000;

/// Fewest rounds for which an interval is given. Below it the percentile bootstrap of a median can
/// only return the extremes, and covers far less than it says.
pub const MIN_ROUNDS: usize = 5;

impl Ratio {
    /// The ratio of median times over paired rounds, (numerator, denominator) of each, in the same
    /// unit.
    ///
    /// Rounds are resampled whole: both times of a round come from the same few milliseconds, and
    /// a disturbance that they share cancels in the ratio. The interval is the percentile
    /// bootstrap's (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, ch. 13),
    /// reproducible from `seed`.
    ///
    /// Nothing when there are fewer than [`MIN_ROUNDS`] rounds or a time is not positive.
    pub fn of_medians(rounds: &[(f64, f64)], seed: u64) -> Option<Ratio> {
        // Written so that NaN is refused too.
        let positive = |x: f64| x > 0.0 && x.is_finite();
        if rounds.len() < MIN_ROUNDS || !rounds.iter().all(|&(a, b)| positive(a) && positive(b)) {
            return None;
        }
        let mut numerator = Vec::with_capacity(rounds.len());
        let mut denominator = Vec::with_capacity(rounds.len());
        let mut ratio_of = |pick: &mut dyn FnMut(usize) -> (f64, f64)| {
            numerator.clear();
            denominator.clear();
            for i in 0..rounds.len() {
                let (a, b) = pick(i);
                numerator.push(a);
                denominator.push(b);
            }
            median(&mut numerator) / median(&mut denominator)
        };
        let estimate = ratio_of(&mut |i| rounds[i]);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let resampled =
            sorted((0..RESAMPLES).map(|_| ratio_of(&mut |_| rounds[below(&mut random, rounds.len())])));
        Some(Ratio { estimate, low: quantile(&resampled, 0.025)?, high: quantile(&resampled, 0.975)? })
    }
}

/// A uniform integer in `0..n`, by multiplication (Lemire 2019) without the rejection step: its bias is
/// below n·2⁻⁶⁴.
pub(crate) fn below(random: &mut impl RngCore, n: usize) -> usize {
    ((random.next_u64() as u128 * n as u128) >> 64) as usize
}

pub(crate) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The quantile by linear interpolation between order statistics (Hyndman and Fan 1996, type 7).
pub(crate) fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = p * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (position - below as f64) * (sorted[above] - sorted[below]))
}

/// The median of a non-empty slice, which is left in another order.
fn median(values: &mut [f64]) -> f64 {
    let (middle, odd) = (values.len() / 2, values.len() % 2 == 1);
    let (lower, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return upper;
    }
    (lower.iter().copied().fold(f64::MIN, f64::max) + upper) / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_core::RngCore;

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

        #[test]
        fn both_medians_agree(values in prop::collection::vec(0.0..1e9f64, 1..40)) {
            let expected = quantile(&sorted(values.iter().copied()), 0.5).unwrap();
            prop_assert!((median(&mut values.clone()) - expected).abs() <= 1e-6 * expected);
        }

        #[test]
        fn ratio_scales_with_the_numerator(
            rounds in prop::collection::vec((1.0..1e6f64, 1.0..1e6f64), MIN_ROUNDS..30),
            seed in any::<u64>(),
        ) {
            let ratio = Ratio::of_medians(&rounds, seed).unwrap();
            prop_assert!(ratio.low <= ratio.high);
            let doubled: Vec<_> = rounds.iter().map(|&(a, b)| (2.0 * a, b)).collect();
            let twice = Ratio::of_medians(&doubled, seed).unwrap();
            prop_assert_eq!(twice.estimate, 2.0 * ratio.estimate);
            prop_assert_eq!((twice.low, twice.high), (2.0 * ratio.low, 2.0 * ratio.high));
        }
    }

    #[test]
    fn a_constant_ratio_has_no_width() {
        let rounds: Vec<_> = (1..=15).map(|i| (3.0 * i as f64, 2.0 * i as f64)).collect();
        let ratio = Ratio::of_medians(&rounds, 1).unwrap();
        assert_eq!(ratio, Ratio { estimate: 1.5, low: 1.5, high: 1.5 });
    }

    #[test]
    fn too_few_or_meaningless_rounds_have_no_ratio() {
        assert_eq!(Ratio::of_medians(&[(1.0, 1.0); MIN_ROUNDS - 1], 1), None);
        let mut rounds = [(1.0, 1.0); MIN_ROUNDS];
        for bad in [0.0, f64::NAN, f64::INFINITY] {
            rounds[0].1 = bad;
            assert_eq!(Ratio::of_medians(&rounds, 1), None, "{bad}");
        }
    }

    /// A normal deviate as a sum of twelve uniforms.
    fn normal(random: &mut Xoshiro256PlusPlus) -> f64 {
        (0..12).map(|_| random.next_u64() as f64 / 2f64.powi(64)).sum::<f64>() - 6.0
    }

    /// How often the interval holds the true ratio. Times are what timing gives: log-normal, a
    /// drift that the rounds share, now and then a slice that takes half as long again.
    fn coverage(rounds: usize, drift: f64, truth: f64) -> (f64, f64) {
        const TRIALS: usize = 600;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(rounds as u64);
        let (mut held, mut width) = (0, 0.0);
        for trial in 0..TRIALS {
            let times: Vec<(f64, f64)> = (0..rounds)
                .map(|_| {
                    let shared = (drift * normal(&mut random)).exp();
                    let mut time = |mean: f64| {
                        let outlier = if below(&mut random, 20) == 0 { 1.5 } else { 1.0 };
                        mean * shared * outlier * (0.02 * normal(&mut random)).exp()
                    };
                    (time(1e6 * truth), time(1e6))
                })
                .collect();
            let ratio = Ratio::of_medians(&times, trial as u64).unwrap();
            held += usize::from(ratio.low <= truth && truth <= ratio.high);
            width += (ratio.high - ratio.low) / truth;
        }
        (held as f64 / TRIALS as f64, width / TRIALS as f64)
    }

    /// With 600 trials the observed coverage has a standard error of 0.9 %. Where the rounds share a
    /// drift the interval is too wide rather than too narrow: medians of the two sides may come
    /// from different rounds.
    #[test]
    fn the_interval_covers_what_it_says() {
        for (rounds, drift, truth) in
            [(15, 0.0, 1.0), (15, 0.05, 1.25), (25, 0.0, 2.0), (25, 0.05, 1.0), (50, 0.05, 0.5)]
        {
            let (covered, width) = coverage(rounds, drift, truth);
            println!("{rounds} rounds, drift {drift}: covers {covered:.3}, mean width {width:.4}");
            let most = if drift == 0.0 { 0.975 } else { 0.995 };
            assert!((0.93..=most).contains(&covered), "{rounds} rounds, drift {drift}: {covered}");
            // Apart, the medians of 15 slices that drift by 5 % would give 0.1.
            let widest = if drift == 0.0 { 0.05 } else { 0.085 };
            assert!(width < widest, "{rounds} rounds, drift {drift}: {width}");
        }
    }
}
