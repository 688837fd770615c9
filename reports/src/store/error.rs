//! What can be wrong with a run on disk.

use std::io;
use std::path::PathBuf;

use crate::record::SCHEMA_VERSION;
use crate::validate::RecordError;

/// A run that cannot be written or read. Every message is one line that names the file and,
/// where there is one, the line, the column, what was expected and what was found. What another
/// error says stands in the [source](std::error::Error::source) alone: print the chain.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// A new run would overwrite an earlier one.
    #[error("{}: holds an earlier run; resume it or choose another directory", path.display())]
    AlreadyThere {
        /// The file that exists.
        path: PathBuf,
    },
    /// The file has no header.
    #[error("{}: empty, expected a header of {columns} columns", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Columns the header should have.
        columns: usize,
    },
    /// Headers were found, but not a single record.
    #[error("no records in {}", list(paths))]
    NoRecords {
        /// All files read.
        paths: Vec<PathBuf>,
    },
    /// The header differs from the schema.
    #[error("{}:1: column {position} of the header is `{found}`, expected `{expected}`", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Position of the first column that differs, from 1.
        position: usize,
        /// Its name in the schema.
        expected: String,
        /// Its name in the file.
        found: String,
    },
    /// The row was written with a schema this program does not know, or another than the header.
    #[error("{}:{line}: schema version {found}, expected {expected} by its header; \
             this program reads 1 to {SCHEMA_VERSION}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The version as it was found.
        found: String,
        /// That of the file's header.
        expected: u32,
    },
    /// The last row stops in the middle, as a crash or a full disk leaves it.
    #[error(
        "{}:{line}: truncated row, {found} of {expected} columns and no line end; \
         resume the run, which removes it and measures it again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// Columns it should have.
        expected: usize,
        /// Columns it has.
        found: usize,
    },
    /// A quote opens a cell that does not end, and whole rows follow.
    #[error(
        "{}:{line}: a quote opens a cell that does not end, and {rows} more rows follow it: nothing was \
         removed; mend the line",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// Rows behind it.
        rows: usize,
    },
    /// Another process writes into the run.
    #[error("{}: another process writes into this run", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A row has too many or too few cells.
    #[error("{}:{line}: {found} columns, expected {expected}", path.display())]
    Width {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// Columns it should have.
        expected: usize,
        /// Columns it has.
        found: usize,
    },
    /// A cell does not hold what its column should.
    #[error("{}:{line}: column `{column}` is `{found}`, expected {expected}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The column.
        column: String,
        /// What it should hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// The row contradicts itself.
    #[error("{}:{line}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The contradiction.
        source: Box<RecordError>,
    },
    /// A row that was about to be written contradicts itself.
    #[error("refusing to record {backend} on {problem}")]
    Refused {
        /// The backend of the row.
        backend: String,
        /// The problem of the row.
        problem: String,
        /// The contradiction.
        source: Box<RecordError>,
    },
    /// The row is in the run already.
    #[error("{backend} on {problem} ({threads} threads, cache `{cache}`) is recorded already")]
    Duplicate {
        /// The backend of the row.
        backend: String,
        /// The problem of the row.
        problem: String,
        /// The threads of the row.
        threads: u32,
        /// The cache state of the row.
        cache: String,
    },
    /// The bytes are not UTF-8 or not CSV.
    #[error("{}:{line}: {message}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What the CSV reader says.
        message: String,
    },
    /// `environment.toml` is not what it should be.
    #[error("{}: {message}", path.display())]
    Environment {
        /// The file.
        path: PathBuf,
        /// What the TOML reader says, with line and column.
        message: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    names.join(", ")
}
