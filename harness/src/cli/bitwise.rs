//! `touchstone check --bitwise`: which results are the same to the last bit.

use std::io::{Write, stdout};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use touchstone_kernels::{Backend, BackendId, Registry};

use super::output::plain;
use super::select::{Backends, Selection, processors};
use super::{MakeRegistry, Verdict, stop_on_ctrl_c};
use crate::case::Case;
use crate::progress;
use crate::sameness::{Change, Many, Sameness, sameness};

/// What was found of a backend under one change.
#[derive(Default)]
struct Tally {
    same: usize,
    differing: usize,
    /// The first case that differs, and where.
    example: Option<(String, String)>,
}

pub(super) fn run(selection: &Selection, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    let cases: Vec<Case> =
        selection.cases(&["smoke"], false)?.into_iter().map(|(_, case)| case.case).collect();
    let most = processors();
    let (one, all) = (registry(1), (most > 1).then(|| registry(most)));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(most).build().context("no threads")?;
    crate::timing::configure_threads(1)?;
    let stop = stop_on_ctrl_c();
    let ids = selection.who.backends(&one, Backends::Every)?;
    let backends: Vec<_> = ids.iter().filter_map(|id| one.find(id.as_str())).collect();
    let mut tallies: Vec<[Tally; Change::ALL.len()]> = backends.iter().map(|_| Default::default()).collect();
    let bar = progress::over_cases(cases.len());
    for case in &cases {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        bar.set_message(case.problem.to_string());
        for (backend, tallies) in backends.iter().zip(&mut tallies) {
            let many = many(all.as_ref(), backend.id(), &pool);
            match sameness(backend.as_ref(), many, case) {
                Ok(found) => tallies.iter_mut().zip(found).for_each(|(tally, found)| tally.add(case, found)),
                Err(why) => bar.suspend(|| eprintln!("{} {case}: {why}", backend.id())),
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if stop.load(Ordering::Relaxed) {
        return Ok(Verdict::Interrupted);
    }
    if tallies.iter().flatten().all(|tally| tally.same + tally.differing == 0) {
        bail!("nothing was compared: no backend chosen supports any of {} cases", cases.len());
    }
    print(&backends, &tallies, cases.len())?;
    Ok(Verdict::Ok)
}

/// The backend of that name with all threads, where it is not the same as with one.
fn many<'a>(all: Option<&'a Registry>, id: &BackendId, pool: &'a rayon::ThreadPool) -> Option<Many<'a>> {
    let backend = all?.find(id.as_str()).filter(|backend| backend.info().threads > 1)?;
    Some(Many { backend: backend.as_ref(), pool })
}

impl Tally {
    fn add(&mut self, case: &Case, found: Sameness) {
        match found {
            Sameness::Same => self.same += 1,
            Sameness::NotApplicable => {}
            Sameness::Differs(why) => {
                self.differing += 1;
                self.example.get_or_insert_with(|| (case.to_string(), why));
            }
        }
    }

    fn words(&self) -> String {
        match (self.same, self.differing) {
            (0, 0) => "n/a".into(),
            (same, 0) => format!("all {same}"),
            (same, differing) => format!("{same} of {}", same + differing),
        }
    }
}

fn print(
    backends: &[&Arc<dyn Backend>],
    tallies: &[[Tally; Change::ALL.len()]],
    cases: usize,
) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "The same to the last bit, of {cases} cases with one thread, when computed")?;
    let mut table = plain(std::iter::once("").chain(Change::ALL.map(Change::name)));
    for (backend, tallies) in backends.iter().zip(tallies) {
        table.add_row(std::iter::once(backend.id().to_string()).chain(tallies.iter().map(Tally::words)));
    }
    writeln!(out, "{table}")?;
    for (backend, tallies) in backends.iter().zip(tallies) {
        for (change, tally) in Change::ALL.iter().zip(tallies) {
            if let Some((case, why)) = &tally.example {
                writeln!(out, "\n{}, {}: {why}\n  {case}", backend.id(), change.name())?;
            }
        }
    }
    Ok(())
}
