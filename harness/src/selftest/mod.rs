//! The checker, tested: wrong kernels that it must fail, and right ones that it must not.
//!
//! A *fault* is a small and realistic mistake behind the trait of every backend; a *variant* is
//! another right way to the same results. [`run`] shows both to [`check`](crate::check::check),
//! which knows nothing of them, over the cases of ordinary suites. A fault has to be failed in
//! every storage type in which the mistake can be made; the case that does so is recorded, and
//! all of them together are the *kill matrix*. A variant has to pass on every case of its family.
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! use touchstone_harness::selftest;
//!
//! let cases = selftest::cases(&["smoke".into(), "standard".into()])?;
//! let score = selftest::run(
//!     &selftest::faults(),
//!     &selftest::variants(),
//!     &cases,
//!     &|_, _, _| {},
//!     &AtomicBool::new(false),
//! );
//! assert_eq!((score.survivors.len(), score.false_alarms.len()), (0, 0));
//! # Ok::<(), touchstone_harness::suite::SuiteError>(())
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `machinery` | the faults of buffers, threads, caches and conversions |
//! | `planted`, `arithmetic` | what the faults and variants of the families are made of |
//! | `engine`, `score` | the run, and what comes of it |
//! | `audit` | how near right ways come to their bounds |
//! | `alone` | what each fill and each kind of size catches by itself |
//! | `needs`, `blunt` | the run without each safeguard, and what only some of them see |

mod alone;
pub(crate) mod arithmetic;
mod audit;
mod blunt;
pub mod cheats;
mod engine;
pub(crate) mod machinery;
mod needs;
pub(crate) mod planted;
mod score;

use crate::families;

pub use alone::{Alone, Trait, alone};
pub use audit::{Audited, LOOSE, Loosest, Mistake, audit};
pub use engine::{MOST_BYTES, MOST_FLOPS, cases, caught_by_invariants, random_cases, run};
pub use needs::{Escape, Need, SMALL_BYTES, SMALL_FLOPS, needs};
pub use planted::{Computed, Specimen};
pub use score::{FalseAlarm, Kill, Score, Survivor};

/// The catalogue of planted faults: those of every family ([`families`]), and of the machinery around them.
pub fn faults() -> Vec<Specimen> {
    families::faults().chain(machinery::faults()).collect()
}

/// The correct variants.
pub fn variants() -> Vec<Specimen> {
    let about = "Sums in f64, elementary functions in f32.";
    let naive = Specimen::new(None, "naive", about, |_| true, planted::naive);
    std::iter::once(naive).chain(families::variants()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_catalogue_is_complete_and_its_names_are_good() {
        let (faults, variants) = (faults(), variants());
        assert!(faults.len() >= 80, "{} faults", faults.len());
        assert!(variants.len() >= 30, "{} variants", variants.len());
        let mut names = HashSet::new();
        for specimen in faults.iter().chain(&variants) {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(specimen.name.chars().all(legal), "{}", specimen.name);
            assert!(names.insert(specimen.name), "{} twice", specimen.name);
            assert!(specimen.about.ends_with('.'), "{}: {}", specimen.name, specimen.about);
            assert!(!specimen.dtypes().is_empty(), "{}", specimen.name);
        }
    }
}
