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
//! | `attention`, `softmax`, `norm`, `activation`, `rope` | the faults of each family |
//! | `machinery` | the faults of buffers, threads, caches and conversions |
//! | `variants` | the other right ways |
//! | `arithmetic`, `flow`, `normalise` | kernels whose every step can be exchanged, for both |
//! | `engine`, `score` | the run, and what comes of it |
//! | `audit` | how near right ways come to their bounds |
//! | `alone` | what each fill and each kind of size catches by itself |
//! | `needs`, `blunt` | the run without each safeguard, and what only some of them see |

mod activation;
mod alone;
mod arithmetic;
mod attention;
mod audit;
mod blunt;
pub mod cheats;
mod engine;
mod flow;
mod machinery;
mod needs;
mod norm;
mod normalise;
mod planted;
mod rope;
mod score;
mod softmax;
mod variants;

pub use alone::{Alone, Trait, alone};
pub use audit::{Audited, LOOSE, Loosest, Mistake, audit};
pub use engine::{MOST_BYTES, MOST_FLOPS, cases, caught_by_invariants, random_cases, run};
pub use needs::{Escape, Need, SMALL_BYTES, SMALL_FLOPS, needs};
pub use planted::Specimen;
pub use score::{FalseAlarm, Kill, Score, Survivor};

/// The catalogue of planted faults.
pub fn faults() -> Vec<Specimen> {
    let families = [
        attention::faults(),
        softmax::faults(),
        norm::faults(),
        activation::faults(),
        rope::faults(),
        machinery::faults(),
    ];
    families.into_iter().flatten().collect()
}

/// The correct variants.
pub fn variants() -> Vec<Specimen> {
    variants::variants()
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
