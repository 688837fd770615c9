//! Writes a report made of invented records into a directory: for looking at the report without
//! measuring anything. `cargo run -p touchstone-reports --example synthetic_report -- OUT`
#![forbid(unsafe_code)]

use std::path::PathBuf;

use touchstone_reports::{Evidence, Rivals, RunWriter, html, markdown, store, table};

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::args().nth(1).unwrap_or_else(|| "synthetic-report".to_owned());
    let out = PathBuf::from(out);
    let (records, samples, environment) = synthetic::run("synthetic", 1, 1.0);
    let mut run = RunWriter::create(&out)?;
    for record in &records {
        let key = record.key();
        let own: Vec<_> = samples.iter().filter(|s| s.key() == key).cloned().collect();
        run.push(record, &own)?;
    }
    environment.write(&out)?;
    let rivals = Rivals::of(&records, &samples, None)?;
    let rivals = rivals.as_ref();
    let style = table::Style { width: 80, colour: false, cases: true };
    print!("{}", table::report(&records, rivals, style));
    let page = html::page(&records, Some(&environment), &Evidence::default(), rivals)?;
    store::write_whole(&out.join("report.html"), page.as_bytes())?;
    store::write_whole(&out.join("report.md"), markdown::report(&records, rivals).as_bytes())?;
    Ok(())
}
