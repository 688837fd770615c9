//! Reading and merging record files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord};
use serde::de::DeserializeOwned;

use super::lines::{Lines, complete_prefix};
use super::{RECORDS_FILE, SAMPLES_FILE, StoreError};
use crate::columns::{self, COLUMNS, Kind, version_with};
use crate::environment::Environment;
use crate::record::{Record, SCHEMA_VERSION, Setting};
use crate::sample::{SAMPLE_COLUMNS, SAMPLE_COLUMNS_BEFORE, SampleRow};
use crate::status::Status;

/// Reads records from CSV files and run directories and merges them with [`merge`], so that the
/// shards of one run, or several runs, make one report.
///
/// # Errors
/// A file is missing, empty, truncated, of another schema, or damaged: the message names file,
/// line and column. A file with a header and no rows is fine (a shard may have had nothing to
/// do), but no record at all is an error: nothing executed is not a success.
pub fn read_records<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Record>, StoreError> {
    let mut tables = Vec::new();
    for path in paths {
        tables.push(read_table(path.as_ref())?);
    }
    let records = merge(tables);
    if records.is_empty() {
        return Err(StoreError::NoRecords { paths: paths.iter().map(|p| p.as_ref().to_owned()).collect() });
    }
    Ok(records)
}

/// Concatenates record sets. A report shows one result per [`crate::RowKey`] and [`Setting`]: where
/// several rows have both, the latest by `time` is kept, and of equal times the one read last.
/// The order of first appearance is kept.
#[must_use]
pub fn merge(tables: impl IntoIterator<Item = Vec<Record>>) -> Vec<Record> {
    let mut merged: Vec<Record> = Vec::new();
    let mut place = HashMap::new();
    for record in tables.into_iter().flatten() {
        match place.entry((record.key(), record.setting())) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(merged.len());
                merged.push(record);
            }
            std::collections::hash_map::Entry::Occupied(entry) => {
                let earlier = &mut merged[*entry.get()];
                if instant(&record) >= instant(earlier) {
                    *earlier = record;
                }
            }
        }
    }
    merged
}

/// Without its `Z`, UTC text sorts by time with and without a fraction of a second.
fn instant(record: &Record) -> &str {
    record.time.trim_end_matches('Z')
}

/// Reads one record file, or the one in a run directory, row for row and without merging.
///
/// # Errors
/// As [`read_records`].
pub fn read_table(path: &Path) -> Result<Vec<Record>, StoreError> {
    let file = file_of(path, RECORDS_FILE);
    let bytes = read(&file)?;
    let mut records = read_table_from(&file, &bytes)?;
    // Rows of before version 5 do not say where they were measured. The environment beside them does.
    if records.iter().any(|record| record.machine.is_empty())
        && let Some(environment) = Environment::beside(path)?
    {
        let machine = environment.machine.identity();
        let unknown = records.iter_mut().filter(|record| record.machine.is_empty());
        unknown.for_each(|record| record.machine.clone_from(&machine));
    }
    Ok(records)
}

/// The settings of the timed rows, with how many rows each has.
fn settings(records: &[Record]) -> BTreeMap<Setting, usize> {
    let mut settings = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_timed()) {
        // A processor has no name of its own beside its machine's.
        *settings.entry(record.setting()).or_default() += 1;
    }
    settings
}

/// Refuses records whose times were measured on more than one machine, or on devices of one id and two
/// names: no table may rank them together.
///
/// # Errors
/// [`NotComparable`] with the machines.
pub fn one_machine(records: &[Record]) -> Result<(), NotComparable> {
    let settings = settings(records);
    let mut machines: BTreeMap<&str, usize> = BTreeMap::new();
    for (setting, rows) in &settings {
        *machines.entry(&setting.machine).or_default() += rows;
    }
    let mut devices: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_timed() && !record.device_name.is_empty()) {
        *devices.entry((&record.device, &record.device_name)).or_default() += 1;
    }
    let twice = |id: &str| devices.keys().filter(|(device, _)| *device == id).count() > 1;
    let mut found: Vec<String> = Vec::new();
    if machines.len() > 1 {
        found.extend(machines.iter().map(|(machine, rows)| {
            let machine = if machine.is_empty() { "an unknown machine" } else { machine };
            format!("{rows} rows of {machine}")
        }));
    }
    let several = devices.iter().filter(|((device, _), _)| twice(device));
    found.extend(several.map(|((device, name), rows)| format!("{rows} rows of {device}, which is {name}")));
    if found.is_empty() { Ok(()) } else { Err(NotComparable { found }) }
}

/// Times that no table may rank together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("times of different machines cannot be compared: {}", found.join("; "))]
pub struct NotComparable {
    /// The machines, each with its rows.
    pub found: Vec<String>,
}

/// Reads records from bytes; `file` is only for messages. Those of an older version of the schema
/// become records of this one, whose new columns are empty.
///
/// # Errors
/// As [`read_records`].
pub fn read_table_from(file: &Path, bytes: &[u8]) -> Result<Vec<Record>, StoreError> {
    let (version, columns) = version_with(header_width(bytes));
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    let rows: Vec<(u64, Record)> = rows(file, bytes, &names, &|line, row: &StringRecord| {
        let found = row.get(0).unwrap_or_default();
        if found.parse() == Ok(version) {
            return Ok(());
        }
        // A damaged number is not a version.
        Err(if found.parse::<u32>().is_ok() {
            StoreError::Schema { path: file.to_owned(), line, found: found.to_owned(), expected: version }
        } else {
            cell(file, line, "schema", Kind::Integer.expected(), found)
        })
    })?;
    rows.into_iter()
        .map(|(line, record)| {
            let record = Record { schema: SCHEMA_VERSION, ..record };
            match record.validate() {
                Ok(()) => Ok(record),
                Err(source) => Err(StoreError::Row { path: file.to_owned(), line, source: Box::new(source) }),
            }
        })
        .collect()
}

