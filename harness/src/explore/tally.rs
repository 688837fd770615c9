//! What came of an exploration, in numbers.

use std::collections::BTreeMap;

use touchstone_reports::Status;

use crate::case::Case;
use crate::outcome::Outcome;

/// The counts of an exploration.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Problems that were judged, by operation.
    pub problems: BTreeMap<&'static str, u64>,
    /// One for each backend, in the order of the plan.
    pub backends: Vec<BackendTally>,
}

/// The counts of one backend.
#[derive(Clone, Debug, Default)]
pub struct BackendTally {
    /// How often each status was given.
    pub statuses: BTreeMap<Status, u64>,
    /// The largest error over its bound below 1 among cases that passed, and the case. At 1 the bound is
    /// the right rounding itself.
    pub nearest: Option<(f64, Case)>,
}

impl Tally {
    /// Nothing yet, for so many backends.
    pub(super) fn new(backends: usize) -> Self {
        Tally { problems: BTreeMap::new(), backends: vec![BackendTally::default(); backends] }
    }

    /// Counts a problem with its outcomes, one for each backend.
    pub(super) fn add(&mut self, case: &Case, outcomes: &[Outcome]) {
        *self.problems.entry(case.problem.name()).or_default() += 1;
        for (backend, outcome) in self.backends.iter_mut().zip(outcomes) {
            *backend.statuses.entry(outcome.status()).or_default() += 1;
            if let Outcome::Passed(figures) = outcome {
                backend.see(figures.error_over_bound, case);
            }
        }
    }

    /// Adds what another thread has counted.
    pub(super) fn merge(&mut self, other: Tally) {
        for (name, count) in other.problems {
            *self.problems.entry(name).or_default() += count;
        }
        for (mine, theirs) in self.backends.iter_mut().zip(other.backends) {
            for (status, count) in theirs.statuses {
                *mine.statuses.entry(status).or_default() += count;
            }
            if let Some((ratio, case)) = theirs.nearest {
                mine.see(ratio, &case);
            }
        }
    }

    /// How many problems were judged.
    pub fn judged(&self) -> u64 {
        self.problems.values().sum()
    }

    /// How many verdicts were given: unsupported is none.
    pub fn executed(&self) -> u64 {
        let of = |backend: &BackendTally| -> u64 {
            backend.statuses.iter().filter(|(status, _)| status.was_executed()).map(|(_, count)| count).sum()
        };
        self.backends.iter().map(of).sum()
    }
}

impl BackendTally {
    /// How often a status was given.
    pub fn count(&self, status: Status) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    fn see(&mut self, ratio: f64, case: &Case) {
        if ratio < 1.0 && self.nearest.as_ref().is_none_or(|(largest, _)| ratio > *largest) {
            self.nearest = Some((ratio, case.clone()));
        }
    }
}
