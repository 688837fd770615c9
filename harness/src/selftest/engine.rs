//! The run of a self-test: case by case, all specimens that are still of interest.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use touchstone_kernels::{
    Backend, BackendError, BackendId, BackendInfo, DType, Declaration, Inputs, Prepared, Problem, Registry,
    Support,
};

use super::planted::Specimen;
use super::score::{FalseAlarm, Kill, Score, Survivor};
use crate::agreement::judge_by;
use crate::case::Case;
use crate::check::check_by;
use crate::explore::Space;
use crate::fill::Fill;
use crate::invariants::{Invariant, Judged, judge as judge_invariants};
use crate::known::KnownIssues;
use crate::oracle::{self, Expected};
use crate::outcome::Outcome;
use crate::safeguard::{Safeguard, Safeguards};
use crate::suite::{Suite, SuiteCase, SuiteError};
use crate::timing::protocol::{Request, Response};
use crate::timing::{exchange, serve};

/// Cases with more floating-point operations are left out: their kernels are those of smaller
/// ones, and every specimen would have to go through them in plain code.
pub const MOST_FLOPS: u64 = 60_000_000;

/// Cases that move more bytes are left out as well; a norm over a million f32 with weights moves 16 MB.
pub const MOST_BYTES: u64 = 17_000_000;

/// Calls of a kernel between the two verdicts of a measurement. The sampler makes at least five
/// slices of at least one call, after calibrating; usually it is hundreds.
const TIMED_CALLS: u64 = 24;

/// The cases of suites, each once.
///
/// # Errors
/// [`SuiteError`] when a suite cannot be read.
pub fn cases(suites: &[String]) -> Result<Vec<SuiteCase>, SuiteError> {
    let mut cases: Vec<SuiteCase> = Vec::new();
    for name in suites {
        for case in Suite::load(name)?.cases {
            match cases.iter_mut().find(|old| old.case == case.case) {
                Some(old) if old.timed.is_empty() => old.timed = case.timed,
                Some(_) => {}
                None => cases.push(case),
            }
        }
    }
    Ok(cases)
}

/// The first `count` random cases of a seed whose operands are finite: variants are other ways to
/// round, and what NaN and ∞ come to in them the suites ask.
pub fn random_cases(seed: u64, count: u64) -> Vec<SuiteCase> {
    let space = Space::whole();
    let finite = (0..).map(|index| space.case(seed, index)).filter(|case| case.fill != Fill::Special);
    finite.take(count as usize).map(|case| SuiteCase { case, timed: Vec::new() }).collect()
}

/// A fault in one storage type.
pub(super) type Pair<'a> = (&'a Specimen, DType);

/// The faults in each storage type in which they can be made.
pub(super) fn pairs(faults: &[Specimen]) -> Vec<Pair<'_>> {
    faults.iter().flat_map(|fault| fault.dtypes().iter().map(move |&dtype| (fault, dtype))).collect()
}

/// Those that a problem concerns.
pub(super) fn concerned<'a>(pairs: &[Pair<'a>], problem: &Problem) -> Vec<&'a Specimen> {
    let concerned = pairs.iter().filter(|(fault, own)| *own == problem.dtype && fault.applies(problem));
    concerned.map(|(fault, _)| *fault).collect()
}

/// Shows all specimens to the checker. `progress` hears how many of how many cases are done, and
/// how many faults are still at large.
pub fn run(
    faults: &[Specimen],
    variants: &[Specimen],
    cases: &[SuiteCase],
    progress: &(dyn Fn(usize, usize, usize) + Sync),
    stop: &AtomicBool,
) -> Score {
    let mut score = Score { planted: faults.len(), variants: variants.len(), ..Score::default() };
    let posed = within(cases, MOST_FLOPS, MOST_BYTES);
    score.left_out = cases.len() - posed.len();

    let mut at_large = pairs(faults);
    // One backend for a fault in all cases: what it remembers is part of the mistake.
    let backends: HashMap<&str, Arc<dyn Backend>> =
        faults.iter().chain(variants).map(|specimen| (specimen.name, specimen.backend())).collect();
    let mut passed: HashMap<(&str, DType), usize> = HashMap::new();
    for (done, case) in posed.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            score.stopped = true;
            break;
        }
        progress(done, posed.len(), at_large.len());
        pose(&case.case, variants, &mut at_large, &backends, &mut passed, &mut score);
    }
    if !score.stopped {
        let timed: Vec<&Case> = posed.iter().filter(|c| !c.timed.is_empty()).map(|c| &c.case).collect();
        at_large.retain(|&(fault, dtype)| {
            let own = timed.iter().filter(|case| case.problem.dtype == dtype && fault.applies(&case.problem));
            match own.copied().find_map(|case| Some((case, after_timing(Safeguards::ALL, fault, case)?))) {
                None => true,
                Some((case, why)) => {
                    let passed = passed.get(&(fault.name, dtype)).copied().unwrap_or(0);
                    let case = case.to_string();
                    score.kills.push(Kill { fault: fault.name, dtype, case, why, passed });
                    false
                }
            }
        });
    }
    score.survivors = at_large
        .into_iter()
        .map(|(fault, dtype)| Survivor {
            fault: fault.name,
            about: fault.about,
            dtype,
            passed: passed.get(&(fault.name, dtype)).copied().unwrap_or(0),
        })
        .collect();
    progress(posed.len(), posed.len(), score.survivors.len());
    score
}

