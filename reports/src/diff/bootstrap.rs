//! An interval for the ratio of two medians.

/// Resamples drawn: enough that the ends move by less than they mean.
const DRAWS: usize = 1000;
/// Fewer slices than this say nothing about their spread.
const FEWEST: usize = 5;

/// The 95 % percentile bootstrap interval (Efron 1979) of median(old) / median(new), the two
/// resampled independently. The draws are the same in every call, so that a comparison of the
/// same files prints the same digits. `None` with too few slices.
pub(super) fn ratio_of_medians(old: &[f64], new: &[f64]) -> Option<(f64, f64)> {
    if old.len() < FEWEST || new.len() < FEWEST {
        return None;
    }
    let mut draws = Draws(0x7062_6f6f_7473);
    let mut ratios: Vec<f64> =
        (0..DRAWS).map(|_| draws.median(old) / draws.median(new)).filter(|ratio| ratio.is_finite()).collect();
    ratios.sort_by(f64::total_cmp);
    let end = ratios.len() / 40;
    Some((*ratios.get(end)?, *ratios.get(ratios.len().checked_sub(end + 1)?)?))
}

/// A 64-bit xorshift (Marsaglia 2003): ample for choosing among a few dozen slices.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % n as u64) as usize
    }

    fn median(&mut self, values: &[f64]) -> f64 {
        let mut drawn: Vec<f64> = values.iter().map(|_| values[self.below(values.len())]).collect();
        let middle = drawn.len() / 2;
        let (below, upper, _) = drawn.select_nth_unstable_by(middle, f64::total_cmp);
        let upper = *upper;
        if values.len() % 2 == 1 {
            return upper;
        }
        let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        f64::midpoint(lower, upper)
    }
}
