//! Exploration: random problems over everything that a problem text can say.
//!
//! A suite asks what somebody thought of. An exploration asks what nobody did: [`Space`] draws
//! problems with every operation, storage type, semantic choice and fill, sizes around the widths of
//! vectors and tiles, and [`explore`] has each judged like a case of a suite. What fails is shrunk
//! by proptest to the smallest problem that still fails on the same backend.
//!
//! Problem i of seed S is drawn from (S, i) and nothing else, so that a run may be cut into shards,
//! stopped, or done on any number of threads, and is the same run. What a row reports is the text of
//! its case, which repeats it alone.
//!
//! | module | holds |
//! |---|---|
//! | `space`, `sizes` | what there is to draw from |
//! | `engine` | many problems on many threads |
//! | `shrink` | from a failure to a small one |
//! | `tally` | what came of it |

mod engine;
mod shrink;
pub(crate) mod sizes;
mod space;
mod tally;

pub(crate) use engine::on_threads;
pub use engine::{Finding, Indices, Observer, Plan, explore};
pub use shrink::{Shrunk, shrink, shrink_first};
pub use sizes::{Numbers, tensor};
pub use space::Space;
pub use tally::{BackendTally, Tally};
