//! `touchstone compare`: the main job.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use touchstone_reports::{Environment, Rivals, read_samples};

use super::output::{Format, print};
use super::plan::{Measuring, carry_out};
use super::report::write_pages;
use super::select::{Backends, Selection, processors};
use super::{MakeRegistry, Verdict};
use crate::comparison::Plan;
use crate::recording::utc_now;

/// Compare all backends: check, measure what passed, write the report
///
/// Leaves a directory with report.html, report.md, records.csv, samples.csv and
/// environment.toml, and prints the summary.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    measuring: Measuring,
    /// Directory of the run [default: touchstone-report/<time>]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the run in that directory: what is recorded is not measured again
    #[arg(long, requires = "out")]
    resume: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    let selection = &arguments.selection;
    let threads = selection.who.threads(&[1, processors()]);
    let registry_of_most = registry(threads.last().copied().unwrap_or(1));
    let backends = selection.who.backends(&registry_of_most, Backends::Best)?;
    let plan = Plan {
        cases: selection.cases(&["smoke", "standard"], false)?,
        reference: arguments.measuring.reference(&registry_of_most, &backends)?,
        backends,
        threads,
        timing: true,
        effort: arguments.measuring.effort(),
        slowest: arguments.measuring.slowest(),
    };
    let known = selection.who.known_issues()?;
    let stamp = utc_now().replace([':', '-'], "");
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("touchstone-report").join(stamp));
    eprintln!("{} cases on {} backends, into {}", plan.cases.len(), plan.backends.len(), out.display());
    let (compared, verdict) =
        carry_out(&plan, registry, &known, Some(&arguments.measuring), Some((&out, arguments.resume)))?;
    let environment = Environment::read(&out).context("cannot read the environment")?;
    let samples = read_samples(&[&out])?;
    let records = &compared.records;
    let rivals = Rivals::of(records, &samples, None)?;
    let (page, markdown) = (out.join("report.html"), out.join("report.md"));
    write_pages(records, rivals.as_ref(), environment.as_ref(), &page, &markdown)?;
    print(records, rivals.as_ref(), arguments.format, false)?;
    eprintln!("report: {}", page.display());
    Ok(verdict)
}
