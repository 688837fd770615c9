//! `touchstone check --invariants`: properties that need no oracle.

use std::io::{Write, stdout};
use std::sync::Arc;

use anyhow::bail;
use comfy_table::Table;
use touchstone_kernels::Backend;

use super::output::plain;
use super::select::{Backends, Selection};
use super::{MakeRegistry, Verdict, stop_on_ctrl_c};
use crate::case::Case;
use crate::invariants::{Invariant, Judged, Survey, all, judge};
use crate::progress;

/// Random cases: how many, and their seed.
pub(super) type Random = Option<(u64, u64)>;

pub(super) fn run(random: Random, selection: &Selection, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    let threads = selection.who.one_thread_count()?;
    let known = selection.who.known_issues()?;
    let registry = registry(threads);
    let ids = selection.who.backends(&registry, Backends::Every)?;
    let backends: Vec<Arc<dyn Backend>> =
        ids.iter().filter_map(|id| registry.find(id.as_str()).cloned()).collect();
    let (invariants, stop) = (all(), stop_on_ctrl_c());
    crate::timing::configure_threads(threads)?;
    let survey = |count: u64, case: &(dyn Fn(u64) -> Option<Case> + Sync)| {
        let bar = progress::over_cases(count as usize);
        let done = || bar.inc(1);
        let survey = Survey::of(&invariants, &backends, (count, case), &known, threads, &done, stop);
        bar.finish_and_clear();
        survey
    };
    let survey = match random {
        Some((count, seed)) => {
            let (space, part) = (selection.space()?, selection.part(count));
            eprintln!("invariants on {} random problems, --seed {seed}", part.count());
            survey(part.count(), &|n| {
                let case = space.case(seed, part.nth(n));
                selection.matches(&case).then_some(case)
            })
        }
        None => {
            // In plain code on a few backends, an image or two for each invariant: small cases only.
            let cases: Vec<Case> =
                selection.cases(&["smoke"], false)?.into_iter().map(|(_, case)| case.case).collect();
            survey(cases.len() as u64, &|n| cases.get(n as usize).cloned())
        }
    };
    print(&invariants, &backends, &survey, threads)?;
    if stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(Verdict::Interrupted);
    }
    if survey.judged() == 0 {
        bail!("nothing was judged: no invariant applies to any of {} cases", survey.cases);
    }
    Ok(if survey.breaks.is_empty() { Verdict::Ok } else { Verdict::Wrong })
}

fn print(
    invariants: &[Invariant],
    backends: &[Arc<dyn Backend>],
    survey: &Survey,
    threads: usize,
) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(
        std::iter::once("invariant".into()).chain(backends.iter().map(|backend| backend.id().to_string())),
    );
    for (invariant, cells) in invariants.iter().zip(&survey.cells) {
        let text = |cell: &crate::invariants::Cell| match (cell.held, cell.broken, cell.known) {
            (0, 0, 0) => "n/a".into(),
            (held, 0, 0) => format!("{held} held"),
            (held, 0, known) => format!("{held} held, {known} known"),
            (held, broken, 0) => format!("{held} held, {broken} BROKEN"),
            (held, broken, known) => format!("{held} held, {known} known, {broken} BROKEN"),
        };
        table.add_row(std::iter::once(invariant.name.into()).chain(cells.iter().map(text)));
    }
    writeln!(out, "{table}\n\n{} cases, {} judgements", survey.cases, survey.judged())?;
    for broken in &survey.breaks {
        let id = backends[broken.backend].id();
        writeln!(out, "{} on {id}: {}", broken.invariant, broken.why)?;
        writeln!(
            out,
            "  touchstone repro '{}' --invariants --backend {id} --threads {threads}",
            broken.case
        )?;
    }
    Ok(())
}

/// The invariants of one case, as `repro` prints them. Whether none is broken.
pub(super) fn print_of_case(
    out: &mut impl Write,
    backends: &[Arc<dyn Backend>],
    case: &Case,
) -> anyhow::Result<bool> {
    let invariants = all();
    let mut table = plain(["invariant", "backend", "", "what it says"]);
    let mut whole = true;
    for backend in backends {
        for (invariant, judged) in invariants.iter().zip(judge(&invariants, backend.as_ref(), case)) {
            let (word, text) = match judged {
                Judged::NotApplicable => continue,
                Judged::Held => ("held", invariant.about.to_string()),
                Judged::Broken(why) => ("BROKEN", why),
            };
            whole &= word == "held";
            table.add_row([invariant.name.to_string(), backend.id().to_string(), word.into(), text]);
        }
    }
    writeln!(out, "\n{table}")?;
    Ok(whole)
}
