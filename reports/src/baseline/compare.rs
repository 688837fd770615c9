//! A run against a baseline: what has become worse, and what else is new.

use std::collections::BTreeSet;

use super::{Baseline, Expectation, Run, case_of};
use crate::grid::{Cell, Grid, Heading, Row, Subject, Tone};
use crate::record::Record;
use crate::status::Status;
use crate::words::plural;

/// The largest error over its bound that raises no alarm where this one is expected: 1.25·expected + 0.02.
/// Both numbers are choices; the [module](super) says what they were chosen from.
#[must_use]
pub fn allowed(expected: f64) -> f64 {
    1.25 * expected + 0.02
}

/// One case on one backend that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The text of the case.
    pub case: String,
    /// The backend, or nothing where the case is gone for all.
    pub backend: String,
    /// What changed, in words.
    pub what: String,
    /// What was expected.
    pub before: String,
    /// What was found.
    pub after: String,
    /// A command that shows it.
    pub repro: String,
}

/// A column that was not held against anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The backend.
    pub backend: String,
    /// Why it was not compared.
    pub why: String,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Rows that were held against an expectation.
    pub compared: usize,
    /// Rows of which nothing was expected yet.
    pub new: usize,
    /// What somebody has to look at.
    pub worse: Vec<Finding>,
    /// What has become better, or is otherwise not what it was.
    pub other: Vec<Finding>,
    /// Columns without rows in the run.
    pub skipped: Vec<Skipped>,
}

/// How bad a status is where a better one was expected.
const fn rank(status: Status) -> u8 {
    match status {
        Status::Passed => 0,
        Status::Known | Status::Suspect | Status::Unsupported => 1,
        Status::Failed | Status::Error | Status::Timeout => 2,
    }
}

/// How a row stands to what is expected of it.
enum Change {
    None,
    Worse(String),
    Other(String),
}

impl Baseline {
    /// Holds a run against what is expected of it.
    #[must_use]
    pub fn compare(&self, run: Run<'_>) -> Comparison {
        let mut found = Comparison::default();
        for record in run.records {
            let Some(expected) = self.expectation(record, run.processor) else {
                found.new += 1;
                continue;
            };
            found.compared += 1;
            let actual = Expectation::of(record);
            match change(expected, &actual, record.error_over_bound) {
                Change::None => {}
                Change::Worse(what) => found.worse.push(finding(record, what, expected, &actual)),
                Change::Other(what) => found.other.push(finding(record, what, expected, &actual)),
            }
        }
        for (case, row) in self.rows.iter().filter(|(case, row)| (run.gone)(&row.suite, case)) {
            found.worse.push(Finding {
                case: case.clone(),
                backend: String::new(),
                what: format!("no longer in the suite {}", row.suite),
                before: "expected".to_owned(),
                after: "gone".to_owned(),
                repro: format!("touchstone repro '{case}'"),
            });
        }
        found.skipped = self.skipped(run);
        found
    }

    fn skipped(&self, run: Run<'_>) -> Vec<Skipped> {
        let mut present: BTreeSet<(&str, &str)> = BTreeSet::new();
        present.extend(run.records.iter().map(|r| (r.backend.as_str(), r.isa.as_str())));
        let skipped = self.columns.iter().filter_map(|column| {
            let backend = column.backend.clone();
            let isas: Vec<_> =
                present.iter().filter(|(name, _)| *name == backend).map(|(_, isa)| *isa).collect();
            let why = if isas.is_empty() {
                "not in this run".to_owned()
            } else if !isas.contains(&column.isa.as_str()) {
                format!("expected on {}, here it uses {}", column.isa, isas.join(" and "))
            } else if !column.processor.is_empty() && column.processor != run.processor {
                format!("expected on {}, this is {}", column.processor, run.processor)
            } else {
                return None;
            };
            Some(Skipped { backend, why })
        });
        skipped.collect()
    }
}

