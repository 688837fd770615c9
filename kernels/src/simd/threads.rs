//! Sharing elements and tasks out among threads.
//!
//! The caller is one of the threads, and tasks are taken one by one: while the others wake up, which
//! takes tens of microseconds, the caller is already at work, and what they come too late for it
//! does itself.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Elements below which a thread of its own costs more than it saves: a fork takes some 5 µs,
/// in which one core computes a few ten thousand elements.
pub(super) const MIN_ELEMENTS: usize = 64 * 1024;

/// Tasks that each thread gets, for bands of elements: the more, the less depends on when a thread
/// wakes up.
const BANDS: usize = 4;

/// How long the caller looks out for the last tasks of the others before it sleeps: longer than
/// falling asleep and waking up takes.
const PATIENCE: Duration = Duration::from_micros(100);

/// The threads of one backend: the caller, and a pool of the others.
#[derive(Debug)]
pub(super) struct Threads {
    count: usize,
    pool: Option<ThreadPool>,
}

impl Threads {
    /// `count` threads, or just the caller when the pool cannot be started.
    pub(super) fn new(count: usize) -> Self {
        let pool =
            if count > 1 { ThreadPoolBuilder::new().num_threads(count - 1).build().ok() } else { None };
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

    /// Cuts `out` into bands, a few for each thread worth starting, and calls `work(start, band)`
    /// on each, in parallel. Every band but the last is a multiple of `grain` long: a row, or
    /// a few cache lines.
    pub(super) fn elements<T: Send>(
        &self,
        out: &mut [T],
        grain: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let bands = match self.worth(out.len()) {
            _ if grain == 0 => 1,
            1 => 1,
            threads => BANDS * threads,
        };
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
        let Some(pool) = self.pool.as_ref().filter(|_| tasks > 1) else {
            return (0..tasks).for_each(task);
        };
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= tasks {
                    break;
                }
                task(i);
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        // The scope waits until the others have returned, whatever has become of them.
        pool.in_place_scope(|scope| {
            for _ in 1..self.count.min(tasks) {
                scope.spawn(|_| work());
            }
            work();
            let start = Instant::now();
            while done.load(Ordering::Relaxed) < tasks && start.elapsed() < PATIENCE {
                spin_loop();
            }
        });
    }
}
