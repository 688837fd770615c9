//! All invariants on many cases and backends.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use touchstone_kernels::{Backend, Problem};

use super::{Invariant, Judged, judge};
use crate::case::Case;
use crate::explore::on_threads;
use crate::families;
use crate::known::KnownIssues;

/// What became of an invariant on one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Cases on which it holds.
    pub held: u64,
    /// Cases on which it does not.
    pub broken: u64,
    /// Cases on which it does not, of an operation in which the backend has a known issue.
    pub known: u64,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The invariant's name.
    pub invariant: &'static str,
    /// The backend, by its place.
    pub backend: usize,
    /// The case.
    pub case: String,
    /// Where, and by how much.
    pub why: String,
}

/// The outcome: invariants in rows, backends in columns.
///
/// A known issue excuses a whole operation here: it is about cases, and an invariant changes the case.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// `cells[invariant][backend]`.
    pub cells: Vec<Vec<Cell>>,
    /// Everything broken that no known issue explains, in the order of cases.
    pub breaks: Vec<Break>,
    /// Cases that were judged.
    pub cases: u64,
}

/// The case, and that of the operation which its invariants ask about too.
fn asked_about(case: &Case) -> impl Iterator<Item = Case> {
    let related = families::checks(&case.problem.op).related();
    let related = related.map(|op| Case { problem: Problem { op, ..case.problem }, ..*case });
    std::iter::once(case.clone()).chain(related)
}

impl Survey {
    /// Judges `invariants` on every backend, on the cases that `case` names by number; some numbers
    /// may have none. `done` hears of each.
    pub fn of(
        invariants: &[Invariant],
        backends: &[Arc<dyn Backend>],
        (count, case): (u64, &(dyn Fn(u64) -> Option<Case> + Sync)),
        known: &KnownIssues,
        threads: usize,
        done: &(dyn Fn() + Sync),
        stop: &AtomicBool,
    ) -> Survey {
        let cells = vec![vec![Cell::default(); backends.len()]; invariants.len()];
        let survey = Mutex::new((Survey { cells, ..Survey::default() }, Vec::new()));
        on_threads(threads, count, stop, &|number| {
            let Some(case) = case(number) else { return done() };
            let judged: Vec<Vec<Judged>> =
                backends.iter().map(|backend| judge(invariants, backend.as_ref(), &case)).collect();
            let mut guard = survey.lock().unwrap_or_else(PoisonError::into_inner);
            let (survey, breaks) = &mut *guard;
            survey.cases += 1;
            for (at, (backend, judged)) in backends.iter().zip(judged).enumerate() {
                let explained = asked_about(&case).any(|case| known.concerns(backend.id(), &case));
                for (row, (invariant, judged)) in invariants.iter().zip(judged).enumerate() {
                    let cell = &mut survey.cells[row][at];
                    match judged {
                        Judged::Held => cell.held += 1,
                        Judged::NotApplicable => {}
                        Judged::Broken(_) if explained => cell.known += 1,
                        Judged::Broken(why) => {
                            cell.broken += 1;
                            let (invariant, case) = (invariant.name, case.to_string());
                            breaks.push((number, Break { invariant, backend: at, case, why }));
                        }
                    }
                }
            }
            drop(guard);
            done();
        });
        let (mut survey, mut breaks) = survey.into_inner().unwrap_or_else(PoisonError::into_inner);
        breaks.sort_by_key(|(number, of)| (*number, of.backend));
        survey.breaks = breaks.into_iter().map(|(_, of)| of).collect();
        survey
    }

    /// How often anything held or did not.
    pub fn judged(&self) -> u64 {
        self.cells.iter().flatten().map(|cell| cell.held + cell.broken + cell.known).sum()
    }
}
