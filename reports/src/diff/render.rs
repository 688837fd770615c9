//! A comparison as grids, for [`crate::table::render`] and [`crate::markdown::render`].

use super::Diff;
use crate::grid::{Cell, Grid, Heading, Row, Subject, Tone, status_tone};
use crate::speed::{Group, Ratio};
use crate::words::{duration, interval, times};

/// Status changes first, then means per family, then every case, the most changed first.
/// `cases: false` leaves the last out.
#[must_use]
pub fn grids(diff: &Diff, cases: bool) -> Vec<Grid> {
    let mut grids: Vec<Grid> = changes(diff).into_iter().collect();
    grids.push(families(diff));
    if cases {
        grids.push(all_cases(diff));
    }
    grids
}

fn changes(diff: &Diff) -> Option<Grid> {
    let headings = vec![
        Heading::words("change"),
        Heading::words("backend"),
        Heading::words("problem"),
        Heading::words("why"),
        Heading::code("repro"),
    ];
    let mut grid = Grid::new("Status changes", "", headings);
    for change in &diff.changes {
        let text = format!("{} → {}", change.old, change.new);
        grid.rows.push(Row {
            cells: vec![
                Cell::new(text).tone(status_tone(change.new)),
                Cell::new(&change.key.backend),
                Cell::new(&change.key.problem),
                Cell::new(&change.reason),
                Cell::new(&change.repro),
            ],
            subject: Subject {
                backend: change.key.backend.clone(),
                status: change.new.to_string(),
                ..Subject::default()
            },
        });
    }
    grid.unless_empty()
}

/// Good or bad only where the interval leaves 1 out.
fn tone(ratio: &Ratio) -> Tone {
    match ratio.interval {
        Some((low, _)) if low > 1.0 => Tone::Good,
        Some((_, high)) if high < 1.0 => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn change(ratio: &Ratio) -> [Cell; 2] {
    [Cell::new(times(ratio.value)).tone(tone(ratio)), interval(ratio).map_or_else(Cell::absent, Cell::new)]
}

fn conditions(threads: u32, cache: &str) -> String {
    Group { family: String::new(), op: String::new(), dtype: String::new(), threads, cache: cache.to_owned() }
        .conditions()
}

fn families(diff: &Diff) -> Grid {
    let warnings: Vec<_> = diff.warnings.iter().map(|warning| format!(" Note: {warning}.")).collect();
    let note = format!(
        "Old time divided by new time: above 1 is faster now. Geometric means over the cases \
         in both sets, with 95 % intervals where there are samples; noise between runs is not \
         in them. {} rows only in the old set, {} only in the new one.{}",
        diff.only_old,
        diff.only_new,
        warnings.concat()
    );
    let headings = vec![
        Heading::words("family"),
        Heading::words("backend"),
        Heading::words("conditions"),
        Heading::figures("cases"),
        Heading::figures("change"),
        Heading::figures("95 %"),
    ];
    let mut grid = Grid::new("Change per family", note, headings);
    for family in &diff.families {
        let mut cells = vec![
            Cell::new(&family.family),
            Cell::new(&family.backend),
            Cell::new(conditions(family.threads, &family.cache)),
            Cell::new(family.cases.to_string()),
        ];
        cells.extend(change(&family.mean));
        grid.rows.push(Row::new(cells));
    }
    grid
}

fn all_cases(diff: &Diff) -> Grid {
    let headings = vec![
        Heading::words("case"),
        Heading::figures("old"),
        Heading::figures("new"),
        Heading::figures("change"),
        Heading::figures("95 %"),
    ];
    let mut grid = Grid::new("Change per case", "The most changed first.", headings);
    let mut cases: Vec<_> = diff.cases.iter().collect();
    let size = |ratio: &Ratio| ratio.value.ln().abs();
    cases.sort_by(|a, b| size(&b.ratio).total_cmp(&size(&a.ratio)));
    for case in cases {
        let mut cells = vec![
            Cell {
                text: case.key.problem.clone(),
                below: vec![format!(
                    "{}, {}",
                    case.key.backend,
                    conditions(case.key.threads, &case.key.cache)
                )],
                ..Cell::default()
            },
            Cell::new(duration(case.old_ns)),
            Cell::new(duration(case.new_ns)),
        ];
        cells.extend(change(&case.ratio));
        grid.rows.push(Row::new(cells));
    }
    grid
}
