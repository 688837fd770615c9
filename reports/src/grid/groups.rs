//! What is known not to work, one row per cause rather than per case: the cases are in
//! `records.csv`.

use std::collections::BTreeMap;

use super::lists::{inputs, worst_element};
use super::{Cell, Grid, Heading, Row, Subject, Tone};
use crate::record::Record;
use crate::status::Status;
use crate::summary::{DTYPES, ordered, worst_per_case};
use crate::words::{list, number, plural};

/// Disagreements that are listed in the known-issues file, by issue and backend, each with its
/// worst case.
#[must_use]
pub fn known_issues(records: &[Record]) -> Option<Grid> {
    let headings = vec![
        Heading::words("issue"),
        Heading::words("backend"),
        Heading::figures("cases"),
        Heading::words("operations"),
        Heading::words("worst error"),
        Heading::code("repro of the worst"),
    ];
    let mut grid = Grid::new(
        "Known issues",
        "True disagreements of a library, listed with their upstream reference; \
         one that starts to pass becomes a failure. Every single case is in records.csv.",
        headings,
    );
    let groups = grouped(records, Status::Known, |r| (issue(&r.reason), r.backend.as_str()));
    for ((issue, backend), rows) in groups {
        let Some(worst) = worst(&rows) else {
            continue;
        };
        grid.rows.push(Row {
            cells: vec![
                Cell::new(issue).tone(Tone::Note),
                Cell::new(backend),
                Cell::new(plural(rows.len(), "case")),
                Cell::new(operations(&rows)),
                worst_cell(worst),
                Cell::new(&worst.repro),
            ],
            subject: subject(backend, Status::Known),
        });
    }
    grid.unless_empty()
}

/// Why backends do not support what they do not support, grouped by reason.
#[must_use]
pub fn unsupported(records: &[Record]) -> Option<Grid> {
    let headings = vec![
        Heading::words("backend"),
        Heading::words("reason"),
        Heading::figures("cases"),
        Heading::words("operations"),
    ];
    let mut grid = Grid::new(
        "Unsupported",
        "What a backend does not offer with exactly these semantics, in its own words.",
        headings,
    );
    let groups =
        grouped(records, Status::Unsupported, |record| (record.backend.as_str(), record.reason.as_str()));
    for ((backend, reason), rows) in groups {
        grid.rows.push(Row {
            cells: vec![
                Cell::new(backend),
                Cell::new(reason),
                Cell::new(plural(rows.len(), "case")),
                Cell::new(operations(&rows)),
            ],
            subject: subject(backend, Status::Unsupported),
        });
    }
    grid.unless_empty()
}

type Groups<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Record>>;

/// The cases of one status by a key of two texts.
fn grouped<'a>(
    records: &'a [Record],
    status: Status,
    key: impl Fn(&'a Record) -> (&'a str, &'a str),
) -> Groups<'a> {
    let mut groups = Groups::new();
    for record in worst_per_case(records).into_iter().filter(|r| r.status == status) {
        groups.entry(key(record)).or_default().push(record);
    }
    groups
}

/// The name of a known issue: the reason begins with it, `name: what was seen`.
fn issue(reason: &str) -> &str {
    reason.split_once(": ").map_or(reason, |(issue, _)| issue)
}

/// The row furthest over its bound; the first one of several, and where no row has a figure.
fn worst<'a>(rows: &[&'a Record]) -> Option<&'a Record> {
    let size = |record: &Record| match record.error_over_bound {
        Some(ratio) if ratio.is_nan() => f64::INFINITY,
        Some(ratio) => ratio,
        None => 0.0,
    };
    rows.iter().copied().reduce(|worst, row| if size(row) > size(worst) { row } else { worst })
}

/// `2.21 × bound`; where no element is over its bound, something else is wrong, such as a NaN that
/// is missing: then what was seen, and no element.
fn worst_cell(worst: &Record) -> Cell {
    let mut cell = Cell::default();
    cell.below.push(format!("{}, {}", worst.problem, inputs(worst)));
    match worst.error_over_bound.filter(|ratio| *ratio > 1.0) {
        Some(ratio) => {
            let ratio = if ratio.is_finite() { number(ratio) } else { "∞".to_owned() };
            cell.text = format!("{ratio} × bound");
            cell.below.extend(worst_element(worst));
        }
        None => {
            let seen = worst.reason.split_once(": ").map_or("", |(_, seen)| seen);
            seen.clone_into(&mut cell.text);
        }
    }
    cell
}

/// `gelu (f16, bf16) and silu (f16)`.
fn operations(rows: &[&Record]) -> String {
    let mut ops: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        ops.entry(&row.op).or_default().push(&row.dtype);
    }
    let ops: Vec<_> = ops
        .into_iter()
        .map(|(op, dtypes)| format!("{op} ({})", ordered(dtypes.into_iter(), &DTYPES).join(", ")))
        .collect();
    list(&ops)
}

fn subject(backend: &str, status: Status) -> Subject {
    Subject { backend: backend.to_owned(), status: status.to_string(), ..Subject::default() }
}
