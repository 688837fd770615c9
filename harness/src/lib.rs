#![forbid(unsafe_code)]
//! The harness of Touchstone: is a kernel right, and how fast is it, honestly?
//!
//! ```text
//! suites/*.toml ─ suite → Case ─ fill → Inputs ─┬─ oracle → Expected {value, error}
//!                                               └─ Backend.prepare → Prepared
//! Prepared.run → Outputs ─ agreement(Expected) → Outcome
//! Outcome passed → timing (workers, interleaved) → Samples → outputs judged again → Record
//! ```
//!
//! To bring a kernel of your own, implement [`touchstone_kernels::Backend`] and hand a registry
//! to [`cli::run`]: `examples/own_backend.rs` does so in a page.

pub mod accelerator;
pub mod agreement;
pub mod capture;
pub mod case;
pub mod check;
pub mod cli;
pub mod comparison;
pub mod conventions;
pub mod coverage;
pub mod criterion;
pub mod explore;
pub mod families;
pub mod fill;
mod fnv1a;
pub mod gate;
pub mod invariants;
pub mod known;
pub mod machine;
pub mod onnx;
pub mod oracle;
pub mod outcome;
pub(crate) mod progress;
pub mod recording;
pub mod safeguard;
pub mod sameness;
pub mod selftest;
pub mod suite;
pub mod suspicion;
pub mod timing;

pub use case::Case;
pub use fill::Fill;
pub use outcome::Outcome;
