//! What a report says first: who is right, who is fastest, where, and by how much.

use crate::record::Record;
use crate::rivals::{Conditions, Ending, Rivals, Verdict};
use crate::speed::Speeds;
use crate::status::Status;
use crate::summary::{Counts, Summary, ordered, worst_per_case};
use crate::words::{list, plural, ratio, times};

/// A sentence, and the points that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The sentence.
    pub text: String,
    /// Its points, each without a full stop; may be none.
    pub points: Vec<String>,
}

impl Part {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), points: Vec::new() }
    }
}

/// The records in a few sentences and short lists: verdicts with a point per group of backends,
/// then speeds with a point per family.
#[must_use]
pub fn lead(records: &[Record], summary: &Summary) -> Vec<Part> {
    let disturbance = disturbance(records);
    let mut parts: Vec<Part> = disturbance.into_iter().collect();
    parts.push(Part { text: verdicts(summary), points: agreement(records, summary) });
    let mut fastest: Vec<(String, Vec<String>)> = Vec::new();
    for speeds in summary.families.iter().filter_map(|family| summary.headline(family)) {
        let Some(point) = fastest_point(speeds) else {
            continue;
        };
        let conditions = speeds.group.conditions();
        match fastest.iter_mut().find(|(known, _)| *known == conditions) {
            Some((_, points)) => points.push(point),
            None => fastest.push((conditions, vec![point])),
        }
    }
    if fastest.is_empty() {
        parts.push(Part::new("Nothing was timed."));
        return parts;
    }
    for (conditions, points) in fastest {
        parts.push(Part { text: format!("Fastest with {conditions}:"), points });
    }
    parts.push(Part::new(
        "Speed-ups are geometric means over the cases that all timed backends share; \
         brackets hold 95 % intervals.",
    ));
    parts
}

/// Below this share of the timed rows, disturbed ones are no more than what every shared machine has.
const MANY_DISTURBED: f64 = 0.05;

/// What has to be said before anything else: that many of the times are of a machine that was busy.
fn disturbance(records: &[Record]) -> Option<Part> {
    let timed = records.iter().filter(|record| record.is_timed()).count();
    let disturbed = records.iter().filter(|record| record.is_timed() && record.disturbed).count();
    if disturbed == 0 || (disturbed as f64) < MANY_DISTURBED * timed as f64 {
        return None;
    }
    Some(Part::new(format!(
        "DISTURBED: in {disturbed} of {timed} timed rows too few slices were free of other processes, so that \
         all slices count. These times are not of the kernels alone, and their intervals are too narrow: \
         measure again on a quiet machine."
    )))
}

/// The subject against its fastest rival in a sentence, with a point for each number of threads and
/// cache state. `None` where no case has both.
#[must_use]
pub fn against(rivals: &Rivals<'_>) -> Option<Part> {
    let conditions = rivals.conditions();
    let (subject, others) = (&rivals.subject, &rivals.rivals);
    let text = match others.as_slice() {
        [] => return None,
        [one] => format!("{subject} against {one}, its only rival:"),
        _ => format!("{subject} against the fastest of {} in each case:", list(others)),
    };
    let points = conditions.iter().filter_map(|conditions| against_point(rivals, conditions)).collect();
    Some(Part { text, points })
}

/// `1 thread, hot cache: 1.52× [1.38–1.66] over 58 cases; faster in 40, even in 10, slower in 8; of 28
/// goals 15 met, 6 short, 7 not measured`.
fn against_point(rivals: &Rivals<'_>, conditions: &Conditions) -> Option<String> {
    let total = rivals.total(conditions, None);
    let count = |ending| total.count(ending);
    let mut point = format!(
        "{}: {} over {}; faster in {}, even in {}, slower in {}",
        conditions.words(),
        ratio(&total.mean?),
        plural(total.duels.len(), "case"),
        count(Ending::Faster),
        count(Ending::Even),
        count(Ending::Slower)
    );
    let standings = rivals.standings(conditions);
    let goals: Vec<_> = standings.iter().filter_map(|standing| standing.goal).collect();
    let of = |verdict| goals.iter().filter(|goal| goal.verdict == verdict).count();
    if !goals.is_empty() {
        point.push_str(&format!(
            "; of {} {} met, {} short, {} not measured",
            plural(goals.len(), "goal"),
            of(Verdict::Met),
            of(Verdict::Short),
            of(Verdict::NotMeasured)
        ));
    }
    Some(point)
}

