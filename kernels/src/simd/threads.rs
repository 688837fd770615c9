//! Sharing elements and tasks out among threads.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Elements below which a thread of its own costs more than it saves: a fork takes some 5 µs,
/// in which one core computes a few ten thousand elements.
pub(super) const MIN_ELEMENTS: usize = 64 * 1024;

/// The threads of one backend. One thread is the caller itself, without a pool.
#[derive(Debug)]
pub(super) struct Threads {
    count: usize,
    pool: Option<ThreadPool>,
}

impl Threads {
    /// `count` threads, or just the caller when the pool cannot be started.
    pub(super) fn new(count: usize) -> Self {
        let pool = if count > 1 { ThreadPoolBuilder::new().num_threads(count).build().ok() } else { None };
        Threads { count: if pool.is_some() { count } else { 1 }, pool }
    }

    /// How many threads there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many threads are worth starting for so many elements.
    pub(super) fn worth(&self, elements: usize) -> usize {
        (elements / MIN_ELEMENTS).clamp(1, self.count)
    }

    /// Cuts `out` into bands, one for each thread worth starting, and calls `work(start, band)`
    /// on each, in parallel. Every band but the last is a multiple of `grain` long: a row, or
    /// a few cache lines.
    pub(super) fn elements<T: Send>(
        &self,
        out: &mut [T],
        grain: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let bands = if grain == 0 { 1 } else { self.worth(out.len()) };
        let band = out.len().div_ceil(bands).next_multiple_of(grain.max(1));
        self.bands(out, band, &work);
    }

    /// Cuts `out` into `bands` runs of nearly equal length and calls `work(first, run)` on each, in
    /// parallel, where `first` is the index of the run's first element.
    pub(super) fn runs<T: Send>(&self, out: &mut [T], bands: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        self.bands(out, out.len().div_ceil(bands.max(1)), &work);
    }

    /// Calls `task(i)` for every i below `tasks`, in parallel, taken one by one as threads become
    /// free. The caller decides that the work is worth it.
    pub(super) fn each(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        self.take_turns(tasks, &task);
    }

    /// The results of `work` on every task, in order, taken like those of [`each`](Self::each).
    pub(super) fn map<T: Send, R: Send>(&self, tasks: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        self.results(tasks, &work)
    }

    // From here on closures are `dyn`, so that none of this, and nothing of rayon, is compiled
    // anew for every kernel.

    fn bands<T: Send>(&self, out: &mut [T], band: usize, work: &(dyn Fn(usize, &mut [T]) + Sync)) {
        if band >= out.len() {
            return work(0, out);
        }
        self.results(out.chunks_mut(band).enumerate().collect(), &|(i, out)| work(i * band, out));
    }

    fn results<T: Send, R: Send>(&self, tasks: Vec<T>, work: &(dyn Fn(T) -> R + Sync)) -> Vec<R> {
        // Each cell is touched by one thread; the locks are how the compiler knows.
        let (tasks, results): (Vec<_>, Vec<_>) =
            tasks.into_iter().map(|task| (Mutex::new(Some(task)), Mutex::new(None))).unzip();
        self.take_turns(tasks.len(), &|i| {
            let task = tasks[i].lock().unwrap_or_else(PoisonError::into_inner).take();
            *results[i].lock().unwrap_or_else(PoisonError::into_inner) = task.map(work);
        });
        let inner = |result: Mutex<_>| result.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().filter_map(inner).collect()
    }

    fn take_turns(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        match &self.pool {
            Some(pool) if tasks > 1 => {
                pool.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(task));
            }
            _ => (0..tasks).for_each(task),
        }
    }
}
