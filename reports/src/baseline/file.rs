//! A baseline on disk.

use std::collections::BTreeMap;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use super::{Baseline, Column, Expectation, Row};
use crate::store::{StoreError, line_of, write_whole};

/// What a reader of the file is told. The number is the version of the format.
const PREFACE: &str = "\
# touchstone baseline 1
# What `touchstone check --baseline` expects of each case on each backend, with one thread: the largest
# error over its bound, which passes up to 1. Before it stands the status where it is not `passed`, behind
# it `normwise` where rows were judged instead of elements. An empty cell expects nothing. A column with a
# processor is for that one alone. Do not edit: `--accept` writes this file anew and shows what changes.
";

/// The first words of a file of this format.
const MAGIC: &str = "# touchstone baseline ";
const VERSION: &str = "1";

/// The last line, with the number of cases: a file that was cut off between rows is told apart.
const END: &str = "# cases: ";

/// The rows before those of cases, by the first cell, and the cells before those of backends.
const HEAD: [&str; 4] = ["case", "isa", "version", "processor"];
const LABELS: [&str; 2] = ["case", "suite"];

impl Baseline {
    /// Reads a baseline.
    ///
    /// # Errors
    /// The file cannot be read, or is not a whole baseline: the message names the line and what was
    /// expected there.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let bytes = std::fs::read(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        parse(path, &bytes)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        write_whole(path, &self.text())
    }

    /// The file as bytes.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut out = PREFACE.as_bytes().to_vec();
        let of_columns: [fn(&Column) -> &str; 4] =
            [|c| &c.backend, |c| &c.isa, |c| &c.version, |c| &c.processor];
        for (label, of) in HEAD.into_iter().zip(of_columns) {
            let second = if label == LABELS[0] { LABELS[1] } else { "" };
            let cells = [label, second].into_iter().chain(self.columns.iter().map(of));
            out.extend(line_of(&cells.collect::<Vec<_>>()));
        }
        for (case, Row { suite, cells }) in &self.rows {
            let cells = cells.iter().map(|cell| cell.as_ref().map_or_else(String::new, ToString::to_string));
            let row: Vec<String> = [case.clone(), suite.clone()].into_iter().chain(cells).collect();
            out.extend(line_of(&row));
        }
        out.extend(format!("{END}{}\n", self.rows.len()).into_bytes());
        out
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Baseline, StoreError> {
    let csv = |line: u64, message: String| StoreError::Csv { path: path.to_owned(), line, message };
    let first = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    match String::from_utf8_lossy(first).strip_prefix(MAGIC) {
        Some(VERSION) => {}
        Some(other) => {
            return Err(csv(1, format!("baseline version `{other}`, this program reads {VERSION}")));
        }
        None => return Err(csv(1, format!("not a baseline: expected `{MAGIC}{VERSION}`"))),
    }
    let end = bytes.iter().map(|&byte| u64::from(byte == b'\n')).sum::<u64>();
    let last = bytes.strip_suffix(b"\n").and_then(|bytes| bytes.rsplit(|&byte| byte == b'\n').next());
    if !last.is_some_and(|last| last.starts_with(END.as_bytes())) {
        return Err(csv(
            end.max(1),
            format!("truncated: expected `{END}` and their number as the last line"),
        ));
    }
    let mut reader =
        ReaderBuilder::new().comment(Some(b'#')).has_headers(false).flexible(true).from_reader(bytes);
    let mut head: Vec<StringRecord> = Vec::new();
    let mut rows = BTreeMap::new();
    for row in reader.records() {
        let row = row.map_err(|error| {
            csv(error.position().map_or(0, csv::Position::line), "not valid UTF-8".to_owned())
        })?;
        let line = row.position().map_or(0, csv::Position::line);
        let width = head.first().map_or(row.len().max(LABELS.len()), StringRecord::len);
        if row.len() != width {
            return Err(StoreError::Width { path: path.to_owned(), line, expected: width, found: row.len() });
        }
        let label = row.get(0).unwrap_or_default();
        if let Some(expected) = HEAD.get(head.len()) {
            if label != *expected || (head.is_empty() && row.get(1) != Some(LABELS[1])) {
                return Err(csv(line, format!("the row begins with `{label}`, expected `{expected}`")));
            }
            head.push(row);
            continue;
        }
        let names = head.first().into_iter().flat_map(StringRecord::iter);
        let cells: Result<Vec<_>, _> = row
            .iter()
            .zip(names)
            .skip(LABELS.len())
            .map(|(cell, name)| {
                if cell.is_empty() {
                    return Ok(None);
                }
                cell.parse::<Expectation>().map(Some).map_err(|error| StoreError::Cell {
                    path: path.to_owned(),
                    line,
                    column: name.to_owned(),
                    expected: error.to_string().trim_start_matches("expected ").to_owned(),
                    found: cell.to_owned(),
                })
            })
            .collect();
        let suite = row.get(1).unwrap_or_default().to_owned();
        if rows.insert(label.to_owned(), Row { suite, cells: cells? }).is_some() {
            return Err(csv(line, format!("`{label}` is there twice")));
        }
    }
    if let Some(missing) = HEAD.get(head.len()) {
        return Err(csv(end, format!("the row `{missing}` is missing")));
    }
    if !bytes.ends_with(format!("\n{END}{}\n", rows.len()).as_bytes()) {
        return Err(csv(end, format!("{} cases, and the end says another number", rows.len())));
    }
    let of = |row: usize, column: usize| head[row].get(column).unwrap_or_default().to_owned();
    let columns = (LABELS.len()..head[0].len()).map(|column| Column {
        backend: of(0, column),
        isa: of(1, column),
        version: of(2, column),
        processor: of(3, column),
    });
    Ok(Baseline { columns: columns.collect(), rows })
}
