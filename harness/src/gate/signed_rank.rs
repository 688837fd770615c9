//! Wilcoxon's signed-rank test, exact and one-sided, with the estimate that belongs to it.
//!
//! Wilcoxon, *Individual comparisons by ranking methods*, Biometrics Bulletin 1 (1945); Hodges and
//! Lehmann, *Estimates of location based on rank tests*, Annals of Mathematical Statistics 34
//! (1963). The distributions are computed, never approximated by a normal one: at the levels that
//! a gate works at, an approximation is at its worst.

use serde::Serialize;
use touchstone_reports::statistics::median;

/// Where numbers lie, with an interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median of all pairwise means (Hodges and Lehmann).
    pub center: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The probability that numbers whose signs about `center` are so many fair coins have a sum of
/// positive ranks as large as these, or larger. Small where most lie above `center`.
///
/// Exact, given the sizes of the deviations: equal sizes share their mean rank, and the
/// distribution is that of those ranks. A number equal to `center` has no sign and is left out,
/// which neither side gains by. Without numbers it is 1.
pub fn p_above(numbers: &[f64], center: f64) -> f64 {
    let mut deviations: Vec<f64> = numbers.iter().map(|x| x - center).filter(|d| *d != 0.0).collect();
    deviations.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    let ranks = doubled_ranks(&deviations);
    let observed: usize =
        deviations.iter().zip(&ranks).filter(|(d, _)| **d > 0.0).map(|(_, rank)| rank).sum();
    distribution(&ranks).iter().skip(observed).sum::<f64>().min(1.0)
}

/// The Hodges-Lehmann estimate with its interval from inverting the test. Nothing without numbers.
///
/// The interval holds the center of a symmetric distribution with a probability of at least
/// `confidence`: exactly what the test says where sizes do not tie, and more where they do
/// (Noether, *Wilcoxon confidence intervals for location parameters in the discrete case*, JASA 62,
/// 1967). Too few numbers for that confidence give an infinite one.
pub fn estimate(numbers: &[f64], confidence: f64) -> Option<Estimate> {
    let n = numbers.len();
    let mut means: Vec<f64> = Vec::with_capacity(n * (n + 1) / 2);
    for (i, a) in numbers.iter().enumerate() {
        means.extend(numbers[i..].iter().map(|b| (a + b) / 2.0));
    }
    means.sort_unstable_by(f64::total_cmp);
    let last = means.len().checked_sub(1)?;
    let center = median(means.iter().copied());
    // As many means at either end as the sum of ranks may have at most with the probability left over.
    let ranks: Vec<usize> = (1..=n).collect();
    let left_over = (1.0 - confidence) / 2.0;
    let mut below = 0.0;
    let outside = distribution(&ranks)
        .iter()
        .take_while(|p| {
            below += **p;
            below <= left_over
        })
        .count();
    let (low, high) = match outside.checked_sub(1) {
        Some(k) => (means[k], means[last - k]),
        None => (f64::NEG_INFINITY, f64::INFINITY),
    };
    Some(Estimate { center, low, high })
}

/// Twice the mean rank of each deviation, sorted by size; halved again where no mean is a half.
fn doubled_ranks(sorted: &[f64]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(sorted.len());
    for tied in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        // The mean of the ranks first + 1 to first + len.
        let first = ranks.len();
        ranks.extend(std::iter::repeat_n(2 * first + tied.len() + 1, tied.len()));
    }
    if ranks.iter().all(|rank| rank % 2 == 0) {
        ranks.iter_mut().for_each(|rank| *rank /= 2);
    }
    ranks
}

