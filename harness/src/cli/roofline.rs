//! `touchstone roofline`: the machine's own limits.

use std::io::{Write, stdout};

use clap::Args;
use touchstone_reports::words::plural;

use super::Verdict;
use super::output::plain;
use crate::timing::roofline::Roofline;

/// Measure this machine's limits: FMA, read, copy and non-temporal copy
///
/// Reports give percentages of these, never of a data sheet. They are kept in the user's cache
/// directory; --remeasure takes them anew, best on a quiet machine.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Measure again
    #[arg(long)]
    remeasure: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The machine's limits, measured if they are not known or if `remeasure`.
pub(super) fn limits(remeasure: bool) -> Roofline {
    let announce = || eprintln!("measuring this machine's limits, which are then kept (some seconds) …");
    let (roofline, problem) = Roofline::of_this_machine(remeasure, announce);
    if let Some(problem) = problem {
        eprintln!("the machine's limits could not be kept: {:#}", anyhow::Error::from(problem));
    }
    roofline
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let roofline = limits(arguments.remeasure);
    let mut out = stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&roofline)?)?;
        return Ok(Verdict::Ok);
    }
    writeln!(out, "{} ({})", roofline.cpu, roofline.isa)?;
    for peaks in &roofline.peaks {
        let threads = plural(peaks.threads, "thread");
        writeln!(out, "\n{threads}: {:.1} GFLOP/s of f32 FMA", peaks.fma_gflops)?;
        let mut table = plain(["level", "up to", "read GB/s", "copy GB/s", "non-temporal copy GB/s"]);
        for level in &peaks.levels {
            table.add_row([
                level.name.clone(),
                level.capacity.map_or("-".into(), |bytes| format!("{} KiB", bytes / 1024)),
                format!("{:.1}", level.read_gb_s),
                format!("{:.1}", level.copy_gb_s),
                format!("{:.1}", level.nt_copy_gb_s),
            ]);
        }
        writeln!(out, "{table}")?;
    }
    Ok(Verdict::Ok)
}
