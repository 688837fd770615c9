//! A run on disk: written row by row, read back with errors that name the line.

mod error;
mod lines;
mod read;
mod write;

use std::path::Path;

pub use error::StoreError;
pub use read::{merge, read_records, read_samples, read_table, read_table_from};
pub use write::RunWriter;
pub(crate) use write::line_of;

/// Name of the record file within a run directory.
pub const RECORDS_FILE: &str = "records.csv";
/// Name of the sample file within a run directory.
pub const SAMPLES_FILE: &str = "samples.csv";

/// Writes a whole file beside its destination and then renames it there, so that a reader (or a
/// crash) sees the old file or the new one and never half of either.
///
/// # Errors
/// The file cannot be written or renamed; the destination is then untouched.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| io(std::io::ErrorKind::InvalidInput.into()))?;
    let mut partial = name.to_owned();
    // The process id keeps two writers of the same report out of each other's partial file.
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(partial);
    let written = std::fs::write(&partial, content).and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|source| {
        // Best effort: the error that matters is the first one.
        let _ = std::fs::remove_file(&partial);
        io(source)
    })
}
