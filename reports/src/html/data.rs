//! The records inside the page: small, exact, and safe to embed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::columns::COLUMNS;
use crate::export::cells;
use crate::plot::Palette;
use crate::record::Record;

/// One column: its distinct cells, and which of them each row holds.
#[derive(Default)]
struct Distinct {
    values: Vec<String>,
    places: BTreeMap<String, usize>,
    rows: Vec<usize>,
}

impl Distinct {
    fn push(&mut self, cell: String) {
        let place = *self.places.entry(cell.clone()).or_insert_with(|| {
            self.values.push(cell);
            self.values.len() - 1
        });
        self.rows.push(place);
    }
}

/// The records column by column, as a JSON object that is safe inside a script element.
///
/// Each column is its name, its distinct cells, and for each row which of them it holds; most
/// columns repeat a few texts, so this is several times smaller than CSV. Cells are the very
/// texts of the CSV file, so the page can hand out the file as it was.
pub(super) fn embedded(records: &[Record], backends: &[String], palette: &Palette) -> String {
    let mut distinct: Vec<Distinct> = COLUMNS.map(|_| Distinct::default()).into();
    for record in records {
        for (column, cell) in distinct.iter_mut().zip(cells(record)) {
            column.push(cell);
        }
    }
    let columns: Vec<Value> = COLUMNS
        .iter()
        .zip(distinct)
        .map(|(column, Distinct { values, rows, .. })| {
            if values.len() == 1 { json!([column.name, values]) } else { json!([column.name, values, rows]) }
        })
        .collect();
    let colours: BTreeMap<_, _> =
        backends.iter().map(|backend| (backend, palette.look(backend).hex())).collect();
    let data = json!({ "rows": records.len(), "columns": columns, "colours": colours });
    // `<` only occurs inside strings; escaped, no text can end the script element.
    data.to_string().replace('<', "\\u003c")
}
