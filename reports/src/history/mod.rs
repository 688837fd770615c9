//! Many recorded runs in a row: the time of each case from run to run, and where it changed.
//!
//! A point is one row of one run. Rows with the same problem, inputs, backend, instruction set,
//! threads, cache state and processor make a series, in the order of their times.
//!
//! # What a time is held against
//!
//! A machine is not the same machine every day. Runs record the time of the
//! *canary*, a loop of scalar arithmetic that never changes (`harness/src/timing/canary.rs`), around
//! each measurement. A series of a processor is that of its times over the median canary of their
//! run, so that a day on which everything was slow is no change. Devices have clocks of their own,
//! and runs of before version 4 of the schema hold no canary: where any run of a series lacks it, the
//! series is of times as they are, and says so. The canary's own series is searched as well: a change
//! there is one of the machine.
//!
//! The limits in `environment.toml` are no substitute. They are kept from run to run on purpose, so
//! that shares of them compare.
//!
//! # What is a change
//!
//! [`divisive`] says where and how it is tested. The logarithms of a series are searched, so that a
//! change is a factor. After the search the smallest change is taken back, and its two segments become
//! one, until none is below the size that is asked for: four steps of 1.9 % are then a change of 7.8 %.

pub mod divisive;
mod export;
mod render;

use std::collections::BTreeMap;

use divisive::{changes, fewest_for};

pub use export::{csv, json_lines};
pub use render::{changes as changes_grid, series as series_grid};

use crate::record::{Record, RowKey};
use crate::statistics::median;

/// The records of a run, and the machine they were made on; empty if that is unknown.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Its records.
    pub records: Vec<Record>,
    /// See [`crate::Machine::identity`], with the device's name where there is one.
    pub processor: String,
}

/// What makes a series of points one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// What was measured.
    pub key: RowKey,
    /// See [`Record::isa`].
    pub isa: String,
    /// See [`Record::method`].
    pub clock: String,
    /// See [`Run::processor`].
    pub processor: String,
}

/// The name of the canary among backends.
pub const CANARY: &str = "canary";

/// One run's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// See [`Record::time`].
    pub time: String,
    /// See [`Record::run_id`].
    pub run_id: String,
    /// See [`Record::git_revision`].
    pub git_revision: String,
    /// See [`Record::median_ns`].
    pub median_ns: u64,
    /// The median canary of the run.
    pub canary_ns: Option<f64>,
}

/// A change from one point to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The first point after it.
    pub at: usize,
    /// The probability of so clear a change where there is none.
    pub p: f64,
    /// The median time before, back to the change before that, in nanoseconds.
    pub before_ns: f64,
    /// The median time after, up to the next change, in nanoseconds.
    pub after_ns: f64,
    /// The median after over the median before, relative to the canary where the series is.
    pub factor: f64,
}

/// The times of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Of what.
    pub subject: Subject,
    /// In the order of time.
    pub points: Vec<Point>,
    /// Whether times are relative to the canary.
    pub relative: bool,
    /// What changed.
    pub changes: Vec<Change>,
}

/// How changes are looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    /// The share of series without a change that show one.
    pub level: f64,
    /// The smallest change worth telling: 0.02 is two percent, up or down.
    pub smallest: f64,
    /// Of the permutations.
    pub seed: u64,
}

/// All series of some runs.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The cases.
    pub series: Vec<Series>,
    /// The canary on each processor, where runs hold it.
    pub canaries: Vec<Series>,
    /// How changes were looked for.
    pub search: Search,
    /// Runs, by their names.
    pub runs: usize,
}

impl Series {
    /// What is searched and drawn: times, or multiples of the canary.
    #[must_use]
    pub fn values(&self) -> Vec<f64> {
        let value = |point: &Point| match point.canary_ns.filter(|_| self.relative) {
            Some(canary) => point.median_ns.max(1) as f64 / canary,
            None => point.median_ns.max(1) as f64,
        };
        self.points.iter().map(value).collect()
    }

    /// The stretches between changes, as ranges of points.
    #[must_use]
    pub fn segments(&self) -> Vec<std::ops::Range<usize>> {
        let ends: Vec<_> = self.changes.iter().map(|change| change.at).chain([self.points.len()]).collect();
        let starts = std::iter::once(0).chain(self.changes.iter().map(|change| change.at));
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }

    /// Whether there are enough points to show a change at a level.
    #[must_use]
    pub fn is_long_enough(&self, level: f64) -> bool {
        self.points.len() >= fewest_for(level)
    }

