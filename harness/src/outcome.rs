//! What became of one case on one backend.

use touchstone_reports::Status;

use crate::agreement::{Agreement, Failure, Figures};
use touchstone_kernels::Clock;

use crate::accelerator::DeviceHealth;
use crate::timing::audit::Audit;
use crate::timing::{Health, MedianRatio, Samples};

/// Exactly one of these for every case and backend. A time exists only in
/// [`Measured`](Outcome::Measured): a kernel that was not found right has none.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Right, and not timed.
    Passed(Figures),
    /// Right before and after it was timed.
    Measured(Figures, Box<Measurement>),
    /// Wrong.
    Failed {
        /// Why.
        why: Failure,
        /// How far it was off.
        figures: Box<Figures>,
    },
    /// Right, but so would have been a wrong kernel: the case cannot tell.
    Suspect {
        /// Why.
        why: String,
        /// How close it came.
        figures: Box<Figures>,
    },
    /// Outside what the backend can do.
    Unsupported {
        /// The real limit.
        reason: String,
    },
    /// Wrong as a known issue says.
    Known {
        /// The issue.
        issue: String,
        /// Why.
        why: Failure,
        /// How far it was off.
        figures: Box<Figures>,
    },
    /// A known issue's witness that passes: the entry is to be removed.
    NoLongerFails {
        /// The issue.
        issue: String,
        /// How close it came.
        figures: Box<Figures>,
    },
    /// It did not come to a result.
    Error {
        /// Why.
        message: String,
    },
    /// It did not come to an end.
    Timeout {
        /// After how long.
        message: String,
    },
}

/// The time of a verified kernel.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The slices.
    pub samples: Samples,
    /// The reference backend, and this backend's time relative to its time.
    pub against: Option<Against>,
    /// How the machine was meanwhile.
    pub health: Health,
    /// Largest resident memory of the worker.
    pub peak_memory: Option<u64>,
    /// What one call needs beyond its operands and results.
    pub extra_memory: Option<u64>,
    /// How the device was meanwhile, where one is used.
    pub device: Option<OnDevice>,
    /// The clock.
    pub clock: Clock,
    /// Bytes that the timed copies of the problem occupy.
    pub working_set: u64,
    /// Nanoseconds of preparing one copy, if the worker says so.
    pub prepare_ns: Option<u64>,
    /// Nanoseconds of the first call, if the worker says so.
    pub first_ns: Option<u64>,
    /// What an audit of it measured.
    pub audit: Audit,
}

/// A time beside that of the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Against {
    /// The reference backend.
    pub reference: String,
    /// The clock that it was timed by.
    pub clock: Clock,
    /// The time relative to its time.
    pub ratio: MedianRatio,
}

/// What a device says about a measurement.
#[derive(Clone, Debug, Default)]
pub struct OnDevice {
    /// Its sensors, where they can be read.
    pub health: DeviceHealth,
    /// The share of the slices that the host spent waiting for the device.
    pub waiting: Option<f64>,
}

/// A host that waits less than this share of its time is what limits: the device has been waiting
/// for it.
const WAITING: f64 = 0.1;

impl OnDevice {
    /// Whether the time is that of launching kernels rather than of running them.
    pub fn is_launch_bound(&self) -> bool {
        self.waiting.is_some_and(|share| share < WAITING)
    }
}

impl Outcome {
    /// The outcome of an agreement.
    pub fn of(agreement: Agreement) -> Self {
        match agreement.failure {
            None => Outcome::Passed(agreement.figures),
            Some(why) => Outcome::Failed { why, figures: Box::new(agreement.figures) },
        }
    }

    /// How close the backend came, if it came to a result.
    pub fn figures(&self) -> Option<&Figures> {
        match self {
            Outcome::Passed(figures) | Outcome::Measured(figures, _) => Some(figures),
            Outcome::Failed { figures, .. }
            | Outcome::Suspect { figures, .. }
            | Outcome::Known { figures, .. }
            | Outcome::NoLongerFails { figures, .. } => Some(figures),
            Outcome::Unsupported { .. } | Outcome::Error { .. } | Outcome::Timeout { .. } => None,
        }
    }

    /// The status of its row.
    pub fn status(&self) -> Status {
        match self {
            Outcome::Passed(_) | Outcome::Measured(..) => Status::Passed,
            Outcome::Failed { .. } | Outcome::NoLongerFails { .. } => Status::Failed,
            Outcome::Suspect { .. } => Status::Suspect,
            Outcome::Unsupported { .. } => Status::Unsupported,
            Outcome::Known { .. } => Status::Known,
            Outcome::Error { .. } => Status::Error,
            Outcome::Timeout { .. } => Status::Timeout,
        }
    }

    /// Whether the results were right.
    pub fn is_right(&self) -> bool {
        matches!(self, Outcome::Passed(_) | Outcome::Measured(..))
    }

    /// Whether this makes a run fail.
    pub fn is_red(&self) -> bool {
        matches!(
            self,
            Outcome::Failed { .. }
                | Outcome::NoLongerFails { .. }
                | Outcome::Error { .. }
                | Outcome::Timeout { .. }
        )
    }
}
