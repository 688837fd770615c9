//! Invariants: what holds for right results whatever they are.
//!
//! An oracle can be wrong in the same way as a kernel, where both read the same sentence. These
//! properties owe nothing to its values: rows that sum to one, keys that may be permuted, a future
//! that may be changed, functions that are odd. Most compare two answers of the same backend, to a
//! problem and to its image under a change that must not matter, or that must have a known effect.
//!
//! No tolerance is chosen here. Each answer may be off by what the bounds of agreement allow it
//! ([`Tolerance`](crate::agreement::Tolerance)), so that a relation of two answers may be off by
//! the sum: a backend within its bounds breaks no invariant. Where a relation is exact in
//! arithmetic, such as a future that is masked, it is held to the last bit.
//!
//! | module | invariants of |
//! |---|---|
//! | `batching` | all: an entry of a batch alone is the same |
//! | `answer` | what a backend returned, with its tolerances |
//! | `survey` | many cases on many backends |

pub(crate) mod answer;
pub(crate) mod batching;
mod survey;

use touchstone_kernels::Backend;
use touchstone_kernels::op::Family;

pub use survey::{Break, Cell, Survey};

use crate::case::Case;
use crate::families;
use answer::{Answer, Stop};

/// A property of right results.
pub struct Invariant {
    /// Its name.
    pub name: &'static str,
    /// The family it is about; none for all of them.
    pub family: Option<&'static Family>,
    /// What it says.
    pub about: &'static str,
    pub(crate) holds: fn(&dyn Backend, &Answer) -> Result<(), Stop>,
}

/// What became of an invariant on one case of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It holds.
    Held,
    /// It is not, and where.
    Broken(String),
    /// It says nothing about this case, or the backend does not support it.
    NotApplicable,
}

/// All of them.
pub fn all() -> Vec<Invariant> {
    families::invariants().chain([batching::invariant()]).collect()
}

/// Judges `invariants` on a case, in their order. The answer to the case itself is shared by all.
pub fn judge(invariants: &[Invariant], backend: &dyn Backend, case: &Case) -> Vec<Judged> {
    let family = case.problem.family();
    let answer = Answer::of(backend, &case.problem, case.inputs());
    let judged = |invariant: &Invariant| {
        if invariant.family.is_some_and(|own| own != family) {
            return Judged::NotApplicable;
        }
        match &answer {
            Ok(answer) => match (invariant.holds)(backend, answer) {
                Ok(()) => Judged::Held,
                Err(Stop::NotApplicable) => Judged::NotApplicable,
                Err(Stop::Broken(why)) => Judged::Broken(why),
            },
            Err(Stop::NotApplicable) => Judged::NotApplicable,
            Err(Stop::Broken(why)) => Judged::Broken(why.clone()),
        }
    };
    invariants.iter().map(judged).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_sentences_end() {
        let mut names = HashSet::new();
        for invariant in all() {
            assert!(names.insert(invariant.name), "{} twice", invariant.name);
            assert!(invariant.about.ends_with('.'), "{}", invariant.name);
        }
    }
}
