//! `touchstone roofline`: the machine's own limits.

use anyhow::Context;
use clap::Args;

use super::Verdict;
use super::list::plain;
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

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let roofline =
        Roofline::of_this_machine(arguments.remeasure, || eprintln!("measuring for some seconds …"))
            .context("cannot keep the machine's limits")?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&roofline)?);
        return Ok(Verdict::Ok);
    }
    println!("{} ({})", roofline.cpu, roofline.isa);
    for peaks in &roofline.peaks {
        println!("\n{} threads: {:.1} GFLOP/s of f32 FMA", peaks.threads, peaks.fma_gflops);
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
        println!("{table}");
    }
    Ok(Verdict::Ok)
}
