//! What did not pass, and why.

use std::collections::BTreeMap;

use super::speed::status_tone;
use super::{Cell, Grid, Heading, Row, Subject};
use crate::record::Record;
use crate::status::Status;
use crate::summary::worst_per_case;
use crate::words::{list, number, plural};

/// Failed, suspect, erroneous and timed-out cases, with the worst element and a repro line.
#[must_use]
pub fn failures(records: &[Record]) -> Option<Grid> {
    listed(
        records,
        "Failures",
        "Each needs somebody to act. The last column reproduces the row.",
        Status::needs_attention,
    )
}

/// Disagreements that are listed in the known-issues file.
#[must_use]
pub fn known_issues(records: &[Record]) -> Option<Grid> {
    listed(
        records,
        "Known issues",
        "True disagreements of a library, listed with their upstream reference; \
         one that starts to pass becomes a failure.",
        |status| status == Status::Known,
    )
}

fn listed(records: &[Record], title: &str, note: &str, wanted: impl Fn(Status) -> bool) -> Option<Grid> {
    let headings = vec![
        Heading::words("status"),
        Heading::words("backend"),
        Heading::words("problem"),
        Heading::words("why"),
        Heading::code("repro"),
    ];
    let mut grid = Grid::new(title, note, headings);
    for record in worst_per_case(records) {
        if !wanted(record.status) {
            continue;
        }
        let mut why = Cell::new(&record.reason);
        if let (Some(expected), Some(got)) = (record.worst_expected, record.worst_got) {
            let mut worst = format!("worst {}: expected {expected:e}, got {got:e}", record.worst_index);
            if let Some(ratio) = record.error_over_bound {
                worst.push_str(&format!(", error {} × bound", number(ratio)));
            }
            why.below.push(worst);
        }
        grid.rows.push(Row {
            cells: vec![
                Cell::new(record.status.as_str()).tone(status_tone(record.status)),
                Cell::new(&record.backend),
                Cell {
                    text: record.problem.clone(),
                    below: vec![format!("fill {}, seed {}", record.fill, record.seed)],
                    ..Cell::default()
                },
                why,
                Cell::new(&record.repro),
            ],
            subject: Subject {
                op: record.op.clone(),
                dtype: record.dtype.clone(),
                backend: record.backend.clone(),
                status: record.status.to_string(),
            },
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
    let mut groups: BTreeMap<(&str, &str), Vec<&Record>> = BTreeMap::new();
    for record in worst_per_case(records) {
        if record.status == Status::Unsupported {
            let key = (record.backend.as_str(), record.reason.as_str());
            groups.entry(key).or_default().push(record);
        }
    }
    for ((backend, reason), rows) in groups {
        let mut ops: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in &rows {
            let dtypes = ops.entry(&row.op).or_default();
            if !dtypes.contains(&row.dtype.as_str()) {
                dtypes.push(&row.dtype);
            }
        }
        let ops: Vec<_> =
            ops.into_iter().map(|(op, dtypes)| format!("{op} ({})", dtypes.join(", "))).collect();
        grid.rows.push(Row {
            cells: vec![
                Cell::new(backend),
                Cell::new(reason),
                Cell::new(plural(rows.len(), "case")),
                Cell::new(list(&ops)),
            ],
            subject: Subject {
                backend: backend.to_owned(),
                status: Status::Unsupported.to_string(),
                ..Subject::default()
            },
        });
    }
    grid.unless_empty()
}
