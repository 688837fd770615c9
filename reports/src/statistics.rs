//! Medians, quantiles, and ratios of medians with intervals. There is one definition of each, for the
//! harness that records figures and for the reports that are made from recorded samples.
//!
//! Intervals are percentile bootstraps (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993,
//! ch. 13). Quantiles interpolate between order statistics (Hyndman and Fan 1996, type 7). Draws come from
//! xoshiro256++ with a seed, so that the same samples give the same digits everywhere.

use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Bootstrap resamples. The 2.5 % quantile of 2,000 has a standard error of 0.35 % in
/// probability, small beside what 15 rounds leave open; ten times as many change no digit shown.
const RESAMPLES: usize = 2_000;

/// Fewest rounds for which an interval is given. Below it the percentile bootstrap of a median can
/// only return the extremes, and covers far less than it says.
pub const MIN_ROUNDS: usize = 5;

/// The seed where samples come from files and bring none.
pub(crate) const SEED: u64 = 0x7062_6f6f_7473;

/// The ratio of two medians with its bootstrap 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MedianRatio {
    /// median(numerator) ÷ median(denominator).
    pub estimate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl MedianRatio {
    /// The ratio of median times over paired rounds, (numerator, denominator) of each, in the same
    /// unit.
    ///
    /// Rounds are resampled whole: both times of a round come from the same few milliseconds, and
    /// a disturbance that they share cancels in the ratio. The interval is reproducible from `seed`.
    ///
    /// Nothing when there are fewer than [`MIN_ROUNDS`] rounds or a time is not positive.
    #[must_use]
    pub fn of_rounds(rounds: &[(f64, f64)], seed: u64) -> Option<Self> {
        if rounds.len() < MIN_ROUNDS || !rounds.iter().all(|&(a, b)| is_time(a) && is_time(b)) {
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
            median_of(&mut numerator) / median_of(&mut denominator)
        };
        let estimate = ratio_of(&mut |i| rounds[i]);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self::resampled(estimate, || ratio_of(&mut |_| rounds[below(&mut random, rounds.len())]))
    }

    /// The ratio of the median times of two sets that have no rounds in common, such as two runs. Each set
    /// is resampled by itself.
    ///
    /// Nothing when either has fewer than [`MIN_ROUNDS`] times or a time is not positive.
    #[must_use]
    pub fn of_sets(numerator: &[f64], denominator: &[f64], seed: u64) -> Option<Self> {
        let sets = [numerator, denominator];
        if sets.iter().any(|set| set.len() < MIN_ROUNDS || !set.iter().copied().all(is_time)) {
            return None;
        }
        let estimate = median(numerator.iter().copied()) / median(denominator.iter().copied());
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut draw = |set: &[f64]| median(set.iter().map(|_| set[below(&mut random, set.len())]));
        Self::resampled(estimate, || draw(numerator) / draw(denominator))
    }

    /// An estimate with the middle 95 % of its resamples.
    fn resampled(estimate: f64, mut draw: impl FnMut() -> f64) -> Option<Self> {
        let resampled = sorted((0..RESAMPLES).map(|_| draw()));
        Some(Self { estimate, low: quantile(&resampled, 0.025)?, high: quantile(&resampled, 0.975)? })
    }
}

/// Whether a number can be a time. Written so that NaN is refused too.
fn is_time(x: f64) -> bool {
    x > 0.0 && x.is_finite()
}

/// Whether the undisturbed slices, `clean` of `all`, can stand for all. Otherwise all count, and the
/// samples are marked.
///
/// Fewer than [`MIN_ROUNDS`] have no interval. The share, a quarter, is a choice and has no derivation.
/// Where three slices in four are disturbed, disturbance is the state of the machine, and the rest is a
/// selection of lucky moments. With an eighth, a row could rest on three of 25 slices. With a half, a
/// row of 25 slices would count its disturbed ones although 12 undisturbed ones are at hand.
#[must_use]
pub fn enough_clean(clean: usize, all: usize) -> bool {
    clean >= MIN_ROUNDS.min(all) && 4 * clean >= all
}

/// The slices that count of some, each with whether it is undisturbed: the undisturbed ones, or all where
/// those are too few ([`enough_clean`]).
#[must_use]
pub fn kept<T>(slices: Vec<(T, bool)>) -> Vec<T> {
    let all = !enough_clean(slices.iter().filter(|(_, clean)| *clean).count(), slices.len());
    slices.into_iter().filter(|(_, clean)| all || *clean).map(|(slice, _)| slice).collect()
}

/// The values in increasing order.
#[must_use]
pub fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The quantile of sorted values by linear interpolation between order statistics (Hyndman and Fan 1996,
/// type 7). Nothing without values.
#[must_use]
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = p * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (position - below as f64) * (sorted[above] - sorted[below]))
}

/// The median of some values, of an even number the mean of the middle two; NaN of none.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    median_of(&mut values.collect::<Vec<_>>())
}

/// [`median`] of a slice, which is left in another order.
fn median_of(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let (middle, odd) = (values.len() / 2, values.len() % 2 == 1);
    let (lower, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return upper;
    }
    f64::midpoint(lower.iter().copied().fold(f64::NEG_INFINITY, f64::max), upper)
}

