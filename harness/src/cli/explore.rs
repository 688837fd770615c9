//! `touchstone check --explore N`: agreement on random problems.

use std::collections::HashSet;
use std::io::{Write, stdout};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::Table;
use touchstone_kernels::Registry;
use touchstone_reports::{Record, RunWriter, Status, StoreError};

use super::invariants::Random;
use super::output::{Format, plain, print};
use super::select::{Backends, Selection};
use super::{MakeRegistry, Verdict, stop_on_ctrl_c};
use crate::explore::{Finding, Observer, Plan, Shrunk, Tally, explore, shrink_first};
use crate::progress;
use crate::recording::{Place, Run, Who};

/// Random problems instead of those of suites.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Exploring")]
pub(super) struct Exploring {
    /// Pose N random problems over all operations, choices and fills, instead of suites. `check`
    /// shrinks what fails to the smallest problem that still does
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "suite")]
    explore: Option<u64>,
    /// The seed of random problems: the same seed draws the same ones [default: a random one]
    #[arg(long, value_name = "SEED", requires = "explore")]
    seed: Option<u64>,
}

impl Exploring {
    /// How many problems are asked for, if any, and their seed: that asked for, or a random one.
    pub(super) fn random(&self) -> anyhow::Result<Random> {
        let Some(count) = self.explore else { return Ok(None) };
        let seed = match self.seed {
            Some(seed) => seed,
            // Half of the bits: as random, and shorter to type.
            None => {
                getrandom::u32().map(u64::from).context("the system has no random numbers (give --seed)")?
            }
        };
        Ok(Some((count, seed)))
    }
}

/// Failures of one backend, operation and storage type that are shrunk. The others are rows.
const SHRUNK_OF_EACH: usize = 3;

/// Failures shown while exploring; all of them are rows.
const MOST_SHOWN: usize = 20;

/// What a row's suite is.
const SUITE: &str = "explore";
const SHRUNK: &str = "explore-shrunk";

pub(super) fn run(
    (count, seed): (u64, u64),
    selection: &Selection,
    out: Option<&Path>,
    format: Format,
    registry: MakeRegistry,
) -> anyhow::Result<Verdict> {
    let threads = selection.who.one_thread_count()?;
    let known = selection.who.known_issues()?;
    let registry = registry(threads);
    let backends = selection.who.backends(&registry, Backends::Every)?;
    let space = selection.space()?;
    let indices = selection.part(count);
    let plan = Plan {
        space: &space,
        seed,
        indices,
        wanted: &|case| selection.matches(case),
        backends: backends.iter().filter_map(|id| registry.find(id.as_str()).cloned()).collect(),
        known: &known,
        threads,
    };
    crate::timing::configure_threads(threads)?;
    let keeper = Keeper::new(&registry, out, &plan)?;
    let stop = stop_on_ctrl_c();
    eprintln!("exploring {} problems, --seed {seed}", plan.indices.count());
    let bar = progress::over_cases(plan.indices.count() as usize);
    let shown = Mutex::new(0);
    let observer = Observer {
        found: &|finding| {
            keeper.keep(SUITE, finding, &plan);
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            if finding.outcome.is_red() && *shown < MOST_SHOWN {
                *shown += 1;
                bar.suspend(|| show(&keeper.record(SUITE, finding, &plan)));
            }
        },
        done: &|| bar.inc(1),
    };
    let (tally, findings) = explore(&plan, &observer, stop);
    bar.set_message("shrinking");
    let shrunk = shrink_first(&plan, &findings, SHRUNK_OF_EACH, stop);
    bar.finish_and_clear();
    let originals: HashSet<String> = findings.iter().map(|finding| finding.case.to_string()).collect();
    for one in shrunk.iter().filter(|one| !originals.contains(&one.finding.case.to_string())) {
        keeper.keep(SHRUNK, &one.finding, &plan);
    }
    let records = keeper.finish()?;
    match format {
        Format::Human => print_tally(&plan, &tally, &shrunk)?,
        format => print(&records, None, format, false)?,
    }
    if stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(Verdict::Interrupted);
    }
    if tally.executed() == 0 {
        bail!("nothing was executed: {} of {count} problems were wanted and supported", tally.judged());
    }
    let red = findings.iter().any(|finding| finding.outcome.is_red());
    Ok(if red { Verdict::Wrong } else { Verdict::Ok })
}

