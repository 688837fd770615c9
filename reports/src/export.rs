//! Records for other programs: CSV and JSON Lines.

use std::io::{self, Write};

use csv::ReaderBuilder;
use serde_json::{Map, Number, Value};

use crate::columns::{COLUMNS, Kind};
use crate::record::Record;
use crate::store::line_of;

/// Records as one CSV text with a header, as [`crate::store::read_table_from`] reads it.
#[must_use]
pub fn csv(records: &[Record]) -> Vec<u8> {
    let mut out = line_of(COLUMNS.map(|column| column.name).as_slice());
    for record in records {
        out.extend(line_of(record));
    }
    out
}

/// Writes records as CSV.
///
/// # Errors
/// The writer fails.
pub fn write_csv(records: &[Record], mut out: impl Write) -> io::Result<()> {
    out.write_all(&csv(records))
}

/// Writes records as JSON Lines, one object per record, described by
/// [`crate::columns::json_schema`]. Empty cells are `null`; JSON has no NaN, so non-finite
/// numbers are the strings `"NaN"`, `"inf"` and `"-inf"`.
///
/// # Errors
/// The writer fails.
pub fn write_json_lines(records: &[Record], mut out: impl Write) -> io::Result<()> {
    for record in records {
        let object = COLUMNS.iter().zip(cells(record));
        let object: Map<_, _> =
            object.map(|(column, cell)| (column.name.to_owned(), json(column.kind, cell))).collect();
        serde_json::to_writer(&mut out, &object)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The cells of a record as they stand in the file.
pub(crate) fn cells(record: &Record) -> Vec<String> {
    let line = line_of(record);
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(line.as_slice());
    let row = reader.records().next();
    let row = row.and_then(Result::ok).unwrap_or_default();
    row.iter().map(str::to_owned).collect()
}

fn json(kind: Kind, cell: String) -> Value {
    match kind {
        Kind::Text | Kind::Status => Value::String(cell),
        Kind::Flag => Value::Bool(cell == "true"),
        _ if cell.is_empty() => Value::Null,
        Kind::Integer => cell.parse::<u64>().map_or(Value::String(cell), Value::from),
        Kind::Number => match cell.parse().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => Value::String(cell),
        },
    }
}
