//! Measuring time honestly.
//!
//! Backends are never timed inside the driver. Each one runs in a *worker*, a process of its own
//! with its own threads and allocator, which answers requests over a pipe and sleeps in a read
//! otherwise. The driver lets the workers of one case take turns in short slices and random
//! order, so that whatever disturbs the machine disturbs all of them alike.
//!
//! ```text
//!   driver                                worker (one per backend and thread count)
//!   sampler ── Worker ──── stdin ───────→ serve ── Pool ── Prepared, Prepared, …
//!      │          ←─────── stdout ───────   │ [sync, run × k, sync] → ns
//!   Samples                               Backend
//!      │
//!   Summary, MedianRatio ── limit(Peaks) → % of the machine's measured roofline
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`protocol`] | the requests and replies, one line of text each |
//! | [`pool`] | how many copies of a problem keep it out of the caches |
//! | [`canary`] | a loop that never changes |
//! | [`audit`] | single calls on inputs that are new in each |
//! | [`honesty`] | whether a measured time can be the kernel's own |
//! | [`exchange`] | results on their way from worker to driver |
//! | [`worker`] | the loop that answers requests with a backend |
//! | [`driver`] | a worker process seen from outside: time-outs, crashes, results |
//! | [`memory`] | what one call needs beyond its operands and results |
//! | [`sampler`] | calibration, interleaving, dropped slices |
//! | [`statistics`] | quantiles per iteration, ratios with intervals |
//! | [`roofline`] | the machine's measured peaks, and what they allow |

pub mod audit;
pub mod canary;
pub mod driver;
pub mod exchange;
pub mod honesty;
pub mod memory;
pub mod pool;
pub mod protocol;
pub mod roofline;
pub mod sampler;
pub mod statistics;
pub mod worker;

pub use driver::{DriverError, Launch, Readiness, Worker};
pub use pool::CacheState;
pub use roofline::{Demand, Limit, Peaks, Roofline, device_limit, limit};
pub use sampler::{Effort, Health, Samples, Sampling, Slice, sample};
pub use statistics::Summary;
pub use touchstone_reports::statistics::MedianRatio;
pub use worker::{configure_threads, serve};
