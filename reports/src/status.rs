//! The closed set of verdicts a row can carry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What became of one case on one backend. Every row has exactly one.
///
/// The default is [`Status::Error`]: a row nobody filled in must not read as a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every element agrees with the oracle under the backend's contract.
    Passed,
    /// At least one element disagrees.
    Failed,
    /// The case could not have told right from wrong.
    Suspect,
    /// The backend does not offer exactly these semantics and says why.
    Unsupported,
    /// A disagreement listed in the known-issues file with its upstream reference.
    Known,
    /// The backend, or the harness around it, reported an error.
    #[default]
    Error,
    /// The case did not finish in its time.
    Timeout,
}

/// A word that is not one of the statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown status `{found}`, expected passed, failed, suspect, unsupported, known, error or timeout")]
pub struct UnknownStatus {
    /// The word as it was found.
    pub found: String,
}

impl Status {
    /// All statuses, in the order in which tables show them.
    pub const ALL: [Self; 7] = [
        Self::Passed,
        Self::Failed,
        Self::Suspect,
        Self::Unsupported,
        Self::Known,
        Self::Error,
        Self::Timeout,
    ];

    /// The word used in records, on the command line and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Suspect => "suspect",
            Self::Unsupported => "unsupported",
            Self::Known => "known",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }

    /// Whether the kernel was executed and judged: everything but [`Status::Unsupported`].
    #[must_use]
    pub const fn was_executed(self) -> bool {
        !matches!(self, Self::Unsupported)
    }

    /// Whether somebody has to act: failed, suspect, error and timeout.
    #[must_use]
    pub const fn needs_attention(self) -> bool {
        matches!(self, Self::Failed | Self::Suspect | Self::Error | Self::Timeout)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| UnknownStatus { found: word.to_owned() })
    }
}
