//! Sharing rows out among threads.

use std::ops::Range;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Elements below which a thread of its own costs more than it saves: a fork takes some 5 µs,
/// in which one core computes a few ten thousand elements.
pub(crate) const MIN_ELEMENTS: usize = 64 * 1024;

/// The threads of one backend. One thread is the caller itself, without a pool.
#[derive(Debug)]
pub(crate) struct Threads {
    count: usize,
    pool: Option<ThreadPool>,
}

impl Threads {
    /// `count` threads, or just the caller when the pool cannot be started.
    pub(crate) fn new(count: usize) -> Self {
        let pool = if count > 1 { ThreadPoolBuilder::new().num_threads(count).build().ok() } else { None };
        Threads { count: if pool.is_some() { count } else { 1 }, pool }
    }

    /// How many threads there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many bands `units` of work should be cut into when each thread should have at least
    /// `min_units`.
    pub(crate) fn bands(&self, units: usize, min_units: usize) -> usize {
        (units / min_units.max(1)).clamp(1, self.count)
    }

    /// Cuts `out` into bands of whole rows of `row` elements, one for each thread that has at
    /// least [`MIN_ELEMENTS`], and calls `work(rows, band)` on each, in parallel.
    pub(crate) fn rows<T: Send>(
        &self,
        out: &mut [T],
        row: usize,
        work: impl Fn(Range<usize>, &mut [T]) + Sync,
    ) {
        let rows = out.len().checked_div(row).unwrap_or(0);
        let bands = self.bands(out.len(), MIN_ELEMENTS).min(rows);
        match &self.pool {
            Some(pool) if bands > 1 => {
                let share = rows.div_ceil(bands);
                pool.install(|| {
                    out.par_chunks_mut(share * row).enumerate().for_each(|(i, band)| {
                        work(i * share..i * share + band.len() / row, band);
                    });
                });
            }
            _ => work(0..rows, out),
        }
    }

    /// Cuts `out` into `bands` runs of nearly equal length and calls `work(first, run)` on each, in
    /// parallel, where `first` is the index of the run's first element.
    pub(crate) fn runs<T: Send>(&self, out: &mut [T], bands: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let share = out.len().div_ceil(bands.max(1)).max(1);
        match &self.pool {
            Some(pool) if bands > 1 => pool.install(|| {
                out.par_chunks_mut(share).enumerate().for_each(|(i, run)| work(i * share, run));
            }),
            _ => work(0, out),
        }
    }

    /// Calls `task(i)` for every i below `tasks`, in parallel, taken one by one as threads become
    /// free. The caller decides that the work is worth it.
    pub(crate) fn each(&self, tasks: usize, task: impl Fn(usize) + Send + Sync) {
        match &self.pool {
            Some(pool) if tasks > 1 => {
                pool.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(task));
            }
            _ => (0..tasks).for_each(task),
        }
    }
}
