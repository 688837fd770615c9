//! What a project expects of its kernels' accuracy: a file under version control, against which a
//! run is held.
//!
//! The oracle says whether a kernel is right. It does not say whether the kernel is as accurate as
//! it was: a rewritten exponential that takes twice the error may still be within its bound. The
//! baseline holds the status of every case on every backend and the largest error over its bound,
//! and [`Baseline::compare`] names what has become worse.
//!
//! In f16 and bf16 the rounding of the result takes most of the bound, so that it is the rows in f32
//! that see a loss of accuracy.
//!
//! # Why another machine raises no alarm
//!
//! A column belongs to a backend *and* its instruction set: `simd/avx2` gives the same bits on every
//! processor that has AVX2, because its source uses correctly rounded operations in a fixed order. A
//! backend that is not here is not compared, and that is said. A library chooses its code by the
//! processor it finds, in ways that it does not tell; its column names the processor it was recorded
//! on and is compared there alone.
//!
//! # The margin
//!
//! An error over its bound may grow to [`allowed`]: a quarter more, and a fiftieth of the bound. The
//! same code gives the same figure again, so the margin is there for what is not our code: another
//! compiler, or the system's own exponential, which `naive` calls. It was chosen from what a change
//! of nothing but the order of summation does: between `simd/scalar` and `simd/avx2`, 48 of the 1202
//! cases of the smoke suite have another figure, and 2 of them differ by more than the margin.
//!
//! Both parts are choices within that. The quarter is for figures near the bound, the fiftieth for those
//! near 0, which differ by much in proportion and by nothing that matters. With half of both, more changes of
//! nothing but order raise an alarm. With twice, an error may grow by half without one; a kernel that takes
//! twice the error is still named where its figure is above 0.08 (2x > 1.5x + 0.04).

mod cell;
mod compare;
mod file;

use std::collections::BTreeMap;

pub use cell::Expectation;
pub use compare::{Comparison, Finding, Skipped, allowed};

use crate::record::Record;
use crate::status::Status;

/// A case as its text: problem, fill and seed, as a repro line has them.
#[must_use]
pub fn case_of(record: &Record) -> String {
    format!("{} fill={} seed={}", record.problem, record.fill, record.seed)
}

/// Whom a column is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// See [`Record::backend`].
    pub backend: String,
    /// See [`Record::isa`].
    pub isa: String,
    /// See [`Record::version`]: for readers, a newer version is held against it too.
    pub version: String,
    /// The processor that the column is for; empty for any that has the instruction set.
    pub processor: String,
}

impl Column {
    /// Whether what this row found can be held against the column on this processor.
    fn is_for(&self, record: &Record, processor: &str) -> bool {
        self.backend == record.backend
            && self.isa == record.isa
            && (self.processor.is_empty() || self.processor == processor)
    }
}

/// Expectations: a row for each case, a column for each backend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    columns: Vec<Column>,
    /// By the text of the case.
    rows: BTreeMap<String, Row>,
}

/// What is expected of one case.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    /// The suite it was found in.
    suite: String,
    /// In the order of the columns.
    cells: Vec<Option<Expectation>>,
}

/// The run that a baseline is held against, or renewed from.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Its records, without times: one for each case and backend.
    pub records: &'a [Record],
    /// The processor it ran on.
    pub processor: &'a str,
    /// Whether a backend gives the same bits on every processor with its instruction set.
    pub portable: &'a dyn Fn(&str) -> bool,
    /// Whether a case of a suite, both as text, was asked for and exists no more.
    pub gone: &'a dyn Fn(&str, &str) -> bool,
}

impl Baseline {
    /// The columns, in the order of the file.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many cases there are.
    #[must_use]
    pub fn cases(&self) -> usize {
        self.rows.len()
    }

    /// What is expected of a case on the backend of a column.
    fn expectation(&self, record: &Record, processor: &str) -> Option<&Expectation> {
        let place = self.columns.iter().position(|column| column.is_for(record, processor))?;
        self.rows.get(&case_of(record))?.cells.get(place)?.as_ref()
    }

    /// Takes what a run found for what is expected from now on. Cases and backends that the run left
    /// out keep their expectation, cases that are gone lose it, and a row that failed is never
    /// expected to.
    pub fn accept(&mut self, run: Run<'_>) {
        self.rows.retain(|case, row| !(run.gone)(&row.suite, case));
        for record in run.records {
            if matches!(record.status, Status::Failed | Status::Error | Status::Timeout) {
                continue;
            }
            let place = self.place(record, &run);
            let width = self.columns.len();
            let row = self.rows.entry(case_of(record)).or_default();
            if row.suite.is_empty() {
                row.suite.clone_from(&record.suite);
            }
            row.cells.resize(width, None);
            row.cells[place] = Some(Expectation::of(record));
        }
        let width = self.columns.len();
        self.rows.values_mut().for_each(|row| row.cells.resize(width, None));
    }

    /// The column of a row, made if need be.
    fn place(&mut self, record: &Record, run: &Run<'_>) -> usize {
        let place = self.columns.iter().position(|column| column.is_for(record, run.processor));
        let place = place.unwrap_or_else(|| {
            let processor = if (run.portable)(&record.backend) { "" } else { run.processor };
            self.columns.push(Column {
                backend: record.backend.clone(),
                isa: record.isa.clone(),
                version: String::new(),
                processor: processor.to_owned(),
            });
            self.columns.len() - 1
        });
        self.columns[place].version.clone_from(&record.version);
        place
    }
}
