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
    /// It ended.
    #[error("{worker}: died of '{request}' ({status}){}", tail(.stderr))]
    Died {
        /// Its backend, or its executable before the greeting.
        worker: String,
        /// What was asked.
        request: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote to standard error.
        stderr: String,
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

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; its last words:\n{stderr}") }
}
