//! The kill matrix: planted faults down, storage types across.

use super::{Cell, Grid, Heading, Row, Tone};
use crate::summary::{DTYPES, ordered};

/// Folds a table with a row for each fault and type into one row for each fault: how many cases it
/// took in each type, and the case that caught it first. A table without these columns stays as it
/// is.
#[must_use]
pub fn kill_matrix(table: Grid) -> Grid {
    let place = |name: &str| table.headings.iter().position(|h| h.text == name);
    let columns = ["fault", "family", "mistake", "dtype", "case", "why", "passed before"].map(place);
    let [Some(fault), Some(family), Some(mistake), Some(dtype), Some(case), Some(why), Some(before)] =
        columns
    else {
        return table;
    };
    let text = |row: &Row, column: usize| row.cells.get(column).map_or_else(String::new, |c| c.text.clone());
    let of_type = table.rows.iter().map(|row| text(row, dtype)).collect::<Vec<_>>();
    let dtypes = ordered(of_type.iter().map(String::as_str), &DTYPES);
    let mut headings = vec![Heading::words("fault"), Heading::words("family")];
    headings.extend(dtypes.iter().map(Heading::figures));
    headings.push(Heading::words("the case that caught it first"));
    let note = format!(
        "{} A figure is the number of cases that it took in this type, 1 where the first case caught it; – where \
         the mistake cannot be made. Every single case is in kills.csv.",
        table.note
    );
    let mut matrix = Grid::new(table.title.clone(), note, headings);
    let mut faults: Vec<String> = Vec::new();
    for name in table.rows.iter().map(|row| text(row, fault)) {
        if !faults.contains(&name) {
            faults.push(name);
        }
    }
    for name in faults {
        let rows: Vec<_> = table.rows.iter().filter(|row| text(row, fault) == name).collect();
        let verdict = |wanted: &String| {
            let Some(row) = rows.iter().find(|row| text(row, dtype) == *wanted) else {
                return Cell::absent();
            };
            if text(row, case).is_empty() {
                return Cell::new("survived").tone(Tone::Bad);
            }
            let passed = text(row, before).parse::<u64>();
            Cell::new(passed.map_or_else(|_| "caught".to_owned(), |n| (n + 1).to_string())).tone(Tone::Good)
        };
        let Some(first) = rows.iter().find(|row| !text(row, case).is_empty()).or(rows.first()) else {
            continue;
        };
        let mut cells = vec![
            Cell { below: vec![text(first, mistake)], ..Cell::new(&name) },
            Cell::new(text(first, family)),
        ];
        cells.extend(dtypes.iter().map(verdict));
        cells.push(Cell { below: vec![text(first, why)], ..Cell::new(text(first, case)) });
        matrix.rows.push(Row::new(cells));
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_row_and_a_survivor_is_seen() {
        let names = ["fault", "family", "mistake", "dtype", "case", "why", "passed before"];
        let mut table = Grid::new("t", "n", names.map(Heading::words).to_vec());
        for row in [
            ["zeros", "norm", "All zeros.", "f32", "softmax f32 shape=3", "3 of 3", "0"],
            ["zeros", "norm", "All zeros.", "bf16", "", "", ""],
            ["late", "rope", "Late.", "f16", "rope f16", "1 of 3", "11"],
        ] {
            table.rows.push(Row::new(row.map(Cell::new).to_vec()));
        }
        let matrix = kill_matrix(table.clone());
        let rows: Vec<Vec<&str>> =
            matrix.rows.iter().map(|row| row.cells.iter().map(|cell| cell.text.as_str()).collect()).collect();
        assert_eq!(rows[0], ["zeros", "norm", "1", "–", "survived", "softmax f32 shape=3"]);
        assert_eq!(rows[1], ["late", "rope", "–", "12", "–", "rope f16"]);
        table.headings.remove(0);
        assert_eq!(kill_matrix(table.clone()), table);
    }
}
