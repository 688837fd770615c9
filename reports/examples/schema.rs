//! Writes what other programs need to read a run: `reports/schema/record.schema.json` and
//! `reports/schema/columns.md`. A test says when they are to be written anew.

use std::path::Path;

use touchstone_reports::columns::{document, json_schema};
use touchstone_reports::store::write_whole;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    std::fs::create_dir_all(&dir)?;
    write_whole(&dir.join("record.schema.json"), format!("{:#}\n", json_schema()).as_bytes())?;
    write_whole(&dir.join("columns.md"), document().as_bytes())?;
    Ok(())
}
