//! Verdicts without times, in this process.
//!
//! Kernels of one thread are checked on several cases at once. Kernels of more threads have the machine for
//! themselves: what is parallel in two of them at once would mix in one pool.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use touchstone_kernels::{Backend, Inputs};
use touchstone_reports::{Record, StoreError};

use super::{Comparison, Crew, Plan};
use crate::check::check;
use crate::explore::on_threads;
use crate::known::KnownIssues;
use crate::machine::memory;
use crate::oracle::{self, Expected};
use crate::outcome::Outcome;
use crate::recording::{Place, Who};
use crate::suite::SuiteCase;

/// Cases of a batch. A choice: with a quarter, threads wait for each other at the end of each batch more often;
/// with four times, a run that dies loses more rows.
const BATCH: usize = 16;

/// The part of the machine's memory that the cases of a batch may take together: each is posed once for all
/// backends, and kernels copy.
const SHARE_OF_MEMORY: f64 = 1.0 / 16.0;

/// How many of `cases` are checked together, from the first on: those before the first that is timed, as far as
/// memory goes, and at least one.
pub(super) fn batch(cases: &[(String, SuiteCase)], is_timed: impl Fn(&SuiteCase) -> bool) -> usize {
    let most = memory().map_or(0.0, |bytes| bytes as f64 * SHARE_OF_MEMORY);
    let mut taken = 0.0;
    let fits = cases.iter().take(BATCH).take_while(|(_, case)| {
        taken += case.case.memory();
        !is_timed(case) && taken <= most
    });
    fits.count().max(1)
}

/// A case that is posed when a backend first asks for it.
struct Posed<'a> {
    place: Place<'a>,
    /// Its inputs, and what they ask for.
    inputs: OnceLock<(Inputs, Expected)>,
    /// In the order of crews and backends.
    verdicts: Mutex<Vec<(usize, Who, Outcome)>>,
    /// Whether a crew was stopped before it came to it.
    left_out: bool,
}

impl Comparison<'_> {
    /// Checks a batch on every backend with each thread count. Rows of a case that was not finished are not
    /// kept.
    pub(super) fn check(
        &mut self,
        plan: &Plan,
        crews: &[Crew],
        cases: &[(String, SuiteCase)],
    ) -> Result<Vec<Record>, StoreError> {
        let mut all: Vec<Posed> = cases
            .iter()
            .map(|(suite, SuiteCase { case, .. })| Posed {
                place: Place { suite, case, threads: 1, cache: None, work: None },
                inputs: OnceLock::new(),
                verdicts: Mutex::default(),
                left_out: false,
            })
            .collect();
        for crew in crews {
            let wanted: Vec<Vec<&Arc<dyn Backend>>> =
                all.iter().map(|posed| self.wanted(plan, crew, posed.place)).collect();
            let answered: Vec<AtomicBool> = all.iter().map(|_| AtomicBool::new(false)).collect();
            let ask = |n: usize| {
                all[n].ask(&wanted[n], crew.threads, self.known);
                answered[n].store(true, Ordering::Relaxed);
            };
            if crew.threads == 1 {
                on_threads(rayon::current_num_threads(), all.len() as u64, self.stop, &|n| {
                    ask(n as usize);
                });
            } else {
                let is_stopped = || self.stop.load(Ordering::Relaxed);
                (0..all.len()).take_while(|_| !is_stopped()).for_each(|n| crew.work(|| ask(n)));
            }
            for (posed, answered) in all.iter_mut().zip(answered) {
                posed.left_out |= !answered.into_inner();
            }
        }
        let mut records = Vec::new();
        for Posed { place, verdicts, left_out, .. } in all {
            let mut naive_rmse = None;
            let verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (threads, who, outcome) in verdicts.into_iter().filter(|_| !left_out) {
                if who.id.as_str() == "naive" {
                    naive_rmse = outcome.figures().map(|figures| figures.rmse);
                }
                records.push(self.keep(Place { threads, ..place }, &who, &outcome, naive_rmse)?);
            }
        }
        Ok(records)
    }

    /// The backends that are still to be checked on a case with the crew's thread count. Those that have one of
    /// their own, whatever is asked for, are with the last crew.
    fn wanted<'a>(&self, plan: &Plan, crew: &'a Crew, place: Place) -> Vec<&'a Arc<dyn Backend>> {
        let is_last = Some(&crew.threads) == plan.threads.last();
        let is_its_turn = |backend: &dyn Backend| {
            let own = backend.info().threads;
            own == crew.threads || (is_last && !plan.threads.contains(&own))
        };
        let found = plan.backends.iter().filter_map(|id| crew.registry.find(id.as_str()));
        let turn = found.filter(|backend| is_its_turn(backend.as_ref()));
        turn.filter(|backend| !self.is_done(place, backend.as_ref())).collect()
    }
}

impl Posed<'_> {
    fn ask(&self, backends: &[&Arc<dyn Backend>], threads: usize, known: &KnownIssues) {
        for backend in backends {
            let case = self.place.case;
            let (inputs, expected) = self.inputs.get_or_init(|| {
                let inputs = case.inputs();
                let expected = oracle::expect(&case.problem, &inputs);
                (inputs, expected)
            });
            let outcome = check(backend.as_ref(), case, inputs, expected, known);
            let verdict = (threads, Who::of(backend.as_ref(), case), outcome);
            self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posed(text: &str) -> (String, SuiteCase) {
        ("test".into(), SuiteCase { case: text.parse().unwrap(), timed: Vec::new() })
    }

    #[test]
    fn a_batch_ends_before_a_timed_case_and_where_memory_does() {
        let small = || posed("relu f32 shape=4");
        let large = || posed("relu f32 shape=1000000x100000");
        let is_timed = |case: &SuiteCase| case.case.problem.name() == "softmax";
        let many: Vec<_> = std::iter::repeat_with(small).take(3 * BATCH).collect();
        assert_eq!(batch(&many, is_timed), BATCH);
        assert_eq!(batch(&many[..3], is_timed), 3);
        assert_eq!(batch(&[small(), small(), posed("softmax f32 shape=4")], is_timed), 2);
        assert_eq!(batch(&[small(), large(), small()], is_timed), 1);
        assert_eq!(batch(&[large(), small()], is_timed), 1, "it has to be checked some time");
    }
}
