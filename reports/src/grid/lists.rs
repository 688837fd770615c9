//! What needs somebody to act, row by row.

use super::speed::status_tone;
use super::{Cell, Grid, Heading, Row, Subject};
use crate::record::Record;
use crate::summary::worst_per_case;
use crate::words::number;

/// Failed, suspect, erroneous and timed-out cases, with the worst element and a repro line.
#[must_use]
pub fn failures(records: &[Record]) -> Option<Grid> {
    let headings = vec![
        Heading::words("status"),
        Heading::words("backend"),
        Heading::words("problem"),
        Heading::words("why"),
        Heading::code("repro"),
    ];
    let note = "Each needs somebody to act. The last column reproduces the row.";
    let mut grid = Grid::new("Failures", note, headings);
    for record in worst_per_case(records).into_iter().filter(|r| r.status.needs_attention()) {
        let mut why = Cell::new(&record.reason);
        if let Some(worst) = worst_element(record) {
            let ratio = record.error_over_bound.map(|ratio| format!(", error {} × bound", number(ratio)));
            why.below.push(worst + &ratio.unwrap_or_default());
        }
        grid.rows.push(Row {
            cells: vec![
                Cell::new(record.status.as_str()).tone(status_tone(record.status)),
                Cell::new(&record.backend),
                Cell { text: record.problem.clone(), below: vec![inputs(record)], ..Cell::default() },
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

/// `fill normal, seed 1`.
pub(super) fn inputs(record: &Record) -> String {
    format!("fill {}, seed {}", record.fill, record.seed)
}

/// `worst out[0,3]: expected 1.250000e-1, got 1.260000e-1`.
pub(super) fn worst_element(record: &Record) -> Option<String> {
    let (expected, got) = (record.worst_expected?, record.worst_got?);
    // Seven digits: as many as f32 has.
    Some(format!("worst {}: expected {expected:.6e}, got {got:.6e}", record.worst_index))
}