/// The cases of so much work at most, cheap ones first: most faults need no other.
pub(super) fn within(cases: &[SuiteCase], flops: u64, bytes: u64) -> Vec<&SuiteCase> {
    let work = |case: &&SuiteCase| case.case.problem.work();
    let small = cases.iter().filter(|case| work(case).flops <= flops && work(case).bytes <= bytes);
    let mut small: Vec<&SuiteCase> = small.collect();
    small.sort_by_key(|case| work(case).flops + work(case).bytes);
    small
}

/// Shows faults to the invariants alone: the names of those that break one on any of the cases, in any
/// storage type.
pub fn caught_by_invariants<'a>(
    faults: &'a [Specimen],
    invariants: &[Invariant],
    cases: &[Case],
) -> Vec<&'a str> {
    let is_caught = |fault: &&Specimen| {
        let backend = fault.backend();
        let own = cases.iter().filter(|case| fault.applies(&case.problem));
        own.into_iter().any(|case| {
            let judged = judge_invariants(invariants, backend.as_ref(), case);
            judged.iter().any(|judged| matches!(judged, Judged::Broken(_)))
        })
    };
    faults.par_iter().filter(is_caught).map(|fault| fault.name).collect()
}

/// One case for everybody whom it concerns.
fn pose<'a>(
    case: &Case,
    variants: &'a [Specimen],
    at_large: &mut Vec<Pair<'a>>,
    backends: &HashMap<&str, Arc<dyn Backend>>,
    passed: &mut HashMap<(&'a str, DType), usize>,
    score: &mut Score,
) {
    let dtype = case.problem.dtype;
    let wanted = concerned(at_large, &case.problem);
    let right: Vec<&Specimen> = variants.iter().filter(|variant| variant.applies(&case.problem)).collect();
    if wanted.is_empty() && right.is_empty() {
        return;
    }
    score.cases += 1;
    let inputs = case.inputs();
    let expected = oracle::expect(&case.problem, &inputs);
    let outcomes: Vec<Outcome> = wanted
        .par_iter()
        .chain(&right)
        .map(|specimen| judged(Safeguards::ALL, backends[specimen.name].as_ref(), case, &inputs, &expected))
        .collect();
    let (of_faults, of_variants) = outcomes.split_at(wanted.len());
    for (fault, outcome) in wanted.iter().zip(of_faults) {
        let passed = passed.entry((fault.name, dtype)).or_insert(0);
        if let Outcome::Failed { why, .. } = outcome {
            let (case, why, passed) = (case.to_string(), why.to_string(), *passed);
            score.kills.push(Kill { fault: fault.name, dtype, case, why, passed });
            at_large.retain(|(other, own)| other.name != fault.name || *own != dtype);
        } else {
            *passed += 1;
        }
    }
    for (variant, outcome) in right.iter().zip(of_variants) {
        score.judgements += 1;
        let why = match outcome {
            Outcome::Failed { why, figures } => match &figures.worst {
                Some(worst) => format!("{why}; worst {worst}"),
                None => why.to_string(),
            },
            Outcome::Error { message } => message.clone(),
            _ => continue,
        };
        score.false_alarms.push(FalseAlarm { variant: variant.name, case: case.to_string(), why });
    }
}

/// The checker's verdict. Each backend gets operands of its own: some of them write there.
pub(super) fn judged(
    safeguards: Safeguards,
    backend: &dyn Backend,
    case: &Case,
    inputs: &Inputs,
    expected: &Expected,
) -> Outcome {
    check_by(safeguards, backend, case, &inputs.deep_clone(), expected, &KnownIssues::default())
}

