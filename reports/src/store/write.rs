//! Appending to a run directory.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use csv::WriterBuilder;
use serde::Serialize;

use super::lines::{Tail, complete_prefix, tail};
use super::read::{header_width, read, read_samples_from, read_table_from};
use super::{RECORDS_FILE, SAMPLES_FILE, StoreError, write_whole};
use crate::columns::COLUMNS;
use crate::record::{Record, RowKey};
use crate::sample::{SAMPLE_COLUMNS, SampleRow};

/// Appends to the files of a run, one whole row at a time: whatever interrupts the run, the rows
/// pushed so far are on disk.
#[derive(Debug)]
pub struct RunWriter {
    dir: PathBuf,
    records: File,
    samples: File,
    earlier: Vec<Record>,
    done: HashSet<RowKey>,
    /// What resuming removed, a line each.
    removed: Vec<String>,
    /// Held as long as the run is written.
    _lock: File,
}

/// The file that is locked while a run is written.
const LOCK_FILE: &str = ".lock";

/// Keeps other processes from writing into a run at the same time. The lock ends with this process,
/// however it ends.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK_FILE);
    let io = |source| StoreError::Io { path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: dir.to_owned() }),
        // A file system without locks: as it was before there were any.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

impl RunWriter {
    /// Starts a run in a directory, which is made if need be.
    ///
    /// # Errors
    /// The directory holds a run already ([`StoreError::AlreadyThere`]), or cannot be written.
    pub fn create(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        let lock = lock(dir)?;
        Self::create_locked(dir, lock)
    }

    fn create_locked(dir: &Path, lock: File) -> Result<Self, StoreError> {
        let path = dir.join(RECORDS_FILE);
        if path.exists() {
            return Err(StoreError::AlreadyThere { path });
        }
        // Samples first: a crash in between leaves no record file, and the run starts afresh.
        write_whole(&dir.join(SAMPLES_FILE), &line_of(&SAMPLE_COLUMNS))?;
        write_whole(&path, &line_of(COLUMNS.map(|column| column.name).as_slice()))?;
        Self::open(dir, Vec::new(), Vec::new(), lock)
    }

    /// Continues the run in a directory, or starts one if there is none, so that a job that may
    /// be interrupted can always be started with the same command.
    ///
    /// At most one unfinished last row, as a crash leaves it, is removed, and so are samples without their
    /// record: both are measured again. What was there before stays beside it as `records.csv.bak` and
    /// `samples.csv.bak`, and [`removed`](RunWriter::removed) says what is gone.
    ///
    /// # Errors
    /// The run there is damaged in another way ([`super::read_records`] says how), or the
    /// directory cannot be written.
    pub fn resume(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(RECORDS_FILE);
        if !dir.is_dir() {
            return Self::create(dir);
        }
        let lock = lock(dir)?;
        if !path.exists() {
            return Self::create_locked(dir, lock);
        }
        let mut removed = Vec::new();
        let bytes = whole_rows(&path, &mut removed)?;
        let earlier = read_table_from(&path, &bytes)?;
        let done: HashSet<_> = earlier.iter().map(Record::key).collect();
        if header_width(&bytes) != COLUMNS.len() {
            // Of an older version: rows of two versions cannot stand in one file.
            let mut text = line_of(COLUMNS.map(|column| column.name).as_slice());
            earlier.iter().for_each(|record| text.extend(line_of(record)));
            back_up(&path)?;
            write_whole(&path, &text)?;
        }

        let path = dir.join(SAMPLES_FILE);
        let mut text = line_of(&SAMPLE_COLUMNS);
        if path.exists() {
            let bytes = whole_rows(&path, &mut removed)?;
            let samples = read_samples_from(&path, &bytes)?;
            let kept: Vec<_> = samples.iter().filter(|sample| done.contains(&sample.key())).collect();
            kept.iter().for_each(|sample| text.extend(line_of(*sample)));
            let orphans = samples.len() - kept.len();
            if orphans > 0 {
                back_up(&path)?;
                removed.push(format!("{}: {orphans} samples without their record", path.display()));
            }
        }
        write_whole(&path, &text)?;
        Self::open(dir, earlier, removed, lock)
    }

