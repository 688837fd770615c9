//! Where a series changes: divisive segmentation by energy statistics, with a permutation test.
//!
//! David S. Matteson and Nicholas A. James, *A nonparametric approach for multiple change point
//! analysis of multivariate data*, Journal of the American Statistical Association 109 (2014), their
//! E-divisive with exponent 1, for one dimension. A series is split where the two sides differ most:
//!
//! ```text
//! Q = mn/(m + n) · (2·mean|x − y| − mean|x − x′| − mean|y − y′|)
//! ```
//!
//! for m values x before and n values y after. Nothing is assumed of the distribution but a mean.
//! Whether the largest Q of a segment is more than chance is asked of the same values in random
//! orders: where nothing has changed, all orders are equally likely, and so the p-value is exact. A
//! segment that is split is followed by its two parts.
//!
//! Two things differ from the paper. The right side of a split reaches to the end of its segment, so
//! that a segment of n values costs n² and not n³. And each segment is permuted by itself, until ten
//! orders did as well as the one that happened (Besag and Clifford, *Sequential Monte Carlo
//! p-values*, Biometrika 78, 1991): a series without a change, which is nearly every one, is then
//! done after some dozens of orders, and its p-value is still valid.
//!
//! A series without a change is tested once, so at most a share of `level` of such series shows one,
//! whatever the noise, as long as runs do not depend on each other. A slow drift is a dependence: it
//! is reported as one or several steps.

use rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::statistics::shuffle;

/// Fewest values on either side of a split: one odd run, or two, are no change.
pub const FEWEST: usize = 3;

/// Orders that do as well as what happened, after which no more are drawn.
const ENOUGH: u32 = 10;

/// A place where a series changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// The first value after the change.
    pub at: usize,
    /// The probability of so clear a change in a random order.
    pub p: f64,
}

/// The changes of a series at a level, in order. The draws follow from `seed`.
#[must_use]
pub fn changes(values: &[f64], level: f64, seed: u64) -> Vec<Split> {
    let mut found = Vec::new();
    let mut segments = vec![(0, values.len())];
    while let Some((start, end)) = segments.pop() {
        // A segment's draws do not depend on which segments came before.
        let draws = seed ^ (start as u64).rotate_left(32) ^ (end as u64).rotate_left(16);
        if let Some(Split { at, p }) = tested(&values[start..end], level, draws)
            && p <= level
        {
            let at = start + at;
            found.push(Split { at, p });
            segments.extend([(start, at), (at, end)]);
        }
    }
    found.sort_by_key(|split| split.at);
    found
}

/// The fewest values that can show a change at a level: with fewer, even the clearest split into
/// halves is too often one of the random orders.
#[must_use]
pub fn fewest_for(level: f64) -> usize {
    let mut n = 2 * FEWEST;
    // Halves can be put in order in as many ways as there are halves, and either may come first.
    while 2.0 / halves(n) > level && n < 200 {
        n += 1;
    }
    n
}

/// The number of ways to choose half of `n`.
fn halves(n: usize) -> f64 {
    (0..n / 2).map(|i| (n - i) as f64 / (n / 2 - i) as f64).product()
}

/// The best split of a segment with its p-value.
fn tested(values: &[f64], level: f64, seed: u64) -> Option<Split> {
    let (at, observed) = best(values)?;
    // A level of 0.001 is met or missed by the tenth order of ten thousand.
    let most = (f64::from(ENOUGH) / level).ceil() as u32;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut shuffled = values.to_vec();
    let (mut drawn, mut as_good) = (0, 0);
    // Sums of the same values in another order differ in their last bits.
    let observed = observed * (1.0 - 1e-9);
    while drawn < most && as_good < ENOUGH {
        shuffle(&mut shuffled, &mut random);
        drawn += 1;
        as_good += u32::from(best(&shuffled).is_some_and(|(_, q)| q >= observed));
    }
    let p = if as_good == ENOUGH {
        f64::from(as_good) / f64::from(drawn)
    } else {
        f64::from(as_good + 1) / f64::from(drawn + 1)
    };
    Some(Split { at, p })
}

