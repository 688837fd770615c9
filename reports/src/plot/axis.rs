//! Logarithmic axes: where values fall, and where a person expects ticks.

/// Units that a tick needs for its text.
const ROOM: u32 = 62;

/// A logarithmic axis from pixel to pixel.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogAxis {
    low: f64,
    high: f64,
    from: i32,
    to: i32,
}

impl LogAxis {
    /// An axis that holds all the positive, finite values with a little room around them.
    pub(super) fn around(values: impl Iterator<Item = f64>, from: i32, to: i32) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|v| v.is_finite() && *v > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        if high == 0.0 {
            (low, high) = (1.0, 10.0);
        }
        let room = (high / low).powf(0.06).max(1.25);
        Self { low: low / room, high: high * room, from, to }
    }

    /// An axis with the given ends.
    pub(super) const fn between(low: f64, high: f64, from: i32, to: i32) -> Self {
        Self { low, high, from, to }
    }

    /// The pixel of a value; values beyond an end, and zero, stand at that end.
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the axis, whose ends are i32")]
    pub(super) fn at(&self, value: f64) -> i32 {
        let share = if value.is_nan() {
            1.0
        } else {
            (value.max(self.low / 2.0) / self.low).ln() / (self.high / self.low).ln()
        };
        let length = f64::from(self.to - self.from);
        self.from + (share.clamp(0.0, 1.0) * length).round() as i32
    }

    /// Ticks at powers of ten, or at simple multiples of them where there is room.
    pub(super) fn ticks(&self) -> Vec<f64> {
        const STEPS: [&[f64]; 3] = [&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0]];
        let most = (self.to - self.from).unsigned_abs() / ROOM;
        let most = usize::try_from(most).unwrap_or(2).clamp(2, 9);
        let decades = (self.high / self.low).log10();
        let finest = if decades < 1.0 { 0 } else { 1 };
        let fitting = STEPS[finest..].iter().map(|steps| self.multiples(steps, 1));
        // Very many decades: every second, or every third.
        let sparse = (2..).map(|stride| self.multiples(&[1.0], stride));
        let mut all = fitting.chain(sparse);
        all.find(|ticks| ticks.len() <= most).unwrap_or_default()
    }

    /// Multiples of every `stride`-th power of ten on the axis; 1 is always among the powers.
    fn multiples(&self, steps: &[f64], stride: i32) -> Vec<f64> {
        #[expect(clippy::cast_possible_truncation, reason = "exponents of f64 are small")]
        let first = self.low.log10().floor() as i32;
        let exponents = (first..).take_while(|e| 10f64.powi(*e) <= self.high).filter(|e| e % stride == 0);
        let all = exponents.flat_map(|e| steps.iter().map(move |step| step * 10f64.powi(e)));
        all.filter(|tick| *tick >= self.low * 0.999 && *tick <= self.high * 1.001).collect()
    }
}

/// A number with an SI prefix: `64 k`, `1.5 M`, `20 m`.
pub(super) fn si(value: f64) -> String {
    const PREFIXES: [(f64, &str); 6] =
        [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    let (unit, prefix) = PREFIXES.into_iter().find(|(unit, _)| value >= unit * 0.9999).unwrap_or((1.0, ""));
    format!("{} {prefix}", plain(value / unit))
}

/// A tick without superfluous digits: `0.5`, `1`, `20`, `1e-5`.
pub(super) fn plain(value: f64) -> String {
    if value != 0.0 && value < 0.000_99 {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_with_room_between_them() {
        for (low, high) in [(0.9, 5.0), (0.05, 2.0), (1e-4, 20.0), (1e-9, 1e9), (3.0, 3.1), (1.0, 1e300)] {
            for length in [200, 500, 1000] {
                let axis = LogAxis::between(low, high, 0, length);
                let ticks = axis.ticks();
                assert!(ticks.len() <= 9, "{low} to {high}: {ticks:?}");
                let apart = ticks.windows(2).map(|pair| axis.at(pair[1]) - axis.at(pair[0])).min();
                assert!(apart.is_none_or(|apart| apart > 10), "{low} to {high} on {length}: {ticks:?}");
            }
        }
        let phone = LogAxis::between(0.05, 2.0, 0, 400);
        assert_eq!(phone.ticks(), [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]);
    }
}
