//! Sharing elements and tasks out among threads.
//!
//! Each thread has a run of the tasks for its own, the same one in every call with as many tasks, so that
//! it finds in its caches what it had to do with in the call before. Who has finished helps the others,
//! from the ends of their runs. The caller is one of the threads: while the others wake up, which takes
//! tens of microseconds, it is already at work, and what they come too late for it does itself.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::seats::Seats;

/// Elements below which a thread of its own costs more than it saves: a fork takes some 5 µs,
/// in which one core computes a few ten thousand elements.
///
/// A choice of the power of two above that. With half, the fork costs about what it saves, and a thread
/// that wakes up late costs more. With twice, up to 262,143 elements stay on one thread, where a second one
/// would save some microseconds.
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

    /// Calls `task(thread, i)` for every i below `tasks`, in parallel, where no two calls at a time have
    /// the same `thread` below [`count`](Self::count). Where that is not `worth` it, the caller alone
    /// does them, in order.
    pub(super) fn each(&self, worth: bool, tasks: usize, task: impl Fn(usize, usize) + Sync) {
        self.share(if worth { self.pool.as_ref() } else { None }, tasks, &task);
    }

    /// The results of `work` on every task, in order, shared out like those of [`each`](Self::each).
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
        self.share(self.pool.as_ref(), tasks.len(), &|_, i| {
            let task = lock(&tasks[i]).take();
            *lock(&results[i]) = task.map(work);
        });
        let inner = |result: Mutex<_>| result.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().filter_map(inner).collect()
    }

    fn share(&self, pool: Option<&ThreadPool>, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let Some(pool) = pool.filter(|_| tasks > 1) else {
            return (0..tasks).for_each(|i| task(0, i));
        };
        let threads = self.count.min(tasks);
        let bound = |thread: usize| tasks * thread / threads;
        let runs: Vec<_> = (0..threads).map(|t| Mutex::new(bound(t)..bound(t + 1))).collect();
        let done = AtomicUsize::new(0);
        let work = |thread: usize| {
            let own = || lock(&runs[thread]).next();
            let of_others = || (1..threads).find_map(|n| lock(&runs[(thread + n) % threads]).next_back());
            while let Some(i) = own().or_else(of_others) {
                task(thread, i);
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        let seats = Seats::new();
        let help = |thread: usize| {
            seats.take();
            work(thread);
        };
        // The scope waits until the others have returned, whatever has become of them.
        pool.in_place_scope(|scope| {
            if threads == self.count {
                scope.spawn_broadcast(|_, other| help(other.index() + 1));
            } else {
                // Too few tasks to wake all of them up: whoever comes.
                let help = &help;
                (1..threads).for_each(|thread| scope.spawn(move |_| help(thread)));
            }
            work(0);
            let start = Instant::now();
            while done.load(Ordering::Relaxed) < tasks && start.elapsed() < PATIENCE {
                spin_loop();
            }
        });
    }
}

/// A lock that is as good after a panic as before: the panic goes on in the caller.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