/// The probability of each sum when every rank is in or out by a fair coin. The sums of
/// probabilities are of positive numbers, so their relative error stays at some n·2⁻⁵³.
fn distribution(ranks: &[usize]) -> Vec<f64> {
    let mut probability = vec![0.0; ranks.iter().sum::<usize>() + 1];
    probability[0] = 1.0;
    let mut reached = 0;
    for &rank in ranks {
        reached += rank;
        for sum in (0..=reached).rev() {
            let with = if sum >= rank { probability[sum - rank] } else { 0.0 };
            probability[sum] = (probability[sum] + with) / 2.0;
        }
    }
    probability
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same probability by going through all signs.
    fn enumerated(numbers: &[f64], center: f64) -> f64 {
        let deviations: Vec<f64> = numbers.iter().map(|x| x - center).filter(|d| *d != 0.0).collect();
        // The mean rank of each, by counting.
        let rank = |d: &f64| {
            let smaller = deviations.iter().filter(|e| e.abs() < d.abs()).count();
            let equal = deviations.iter().filter(|e| e.abs() == d.abs()).count();
            smaller as f64 + (equal as f64 + 1.0) / 2.0
        };
        let ranks: Vec<f64> = deviations.iter().map(rank).collect();
        let sum = |positive: &dyn Fn(usize) -> bool| -> f64 {
            ranks.iter().enumerate().filter(|(i, _)| positive(*i)).map(|(_, rank)| rank).sum()
        };
        let observed = sum(&|i| deviations[i] > 0.0);
        let all = 1u32 << deviations.len();
        let as_large = (0..all).filter(|signs| sum(&|i| signs >> i & 1 == 1) >= observed).count();
        as_large as f64 / f64::from(all)
    }

    proptest! {
        #[test]
        fn as_by_enumeration(numbers in prop::collection::vec(-1.0..1.0f64, 0..=12)) {
            prop_assert!((p_above(&numbers, 0.1) - enumerated(&numbers, 0.1)).abs() < 1e-12);
        }

        /// Small whole numbers: ties and zeros everywhere.
        #[test]
        fn as_by_enumeration_with_ties(numbers in prop::collection::vec(-3i32..=3, 0..=12)) {
            let numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
            prop_assert!((p_above(&numbers, 0.0) - enumerated(&numbers, 0.0)).abs() < 1e-12);
            prop_assert!((p_above(&numbers, 1.0) - enumerated(&numbers, 1.0)).abs() < 1e-12);
        }

        /// The interval holds just those centers that the test does not refuse.
        #[test]
        fn the_interval_is_the_test_inverted(
            numbers in prop::collection::vec(-1.0..1.0f64, 7..40),
            center in -0.5..0.5f64,
        ) {
            let Estimate { low, high, center: middle } = estimate(&numbers, 0.98).unwrap();
            prop_assert!(low <= middle && middle <= high);
            prop_assert_eq!(low > center, p_above(&numbers, center) <= 0.01);
            let mirrored: Vec<f64> = numbers.iter().map(|x| -x).collect();
            prop_assert_eq!(high < center, p_above(&mirrored, -center) <= 0.01);
        }
    }

    /// Critical values of Wilcoxon's tables: the largest sum with a one-sided probability of at most
    /// 1 % and 5 %.
    #[test]
    fn as_in_the_tables() {
        for (n, at_one_percent, at_five_percent) in [(7, 0, 3), (10, 5, 10), (15, 19, 30), (20, 43, 60)] {
            let ranks: Vec<usize> = (1..=n).collect();
            let distribution = distribution(&ranks);
            let up_to = |sum: usize| distribution[..=sum].iter().sum::<f64>();
            for (critical, level) in [(at_one_percent, 0.01), (at_five_percent, 0.05)] {
                assert!(up_to(critical) <= level && up_to(critical + 1) > level, "n = {n}, {critical}");
            }
        }
    }

    #[test]
    fn few_numbers_say_little() {
        assert_eq!(p_above(&[], 0.0), 1.0);
        assert_eq!(p_above(&[0.0; 5], 0.0), 1.0);
        assert_eq!(p_above(&[1.0], 0.0), 0.5);
        assert_eq!(p_above(&[1.0, 2.0, 3.0, -0.5], 0.0), 2.0 / 16.0);
        assert_eq!(estimate(&[], 0.98), None);
        let one = estimate(&[3.0], 0.98).unwrap();
        assert_eq!(one, Estimate { center: 3.0, low: f64::NEG_INFINITY, high: f64::INFINITY });
    }

    #[test]
    fn long_series_keep_their_tails() {
        let all_above: Vec<f64> = (1..=150).map(f64::from).collect();
        assert_eq!(p_above(&all_above, 0.0), 0.5f64.powi(150));
    }
}
