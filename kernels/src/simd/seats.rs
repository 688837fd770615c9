//! A processor for each of the threads that share a call.
//!
//! Linux wakes a thread where it last ran, and where it asks for an idle processor instead, it asks in
//! vain on some machines (one guest without scheduling domains was such a one, for example). Once a
//! helper has last run where the caller runs now, both are on one processor in call after call: without
//! preemption the helper starts when the caller has done all the work. So a helper that finds its
//! processor taken moves to a free one. It comes too late for that call, and in time for the next.

#[cfg(target_os = "linux")]
pub(super) use linux::Seats;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Seats;

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::Mutex;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

    use crate::simd::threads::lock;

    /// The processors that threads of one call run on.
    pub(in crate::simd) struct Seats(Mutex<CpuSet>);

    impl Seats {
        /// Only the caller's is taken.
        pub(in crate::simd) fn new() -> Self {
            let mut taken = CpuSet::new();
            if let Some(here) = here() {
                taken.set(here);
            }
            Seats(Mutex::new(taken))
        }

        /// Takes the processor that this thread runs on, or if it is taken, moves to one that is free and
        /// that the thread is allowed to run on. Where there is none, it stays. What it is allowed to do
        /// does not change.
        pub(in crate::simd) fn take(&self) {
            let mut taken = lock(&self.0);
            match here() {
                Some(here) if taken.is_set(here) => {}
                Some(here) => return taken.set(here),
                None => return,
            }
            let Ok(allowed) = sched_getaffinity(None) else { return };
            let mut free = allowed;
            (0..CpuSet::MAX_CPU).filter(|&cpu| taken.is_set(cpu)).for_each(|cpu| free.unset(cpu));
            if free.count() > 0 && sched_setaffinity(None, &free).is_ok() {
                if let Some(here) = here() {
                    taken.set(here);
                }
                // It was allowed before: this does not fail, and if it did, nothing would be wrong.
                let _ = sched_setaffinity(None, &allowed);
            }
        }
    }

    fn here() -> Option<usize> {
        Some(sched_getcpu()).filter(|&cpu| cpu < CpuSet::MAX_CPU)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_helper_leaves_the_callers_processor() {
            let allowed = sched_getaffinity(None).unwrap();
            let seats = Seats::new();
            seats.take();
            // Allowed one processor only, it has nowhere to go.
            assert_eq!(lock(&seats.0).count(), allowed.count().min(2));
            assert!(sched_getaffinity(None).unwrap() == allowed, "what the thread may do has changed");
        }

        #[test]
        fn a_helper_stays_on_a_free_processor() {
            let seats = Seats(Mutex::new(CpuSet::new()));
            seats.take();
            assert_eq!(lock(&seats.0).count(), 1);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    /// Where threads cannot choose.
    pub(in crate::simd) struct Seats;

    impl Seats {
        pub(in crate::simd) fn new() -> Self {
            Seats
        }

        pub(in crate::simd) fn take(&self) {}
    }
}
