//! Numbers and texts as people read them.

use crate::speed::Ratio;

/// What stands at a time that other processes [disturbed](crate::Record::disturbed).
pub const DISTURBED: &str = "disturbed";

/// Three significant digits without an exponent where that is readable: `0.0123`, `1.42`, `318`.
#[must_use]
pub fn number(value: f64) -> String {
    // Thresholds sit where rounding would gain a digit: 9.995 is 10.0, not 9.99.
    match value.abs() {
        _ if !value.is_finite() => value.to_string(),
        0.0 => "0".to_owned(),
        size if !(0.001..1e6).contains(&size) => format!("{value:.1e}"),
        size if size < 0.9995 => format!("{value:.3}"),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A ratio as `1.42×`.
#[must_use]
pub fn times(value: f64) -> String {
    format!("{}×", factor(value))
}

/// Two decimals from a tenth on: a third one would be noise, and columns stay narrow.
fn factor(value: f64) -> String {
    if (0.0995..1.0).contains(&value) { format!("{value:.2}") } else { number(value) }
}

/// An interval as `1.38–1.46`, if there is one.
#[must_use]
pub fn interval(ratio: &Ratio) -> Option<String> {
    let (low, high) = ratio.interval?;
    Some(format!("{}–{}", factor(low), factor(high)))
}

/// Bytes as `0 B`, `24.0 KB`, `1.05 MB`: powers of 1000, as rates have them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "sizes lie far below 2^53")]
pub fn bytes(bytes: u64) -> String {
    let size = bytes as f64;
    match size {
        n if n < 1e3 => format!("{bytes} B"),
        n if n < 1e6 => format!("{} KB", number(n / 1e3)),
        n if n < 1e9 => format!("{} MB", number(n / 1e6)),
        n => format!("{} GB", number(n / 1e9)),
    }
}

/// `1.42× [1.38–1.46]`.
#[must_use]
pub fn ratio(ratio: &Ratio) -> String {
    match interval(ratio) {
        Some(interval) => format!("{} [{interval}]", times(ratio.value)),
        None => times(ratio.value),
    }
}

/// `1 case`, `2 cases`.
#[must_use]
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn list(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// Nanoseconds as `850 ns`, `12.3 µs`, `4.56 ms` or `1.2 s`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "times lie far below 2^53 ns")]
pub fn duration(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        n if n < 1e3 => format!("{} ns", number(n)),
        n if n < 1e6 => format!("{} µs", number(n / 1e3)),
        n if n < 1e9 => format!("{} ms", number(n / 1e6)),
        n => format!("{} s", number(n / 1e9)),
    }
}

/// Breaks a paragraph at spaces, with a line end after each line.
#[must_use]
pub fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
    out
}
