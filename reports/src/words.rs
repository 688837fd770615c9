//! The summary as one paragraph, and numbers as people read them.

use crate::record::Record;
use crate::speed::{Ratio, Speeds};
use crate::status::Status;
use crate::summary::{Summary, worst_per_case};

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

/// Who is right, who is fastest, where, and by how much, in one paragraph.
#[must_use]
pub fn paragraph(records: &[Record], summary: &Summary) -> String {
    let mut sentences = vec![verdict_sentence(summary)];
    sentences.extend(disagreement_sentence(records, summary));
    let mut fastest: Vec<(String, Vec<String>)> = Vec::new();
    for speeds in summary.families.iter().filter_map(|f| summary.headline(f)) {
        let Some(clause) = fastest_clause(speeds) else {
            continue;
        };
        let conditions = speeds.group.conditions();
        match fastest.iter_mut().find(|(known, _)| *known == conditions) {
            Some((_, clauses)) => clauses.push(clause),
            None => fastest.push((conditions, vec![clause])),
        }
    }
    if fastest.is_empty() {
        sentences.push("Nothing was timed.".to_owned());
    } else {
        for (conditions, clauses) in fastest {
            sentences.push(format!("Fastest with {conditions}: {}.", clauses.join("; ")));
        }
        sentences.push(
            "Speed-ups are geometric means over the cases that all timed backends share; \
             brackets hold 95 % intervals."
                .to_owned(),
        );
    }
    sentences.join(" ")
}

fn verdict_sentence(summary: &Summary) -> String {
    let total = summary.total();
    let mut parts = vec![format!("{} passed", total.of(Status::Passed))];
    for status in Status::ALL {
        if status != Status::Passed && total.of(status) > 0 {
            let text = match status {
                Status::Known => plural(total.of(status), "known issue"),
                other => format!("{} {other}", total.of(status)),
            };
            parts.push(text);
        }
    }
    format!(
        "{} on {}: of {}, {}.",
        plural(summary.backends.len(), "backend"),
        plural(summary.cases, "case"),
        plural(total.total(), "verdict"),
        list(&parts)
    )
}

fn disagreement_sentence(records: &[Record], summary: &Summary) -> Option<String> {
    let mut right = Vec::new();
    let mut wrong = Vec::new();
    for backend in &summary.backends {
        let counts = summary.counts(backend, None);
        if counts.executed() == 0 {
            continue;
        }
        if counts.of(Status::Passed) == counts.executed() {
            right.push(backend.clone());
            continue;
        }
        let bad: Vec<_> = worst_per_case(records)
            .into_iter()
            .filter(|r| r.backend == *backend)
            .filter(|r| r.status.was_executed() && r.status != Status::Passed)
            .collect();
        let ops = crate::summary::ordered(bad.iter().map(|r| r.op.as_str()), &[]);
        wrong.push(format!("{backend} does not on {} ({})", plural(bad.len(), "case"), ops.join(", ")));
    }
    let verb = if right.len() == 1 { "agrees" } else { "agree" };
    match (right.is_empty(), wrong.is_empty()) {
        (true, true) => None,
        (false, true) => Some(format!("{} {verb} with the oracle wherever they ran.", list(&right))),
        (true, false) => Some(format!("Agreement with the oracle: {}.", wrong.join("; "))),
        (false, false) => {
            Some(format!("{} {verb} with the oracle everywhere; {}.", list(&right), wrong.join("; ")))
        }
    }
}

fn fastest_clause(speeds: &Speeds) -> Option<String> {
    let first = speeds.contenders.first()?;
    let mean = first.mean?;
    let mut clause = format!("{} ({}) {}", speeds.group.family, plural(speeds.cases, "case"), first.backend);
    if first.backend == speeds.reference {
        clause.push_str(", the reference");
    } else {
        clause.push_str(&format!(" at {} against {}", ratio(&mean), speeds.reference));
    }
    if let Some((next, next_mean)) = speeds.contenders.get(1).and_then(|c| Some((c, c.mean?))) {
        let relation = if next_mean.overlaps(&mean) { "not to be told apart from" } else { "then" };
        clause.push_str(&format!(", {relation} {} at {}", next.backend, times(next_mean.value)));
    }
    Some(clause)
}