/// The split with the largest Q, and that Q. None if the segment is too short, or all values are one.
fn best(values: &[f64]) -> Option<(usize, f64)> {
    let n = values.len();
    if n < 2 * FEWEST {
        return None;
    }
    let distances = |x: f64, others: &[f64]| others.iter().map(|y| (x - y).abs()).sum::<f64>();
    let all: f64 = (1..n).map(|i| distances(values[i], &values[..i])).sum();
    // Sums over the pairs within the left side, and within the right one.
    let (mut left, mut right) = (0.0, all);
    let mut found: Option<(usize, f64)> = None;
    for at in 1..=n - FEWEST {
        let moved = values[at - 1];
        left += distances(moved, &values[..at - 1]);
        right -= distances(moved, &values[at..]);
        if at < FEWEST {
            continue;
        }
        let (m, k) = (at as f64, (n - at) as f64);
        let between = all - left - right;
        let pairs = |count: f64| count * (count - 1.0) / 2.0;
        let energy = 2.0 * between / (m * k) - left / pairs(m) - right / pairs(k);
        let q = m * k / (m + k) * energy;
        if q > found.map_or(0.0, |(_, q)| q) {
            found = Some((at, q));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rand_core::RngCore;

    use super::*;

    /// A number in (0, 1).
    fn uniform(draws: &mut Xoshiro256PlusPlus) -> f64 {
        ((draws.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Box and Muller.
    fn normal(draws: &mut Xoshiro256PlusPlus) -> f64 {
        (-2.0 * uniform(draws).ln()).sqrt() * (std::f64::consts::TAU * uniform(draws)).cos()
    }

    type Noise = fn(&mut Xoshiro256PlusPlus) -> f64;

    /// What the logarithm of a time does on a quiet machine, on one with neighbours (now and then
    /// far too slow), and on one that has two speeds.
    const NOISES: [(&str, Noise); 3] = [
        ("normal", |draws| 0.02 * normal(draws)),
        ("heavy", |draws| 0.02 * normal(draws) / uniform(draws).sqrt()),
        ("bimodal", |draws| 0.005 * normal(draws) + if uniform(draws) < 0.5 { 0.05 } else { 0.0 }),
    ];

    /// The probability of at most `k` of `n` at a rate.
    fn at_most(k: u32, n: u32, rate: f64) -> f64 {
        let mut term = f64::from(n) * (1.0 - rate).ln();
        let mut sum = term.exp();
        for i in 0..k {
            term += (f64::from(n - i) / f64::from(i + 1) * rate / (1.0 - rate)).ln();
            sum += term.exp();
        }
        sum
    }

    /// The rate of false alarms is the level: Clopper and Pearson's 99.9 % interval for it holds the
    /// level or lies below, and its upper end is near.
    #[test]
    fn a_series_without_a_change_shows_one_no_more_often_than_its_level() {
        const SERIES: u32 = 2000;
        for level in [0.05, 0.01] {
            for (name, noise) in NOISES {
                let mut draws = Xoshiro256PlusPlus::seed_from_u64(7);
                let mut alarms = 0;
                for seed in 0..SERIES {
                    let values: Vec<f64> = (0..24).map(|_| noise(&mut draws)).collect();
                    alarms += u32::from(!changes(&values, level, u64::from(seed)).is_empty());
                }
                println!("{name}: {alarms} of {SERIES} at {level}");
                let as_many = if alarms == 0 { 1.0 } else { 1.0 - at_most(alarms - 1, SERIES, level) };
                assert!(as_many > 0.0005, "{name}: {alarms} alarms of {SERIES} at a level of {level}");
                let upper = level + 0.03;
                assert!(at_most(alarms, SERIES, upper) < 0.0005, "{name}: the rate may be above {upper}");
            }
        }
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        for (name, noise) in NOISES {
            let (mut found, mut near) = (0, 0);
            for seed in 0..50 {
                let mut draws = Xoshiro256PlusPlus::seed_from_u64(seed);
                let step = |i| if i < 18 { 0.0 } else { 0.1 };
                let values: Vec<f64> = (0..30).map(|i| step(i) + noise(&mut draws)).collect();
                let splits = changes(&values, 0.001, seed);
                found += usize::from(!splits.is_empty());
                near += usize::from(splits.iter().any(|split| split.at.abs_diff(18) <= 1));
            }
            println!("{name}: 10 % found in {found} of 50, in its place or beside it in {near}");
            // Heavy tails hide a tenth now and then; the other two hardly ever.
            let wanted = if name == "heavy" { 35 } else { 48 };
            assert!(near >= wanted, "{name}: {near} of 50");
        }
    }

    #[test]
    fn several_steps_are_found_and_an_odd_run_is_none() {
        let mut draws = Xoshiro256PlusPlus::seed_from_u64(3);
        let level = |i: usize| [0.0, 0.2, 0.1][i / 20];
        let steps: Vec<f64> = (0..60).map(|i| level(i) + 0.01 * normal(&mut draws)).collect();
        let places: Vec<_> = changes(&steps, 0.001, 1).iter().map(|split| split.at).collect();
        assert_eq!(places, [20, 40]);

        let mut odd: Vec<f64> = (0..40).map(|_| 0.01 * normal(&mut draws)).collect();
        (odd[11], odd[30]) = (1.0, 2.0);
        assert_eq!(changes(&odd, 0.001, 1), []);
        assert_eq!(changes(&[1.0; 50], 0.05, 1), [], "all the same");
        assert_eq!(changes(&[], 0.05, 1), []);
    }

    #[test]
    fn the_same_seed_gives_the_same_answer() {
        let mut draws = Xoshiro256PlusPlus::seed_from_u64(5);
        let values: Vec<f64> =
            (0..40).map(|i| f64::from(i / 25) * 0.05 + 0.03 * normal(&mut draws)).collect();
        assert_eq!(changes(&values, 0.01, 9), changes(&values, 0.01, 9));
    }

    #[test]
    fn too_few_runs_cannot_show_a_change() {
        assert_eq!(fewest_for(0.05), 8);
        assert_eq!(fewest_for(0.001), 14);
        for (level, n) in [(0.05, 8), (0.001, 14)] {
            let step = |n: usize| {
                (0..n).map(|i| if i < n / 2 { i as f64 } else { 1e6 + i as f64 }).collect::<Vec<_>>()
            };
            assert_eq!(changes(&step(n), level, 1).first().map(|split| split.at), Some(n / 2), "{n}");
        }
    }

    #[test]
    fn the_statistic_is_that_of_its_definition() {
        let values = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 1.5];
        let mean = |a: &[f64], b: &[f64], pairs: f64| {
            a.iter().flat_map(|x| b.iter().map(move |y| (x - y).abs())).sum::<f64>() / pairs
        };
        let q = |at: usize| {
            let (x, y) = values.split_at(at);
            let (m, n) = (x.len() as f64, y.len() as f64);
            m * n / (m + n)
                * (2.0 * mean(x, y, m * n) - mean(x, x, m * (m - 1.0)) - mean(y, y, n * (n - 1.0)))
        };
        let (at, found) = best(&values).unwrap();
        let wanted = (3..=4).map(|at| (at, q(at))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(at, wanted.0);
        assert!((found - wanted.1).abs() < 1e-12, "{found} {wanted:?}");
    }
}
