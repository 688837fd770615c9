//! The regression gate: is a candidate slower than its base?
//!
//! ```text
//! git ─ base → executable ┐
//!                         ├─ contest → rounds ─ decision (signed_rank) → report
//! this executable ────────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`signed_rank`] | the exact test, the estimate and its interval |
//! | [`decision`] | two stages, Holm's procedure, what decides nothing |
//! | [`contest`] | rounds between two executables in fresh processes |
//! | [`pinning`] | which processor is whose |
//! | [`base`] | the revision to compare with, and its build |
//! | [`inject`] | faults on request |
//! | [`report`] | the verdict for people and machines |
//!
//! Everything compared is measured here and now; a time of another day is no base. The claim is
//! that at most 1 % of runs on unchanged code are red, whatever the machine does, and that a
//! slowdown of 10 % is. METHODOLOGY.md has the argument and the evidence.

pub mod base;
pub mod contest;
pub mod decision;
pub mod inject;
pub mod pinning;
pub mod report;
pub mod signed_rank;
