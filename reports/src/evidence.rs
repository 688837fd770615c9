//! What speaks for the checker itself: tables that may lie beside the records of a run.
//!
//! `touchstone selftest --out RUN` and `touchstone list --conventions --out RUN` write them; the page
//! shows what it finds, as text and without a look into it.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};
use serde::Serialize;

use crate::drawn::{Curve, audits, curves};
use crate::grid::{Cell, Grid, Heading, Row, kill_matrix};
use crate::plot::Audit;
use crate::store::{StoreError, line_of, write_whole};
use crate::words::plural;

/// A table that may be there.
struct Table {
    file: &'static str,
    title: &'static str,
    note: &'static str,
}

const TABLES: [Table; 6] = [
    Table {
        file: "kills.csv",
        title: "Planted faults, and the case that caught each",
        note: "Wrong kernels that the checker has to fail, once for each storage type in which the mistake can \
               be made. A fault without a case would have survived.",
    },
    Table {
        file: "alone.csv",
        title: "What each fill and each class of size catches by itself",
        note: "Planted faults, each in each storage type, posed to the cases of one fill or one class of size \
               only. `only` counts those that no other case catches; `false alarms` are failures of correct \
               kernels there.",
    },
    Table {
        file: "safeguards.csv",
        title: "What gets through without each safeguard",
        note: "The checker was run with one of its safeguards taken away at a time: each is needed.",
    },
    Table {
        file: "ulp.csv",
        title: "Point-wise functions: the largest error in ULP, and where",
        note: "Over all arguments of a type, or a sample of them; `touchstone sweep` makes it. Not finite: NaN \
               or infinite where the exact value is not, or the other way round.",
    },
    Table {
        file: "bounds.csv",
        title: "Error over bound of correct kernels",
        note: "A bound that correct kernels exceed would be wrong, and one that they never come near would \
               let mistakes through.",
    },
    Table {
        file: "conventions.csv",
        title: "Conventions that implementations follow",
        note: "What each implementation's own functions do at their edges, found by asking them; under `exact` \
               what the problems of this project mean.",
    },
];

/// The tables of a run that speak for the checker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// One for each file found, in a fixed order.
    pub grids: Vec<Grid>,
    /// Errors of point-wise functions over their arguments.
    pub curves: Vec<Curve>,
    /// Error over bound of correct kernels.
    pub audits: Vec<Audit>,
}

impl Evidence {
    /// Reads what lies in a run directory, or beside a record file.
    ///
    /// # Errors
    /// A file is there and is not a table: the message names file and line.
    pub fn beside(path: &Path) -> Result<Self, StoreError> {
        let directory = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let mut grids = Vec::new();
        for table in &TABLES {
            let file = directory.join(table.file);
            match std::fs::read(&file) {
                Ok(bytes) => grids.extend(folded(table.grid(&file, &bytes)?).unless_empty()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::Io { path: file, source }),
            }
        }
        Ok(Self { grids, curves: curves(directory)?, audits: audits(directory)? })
    }
}

/// Tables of hundreds of rows, folded to what a reader looks for.
fn folded(mut grid: Grid) -> Grid {
    // Of the bounds the rows of all kernels together.
    if let Some(subject) = grid.headings.iter().position(|heading| heading.text == "subject") {
        grid.rows.retain(|row| row.cells.get(subject).is_some_and(|cell| cell.text == "all"));
        grid.note.push_str(" The rows of every single kernel are in bounds.csv.");
    }
    kill_matrix(grid)
}

/// Writes such a table, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write<R: AsRef<[String]>>(
    file: &Path,
    header: &[impl Serialize],
    rows: impl IntoIterator<Item = R>,
) -> Result<(), StoreError> {
    let mut text = line_of(header);
    rows.into_iter().for_each(|row| text.extend(line_of(row.as_ref())));
    write_whole(file, &text)
}

impl Table {
    fn grid(&self, file: &Path, bytes: &[u8]) -> Result<Grid, StoreError> {
        let mut reader = ReaderBuilder::new().has_headers(false).from_reader(bytes);
        let damaged = |error: csv::Error| StoreError::Csv {
            path: file.to_owned(),
            line: error.position().map_or(0, csv::Position::line),
            message: error.to_string(),
        };
        let rows = reader.records().collect::<Result<Vec<StringRecord>, _>>().map_err(damaged)?;
        let Some((header, rows)) = rows.split_first() else {
            return Err(StoreError::Empty { path: file.to_owned(), columns: 1 });
        };
        let is_number = |i: usize| {
            let mut cells =
                rows.iter().filter_map(|row| row.get(i)).filter(|cell| !cell.is_empty()).peekable();
            cells.peek().is_some() && cells.all(|cell| cell.parse::<f64>().is_ok())
        };
        let heading = |(i, name): (usize, &str)| {
            let name = name.replace('_', " ");
            if is_number(i) { Heading::figures(name) } else { Heading::words(name) }
        };
        let title = format!("{} ({})", self.title, plural(rows.len(), "row"));
        let mut grid = Grid::new(title, self.note, header.iter().enumerate().map(heading).collect());
        grid.rows = rows.iter().map(|row| Row::new(row.iter().map(Cell::new).collect())).collect();
        Ok(grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Evidence::beside(dir.path()).unwrap(), Evidence::default());
        let kills = [["zeros", "f32", "0"], ["a, b", "f16", "3"]].map(|row| row.map(String::from));
        write(&dir.path().join("kills.csv"), &["fault", "dtype", "passed_before"], kills).unwrap();
        std::fs::write(dir.path().join("safeguards.csv"), "safeguard,fault\n").unwrap();
        let evidence = Evidence::beside(&dir.path().join("records.csv")).unwrap();
        let [grid] = &evidence.grids[..] else { panic!("{evidence:?}") };
        assert!(grid.title.ends_with("(2 rows)"), "{}", grid.title);
        let headings: Vec<_> = grid.headings.iter().map(|h| (h.text.as_str(), h.figures)).collect();
        assert_eq!(headings, [("fault", false), ("dtype", false), ("passed before", true)]);
        assert_eq!(grid.rows[1].cells[0].text, "a, b");
    }

    #[test]
    fn what_is_damaged_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kills.csv"), "a,b\n1,2\n3\n").unwrap();
        let error = Evidence::beside(dir.path()).unwrap_err().to_string();
        assert!(error.contains("kills.csv:3: "), "{error}");
        std::fs::write(dir.path().join("kills.csv"), "").unwrap();
        assert!(Evidence::beside(dir.path()).unwrap_err().to_string().contains("kills.csv: empty"));
    }
}