/// A uniform integer in `0..n`, by multiplication (Lemire 2019) without the rejection step: its bias is
/// below n·2⁻⁶⁴.
pub fn below(random: &mut impl RngCore, n: usize) -> usize {
    ((u128::from(random.next_u64()) * n as u128) >> 64) as usize
}

/// Fisher and Yates' shuffle.
pub fn shuffle<T>(values: &mut [T], random: &mut impl RngCore) {
    for i in (1..values.len()).rev() {
        values.swap(i, below(random, i + 1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_core::RngCore;

    use super::*;

    proptest! {
        #[test]
        fn the_median_is_the_middle_quantile(values in prop::collection::vec(0.0..1e9f64, 1..40)) {
            let expected = quantile(&sorted(values.iter().copied()), 0.5).unwrap();
            prop_assert!((median(values.iter().copied()) - expected).abs() <= 1e-6 * expected);
        }

        #[test]
        fn ratio_scales_with_the_numerator(
            rounds in prop::collection::vec((1.0..1e6f64, 1.0..1e6f64), MIN_ROUNDS..30),
            seed in any::<u64>(),
        ) {
            let ratio = MedianRatio::of_rounds(&rounds, seed).unwrap();
            prop_assert!(ratio.low <= ratio.high);
            let doubled: Vec<_> = rounds.iter().map(|&(a, b)| (2.0 * a, b)).collect();
            let twice = MedianRatio::of_rounds(&doubled, seed).unwrap();
            prop_assert_eq!(twice.estimate, 2.0 * ratio.estimate);
            prop_assert_eq!((twice.low, twice.high), (2.0 * ratio.low, 2.0 * ratio.high));
        }
    }

    #[test]
    fn a_constant_ratio_has_no_width() {
        let rounds: Vec<_> = (1..=15).map(|i| (3.0 * i as f64, 2.0 * i as f64)).collect();
        let ratio = MedianRatio::of_rounds(&rounds, 1).unwrap();
        assert_eq!(ratio, MedianRatio { estimate: 1.5, low: 1.5, high: 1.5 });
    }

    #[test]
    fn too_few_or_meaningless_rounds_have_no_ratio() {
        assert_eq!(MedianRatio::of_rounds(&[(1.0, 1.0); MIN_ROUNDS - 1], 1), None);
        let mut rounds = [(1.0, 1.0); MIN_ROUNDS];
        for bad in [0.0, f64::NAN, f64::INFINITY] {
            rounds[0].1 = bad;
            assert_eq!(MedianRatio::of_rounds(&rounds, 1), None, "{bad}");
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
            let ratio = MedianRatio::of_rounds(&times, trial as u64).unwrap();
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

    /// The interval of rounds is narrower than that of the sides resampled apart, where the rounds share a
    /// drift of 10 %.
    #[test]
    fn what_rounds_share_cancels() {
        const TRIALS: u64 = 200;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let narrower = (0..TRIALS).filter(|&trial| {
            let rounds: Vec<(f64, f64)> = (0..21)
                .map(|_| {
                    let shared = (0.1 * normal(&mut random)).exp();
                    let mut time = |mean: f64| mean * shared * (0.01 * normal(&mut random)).exp();
                    (time(3e6), time(2e6))
                })
                .collect();
            let together = MedianRatio::of_rounds(&rounds, trial).unwrap();
            let [slow, fast] = [|r: &(f64, f64)| r.0, |r: &(f64, f64)| r.1]
                .map(|of| rounds.iter().map(of).collect::<Vec<_>>());
            let apart = MedianRatio::of_sets(&slow, &fast, trial).unwrap();
            assert_eq!(together.estimate, apart.estimate);
            together.high - together.low < apart.high - apart.low
        });
        let narrower = narrower.count();
        println!("narrower in {narrower} of {TRIALS}");
        assert!(narrower >= 198, "{narrower}");
    }

    #[test]
    fn sets_of_different_sizes_have_a_ratio_and_too_small_ones_none() {
        let ratio = MedianRatio::of_sets(&[3.0; MIN_ROUNDS], &[2.0; 9], 1).unwrap();
        assert_eq!(ratio, MedianRatio { estimate: 1.5, low: 1.5, high: 1.5 });
        assert_eq!(MedianRatio::of_sets(&[1.0; MIN_ROUNDS], &[1.0; MIN_ROUNDS - 1], 1), None);
        assert_eq!(MedianRatio::of_sets(&[1.0; MIN_ROUNDS], &[0.0; MIN_ROUNDS], 1), None);
    }

    #[test]
    fn the_median_of_nothing_is_no_number() {
        assert!(median(std::iter::empty()).is_nan());
        assert_eq!(median([4.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn disturbed_slices_count_only_where_too_few_others_remain() {
        let slices = |clean: usize, all: usize| (0..all).map(|i| (i, i < clean)).collect::<Vec<_>>();
        assert_eq!(kept(slices(5, 20)), [0, 1, 2, 3, 4]);
        assert_eq!(kept(slices(5, 21)).len(), 21);
        assert_eq!(kept(slices(4, 12)).len(), 12);
        assert_eq!(kept(slices(3, 3)).len(), 3);
    }
}
