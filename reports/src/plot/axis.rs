//! Logarithmic axes: where values fall, and where a person expects ticks.

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

    /// Ticks at powers of ten, or at 1, 2 and 5 times them where there is room for it.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades < 1.0 {
            &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0]
        } else if decades < 3.2 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        #[expect(clippy::cast_possible_truncation, reason = "exponents of f64 are small")]
        let first = self.low.log10().floor() as i32;
        let exponents = (first..).take_while(|e| 10f64.powi(*e) <= self.high);
        let all = exponents.flat_map(|e| steps.iter().map(move |step| step * 10f64.powi(e)));
        let inside: Vec<_> =
            all.filter(|tick| *tick >= self.low * 0.999 && *tick <= self.high * 1.001).collect();
        // Very many decades: every second or third label.
        let keep = inside.len().div_ceil(9);
        inside.into_iter().step_by(keep.max(1)).collect()
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
