//! Workers on one processor, the driver on another.
//!
//! Two workers that take turns lose nothing by sharing a processor, and gain that both have the
//! same one: its clock, its caches, its neighbours. The driver wakes up between their slices, and
//! should not do so in their place.

use serde::Serialize;

/// Which processor is whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pinning {
    /// Workers on one processor, the driver on another.
    Pinned {
        /// The workers' processor.
        workers: usize,
        /// The driver's.
        driver: usize,
    },
    /// The system puts them where it likes.
    Free {
        /// Why.
        why: String,
    },
}

impl Pinning {
    /// Moves this thread, and with it all that it starts, to a processor of its own, if there is
    /// more than one to choose from.
    ///
    /// The first processor is the driver's: it is the one that usually serves interrupts.
    pub fn of_driver() -> Pinning {
        let free = |why: &str| Pinning::Free { why: why.into() };
        let Some(allowed) = allowed() else {
            return free("this system does not say which processors there are");
        };
        let [driver, .., workers] = allowed[..] else { return free("there is one processor only") };
        match pin(None, driver) {
            Ok(()) => Pinning::Pinned { workers, driver },
            Err(error) => Pinning::Free { why: format!("the system refuses: {error}") },
        }
    }

    /// Moves a worker, which has one thread.
    ///
    /// # Errors
    /// That of the system.
    pub fn place(&self, worker: u32) -> std::io::Result<()> {
        match self {
            Pinning::Pinned { workers, .. } => pin(Some(worker), *workers),
            Pinning::Free { .. } => Ok(()),
        }
    }
}

/// Most processors that a set of them can name.
#[cfg(target_os = "linux")]
const MOST: usize = 1024;

/// The processors that this thread may use, in ascending order.
#[cfg(target_os = "linux")]
fn allowed() -> Option<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None).ok()?;
    Some((0..MOST).filter(|&processor| set.is_set(processor)).collect())
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Option<Vec<usize>> {
    None
}

/// Binds a thread, by default this one, to a processor.
#[cfg(target_os = "linux")]
fn pin(thread: Option<u32>, processor: usize) -> std::io::Result<()> {
    let pid = match thread {
        Some(id) => {
            let pid = i32::try_from(id).ok().and_then(rustix::thread::Pid::from_raw);
            Some(pid.ok_or_else(|| std::io::Error::other(format!("{id} is no thread")))?)
        }
        None => None,
    };
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    Ok(rustix::thread::sched_setaffinity(pid, &set)?)
}

#[cfg(not(target_os = "linux"))]
fn pin(_thread: Option<u32>, _processor: usize) -> std::io::Result<()> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own: the others of this program stay free.
    #[test]
    fn a_pinned_thread_has_one_processor() {
        let (before, pinning, after) =
            std::thread::spawn(|| (allowed(), Pinning::of_driver(), allowed())).join().unwrap();
        match (pinning, before) {
            (Pinning::Pinned { workers, driver }, Some(before)) => {
                assert_ne!(workers, driver);
                assert!(before.contains(&workers));
                assert_eq!(after, Some(vec![driver]));
            }
            (Pinning::Free { why }, before) => {
                assert!(!why.is_empty() && before.is_none_or(|processors| processors.len() < 2), "{why}");
            }
            (pinning, None) => panic!("{pinning:?}"),
        }
    }
}
