//! What `check`, `bench` and `compare` share: where records go, how long to measure, the run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use touchstone_kernels::{BackendId, DevicePeaks, Registry};
use touchstone_reports::RunWriter;

use super::resume::continuation;
use super::roofline::limits;
use super::{MakeRegistry, Verdict, stop_on_ctrl_c};
use crate::comparison::{Compared, Comparison, Plan, device_peaks, is_red};
use crate::known::KnownIssues;
use crate::recording::{Run, machine_entry};
use crate::timing::Effort;
use crate::timing::roofline::Roofline;

/// Where records go.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Records")]
pub(super) struct Keeping {
    /// Directory for records.csv, samples.csv and environment.toml
    #[arg(long, short, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Continue the run in that directory: what is recorded is not measured again
    #[arg(long, requires = "out")]
    pub(super) resume: bool,
}

/// How long to measure.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Measuring")]
pub(super) struct Measuring {
    /// Slices of about 2 ms for each backend and case
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u16).range(5..))]
    slices: u16,
    /// Seconds for one backend's slices of one case; slow kernels get fewer slices, at least five
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    max_time: f64,
    /// Kernels slower than this many seconds are checked, but not timed
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3, value_parser = seconds)]
    slowest: f64,
    /// The backend that speed-ups are against [default: libtorch/cpu, or candle/cpu without it]
    #[arg(long, value_name = "NAME")]
    reference: Option<String>,
    /// Measure the machine's limits again instead of taking those known
    #[arg(long)]
    remeasure: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds from 0.001 to 86400".into()),
    }
}

impl Measuring {
    pub(super) fn effort(&self) -> Effort {
        Effort {
            slices: usize::from(self.slices),
            max_time: Duration::from_secs_f64(self.max_time),
            ..Effort::default()
        }
    }

    pub(super) fn slowest(&self) -> Duration {
        Duration::from_secs_f64(self.slowest)
    }

    pub(super) fn reference(
        &self,
        registry: &Registry,
        backends: &[BackendId],
    ) -> anyhow::Result<Option<BackendId>> {
        let Some(name) = &self.reference else { return Ok(None) };
        let id = registry.find(name).map(|backend| backend.id().clone());
        match id {
            Some(id) if backends.contains(&id) => Ok(Some(id)),
            _ => bail!("the reference '{name}' is not among the backends: {}", {
                backends.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ")
            }),
        }
    }

    fn roofline(&self) -> Roofline {
        limits(self.remeasure)
    }
}

/// The rates of the devices that these backends run on.
pub(super) fn device_limits(registry: &Registry, backends: &[BackendId]) -> BTreeMap<String, DevicePeaks> {
    let (devices, problems) = device_peaks(registry, backends);
    for problem in problems {
        eprintln!("the limits of a device could not be measured: {problem}");
    }
    devices
}

/// Carries out a plan. `measuring` says how to find the machine's limits, where times are taken.
pub(super) fn carry_out(
    plan: &Plan,
    registry: MakeRegistry,
    known: &KnownIssues,
    measuring: Option<&Measuring>,
    keeping: Option<(&Path, bool)>,
) -> anyhow::Result<(Compared, Verdict)> {
    let most = plan.threads.last().copied().unwrap_or(1);
    let open = |(dir, resume)| {
        let opened = if resume { RunWriter::resume(dir) } else { RunWriter::create(dir) };
        opened.context(if resume { "cannot resume the run" } else { "cannot start a run" })
    };
    let describe = |run: &Run, dir: &Path| {
        let mut seeds: Vec<u64> = plan.cases.iter().map(|(_, case)| case.case.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        run.environment(&registry(most), seeds).write(dir).context("cannot write the environment")
    };
    // Before anything that takes long.
    let writer = keeping.map(open).transpose()?;
    let mut run = Run::new(measuring.map(Measuring::roofline));
    if measuring.is_some() {
        run = run.with_devices(device_limits(&registry(most), &plan.backends));
    }
    if let (Some(writer), Some((dir, resume))) = (&writer, keeping) {
        for removed in writer.removed() {
            eprintln!("touchstone: removed from {removed}; what was there is kept beside it as .bak");
        }
        match writer.earlier().first() {
            Some(earlier) => {
                let here = machine_entry(run.machine()).identity();
                let there =
                    writer.earlier().iter().find(|row| !row.machine.is_empty() && row.machine != here);
                if let Some(row) = there {
                    bail!(
                        "the run in {} was begun on another machine ({}, this is {here}): start a run of its \
                         own here, and `touchstone report` keeps the two apart",
                        dir.display(),
                        row.machine
                    );
                }
                eprintln!("resuming: {} rows are there already", writer.earlier().len());
                run = run.resumed(&earlier.run_id);
            }
            None if resume => eprintln!("{}: no rows there yet, starting", dir.display()),
            None => {}
        }
        describe(&run, dir)?;
    }
    // candle shares rayon's global pool; agreement is checked at the largest thread count.
    crate::timing::configure_threads(most)?;
    let mut comparison = Comparison {
        registry,
        run,
        known,
        writer,
        stop: stop_on_ctrl_c(),
        quiet: false,
        worker_arguments: Vec::new(),
    };
    let compared = comparison.go(plan).context("cannot keep a record")?;
    if let Some((dir, _)) = keeping {
        // Limits may have been measured again.
        describe(&comparison.run, dir)?;
    }
    let verdict = if compared.stopped {
        if let Some((dir, _)) = keeping {
            eprintln!("interrupted; continue with: {}", continuation(dir));
        }
        Verdict::Interrupted
    } else if is_red(&compared.records) {
        Verdict::Wrong
    } else if !compared.records.iter().any(|record| record.status.was_executed()) {
        bail!("no case was executed: every backend chosen is unsupported on every case chosen");
    } else {
        Verdict::Ok
    };
    Ok((compared, verdict))
}
