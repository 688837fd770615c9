//! Intervals for ratios of medians, by resampling (Efron & Tibshirani, *An Introduction to the
//! Bootstrap*, 1993, chapter 13).

/// Resamples drawn: enough that the ends move by less than they mean.
const DRAWS: usize = 1000;
/// Fewer slices than this say nothing about their spread.
const FEWEST: usize = 5;

/// The 95 % percentile bootstrap interval of median(old) / median(new), the two resampled
/// independently. The draws are the same in every call, so that a comparison of the same files
/// prints the same digits. `None` with too few slices.
pub(crate) fn ratio_of_medians(old: &[f64], new: &[f64]) -> Option<(f64, f64)> {
    if old.len() < FEWEST || new.len() < FEWEST {
        return None;
    }
    let mut draws = Draws(SEED);
    let mut median = |values: &[f64]| median(values.iter().map(|_| values[draws.below(values.len())]));
    interval((0..DRAWS).map(|_| median(old) / median(new)).collect())
}

/// The same for the times of two in rounds that both took part in, the first over the second, with
/// the ratio itself. Rounds are resampled whole, so that what the two slices of a round share
/// cancels. `None` with too few rounds.
pub(crate) fn ratio_in_rounds(rounds: &[(f64, f64)]) -> Option<(f64, (f64, f64))> {
    if rounds.len() < FEWEST {
        return None;
    }
    let ratio = |picked: &[(f64, f64)]| {
        median(picked.iter().map(|round| round.0)) / median(picked.iter().map(|round| round.1))
    };
    let mut draws = Draws(SEED);
    let mut draw = || rounds.iter().map(|_| rounds[draws.below(rounds.len())]).collect::<Vec<_>>();
    let ends = interval((0..DRAWS).map(|_| ratio(&draw())).collect())?;
    Some((ratio(rounds), ends)).filter(|(ratio, _)| ratio.is_finite())
}

/// The middle 95 % of what was drawn.
fn interval(mut ratios: Vec<f64>) -> Option<(f64, f64)> {
    ratios.retain(|ratio| ratio.is_finite());
    ratios.sort_by(f64::total_cmp);
    let end = ratios.len() / 40;
    Some((*ratios.get(end)?, *ratios.get(ratios.len().checked_sub(end + 1)?)?))
}

/// Below so many undisturbed slices, or below a quarter of all, disturbance is the state of the machine, and
/// all count.
const FEWEST_CLEAN: usize = 5;

/// The slices that count of some, each with whether it is undisturbed.
pub(crate) fn kept<T>(slices: Vec<(T, bool)>) -> Vec<T> {
    let clean = slices.iter().filter(|(_, clean)| *clean).count();
    let all = clean < FEWEST_CLEAN.min(slices.len()) || 4 * clean < slices.len();
    slices.into_iter().filter(|(_, clean)| all || *clean).map(|(slice, _)| slice).collect()
}

/// The median of some values; NaN of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    if values.is_empty() {
        return f64::NAN;
    }
    let (middle, odd) = (values.len() / 2, values.len() % 2 == 1);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if odd {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    f64::midpoint(lower, upper)
}

const SEED: u64 = 0x7062_6f6f_7473;

/// A 64-bit xorshift (Marsaglia 2003): ample for choosing among a few dozen slices.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % n as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deviate that is roughly normal.
    fn normal(draws: &mut Draws) -> f64 {
        (0..12).map(|_| draws.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
    }

    /// Trials of an interval for 1.5, from 21 rounds whose times vary by 1 % and whose rounds share a drift.
    const TRIALS: usize = 1000;

    /// How often the interval holds the truth, how often it is narrower than that of the sides resampled
    /// apart, and its mean width.
    fn trials(drift: f64) -> (usize, usize, f64) {
        let (mut covered, mut narrower, mut width) = (0, 0, 0.0);
        let mut random = Draws(7);
        for _ in 0..TRIALS {
            let rounds: Vec<_> = (0..21)
                .map(|_| {
                    let shared = (drift * normal(&mut random)).exp();
                    let mut time = |mean: f64| mean * shared * (0.01 * normal(&mut random)).exp();
                    (time(3e6), time(2e6))
                })
                .collect();
            let (ratio, (low, high)) = ratio_in_rounds(&rounds).unwrap();
            assert!(low <= ratio && ratio <= high);
            covered += usize::from(low <= 1.5 && 1.5 <= high);
            width += (high - low) / 1.5;
            let apart = |of: fn(&(f64, f64)) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
            let (wide_low, wide_high) = ratio_of_medians(&apart(|r| r.0), &apart(|r| r.1)).unwrap();
            narrower += usize::from(high - low < wide_high - wide_low);
        }
        (covered, narrower, width / TRIALS as f64)
    }

    /// Said are 95 %. Medians of few slices take few values, and the interval of 21 rounds covers 97 to 98 %, with
    /// a standard error of 0.5 %: wider intervals fail as narrower ones do.
    #[test]
    fn the_interval_covers_what_it_says() {
        let (covered, _, width) = trials(0.0);
        println!("covers {covered} of {TRIALS}, width {width:.4}");
        assert!((930..=988).contains(&covered), "{covered}");
    }

    /// A drift of 10 % makes the interval wider than it need be, because the two medians may come from
    /// different rounds, and far narrower than without rounds.
    #[test]
    fn what_rounds_share_cancels() {
        let (covered, narrower, width) = trials(0.1);
        println!("covers {covered} of {TRIALS}, narrower {narrower}, width {width:.4}");
        assert!(covered >= 940 && narrower >= 990, "{covered}, {narrower}");
        assert!(width < 3.0 * trials(0.0).2, "{width}");
    }

    #[test]
    fn too_few_or_meaningless_rounds_have_none() {
        assert_eq!(ratio_in_rounds(&[(1.0, 1.0); FEWEST - 1]), None);
        assert_eq!(ratio_in_rounds(&[(1.0, 0.0); FEWEST]), None);
        assert_eq!(ratio_in_rounds(&[(3.0, 2.0); FEWEST]), Some((1.5, (1.5, 1.5))));
        assert_eq!(ratio_of_medians(&[1.0; FEWEST], &[1.0; FEWEST - 1]), None);
    }
}
