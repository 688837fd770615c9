//! Many problems on many threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPoolBuilder;
use touchstone_kernels::Backend;

use super::{Space, Tally};
use crate::case::Case;
use crate::check::{check, panic_message};
use crate::known::KnownIssues;
use crate::oracle;
use crate::outcome::Outcome;

/// Every `step`-th number from `first` on, below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indices {
    /// The first.
    pub first: u64,
    /// The distance between two, at least 1.
    pub step: u64,
    /// Above all of them.
    pub end: u64,
}

impl Indices {
    /// All numbers below `end`.
    pub fn below(end: u64) -> Self {
        Indices { first: 0, step: 1, end }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.end.saturating_sub(self.first).div_ceil(self.step)
    }

    /// The n-th from 0.
    pub fn nth(&self, n: u64) -> u64 {
        self.first + n * self.step
    }
}

/// What is to be explored.
pub struct Plan<'a> {
    /// Where problems come from.
    pub space: &'a Space,
    /// The seed of all of them.
    pub seed: u64,
    /// Which of them.
    pub indices: Indices,
    /// Of these only the ones that are wanted.
    pub wanted: &'a (dyn Fn(&Case) -> bool + Sync),
    /// Who is judged.
    pub backends: Vec<Arc<dyn Backend>>,
    /// Defects that are known.
    pub known: &'a KnownIssues,
    /// Problems at a time.
    pub threads: usize,
}

/// A verdict that is not `passed`.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The index of the problem.
    pub index: u64,
    /// The problem with its inputs.
    pub case: Case,
    /// The backend, by its place in the plan.
    pub backend: usize,
    /// The verdict.
    pub outcome: Outcome,
}

/// Who hears of an exploration while it goes on.
pub struct Observer<'a> {
    /// Each verdict that is not `passed`, as it comes.
    pub found: &'a (dyn Fn(&Finding) + Sync),
    /// A problem is done.
    pub done: &'a (dyn Fn() + Sync),
}

/// Judges every problem of the plan. Returns the counts, and the findings in order of index.
pub fn explore(plan: &Plan, observer: &Observer, stop: &AtomicBool) -> (Tally, Vec<Finding>) {
    let all = Mutex::new((Tally::new(plan.backends.len()), Vec::new()));
    on_threads(plan.threads, plan.indices.count(), stop, &|n| {
        let index = plan.indices.nth(n);
        let case = plan.space.case(plan.seed, index);
        if (plan.wanted)(&case) {
            let outcomes = judge_on(&plan.backends, &case, plan.known);
            let mut tally = Tally::new(plan.backends.len());
            tally.add(&case, &outcomes);
            let mut findings = Vec::new();
            for (backend, outcome) in outcomes.into_iter().enumerate().filter(|(_, o)| !o.is_right()) {
                let finding = Finding { index, case: case.clone(), backend, outcome };
                (observer.found)(&finding);
                findings.push(finding);
            }
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.0.merge(tally);
            all.1.extend(findings);
        }
        (observer.done)();
    });
    let (tally, mut findings) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.sort_by_key(|finding| (finding.index, finding.backend));
    (tally, findings)
}

/// The verdicts of backends on a case, in their order. A panic of the checker is an error like one
/// of a backend: our own part is no less under test than theirs.
pub(super) fn judge_on(backends: &[Arc<dyn Backend>], case: &Case, known: &KnownIssues) -> Vec<Outcome> {
    let posed = caught("the oracle", || {
        let inputs = case.inputs();
        let expected = oracle::expect(&case.problem, &inputs);
        (inputs, expected)
    });
    let judged = |backend: &Arc<dyn Backend>| match &posed {
        Err(message) => Outcome::Error { message: message.clone() },
        Ok((inputs, expected)) => {
            let check = || check(backend.as_ref(), case, inputs, expected, known);
            caught("the checker", check).unwrap_or_else(|message| Outcome::Error { message })
        }
    };
    backends.iter().map(judged).collect()
}

/// What `step` returns, or that `who` panicked there.
fn caught<R>(who: &str, step: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(step))
        .map_err(|panic| format!("{who} panicked: {}", panic_message(panic.as_ref())))
}

/// Calls `job` for every number below `jobs` on so many threads, until `stop` is set. What is
/// parallel within a job stays on its thread: problems are small, and there are many.
pub(crate) fn on_threads(threads: usize, jobs: u64, stop: &AtomicBool, job: &(dyn Fn(u64) + Sync)) {
    let next = AtomicU64::new(0);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= jobs {
                break;
            }
            job(n);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| match ThreadPoolBuilder::new().num_threads(1).build() {
                Ok(pool) => pool.install(work),
                // The pool of the whole process then: slower, and no less right.
                Err(_) => work(),
            });
        }
    });
}
