//! `touchstone diff`: two record sets.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use touchstone_reports::diff::{Side, diff, grids};
use touchstone_reports::{Environment, markdown, read_records, read_samples, table};

use super::Verdict;
use super::output::style;

/// Compare two record sets: times with intervals, and verdicts that changed
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Run directory or records.csv before
    #[arg(value_name = "A")]
    before: PathBuf,
    /// Run directory or records.csv after
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Show every case
    #[arg(long)]
    cases: bool,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let (before, after) = (std::slice::from_ref(&arguments.before), std::slice::from_ref(&arguments.after));
    let records = (read_records(before)?, read_records(after)?);
    let samples = (read_samples(before)?, read_samples(after)?);
    let environments = (Environment::beside(&arguments.before)?, Environment::beside(&arguments.after)?);
    let diff = diff(
        Side { records: &records.0, samples: &samples.0, environment: environments.0.as_ref() },
        Side { records: &records.1, samples: &samples.1, environment: environments.1.as_ref() },
    )
    .with_context(|| {
        format!("cannot compare {} with {}", arguments.before.display(), arguments.after.display())
    })?;
    for warning in &diff.warnings {
        eprintln!("touchstone: warning: {warning}");
    }
    let mut out = std::io::stdout().lock();
    for grid in grids(&diff, arguments.cases) {
        if arguments.markdown {
            writeln!(out, "{}", markdown::render(&grid))?;
        } else {
            writeln!(out, "{}", table::render(&grid, style(arguments.cases)))?;
        }
    }
    Ok(Verdict::Ok)
}