fn verdicts(summary: &Summary) -> String {
    let total = summary.total();
    let present = Status::ALL.into_iter().filter(|status| total.of(*status) > 0);
    let parts: Vec<_> = present.map(|status| counted(status, total.of(status))).collect();
    format!(
        "{} on {} gave {}: {}.",
        plural(summary.backends.len(), "backend"),
        plural(summary.cases, "case"),
        plural(total.total(), "verdict"),
        list(&parts)
    )
}

/// `5154 passed`, `366 are known issues`: clauses that can stand beside each other.
fn counted(status: Status, count: usize) -> String {
    let be = if count == 1 { "is" } else { "are" };
    match status {
        Status::Passed | Status::Failed => format!("{count} {status}"),
        Status::Suspect | Status::Unsupported => format!("{count} {be} {status}"),
        Status::Known if count == 1 => "1 is a known issue".to_owned(),
        Status::Known => format!("{count} are known issues"),
        Status::Error => format!("{count} ended in an error"),
        Status::Timeout => format!("{count} timed out"),
    }
}

/// Who passes everything, in one point; who does not, and in which families, in one point each.
fn agreement(records: &[Record], summary: &Summary) -> Vec<String> {
    let mut right = Vec::new();
    let mut points = Vec::new();
    for backend in &summary.backends {
        let counts = summary.counts(backend, None);
        if counts.executed() == 0 {
            continue;
        }
        if counts.of(Status::Passed) == counts.executed() {
            right.push(backend.clone());
        } else {
            points.push(shortcoming(records, summary, backend, counts));
        }
    }
    if !right.is_empty() {
        let verb = if right.len() == 1 { "agrees" } else { "agree" };
        let whom = if right.len() == 1 { "it" } else { "they" };
        points.insert(0, format!("{} {verb} with the oracle wherever {whom} ran", list(&right)));
    }
    points
}

/// `candle/cpu does not on 330 of 1416 cases: 122 softmax, 85 norm; all are known issues`.
fn shortcoming(records: &[Record], summary: &Summary, backend: &str, counts: Counts) -> String {
    let bad: Vec<_> = worst_per_case(records)
        .into_iter()
        .filter(|r| r.backend == backend && r.status.was_executed() && r.status != Status::Passed)
        .collect();
    let families: Vec<_> = summary
        .families
        .iter()
        .map(|family| (family, bad.iter().filter(|r| r.family == *family).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(family, count)| format!("{count} {family}"))
        .collect();
    let cases = plural(counts.executed(), "case");
    let mut point = format!("{backend} does not pass {} of {cases}: {}", bad.len(), families.join(", "));
    let kinds = ordered(bad.iter().map(|r| r.status.as_str()), &[]);
    if kinds == [Status::Known.as_str()] {
        point.push_str(if bad.len() == 1 { "; a known issue" } else { "; all are known issues" });
    } else {
        let of = |status| bad.iter().filter(|r| r.status == status).count();
        let kinds = Status::ALL.into_iter().filter(|status| of(*status) > 0);
        let kinds: Vec<_> = kinds.map(|status| counted(status, of(status))).collect();
        point.push_str(&format!("; {}", list(&kinds)));
    }
    point
}

/// `norm: simd/avx512 at 1.98× [1.81–2.15] the speed of libtorch/cpu (10 cases)`.
fn fastest_point(speeds: &Speeds) -> Option<String> {
    let first = speeds.contenders.first()?;
    let mean = first.mean?;
    let mut point = format!("{}: {}", speeds.group.family, first.backend);
    let is_reference = |backend: &str| backend == speeds.reference;
    if is_reference(&first.backend) {
        point.push_str(", the reference");
    } else {
        point.push_str(&format!(" at {} the speed of {}", ratio(&mean), speeds.reference));
    }
    if let Some((next, next_mean)) = speeds.contenders.get(1).and_then(|c| Some((c, c.mean?))) {
        match (next_mean.overlaps(&mean), is_reference(&next.backend)) {
            (true, true) => point.push_str(", which is not to be told apart from it"),
            (true, false) => point.push_str(&format!(
                ", not to be told apart from {} at {}",
                next.backend,
                times(next_mean.value)
            )),
            // The reference is at 1× by definition.
            (false, true) => {}
            (false, false) => {
                point.push_str(&format!(", then {} at {}", next.backend, times(next_mean.value)));
            }
        }
    }
    point.push_str(&format!(" ({})", plural(speeds.cases, "case")));
    Some(point)
}