    fn open(dir: &Path, earlier: Vec<Record>, removed: Vec<String>, lock: File) -> Result<Self, StoreError> {
        let append = |name| {
            let path = dir.join(name);
            OpenOptions::new().append(true).open(&path).map_err(|source| StoreError::Io { path, source })
        };
        Ok(Self {
            dir: dir.to_owned(),
            records: append(RECORDS_FILE)?,
            samples: append(SAMPLES_FILE)?,
            done: earlier.iter().map(Record::key).collect(),
            earlier,
            removed,
            _lock: lock,
        })
    }

    /// What resuming removed, a line each. The files as they were are beside them, with `.bak` at the end.
    #[must_use]
    pub fn removed(&self) -> &[String] {
        &self.removed
    }

    /// The run directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The records that were there when the run was resumed.
    #[must_use]
    pub fn earlier(&self) -> &[Record] {
        &self.earlier
    }

    /// Whether the run has this row already.
    #[must_use]
    pub fn is_done(&self, key: &RowKey) -> bool {
        self.done.contains(key)
    }

    /// Appends one record and its samples and hands them to the operating system.
    ///
    /// # Errors
    /// The record contradicts itself ([`StoreError::Refused`]), is there already
    /// ([`StoreError::Duplicate`]), or cannot be written.
    pub fn push(&mut self, record: &Record, samples: &[SampleRow]) -> Result<(), StoreError> {
        record.validate().map_err(|source| StoreError::Refused {
            backend: record.backend.clone(),
            problem: record.problem.clone(),
            source: Box::new(source),
        })?;
        let key = record.key();
        if self.done.contains(&key) {
            return Err(StoreError::Duplicate {
                backend: key.backend,
                problem: key.problem,
                threads: key.threads,
                cache: key.cache,
            });
        }
        // Samples first: samples without a record are dropped on resume, a record without its
        // samples would stay incomplete. One write each, so that a crash tears one row at most.
        let text: Vec<u8> = samples.iter().flat_map(line_of).collect();
        write_to(&mut self.samples, &self.dir, SAMPLES_FILE, &text)?;
        write_to(&mut self.records, &self.dir, RECORDS_FILE, &line_of(record))?;
        self.done.insert(key);
        Ok(())
    }
}

fn write_to(file: &mut File, dir: &Path, name: &str, text: &[u8]) -> Result<(), StoreError> {
    file.write_all(text)
        .and_then(|()| file.flush())
        .map_err(|source| StoreError::Io { path: dir.join(name), source })
}

/// The complete rows of a file, to which the file itself is cut where one unfinished row follows them.
fn whole_rows(path: &Path, removed: &mut Vec<String>) -> Result<Vec<u8>, StoreError> {
    let mut bytes = read(path)?;
    match tail(&bytes, header_width(&bytes)) {
        Tail::Nothing => {}
        Tail::Damaged { line, rows } => {
            return Err(StoreError::Damaged { path: path.to_owned(), line, rows });
        }
        Tail::Torn { bytes: torn } => {
            back_up(path)?;
            bytes.truncate(complete_prefix(&bytes));
            write_whole(path, &bytes)?;
            removed.push(format!("{}: an unfinished last row of {torn} bytes", path.display()));
        }
    }
    Ok(bytes)
}

/// Keeps a file as it is beside itself.
fn back_up(path: &Path) -> Result<(), StoreError> {
    let mut backup = path.as_os_str().to_owned();
    backup.push(".bak");
    std::fs::copy(path, &backup).map_err(|source| StoreError::Io { path: backup.into(), source })?;
    Ok(())
}

/// A row as CSV, with its line end.
pub(crate) fn line_of<T: Serialize + ?Sized>(row: &T) -> Vec<u8> {
    let mut writer = WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    // Writing flat structs into memory cannot fail; an empty line would be caught on reading.
    let _ = writer.serialize(row);
    writer.into_inner().unwrap_or_default()
}