/// The columns that a file's first line names.
pub(super) fn header_width(bytes: &[u8]) -> usize {
    let mut header = StringRecord::new();
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    reader.read_record(&mut header).map_or(0, |_| header.len())
}

/// Reads the raw samples of run directories or sample files, concatenated. A directory or a
/// record file without samples beside it contributes none: they are optional.
///
/// # Errors
/// As [`read_records`], for `samples.csv`.
pub fn read_samples<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<SampleRow>, StoreError> {
    let mut samples = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let file = if path.is_dir() || path.file_name().is_some_and(|name| name == SAMPLES_FILE) {
            file_of(path, SAMPLES_FILE)
        } else {
            path.with_file_name(SAMPLES_FILE)
        };
        if file.exists() {
            let bytes = read(&file)?;
            samples.extend(read_samples_from(&file, &bytes)?);
        }
    }
    Ok(samples)
}

pub(super) fn read_samples_from(file: &Path, bytes: &[u8]) -> Result<Vec<SampleRow>, StoreError> {
    let older = header_width(bytes) == SAMPLE_COLUMNS_BEFORE;
    let columns = &SAMPLE_COLUMNS[..if older { SAMPLE_COLUMNS_BEFORE } else { SAMPLE_COLUMNS.len() }];
    let rows = rows(file, bytes, columns, &|_, _| Ok(()))?;
    Ok(rows.into_iter().map(|(_, sample)| sample).collect())
}

fn file_of(path: &Path, name: &str) -> PathBuf {
    if path.is_dir() { path.join(name) } else { path.to_owned() }
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(file).map_err(|source| StoreError::Io { path: file.to_owned(), source })
}

/// A check of a raw row, given its line, before its cells are parsed.
type RowCheck<'a> = &'a dyn Fn(u64, &StringRecord) -> Result<(), StoreError>;

/// The rows of a file with their line numbers.
fn rows<T: DeserializeOwned>(
    file: &Path,
    bytes: &[u8],
    columns: &[&str],
    check: RowCheck<'_>,
) -> Result<Vec<(u64, T)>, StoreError> {
    let end = complete_prefix(bytes);
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut row = StringRecord::new();
    let mut next = |row: &mut StringRecord| {
        reader.read_record(row).map_err(|error| StoreError::Csv {
            path: file.to_owned(),
            line: error.position().map_or(0, csv::Position::line),
            message: "not valid UTF-8".to_owned(),
        })
    };
    if !next(&mut row)? {
        return Err(StoreError::Empty { path: file.to_owned(), columns: columns.len() });
    }
    let header = row.clone();
    let header_check = check_header(file, &header, columns);
    let mut rows = Vec::new();
    let mut lines = Lines::default();
    while next(&mut row)? {
        let offset = row.position().and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0);
        // The reader's own count is off by the blank lines it skips.
        let line = lines.at(bytes, skip_blank(bytes, offset));
        // Another version may have other columns: say that first, it explains the rest.
        if header_check.is_err() && header.get(0) == Some("schema") {
            check(line, &row)?;
        }
        if header_check.is_err() {
            break;
        }
        if offset >= end {
            return Err(StoreError::Truncated {
                path: file.to_owned(),
                line,
                expected: columns.len(),
                found: row.len(),
            });
        }
        check(line, &row)?;
        if row.len() != columns.len() {
            return Err(StoreError::Width {
                path: file.to_owned(),
                line,
                expected: columns.len(),
                found: row.len(),
            });
        }
        let parsed = row.deserialize(None).map_err(|error| damaged(file, line, &row, columns, &error))?;
        rows.push((line, parsed));
    }
    header_check.map(|()| rows)
}

fn skip_blank(bytes: &[u8], offset: usize) -> usize {
    let blank = bytes[offset..].iter().take_while(|&&b| b == b'\n' || b == b'\r').count();
    offset + blank
}

fn check_header(file: &Path, header: &StringRecord, columns: &[&str]) -> Result<(), StoreError> {
    let none = "nothing";
    for i in 0..header.len().max(columns.len()) {
        let found = header.get(i).unwrap_or(none);
        let expected = columns.get(i).copied().unwrap_or(none);
        if found != expected {
            return Err(StoreError::Header {
                path: file.to_owned(),
                position: i + 1,
                expected: expected.to_owned(),
                found: found.to_owned(),
            });
        }
    }
    Ok(())
}

/// Turns the CSV reader's error into one that names the column and shows its content.
fn damaged(file: &Path, line: u64, row: &StringRecord, names: &[&str], error: &csv::Error) -> StoreError {
    let field = match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.field(),
        _ => None,
    };
    // Words of a closed set carry no position in the reader's error.
    let position = field.and_then(|field| usize::try_from(field).ok()).or_else(|| {
        let status = columns::position("status")?;
        row.get(status)?.parse::<Status>().err().map(|_| status)
    });
    let Some((position, name)) = position.and_then(|i| Some((i, *names.get(i)?))) else {
        return StoreError::Csv { path: file.to_owned(), line, message: error.to_string() };
    };
    let expected = COLUMNS
        .iter()
        .find(|column| column.name == name)
        .map_or(if name == "clean" { Kind::Flag } else { Kind::Integer }.expected(), |column| {
            column.kind.expected()
        });
    cell(file, line, name, expected, row.get(position).unwrap_or_default())
}

fn cell(file: &Path, line: u64, column: &str, expected: &str, found: &str) -> StoreError {
    StoreError::Cell {
        path: file.to_owned(),
        line,
        column: column.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
