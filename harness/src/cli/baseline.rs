//! `touchstone check --baseline FILE`: is accuracy what it was?

use std::collections::HashSet;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use touchstone_reports::baseline::{Baseline, Run};
use touchstone_reports::grid::Grid;
use touchstone_reports::{Record, markdown, table};

use super::output::{Format, style};
use super::select::Selection;
use crate::machine::Machine;

/// What the results are held against besides the oracle.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Baseline")]
pub(super) struct Held {
    /// Hold statuses, contracts and errors against this file, on one thread. Columns of other
    /// instruction sets, and of libraries on another processor, are not compared
    #[arg(long, value_name = "FILE", conflicts_with = "explore")]
    baseline: Option<PathBuf>,
    /// Take what is found for what is expected from now on: rewrite the file, and show what changes.
    /// Cases and backends that were not chosen stay as they are; what failed is not accepted
    #[arg(long, requires = "baseline")]
    accept: bool,
}

/// The suites of `check` where none are named.
pub(super) const SUITES: &[&str] = &["smoke"];

/// A baseline while its cases run.
pub(super) struct Holding {
    baseline: Baseline,
    file: PathBuf,
    accept: bool,
}

impl Held {
    /// The baseline asked for, before anything that takes long.
    pub(super) fn read(&self, selection: &Selection) -> anyhow::Result<Option<Holding>> {
        let Some(file) = &self.baseline else { return Ok(None) };
        if selection.who.threads(&[1]) != [1] {
            bail!("--baseline: its figures are those of one thread, leave out --threads");
        }
        let baseline = if self.accept && !file.exists() {
            Baseline::default()
        } else {
            Baseline::read(file).context("cannot read the baseline")?
        };
        Ok(Some(Holding { baseline, file: file.clone(), accept: self.accept }))
    }
}

/// Whether a backend gives the same bits on every processor with its instruction set. Ours do; of
/// others nobody knows.
fn is_portable(backend: &str) -> bool {
    matches!(backend.split('/').next(), Some("naive" | "simd"))
}

/// The processor, as exactly as the system says: machines in a cloud share one name among generations,
/// and a library's choice of code does not go by the name.
fn processor() -> String {
    let name = Machine::detect().cpu.unwrap_or_default();
    let details = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let detail = |key: &str| {
        let value = |line: &str| {
            line.split_once(':').filter(|(k, _)| k.trim() == key).map(|(_, v)| v.trim().to_owned())
        };
        details.lines().find_map(value)
    };
    let details: Vec<String> = ["cpu family", "model", "stepping"].into_iter().filter_map(detail).collect();
    if details.is_empty() { name } else { format!("{name} ({})", details.join("-")) }
}

impl Holding {
    /// Compares, or accepts, and says so. True when something is worse and was not accepted.
    pub(super) fn hold(
        self,
        records: &[Record],
        selection: &Selection,
        format: Format,
    ) -> anyhow::Result<bool> {
        let processor = processor();
        let there: HashSet<String> = selection.every_case(SUITES)?;
        let gone = |suite: &str, case: &str| selection.asks_for(SUITES, suite, case) && !there.contains(case);
        let run = Run { records, processor: &processor, portable: &is_portable, gone: &gone };
        let compared = self.baseline.compare(run);
        show(&compared.grids(), format).context("cannot write to standard output")?;
        if !self.accept {
            return Ok(!compared.worse.is_empty());
        }
        let mut baseline = self.baseline;
        let before = baseline.text();
        baseline.accept(run);
        write(&baseline, &before, &self.file)
    }
}

fn write(baseline: &Baseline, before: &[u8], file: &Path) -> anyhow::Result<bool> {
    if baseline.text() == before && file.exists() {
        eprintln!("{}: nothing to accept", file.display());
    } else {
        baseline.write(file).context("cannot write the baseline")?;
        eprintln!(
            "{}: written, {} cases on {} backends; review it with `git diff --word-diff {}`",
            file.display(),
            baseline.cases(),
            baseline.columns().len(),
            file.display()
        );
    }
    Ok(false)
}

/// Where records go to a program, what is said of them goes to people.
fn show(grids: &[Grid], format: Format) -> std::io::Result<()> {
    for grid in grids {
        match format {
            Format::Human => writeln!(stdout(), "{}", table::render(grid, style(false)))?,
            Format::Markdown => writeln!(stdout(), "{}", markdown::render(grid))?,
            Format::Csv | Format::Json => {
                let style = table::Style { colour: false, ..style(false) };
                writeln!(stderr(), "{}", table::render(grid, style))?;
            }
        }
    }
    Ok(())
}
