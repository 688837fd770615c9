//! From a failure to a small one.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Space;
use super::engine::{Finding, Plan, judge_on, on_threads};
use crate::case::Case;
use crate::outcome::Outcome;

/// Smaller problems that are tried, at most. Some hundred are usual.
const MOST_ATTEMPTS: usize = 2_000;

/// The smallest case that proptest comes to from case `index` of a seed, on which `fails` still
/// holds; and how many were tried. Sizes, choices, fill and seed all shrink, the operation stays.
pub fn shrink(space: &Space, seed: u64, index: u64, fails: &dyn Fn(&Case) -> bool) -> (Case, usize) {
    let mut tree = space.draw(seed, index);
    let mut smallest = tree.current();
    let mut attempts = 0;
    let mut changed = tree.simplify();
    while changed && attempts < MOST_ATTEMPTS {
        attempts += 1;
        let case = tree.current();
        if fails(&case) {
            smallest = case;
            changed = tree.simplify();
        } else {
            changed = tree.complicate();
        }
    }
    (smallest, attempts)
}

/// A finding together with what it was shrunk to.
#[derive(Debug)]
pub struct Shrunk {
    /// The case that was drawn.
    pub from: Case,
    /// The small case and what became of it.
    pub finding: Finding,
}

/// Shrinks the first failures, by index, of each backend, operation and storage type.
pub fn shrink_first(plan: &Plan, findings: &[Finding], of_each: usize, stop: &AtomicBool) -> Vec<Shrunk> {
    let mut sorted: Vec<&Finding> = findings.iter().filter(|finding| finding.outcome.is_red()).collect();
    sorted.sort_by_key(|finding| (finding.index, finding.backend));
    let mut taken: HashMap<_, usize> = HashMap::new();
    sorted.retain(|finding| {
        let problem = &finding.case.problem;
        let count = taken.entry((finding.backend, problem.name(), problem.dtype)).or_default();
        *count += 1;
        *count <= of_each
    });
    let shrunk = Mutex::new(Vec::new());
    on_threads(plan.threads, sorted.len() as u64, stop, &|n| {
        let finding = sorted[n as usize];
        let outcome = |case: &Case| {
            let backend = std::slice::from_ref(&plan.backends[finding.backend]);
            judge_on(backend, case, plan.known).pop()
        };
        // A defect that shows only sometimes leaves nothing smaller.
        let fails = |case: &Case| !stop.load(Ordering::Relaxed) && outcome(case).is_some_and(|o| o.is_red());
        let (case, _) = shrink(plan.space, plan.seed, finding.index, &fails);
        let fallback = || Outcome::Error { message: "failed once, and not again: not repeatable".into() };
        let outcome = outcome(&case).filter(Outcome::is_red).unwrap_or_else(fallback);
        let finding = Finding { index: finding.index, case, backend: finding.backend, outcome };
        let shrunk_one = Shrunk { from: sorted[n as usize].case.clone(), finding };
        shrunk.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(shrunk_one);
    });
    let mut shrunk = shrunk.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    shrunk.sort_by_key(|shrunk| (shrunk.finding.index, shrunk.finding.backend));
    // Many ways lead to the same small case.
    let mut seen = std::collections::HashSet::new();
    shrunk.retain(|shrunk| seen.insert((shrunk.finding.backend, shrunk.finding.case.to_string())));
    shrunk
}

#[cfg(test)]
mod tests {
    use touchstone_kernels::op::Softmax;

    use super::*;

    #[test]
    fn a_failure_at_a_size_shrinks_to_that_size_and_to_nothing_else() {
        let space = Space::whole();
        let wide = |case: &Case| {
            let softmax = case.problem.get::<Softmax>();
            softmax.is_some_and(|spec| spec.shape.last().is_some_and(|&width| width >= 17))
        };
        let index = (0..).find(|&index| wide(&space.case(3, index))).unwrap();
        let (case, attempts) = shrink(&space, 3, index, &wide);
        assert!(case.to_string().ends_with("softmax f32 shape=17 fill=normal seed=0"), "{case}");
        assert!(attempts < 200, "{attempts}");
    }
}
