//! Who is right: the support matrix, from cases that ran and passed.

use std::collections::BTreeSet;

use super::{Cell, Grid, Heading, Row, Subject, Tone};
use crate::status::Status;
use crate::summary::{Counts, Place, Summary};
use crate::words::number;

/// Families and dtypes down, backends across: passed cases of executed ones.
#[must_use]
pub fn verdicts(summary: &Summary) -> Grid {
    let mut headings = vec![Heading::words("family"), Heading::words("dtype")];
    headings.extend(summary.backends.iter().map(Heading::backend));
    let mut grid = Grid::new(
        "Verdicts",
        "Cases passed of cases executed. F failed, S suspect, E error, T timeout, \
         K known issue; – not supported.",
        headings,
    );
    for family in &summary.families {
        for dtype in &summary.dtypes {
            let cell = |backend: &String| {
                let place = Place { family: family.clone(), dtype: dtype.clone(), backend: backend.clone() };
                summary.verdicts.get(&place).map(counts)
            };
            let cells: Vec<_> = summary.backends.iter().map(cell).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let mut row = vec![Cell::new(family), Cell::new(dtype)];
            row.extend(cells.into_iter().map(|c| c.unwrap_or_else(|| Cell::new(""))));
            grid.rows
                .push(Row { cells: row, subject: Subject { dtype: dtype.clone(), ..Subject::default() } });
        }
    }
    grid
}

fn counts(counts: &Counts) -> Cell {
    if counts.executed() == 0 {
        return Cell::absent();
    }
    let bad: Vec<_> = Status::ALL
        .into_iter()
        .filter(|status| status.was_executed() && *status != Status::Passed)
        .filter(|status| counts.of(*status) > 0)
        .map(|status| {
            let letter = status.as_str()[..1].to_uppercase();
            format!("{}{letter}", counts.of(status))
        })
        .collect();
    let tone = if counts.needing_attention() > 0 {
        Tone::Bad
    } else if counts.of(Status::Known) > 0 {
        Tone::Note
    } else {
        Tone::Good
    };
    Cell {
        text: format!("{}/{}", counts.of(Status::Passed), counts.executed()),
        below: if bad.is_empty() { bad } else { vec![bad.join(" ")] },
        tone,
        record: None,
    }
}

/// Families and dtypes down, backends across: the largest error over its bound in passed cases.
#[must_use]
pub fn accuracy(summary: &Summary) -> Option<Grid> {
    let mut headings = vec![Heading::words("family"), Heading::words("dtype")];
    headings.extend(summary.backends.iter().map(Heading::backend));
    let mut grid = Grid::new(
        "Error over bound",
        "Largest error of any element of any passed case, as a share of its a-priori bound. \
         Comparable only within one contract; cases that failed are not in it.",
        headings,
    );
    for family in &summary.families {
        for dtype in &summary.dtypes {
            let value = |backend: &String| {
                let place = Place { family: family.clone(), dtype: dtype.clone(), backend: backend.clone() };
                summary.accuracy.get(&place)
            };
            let found: Vec<_> = summary.backends.iter().map(value).collect();
            let contracts: BTreeSet<_> = found.iter().flatten().flat_map(|a| &a.contracts).collect();
            if found.iter().all(Option::is_none) {
                continue;
            }
            let mut row = vec![Cell::new(family), Cell::new(dtype)];
            row.extend(found.into_iter().map(|accuracy| match accuracy {
                None => Cell::absent(),
                Some(accuracy) => {
                    let own: Vec<_> = accuracy.contracts.iter().map(String::as_str).collect();
                    let below = if contracts.len() > 1 { vec![own.join(", ")] } else { Vec::new() };
                    Cell { below, ..Cell::new(number(accuracy.largest)) }
                }
            }));
            grid.rows
                .push(Row { cells: row, subject: Subject { dtype: dtype.clone(), ..Subject::default() } });
        }
    }
    grid.unless_empty()
}