fn show(record: &Record) {
    eprintln!("{} {}: {}\n  {}", record.status, record.backend, record.reason, record.repro);
}

/// Where the rows of findings go as they come.
struct Keeper {
    run: Run,
    threads: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    writer: Option<RunWriter>,
    records: Vec<Record>,
    /// The first row that could not be written.
    error: Option<StoreError>,
}

impl Keeper {
    fn new(registry: &Registry, out: Option<&Path>, plan: &Plan) -> anyhow::Result<Self> {
        let writer = out.map(RunWriter::create).transpose().context("cannot start a run")?;
        let run = Run::new(None);
        if let Some(dir) = out {
            run.environment(registry, vec![plan.seed]).write(dir).context("cannot write the environment")?;
        }
        let kept = Mutex::new(Kept { writer, records: Vec::new(), error: None });
        Ok(Keeper { run, threads: plan.threads, kept })
    }

    fn record(&self, suite: &str, finding: &Finding, plan: &Plan) -> Record {
        let place = Place { suite, case: &finding.case, threads: self.threads, cache: None, work: None };
        let who = Who::of(plan.backends[finding.backend].as_ref(), &finding.case);
        self.run.record(place, &who, &finding.outcome, None)
    }

    fn keep(&self, suite: &str, finding: &Finding, plan: &Plan) {
        let record = self.record(suite, finding, plan);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = kept.writer.as_mut().map(|writer| writer.push(&record, &[])) {
            kept.error.get_or_insert(error);
        }
        kept.records.push(record);
    }

    /// The rows, in order of text.
    fn finish(self) -> anyhow::Result<Vec<Record>> {
        let mut kept = self.kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        match kept.error {
            Some(error) => Err(error).context("cannot keep a record"),
            None => {
                kept.records.sort_by_cached_key(Record::key);
                Ok(kept.records)
            }
        }
    }
}

fn print_tally(plan: &Plan, tally: &Tally, shrunk: &[Shrunk]) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{} problems explored, seed {}\n\n{}\n", tally.judged(), plan.seed, operations(tally))?;
    writeln!(out, "{}", verdicts(plan, tally))?;
    for (backend, tally) in plan.backends.iter().zip(&tally.backends) {
        if let Some((ratio, case)) = &tally.nearest {
            writeln!(out, "nearest to its bound on {}: {ratio:.3} at '{case}'", backend.id())?;
        }
    }
    if !shrunk.is_empty() {
        writeln!(out, "\nThe smallest problems that still fail:")?;
    }
    for Shrunk { finding, .. } in shrunk {
        let id = plan.backends[finding.backend].id();
        let why = crate::recording::reason(&finding.outcome);
        let worst = finding.outcome.figures().and_then(|figures| figures.worst.as_ref());
        let worst = worst.map_or_else(String::new, |worst| format!("; worst {worst}"));
        writeln!(out, "{id}: {why}{worst}")?;
        writeln!(out, "  touchstone repro '{}' --backend {id} --threads {}", finding.case, plan.threads)?;
    }
    Ok(())
}

/// How many problems there were of each operation.
fn operations(tally: &Tally) -> Table {
    let mut table = plain(["operation", "problems", "operation", "problems", "operation", "problems"]);
    let mut operations: Vec<_> = tally.problems.iter().collect();
    operations.sort_by_key(|&(name, count)| (std::cmp::Reverse(*count), *name));
    for three in operations.chunks(3) {
        let cells = three.iter().flat_map(|(name, count)| [name.to_string(), count.to_string()]);
        table.add_row(cells);
    }
    table
}

fn verdicts(plan: &Plan, tally: &Tally) -> Table {
    let mut table = plain(["backend", "passed", "failed", "error", "suspect", "known", "unsupported"]);
    for (backend, tally) in plan.backends.iter().zip(&tally.backends) {
        let statuses = [
            Status::Passed,
            Status::Failed,
            Status::Error,
            Status::Suspect,
            Status::Known,
            Status::Unsupported,
        ];
        let counts = statuses.map(|status| tally.count(status).to_string());
        table.add_row(std::iter::once(backend.id().to_string()).chain(counts));
    }
    table
}
