//! `touchstone bench`: times of what is right.

use std::path::PathBuf;

use clap::Args;

use super::output::{Format, print};
use super::plan::{Keeping, Measuring, carry_out};
use super::select::{Backends, Selection, processors};
use super::{MakeRegistry, Verdict};
use crate::comparison::Plan;

/// Check, then measure what passed
///
/// Each backend runs in a worker process; the workers of a case take turns in slices of about
/// 2 ms in random order. Results are judged before and after timing: a kernel that is wrong gets
/// no time.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    measuring: Measuring,
    #[command(flatten)]
    keeping: Keeping,
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
        cases: selection.cases(&["standard"], true)?,
        reference: arguments.measuring.reference(&registry_of_most, &backends)?,
        backends,
        threads,
        timing: true,
        effort: arguments.measuring.effort(),
        slowest: arguments.measuring.slowest(),
    };
    let known = selection.who.known_issues()?;
    let keeping: Option<(PathBuf, bool)> =
        arguments.keeping.out.clone().map(|out| (out, arguments.keeping.resume));
    let keeping = keeping.as_ref().map(|(out, resume)| (out.as_path(), *resume));
    let (compared, verdict) = carry_out(&plan, registry, &known, Some(&arguments.measuring), keeping)?;
    print(&compared.records, None, arguments.format, true)?;
    Ok(verdict)
}
