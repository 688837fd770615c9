//! The report of a run directory, without the `touchstone` command: the tables on standard output,
//! the page and its pictures in a directory.
//! `cargo run -p touchstone-reports --example page -- RUN OUT`
#![forbid(unsafe_code)]

use std::path::PathBuf;

use touchstone_reports::plot::{Palette, overview};
use touchstone_reports::store::{read_records, read_samples, write_whole};
use touchstone_reports::summary::Summary;
use touchstone_reports::{Environment, Evidence, Rivals, html, markdown, table};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [run, out] = paths.as_slice() else {
        return Err("usage: page RUN OUT".into());
    };
    let records = read_records(&[run])?;
    let environment = Environment::beside(run)?;
    let samples = read_samples(&[run])?;
    let rivals = Rivals::of(&records, &samples, None)?;
    std::fs::create_dir_all(out)?;
    write_whole(
        &out.join("report.html"),
        html::page(&records, environment.as_ref(), &Evidence::beside(run)?, rivals.as_ref())?.as_bytes(),
    )?;
    write_whole(&out.join("report.md"), markdown::report(&records, rivals.as_ref()).as_bytes())?;
    let summary = Summary::of(&records);
    let palette = Palette::new(&summary.backends);
    for picture in overview(&records, &summary, environment.as_ref(), &palette)? {
        write_whole(&out.join(format!("{}.svg", picture.name)), picture.plot.file().as_bytes())?;
    }
    print!(
        "{}",
        table::report(&records, rivals.as_ref(), table::Style { width: 80, colour: false, cases: false })
    );
    Ok(())
}
