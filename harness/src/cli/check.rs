//! `touchstone check`: agreement.

use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::baseline::{Held, SUITES};
use super::bitwise;
use super::explore::{self, Exploring};
use super::invariants;
use super::output::{Format, print};
use super::plan::{Keeping, carry_out};
use super::select::{Backends, Selection, processors};
use super::{MakeRegistry, Verdict};
use crate::comparison::Plan;
use crate::timing::Effort;

/// Check the agreement of backends with the oracle
///
/// Every element of every result is held against its own error bound; guard zones, inputs, a second
/// run and operands that start between cache lines are checked as well, with one thread and with
/// all. Exits with 2 when anything is wrong that no known issue explains.
///
/// A baseline holds the accuracy of an earlier day: with `--baseline reports/baseline.csv` the run
/// also fails when a case has lost its verdict or its contract, when its error has grown towards its
/// bound, or when it is gone. After an intended change, `--accept` writes the file anew and shows
/// what changes in it.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    exploring: Exploring,
    /// Judge properties that need no oracle instead: rows that sum to one, keys that may be permuted,
    /// a future that may change. Prints a table; keeps no records
    #[arg(long, conflicts_with_all = ["out", "format", "baseline"])]
    invariants: bool,
    /// Count which results are the same to the last bit instead: once more, off the cache line, with all
    /// threads, and for an entry of a batch alone. None has to be, so nothing fails. Prints a table; keeps
    /// no records
    #[arg(long, conflicts_with_all = ["out", "format", "baseline", "threads", "explore", "invariants"])]
    bitwise: bool,
    #[command(flatten)]
    held: Held,
    #[command(flatten)]
    keeping: Keeping,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    let selection = &arguments.selection;
    let random = arguments.exploring.random()?;
    if arguments.bitwise {
        return bitwise::run(selection, registry);
    }
    if arguments.invariants {
        return invariants::run(random, selection, registry);
    }
    if let Some(random) = random {
        if arguments.keeping.resume {
            bail!("--resume: an exploration is not continued; explore further with another --seed");
        }
        let out = arguments.keeping.out.as_deref();
        return explore::run(random, selection, out, arguments.format, registry);
    }
    let baseline = arguments.held.read(selection)?;
    // Libraries compute differently with more threads: a baseline is for one.
    let threads = if baseline.is_some() { vec![1] } else { selection.who.threads(&[1, processors()]) };
    let most = threads.last().copied().unwrap_or(1);
    let plan = Plan {
        cases: selection.cases(SUITES, false)?,
        backends: selection.who.backends(&registry(most), Backends::Every)?,
        threads,
        timing: false,
        effort: Effort::default(),
        slowest: Duration::MAX,
        reference: None,
    };
    let keeping = arguments.keeping.out.as_deref().map(|out| (out, arguments.keeping.resume));
    let (compared, verdict) = carry_out(&plan, registry, &selection.who.known_issues()?, None, keeping)?;
    print(&compared.records, None, arguments.format, false)?;
    match baseline {
        Some(baseline) if verdict != Verdict::Interrupted => {
            let worse = baseline.hold(&compared.records, selection, arguments.format)?;
            Ok(if worse { Verdict::Wrong } else { verdict })
        }
        _ => Ok(verdict),
    }
}