/// The verdict after a measurement, as the timing worker and its driver come to it; none when the
/// results are still right.
pub(super) fn after_timing(safeguards: Safeguards, fault: &Specimen, case: &Case) -> Option<String> {
    if !safeguards.have(Safeguard::AfterTiming) {
        return None;
    }
    let directory = tempfile::tempdir().ok()?;
    let path = directory.path().join("outputs.safetensors");
    let conversation = [
        Request::Prepare { entries: 1, case: case.to_string() },
        Request::Run { untimed: 1, timed: TIMED_CALLS },
        Request::Outputs { path: path.to_string_lossy().into_owned() },
        Request::Quit,
    ];
    let requests: String = conversation.iter().map(|request| format!("{request}\n")).collect();
    let mut registry = Registry::empty();
    registry.add(Shared(fault.backend_under(safeguards)));
    let mut answers = Vec::new();
    serve(&registry, fault.name, requests.as_bytes(), &mut answers).ok()?;
    let refused = String::from_utf8_lossy(&answers).lines().find_map(|line| match line.parse() {
        Ok(Response::Error { message }) => Some(message),
        _ => None,
    });
    let why = match refused {
        // The worker has looked at guard zones and operands, and hands nothing over.
        Some(message) => message,
        None => {
            let outputs = exchange::read(&path, &case.problem).ok()?;
            let expected = oracle::expect(&case.problem, &case.inputs());
            let declaration = fault.backend().declares(&case.problem);
            judge_by(safeguards, &expected, &declaration, &outputs).failure?.to_string()
        }
    };
    Some(format!("after {TIMED_CALLS} timed calls: {why}"))
}

/// A backend of a registry that others hold as well.
struct Shared(Arc<dyn Backend>);

impl Backend for Shared {
    fn id(&self) -> &BackendId {
        self.0.id()
    }

    fn info(&self) -> BackendInfo {
        self.0.info()
    }

    fn supports(&self, problem: &Problem) -> Support {
        self.0.supports(problem)
    }

    fn declares(&self, problem: &Problem) -> Declaration {
        self.0.declares(problem)
    }

    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        self.0.prepare(problem, inputs)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn suite(text: &str) -> Vec<SuiteCase> {
        Suite::parse(Path::new("own.toml"), text).unwrap().cases
    }

    fn score(names: &[&str], variants: &[&str], text: &str) -> Score {
        let named = |all: Vec<Specimen>, names: &[&str]| -> Vec<Specimen> {
            all.into_iter().filter(|specimen| names.contains(&specimen.name)).collect()
        };
        let faults = named(super::super::faults(), names);
        let variants = named(super::super::variants(), variants);
        assert_eq!(faults.len(), names.len());
        run(&faults, &variants, &suite(text), &|_, _, _| {}, &AtomicBool::new(false))
    }

    const SOFTMAX: &str = "[[case]]\nop = 'softmax'\ndtype = ['f32', 'f16', 'bf16']\nshape = '3x17'\n";

    #[test]
    fn a_fault_is_caught_and_a_variant_is_not() {
        let score = score(&["zeros", "softmax-sum-in-storage"], &["softmax-pairwise"], SOFTMAX);
        assert!(score.is_perfect(), "{score:?}");
        assert_eq!((score.kills.len(), score.judgements), (5, 3));
        assert!(score.kills.iter().all(|kill| kill.case.starts_with("softmax ")));
    }

    #[test]
    fn what_is_not_asked_for_survives() {
        let score = score(&["scale-missing", "softmax-scale-ignored"], &[], SOFTMAX);
        assert_eq!((score.caught(), score.survivors.len(), score.cases), (0, 6, 0));
        assert!(score.survivors.iter().all(|survivor| survivor.passed == 0));
    }

    #[test]
    fn a_kernel_that_breaks_in_the_timing_loop_is_caught_there() {
        let text = "[[case]]\nop = 'relu'\ndtype = ['f32', 'f16', 'bf16']\nshape = '64'\n";
        let untimed = score(&["slow-then-wrong"], &[], text);
        assert_eq!(untimed.survivors.len(), 3);
        let timed = score(&["slow-then-wrong"], &[], &format!("{text}time = 'hot'\n"));
        assert!(timed.is_perfect(), "{timed:?}");
        assert!(timed.kills.iter().all(|kill| kill.why.contains("timed calls")));
    }
}
