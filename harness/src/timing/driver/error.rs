//! What can go wrong with a worker process.

use std::path::PathBuf;
use std::time::Duration;

use super::super::exchange::ExchangeError;
use super::super::protocol::ProtocolError;

/// What can go wrong with a worker.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// It cannot be started.
    #[error("{exe}: cannot be started: {source}")]
    Spawn {
        /// The executable.
        exe: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It said something that is not of the protocol. It has been killed.
    #[error("{worker}: {source}")]
    Protocol {
        /// Its backend, or its executable before the greeting.
        worker: String,
        /// What does not fit.
        source: ProtocolError,
    },
    /// It answered, but not to what was asked. It has been killed.
    #[error("{worker}: '{response}' is no answer to '{request}'")]
    Answer {
        /// Its backend.
        worker: String,
        /// What was asked.
        request: String,
        /// What it said.
        response: String,
    },
    /// It did not answer in time. It has been killed.
    #[error("{worker}: no answer to '{request}' within {} s", .timeout.as_secs_f64())]
    Timeout {
        /// Its backend, or its executable before the greeting.
        worker: String,
        /// What was asked.
        request: String,
        /// The time it had.
        timeout: Duration,
    },
    /// It ended. [`DriverError::is_crash`] says whether by its own fault.
    #[error("{worker}: died of '{request}' ({status}){}", tail(.stderr))]
    Died {
        /// Its backend, or its executable before the greeting.
        worker: String,
        /// What was asked.
        request: String,
        /// How it ended.
        status: String,
        /// Whether a signal from outside ended it, or the machine ran out of memory.
        killed: bool,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// It works on after it has said that a slice is over.
    #[error("{worker}: works on {} s after a slice of {calls} calls has ended: its time is not the kernel's", .waited.as_secs_f64())]
    Restless {
        /// Its backend.
        worker: String,
        /// Calls in the slice.
        calls: u64,
        /// The time it had to come to rest.
        waited: Duration,
    },
    /// It refused a request, and lives on.
    #[error("{worker}: {message}")]
    Refused {
        /// Its backend.
        worker: String,
        /// Why.
        message: String,
    },
    /// Its results cannot be read.
    #[error("{worker}: {source}")]
    Outputs {
        /// Its backend.
        worker: String,
        /// What is wrong with them.
        source: ExchangeError,
    },
    /// There is no place for its results.
    #[error("{worker}: no temporary directory for results: {source}")]
    Directory {
        /// Its backend.
        worker: String,
        /// What the system says.
        source: std::io::Error,
    },
}

impl DriverError {
    /// Whether the worker ended by its own fault: by a signal that a program raises itself (SEGV, ILL,
    /// ABRT, BUS, FPE) or by leaving. A KILL or TERM comes from outside, and from a machine that has no
    /// memory left.
    pub fn is_crash(&self) -> bool {
        matches!(self, DriverError::Died { killed: false, .. })
    }
}

/// Whether a process was ended by a signal that it does not raise itself.
#[cfg(unix)]
pub(super) fn was_killed(status: Option<std::process::ExitStatus>) -> bool {
    use std::os::unix::process::ExitStatusExt;

    use rustix::process::Signal;

    let own = [Signal::ILL, Signal::ABORT, Signal::BUS, Signal::FPE, Signal::SEGV, Signal::SYS, Signal::TRAP];
    match status {
        Some(status) => status.signal().is_some_and(|signal| own.iter().all(|own| own.as_raw() != signal)),
        // It lives, and was only silent.
        None => true,
    }
}

/// This system has no signals, so the cause of an exit is unknown: it counts as a kill from outside.
#[cfg(not(unix))]
pub(super) fn was_killed(_: Option<std::process::ExitStatus>) -> bool {
    true
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; its last words:\n{stderr}") }
}
