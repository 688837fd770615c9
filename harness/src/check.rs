//! One case on one backend: run it and judge what it returns.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use touchstone_kernels::{Backend, BackendError, Inputs, Outputs, Prepared, Support};

use crate::agreement::{Agreement, Failure, Figures, judge};
use crate::case::Case;
use crate::known::KnownIssues;
use crate::oracle::Expected;
use crate::outcome::Outcome;
use crate::suspicion::suspicion;

/// Runs `backend` on a case and judges it: the results of two runs, the guard zones around all
/// tensors, and the inputs afterwards.
pub fn check(
    backend: &dyn Backend,
    case: &Case,
    inputs: &Inputs,
    expected: &Expected,
    known: &KnownIssues,
) -> Outcome {
    if let Support::No(reason) = backend.supports(&case.problem) {
        return Outcome::Unsupported { reason: reason.into_owned() };
    }
    let before = fingerprint(inputs);
    let outcome = match run_twice(backend, case, inputs) {
        Err(Stop::Memory(reason)) => return Outcome::Unsupported { reason },
        Err(Stop::Failed(message)) => return Outcome::Error { message },
        Ok((first, second)) => {
            let mut agreement = judge(expected, &backend.declares(&case.problem), &first);
            if agreement.failure.is_none() {
                agreement.failure = if !inputs.guards_intact() {
                    Some(Failure::GuardOverwritten { what: "inputs" })
                } else if fingerprint(inputs) != before {
                    Some(Failure::InputChanged)
                } else {
                    second.and_then(|second| repeated(backend, case, expected, &second))
                };
            }
            match Outcome::of(agreement) {
                Outcome::Passed(figures) => doubted(backend, case, inputs, expected, figures),
                outcome => outcome,
            }
        }
    };
    explained(outcome, backend, case, known)
}

/// A pass is worth something only where a wrong answer would have failed.
fn doubted(
    backend: &dyn Backend,
    case: &Case,
    inputs: &Inputs,
    expected: &Expected,
    figures: Figures,
) -> Outcome {
    match suspicion(&case.problem, inputs, expected, &backend.declares(&case.problem)) {
        Some(why) => Outcome::Suspect { why, figures: Box::new(figures) },
        None => Outcome::Passed(figures),
    }
}

/// Runs a backend once.
///
/// # Errors
/// A message when it is unsupported, fails or panics.
pub fn outputs(backend: &dyn Backend, case: &Case, inputs: &Inputs) -> Result<Outputs, String> {
    match run_twice(backend, case, inputs) {
        Ok((first, _)) => Ok(first),
        Err(Stop::Memory(message) | Stop::Failed(message)) => Err(message),
    }
}

/// Why there are no outputs.
enum Stop {
    /// The problem is too large for the device: a limit, and not a fault.
    Memory(String),
    /// The backend failed or panicked.
    Failed(String),
}

/// The outputs of a first run, and those of a second where they differ in any bit.
fn run_twice(
    backend: &dyn Backend,
    case: &Case,
    inputs: &Inputs,
) -> Result<(Outputs, Option<Outputs>), Stop> {
    let twice = || -> Result<_, BackendError> {
        let mut prepared = backend.prepare(&case.problem, inputs)?;
        let first = run(prepared.as_mut())?;
        let second = run(prepared.as_mut())?;
        Ok((second != first).then_some(second).map_or((first.clone(), None), |s| (first, Some(s))))
    };
    match catch_unwind(AssertUnwindSafe(twice)) {
        Ok(Err(error @ BackendError::OutOfMemory { .. })) => Err(Stop::Memory(error.to_string())),
        Ok(result) => result.map_err(|error| Stop::Failed(error.to_string())),
        Err(panic) => Err(Stop::Failed(format!("panicked: {}", panic_message(panic.as_ref())))),
    }
}

fn run(prepared: &mut dyn Prepared) -> Result<Outputs, BackendError> {
    prepared.sync()?;
    prepared.run()?;
    prepared.sync()?;
    prepared.outputs()
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// A second run that differs must be right by itself.
fn repeated(backend: &dyn Backend, case: &Case, expected: &Expected, second: &Outputs) -> Option<Failure> {
    let Agreement { failure, .. } = judge(expected, &backend.declares(&case.problem), second);
    failure.map(|failure| match failure {
        Failure::Outside { worst: first, .. } | Failure::NonFinite { first, .. } => {
            Failure::NotRepeatable { first }
        }
        other => other,
    })
}

/// A failure that a known issue describes is known; a witness that passes is a failure.
pub fn explained(outcome: Outcome, backend: &dyn Backend, case: &Case, known: &KnownIssues) -> Outcome {
    match outcome {
        Outcome::Failed { why, figures } => match known.explaining(backend.id(), case) {
            Some(issue) => Outcome::Known { issue: issue.id.clone(), why, figures },
            None => Outcome::Failed { why, figures },
        },
        Outcome::Passed(figures) => match known.witnessed(backend.id(), case) {
            Some(issue) => Outcome::NoLongerFails { issue: issue.id.clone(), figures: Box::new(figures) },
            None => Outcome::Passed(figures),
        },
        Outcome::Measured(figures, measurement) => match known.witnessed(backend.id(), case) {
            Some(issue) => Outcome::NoLongerFails { issue: issue.id.clone(), figures: Box::new(figures) },
            None => Outcome::Measured(figures, measurement),
        },
        outcome => outcome,
    }
}

/// A hash of every bit of the inputs.
pub(crate) fn fingerprint(inputs: &Inputs) -> u64 {
    let mut hasher = DefaultHasher::new();
    inputs.iter().for_each(|(_, tensor)| tensor.bytes().hash(&mut hasher));
    hasher.finish()
}