fn finding(record: &Record, what: String, before: &Expectation, after: &Expectation) -> Finding {
    Finding {
        case: case_of(record),
        backend: record.backend.clone(),
        what,
        before: before.to_string(),
        after: after.to_string(),
        repro: record.repro.clone(),
    }
}

fn change(expected: &Expectation, actual: &Expectation, figure: Option<f64>) -> Change {
    let grown = match (expected.figure, figure) {
        // A NaN has grown, unless there was one before.
        (Some(before), Some(after)) => (after.is_nan() || after > allowed(before)) && !same(before, after),
        (None, _) => false,
        (Some(_), None) => true,
    };
    let (before, after) = (rank(expected.status), rank(actual.status));
    if after > before {
        // A library's known issue may come and go where its error crosses 1 by a hair.
        let by_a_hair = (expected.status, actual.status) == (Status::Passed, Status::Known) && !grown;
        let what = format!("{} → {}", expected.status, actual.status);
        return if by_a_hair { Change::Other(what) } else { Change::Worse(what) };
    }
    if actual.normwise && !expected.normwise && expected.status == actual.status {
        return Change::Worse("componentwise → normwise".to_owned());
    }
    if expected.status != actual.status {
        return Change::Other(format!("{} → {}", expected.status, actual.status));
    }
    if expected.normwise != actual.normwise {
        return Change::Other("normwise → componentwise".to_owned());
    }
    // How far off a known issue is, nobody promised.
    if grown && expected.status == Status::Passed {
        return Change::Worse("error over bound grew".to_owned());
    }
    let shrunk = expected.figure.zip(figure).is_some_and(|(before, after)| before > allowed(after));
    if shrunk { Change::Other("error over bound shrank".to_owned()) } else { Change::None }
}

/// Equal, infinities and NaN included.
fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// Findings shown of each kind; the rest is counted.
const MOST_SHOWN: usize = 50;

impl Comparison {
    /// What was found, for a terminal or a pull request: what is worse first.
    #[must_use]
    pub fn grids(&self) -> Vec<Grid> {
        let mut note = format!(
            "{} held against the baseline: {} worse, {} otherwise not as expected, {} without an expectation.",
            plural(self.compared, "verdict"),
            self.worse.len(),
            self.other.len(),
            self.new
        );
        for Skipped { backend, why } in &self.skipped {
            note.push_str(&format!(" {backend} was not compared: {why}."));
        }
        let title = if self.worse.is_empty() { "Against the baseline" } else { "Worse than the baseline" };
        let mut worse = grid(title, &self.worse, Tone::Bad);
        let mut other = grid("Not as the baseline expects", &self.other, Tone::Note);
        // The note stands once, below what comes last.
        let last = if self.other.is_empty() { &mut worse } else { &mut other };
        last.note = format!("{} {note}", last.note).trim().to_owned();
        let shown =
            [(worse, !self.worse.is_empty() || self.other.is_empty()), (other, !self.other.is_empty())];
        shown.into_iter().filter_map(|(grid, wanted)| wanted.then_some(grid)).collect()
    }
}

fn grid(title: &str, findings: &[Finding], tone: Tone) -> Grid {
    let headings = vec![
        Heading::words("change"),
        Heading::words("backend"),
        Heading::words("before"),
        Heading::words("after"),
        Heading::code("repro"),
    ];
    let beyond = findings.len().saturating_sub(MOST_SHOWN);
    let note = if beyond > 0 { format!("{beyond} more are not shown.") } else { String::new() };
    let mut grid = Grid::new(title, note, headings);
    for finding in findings.iter().take(MOST_SHOWN) {
        grid.rows.push(Row {
            cells: vec![
                Cell::new(&finding.what).tone(tone),
                Cell::new(&finding.backend),
                Cell::new(&finding.before),
                Cell::new(&finding.after),
                Cell::new(&finding.repro),
            ],
            subject: Subject { backend: finding.backend.clone(), ..Subject::default() },
        });
    }
    grid
}
