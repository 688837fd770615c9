//! How much memory one call needs beyond its operands and results.
//!
//! A worker that is timed cannot say: its allocator keeps whatever was ever freed, so that a call
//! finds its memory resident. Memory is therefore measured in a worker of its own, whose allocator
//! hands every larger block back at once ([`RETURNING`]).
//!
//! There the problem is prepared and run once, which builds what a library builds on first use, and
//! dropped. From then on everything counts that the process gains until the peak of a call: the
//! inputs, which are dropped after `prepare` so that they exist once whether the backend shares or
//! copies them; the results; scratch and tables made ahead; and what the call itself allocates. What
//! is left without operands and results is the extra memory. The system counts resident pages in
//! batches, and small blocks stay in the heap, so that it is right to half a megabyte.

use touchstone_kernels::{Backend, BackendError, Prepared};

use super::pool::footprint;
use crate::case::Case;
use crate::machine::{peak_resident, reset_peak_resident, resident};

/// Makes glibc map blocks from 64 KiB on and unmap them when they are freed, and MKL keep none.
pub const RETURNING: [(&str, &str); 4] = [
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "0"),
    ("MALLOC_TOP_PAD_", "0"),
    ("MKL_DISABLE_FAST_MM", "1"),
];

/// Measures it in this process, which has to have been started with [`RETURNING`]. Nothing where
/// the system does not tell.
pub(super) fn extra(backend: &dyn Backend, case: &Case) -> Result<Option<u64>, BackendError> {
    let process = std::process::id();
    drop(held(backend, case)?);
    let Some(before) = resident(process) else { return Ok(None) };
    let mut prepared = held(backend, case)?;
    if !reset_peak_resident(process) {
        return Ok(None);
    }
    prepared.run()?;
    prepared.sync()?;
    let gained = peak_resident(process).map(|peak| peak.saturating_sub(before));
    Ok(gained.map(|gained| gained.saturating_sub(footprint(&case.problem))))
}

/// The case prepared and run once, its inputs dropped.
fn held(backend: &dyn Backend, case: &Case) -> Result<Box<dyn Prepared>, BackendError> {
    let inputs = case.inputs();
    let mut prepared = backend.ready(&case.problem, &inputs)?;
    drop(inputs);
    prepared.run()?;
    prepared.sync()?;
    Ok(prepared)
}
