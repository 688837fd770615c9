//! A run on disk: written row by row, read back with errors that name the line.

mod error;
mod lines;
mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub use error::StoreError;
pub use read::{NotComparable, merge, one_machine, read_records, read_samples, read_table, read_table_from};
pub use write::RunWriter;
pub(crate) use write::line_of;

/// Name of the record file within a run directory.
pub const RECORDS_FILE: &str = "records.csv";
/// Name of the sample file within a run directory.
pub const SAMPLES_FILE: &str = "samples.csv";

/// Writes a whole file beside its destination and then renames it there, so that a reader (or a
/// crash) sees the old file or the new one and never half of either.
///
/// A link is followed, and stays one. What exists and is no regular file (a device, a pipe,
/// `/dev/stdout`) cannot be replaced and is written in place.
///
/// # Errors
/// The file cannot be written or renamed; a regular file is then untouched.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let Some(path) = replaceable(path).map_err(io)? else {
        return std::fs::write(path, content).map_err(io);
    };
    let name = path.file_name().ok_or_else(|| io(io::ErrorKind::InvalidInput.into()))?;
    let mut partial = name.to_owned();
    // The process id keeps two writers of the same report out of each other's partial file.
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(partial);
    let written = std::fs::write(&partial, content).and_then(|()| std::fs::rename(&partial, &path));
    written.map_err(|source| {
        // Best effort: the error that matters is the first one.
        let _ = std::fs::remove_file(&partial);
        io(source)
    })
}

/// Links followed before giving up, as many as Linux follows.
const MOST_LINKS: usize = 40;

/// The regular file behind a path, or the one to be made there; `None` for anything else.
fn replaceable(path: &Path) -> io::Result<Option<PathBuf>> {
    if std::fs::metadata(path).is_ok_and(|target| !target.is_file()) {
        return Ok(None);
    }
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        // An open file of this process: its name is not where its readers look.
        if ["/dev/fd", "/proc"].iter().any(|special| path.starts_with(special)) {
            return Ok(None);
        }
        // Step by step, because the end of the links may be a file that is yet to be made.
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(Some(path)),
        }
    }
    Err(io::Error::other("too many links"))
}
