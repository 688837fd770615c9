//! `touchstone roofline`: the machine's own limits.

use std::io::{Write, stdout};

use clap::Args;
use serde_json::json;
use touchstone_kernels::DevicePeaks;
use touchstone_reports::words::plural;

use super::output::plain;
use super::plan::device_limits;
use super::select::processors;
use super::{MakeRegistry, Verdict};
use crate::timing::roofline::Roofline;

/// Measure this machine's limits: FMA, read, copy and non-temporal copy
///
/// Of a GPU: copy and matrix products, with the libraries that run there, each time.
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

pub(super) fn run(registry: MakeRegistry, arguments: &Arguments) -> anyhow::Result<Verdict> {
    let roofline = limits(arguments.remeasure);
    let registry = registry(processors());
    let backends: Vec<_> = registry.present().iter().map(|backend| backend.id().clone()).collect();
    let devices = device_limits(&registry, &backends);
    let mut out = stdout().lock();
    if arguments.json {
        let mut json = serde_json::to_value(&roofline)?;
        let of_devices = devices.iter().map(|(name, peaks)| {
            let DevicePeaks { copy_gb_s, f32_gflops, f16_gflops, bf16_gflops } = peaks;
            json!({
                "device": name, "copy_gb_s": copy_gb_s,
                "f32_gflops": f32_gflops, "f16_gflops": f16_gflops, "bf16_gflops": bf16_gflops,
            })
        });
        json["devices"] = of_devices.collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
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
    if !devices.is_empty() {
        let mut table = plain(["device", "copy GB/s", "f32 GFLOP/s", "f16 GFLOP/s", "bf16 GFLOP/s"]);
        for (name, peaks) in &devices {
            let rates = [peaks.copy_gb_s, peaks.f32_gflops, peaks.f16_gflops, peaks.bf16_gflops];
            table.add_row(std::iter::once(name.clone()).chain(rates.map(|rate| format!("{rate:.0}"))));
        }
        writeln!(out, "\n{table}")?;
    }
    Ok(Verdict::Ok)
}
