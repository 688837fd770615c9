//! One row of `samples.csv`: the raw time of one slice.

use serde::{Deserialize, Serialize};

use crate::columns::SAMPLES;
use crate::record::{Record, RowKey};

/// The names of the columns of `samples.csv`, in order.
pub const SAMPLE_COLUMNS: [&str; SAMPLES.len()] = names();

const fn names() -> [&'static str; SAMPLES.len()] {
    let mut names = [""; SAMPLES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = SAMPLES[i].name;
        i += 1;
    }
    names
}

/// The first so many were all that runs of version 2 of the schema wrote.
pub(crate) const SAMPLE_COLUMNS_BEFORE: usize = 10;

/// One timed slice of one measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleRow {
    /// See [`Record::run_id`].
    pub run_id: String,
    /// See [`Record::problem`].
    pub problem: String,
    /// See [`Record::fill`].
    pub fill: String,
    /// See [`Record::seed`].
    pub seed: u64,
    /// See [`Record::backend`].
    pub backend: String,
    /// See [`Record::threads`].
    pub threads: u32,
    /// See [`Record::cache`].
    pub cache: String,
    /// Number of the slice, from 0, in the order measured. Slices with the same number on
    /// different backends were neighbours in time.
    pub slice: u32,
    /// Iterations in the slice.
    pub iterations: u64,
    /// Time of the whole slice, in nanoseconds.
    pub ns: u64,
    /// Whether nothing is known to have disturbed it. Older runs did not say: there all are.
    #[serde(default = "unknown")]
    pub clean: bool,
}

const fn unknown() -> bool {
    true
}

impl SampleRow {
    /// The sample rows of one record, from `(iterations, ns)` pairs in the order measured, all of
    /// them clean.
    #[must_use]
    pub fn of(record: &Record, slices: &[(u64, u64)]) -> Vec<Self> {
        (0..)
            .zip(slices)
            .map(|(slice, &(iterations, ns))| Self {
                run_id: record.run_id.clone(),
                problem: record.problem.clone(),
                fill: record.fill.clone(),
                seed: record.seed,
                backend: record.backend.clone(),
                threads: record.threads,
                cache: record.cache.clone(),
                slice,
                iterations,
                ns,
                clean: true,
            })
            .collect()
    }

    /// The key of the record this slice belongs to.
    #[must_use]
    pub fn key(&self) -> RowKey {
        RowKey {
            problem: self.problem.clone(),
            fill: self.fill.clone(),
            seed: self.seed,
            backend: self.backend.clone(),
            threads: self.threads,
            cache: self.cache.clone(),
        }
    }

    /// Time of one iteration, in nanoseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "slices last milliseconds, far below 2^53 ns")]
    pub fn ns_per_iteration(&self) -> f64 {
        self.ns as f64 / self.iterations.max(1) as f64
    }
}
