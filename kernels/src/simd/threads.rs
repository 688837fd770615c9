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
        work: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let threads = self.worth(out.len());
        if threads == 1 || grain == 0 {
            return work(0, out);
        }
        let band = out.len().div_ceil(threads).next_multiple_of(grain);
        self.map(out.chunks_mut(band).enumerate().collect(), &|(i, out)| work(i * band, out));
    }

    /// Cuts `out` into `bands` runs of nearly equal length and calls `work(first, run)` on each, in
    /// parallel, where `first` is the index of the run's first element.
    pub(super) fn runs<T: Send>(&self, out: &mut [T], bands: usize, work: impl Fn(usize, &mut [T]) + Sync) {
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
    pub(super) fn each(&self, tasks: usize, task: impl Fn(usize) + Send + Sync) {
        self.map((0..tasks).collect(), task);
    }

    /// The results of `work` on every task, in order. The tasks run in parallel, taken one by one
    /// as threads become free; the caller decides that they are worth it.
    pub(super) fn map<T: Send, R: Send>(&self, tasks: Vec<T>, work: &(dyn Fn(T) -> R + Sync)) -> Vec<R> {
        // Each cell is touched by one thread; the locks are how the compiler knows. The closures
        // are `dyn` so that all this is compiled once, and not for every kernel.
        let (tasks, results): (Vec<_>, Vec<_>) =
            tasks.into_iter().map(|task| (Mutex::new(Some(task)), Mutex::new(None))).unzip();
        let task = |i: usize| {
            let task = tasks[i].lock().unwrap_or_else(PoisonError::into_inner).take();
            *results[i].lock().unwrap_or_else(PoisonError::into_inner) = task.map(work);
        };
        match &self.pool {
            Some(pool) if tasks.len() > 1 => in_pool(pool, tasks.len(), &task),
            _ => (0..tasks.len()).for_each(task),
        }
        results
            .into_iter()
            .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }
}

/// Calls `task(i)` for every i below `tasks`.
fn in_pool(pool: &ThreadPool, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
    pool.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(task));
}
