//! What ends a gate before its verdict.

use std::io;
use std::path::PathBuf;

use super::Role;
use crate::case::Case;
use crate::timing::DriverError;

/// What ends a gate before its verdict.
#[derive(Debug, thiserror::Error)]
pub enum ContestError {
    /// Results outside their bounds.
    #[error("{role} is wrong on '{case}': {why}")]
    Wrong {
        /// Whose.
        role: Role,
        /// On which case.
        case: String,
        /// How.
        why: String,
    },
    /// The candidate's worker ended by its own fault, or fell silent twice, where the base's lives.
    #[error("the candidate is wrong on '{case}': {source}")]
    Crashed {
        /// On which case.
        case: String,
        /// What was seen of it.
        source: Box<DriverError>,
    },
    /// The candidate's worker fell silent.
    #[error("the candidate: {source}")]
    Silent {
        /// On which case.
        case: String,
        /// What was seen of it.
        source: Box<DriverError>,
    },
    /// A worker was ended from outside, or the base's by whatever cause.
    #[error("{role}: {source}")]
    Died {
        /// Whose.
        role: Role,
        /// What was seen of it.
        source: DriverError,
    },
    /// The two sides do not speak the same protocol.
    #[error("{role}: {source}")]
    Protocol {
        /// Who does not.
        role: Role,
        /// What was said.
        source: DriverError,
    },
    /// A worker cannot be started, or its results not be read.
    #[error("{role}: {source}")]
    Driver {
        /// Whose.
        role: Role,
        /// Why.
        source: DriverError,
    },
    /// A copy cannot be made.
    #[error("{path}: cannot be copied for a round: {source}")]
    Copy {
        /// Of what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A worker cannot be bound to its processor.
    #[error("a worker cannot be bound to its processor: {source}")]
    Pin {
        /// What the system says.
        source: io::Error,
    },
    /// The user has had enough.
    #[error("interrupted")]
    Stopped,
}

/// What the end of a worker on a case means: a candidate that ends by its own fault is wrong.
pub(super) fn died(role: Role, case: &Case, source: DriverError) -> ContestError {
    let problem = || case.problem.to_string();
    match source {
        source if role == Role::Candidate && source.is_crash() => {
            ContestError::Crashed { case: problem(), source: Box::new(source) }
        }
        source @ DriverError::Timeout { .. } if role == Role::Candidate => {
            ContestError::Silent { case: problem(), source: Box::new(source) }
        }
        source => failure(role, source),
    }
}

pub(super) fn failure(role: Role, source: DriverError) -> ContestError {
    match &source {
        DriverError::Protocol { .. } | DriverError::Answer { .. } => ContestError::Protocol { role, source },
        // A base that never says a word is of a time before workers.
        DriverError::Died { request, .. } if role == Role::Base && request == "greeting" => {
            ContestError::Protocol { role, source }
        }
        DriverError::Died { .. } | DriverError::Timeout { .. } => ContestError::Died { role, source },
        _ => ContestError::Driver { role, source },
    }
}