    fn search(&mut self, search: Search) {
        let values = self.values();
        let logarithms: Vec<f64> = values.iter().map(|value| value.ln()).collect();
        // The same case has the same permutations whatever is beside it.
        let mut splits = changes(&logarithms, search.level, search.seed);
        // Small steps in one direction add up: the smallest is taken back first, and its two segments are
        // one, so that what is left is compared over longer stretches.
        let step = |splits: &[divisive::Split], i: usize| {
            let from = if i == 0 { 0 } else { splits[i - 1].at };
            let to = splits.get(i + 1).map_or(values.len(), |split| split.at);
            let at = splits[i].at;
            let of = |range: &[f64]| median(range.iter().copied());
            (of(&values[at..to]) / of(&values[from..at])).ln().abs()
        };
        while let Some((i, size)) =
            (0..splits.len()).map(|i| (i, step(&splits, i))).min_by(|a, b| a.1.total_cmp(&b.1))
            && size < search.smallest.ln_1p()
        {
            splits.remove(i);
        }
        let bounds: Vec<usize> =
            std::iter::once(0).chain(splits.iter().map(|s| s.at)).chain([values.len()]).collect();
        let times: Vec<f64> = self.points.iter().map(|point| point.median_ns as f64).collect();
        let of = |all: &[f64], from: usize, to: usize| median(all[from..to].iter().copied());
        let found = splits.iter().zip(bounds.windows(3)).map(|(split, bounds)| Change {
            at: split.at,
            p: split.p,
            before_ns: of(&times, bounds[0], bounds[1]),
            after_ns: of(&times, bounds[1], bounds[2]),
            factor: of(&values, bounds[1], bounds[2]) / of(&values, bounds[0], bounds[1]),
        });
        self.changes = found.collect();
    }
}

impl History {
    /// The series of some runs, searched.
    #[must_use]
    pub fn of(runs: &[Run], search: Search) -> Self {
        let canaries = canaries(runs);
        let mut all: BTreeMap<Subject, Vec<Point>> = BTreeMap::new();
        for run in runs {
            for record in &run.records {
                let Some(median_ns) = record.median_ns else { continue };
                let name = (run.processor.clone(), record.run_id.clone());
                let canary = canaries.get(&name).filter(|_| record.device == "cpu");
                let subject = Subject {
                    key: record.key(),
                    isa: record.isa.clone(),
                    clock: record.method.clone(),
                    processor: match record.device_name.as_str() {
                        "" => run.processor.clone(),
                        device => format!("{}, {device}", run.processor),
                    },
                };
                all.entry(subject).or_default().push(point(record, median_ns, canary.map(|c| c.ns)));
            }
        }
        let mut names: Vec<&str> =
            runs.iter().flat_map(|run| &run.records).map(|r| r.run_id.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        Self {
            runs: names.len(),
            series: all.into_iter().map(|(subject, points)| series(subject, points, search)).collect(),
            canaries: canary_series(&canaries, search),
            search,
        }
    }

    /// Series that are too short to show a change at all.
    #[must_use]
    pub fn too_short(&self) -> usize {
        self.series.iter().filter(|series| !series.is_long_enough(self.search.level)).count()
    }

    /// Changes of all cases, the largest first.
    #[must_use]
    pub fn changes(&self) -> Vec<(&Series, &Change)> {
        let mut found: Vec<_> =
            self.series.iter().flat_map(|series| series.changes.iter().map(move |c| (series, c))).collect();
        found.sort_by(|a, b| b.1.factor.ln().abs().total_cmp(&a.1.factor.ln().abs()));
        found
    }
}

fn point(record: &Record, median_ns: u64, canary_ns: Option<f64>) -> Point {
    Point {
        time: record.time.clone(),
        run_id: record.run_id.clone(),
        git_revision: record.git_revision.clone(),
        median_ns,
        canary_ns,
    }
}

fn series(subject: Subject, mut points: Vec<Point>, search: Search) -> Series {
    // Without its `Z`, UTC text sorts with and without a fraction of a second.
    points.sort_by(|a, b| a.time.trim_end_matches('Z').cmp(b.time.trim_end_matches('Z')));
    let relative = points.iter().all(|point| point.canary_ns.is_some());
    let mut series = Series { subject, points, relative, changes: Vec::new() };
    series.search(search);
    series
}

/// The canary of a run on a processor, and the first row that it came with.
struct Canary<'a> {
    ns: f64,
    first: &'a Record,
}

fn canaries(runs: &[Run]) -> BTreeMap<(String, String), Canary<'_>> {
    let mut rows: BTreeMap<(String, String), Vec<&Record>> = BTreeMap::new();
    for run in runs {
        for record in run.records.iter().filter(|record| record.canary_ns.is_some_and(|ns| ns > 0)) {
            rows.entry((run.processor.clone(), record.run_id.clone())).or_default().push(record);
        }
    }
    let mut canaries = BTreeMap::new();
    for (name, rows) in rows {
        let ns = median(rows.iter().filter_map(|row| row.canary_ns).map(|ns| ns as f64));
        canaries.extend(rows.first().map(|first| (name, Canary { ns, first })));
    }
    canaries
}

fn canary_series(canaries: &BTreeMap<(String, String), Canary<'_>>, search: Search) -> Vec<Series> {
    let mut points: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for ((processor, _), canary) in canaries {
        let point = point(canary.first, canary.ns.round() as u64, None);
        points.entry(processor).or_default().push(point);
    }
    let subject = |processor: &str| Subject {
        key: RowKey {
            problem: "a loop that never changes".to_owned(),
            fill: String::new(),
            seed: 0,
            backend: CANARY.to_owned(),
            threads: 1,
            cache: String::new(),
        },
        isa: String::new(),
        clock: String::new(),
        processor: processor.to_owned(),
    };
    points.into_iter().map(|(processor, points)| series(subject(processor), points, search)).collect()
}
