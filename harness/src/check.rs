//! One case on one backend: run it and judge what it returns.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use touchstone_kernels::{Backend, BackendError, BackendId, Inputs, Outputs, Prepared, Support, tensor};

use crate::agreement::{Agreement, Element, Failure, judge_by};
use crate::case::Case;
use crate::known::KnownIssues;
use crate::oracle::Expected;
use crate::outcome::Outcome;
use crate::safeguard::{Safeguard, Safeguards};
use crate::suspicion::suspicion_by;

/// Runs `backend` on a case and judges it: the results of two runs and of one whose operands and results
/// start between cache lines, the guard zones around all tensors, and the inputs afterwards.
pub fn check(
    backend: &dyn Backend,
    case: &Case,
    inputs: &Inputs,
    expected: &Expected,
    known: &KnownIssues,
) -> Outcome {
    check_by(Safeguards::ALL, backend, case, inputs, expected, known)
}

/// The same, by the safeguards that stand.
pub(crate) fn check_by(
    safeguards: Safeguards,
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
    let outcome = match run_all(backend, case, inputs) {
        Err(Stop::Memory(reason)) => return Outcome::Unsupported { reason },
        Err(Stop::Failed(message)) => return Outcome::Error { message },
        Ok(Runs { first, second, unaligned, operands }) => {
            let declaration = backend.declares(&case.problem);
            let mut agreement = judge_by(safeguards, expected, &declaration, &first);
            if agreement.failure.is_none() {
                // The kernel reads its own copy of the data, and shares the rest.
                let all = || operands.iter().chain([inputs]);
                let intact = all().all(Inputs::guards_intact);
                let unchanged = all().all(|operands| fingerprint(operands) == before);
                agreement.failure = if safeguards.have(Safeguard::OperandGuards) && !intact {
                    Some(Failure::GuardOverwritten { what: "inputs" })
                } else if safeguards.have(Safeguard::Operands) && !unchanged {
                    Some(Failure::InputChanged)
                } else {
                    let again = |outputs: Option<Outputs>, safeguard, as_failure: fn(Element) -> Failure| {
                        let outputs = outputs.filter(|_| safeguards.have(safeguard))?;
                        let failure = judge_by(safeguards, expected, &declaration, &outputs).failure?;
                        Some(failure.in_another_run(as_failure))
                    };
                    again(second, Safeguard::SecondRun, |first| Failure::NotRepeatable { first }).or_else(
                        || again(unaligned, Safeguard::Alignment, |first| Failure::Unaligned { first }),
                    )
                };
            }
            weigh(agreement, || suspicion_by(safeguards, &case.problem, inputs, expected, &declaration))
        }
    };
    explained(safeguards, outcome, backend.id(), case, inputs, known)
}

/// What an agreement is worth: a pass is one only where a wrong answer would have failed.
pub(crate) fn weigh(agreement: Agreement, suspicion: impl FnOnce() -> Option<String>) -> Outcome {
    match Outcome::of(agreement) {
        Outcome::Passed(figures) => match suspicion() {
            Some(why) => Outcome::Suspect { why, figures: Box::new(figures) },
            None => Outcome::Passed(figures),
        },
        outcome => outcome,
    }
}

/// Runs a backend once.
///
/// # Errors
/// A message when it is unsupported, fails or panics.
pub fn outputs(backend: &dyn Backend, case: &Case, inputs: &Inputs) -> Result<Outputs, String> {
    guarded(|| run(backend.ready(&case.problem, inputs)?.as_mut())).map_err(|stop| match stop {
        Stop::Memory(message) | Stop::Failed(message) => message,
    })
}

/// Why there are no outputs.
enum Stop {
    /// The problem is too large for the device: a limit, and not a fault.
    Memory(String),
    /// The backend failed or panicked.
    Failed(String),
}

/// What the runs of a check left.
struct Runs {
    first: Outputs,
    /// Of a second run on the same inputs, where they differ from the first in any bit, or something was
    /// written around them.
    second: Option<Outputs>,
    /// The same of a run on operands that start between cache lines, into results that do.
    unaligned: Option<Outputs>,
    /// The operands as the kernel had them, where it shows them.
    operands: Vec<Inputs>,
}

fn run_all(backend: &dyn Backend, case: &Case, inputs: &Inputs) -> Result<Runs, Stop> {
    let (first, second, own) = guarded(|| {
        let mut prepared = backend.ready(&case.problem, inputs)?;
        let first = run(prepared.as_mut())?;
        let second = run(prepared.as_mut())?;
        Ok((first, second, prepared.operands().cloned()))
    })?;
    // A library that keeps its operands elsewhere places them itself.
    let unaligned = own.as_ref().map(|_| unaligned(backend, case, inputs)).transpose()?;
    let differs = |outputs: &Outputs| *outputs != first || !outputs.guards_intact();
    let second = Some(second).filter(differs);
    let (unaligned, moved) = unaligned.unzip();
    let unaligned = unaligned.filter(differs);
    Ok(Runs {
        first,
        second,
        unaligned,
        operands: own.into_iter().chain(moved.into_iter().flatten()).collect(),
    })
}

/// Results that start between cache lines, of operands that do, and these operands afterwards: as they were
/// given and as the kernel had them.
fn unaligned(backend: &dyn Backend, case: &Case, inputs: &Inputs) -> Result<(Outputs, Vec<Inputs>), Stop> {
    guarded(|| {
        tensor::unaligned(case.seed, || {
            let moved = inputs.placed_anew();
            let mut prepared = backend.ready(&case.problem, &moved)?;
            let outputs = run(prepared.as_mut())?;
            let own = prepared.operands().cloned();
            Ok((outputs, own.into_iter().chain([moved]).collect()))
        })
    })
}

/// What a backend does, its errors and panics as messages.
fn guarded<T>(work: impl FnOnce() -> Result<T, BackendError>) -> Result<T, Stop> {
    match catch_unwind(AssertUnwindSafe(work)) {
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

/// A failure that a known issue describes is known; a witness that passes is a failure, where the safeguards
/// have [`Safeguard::Witness`].
pub(crate) fn explained(
    safeguards: Safeguards,
    outcome: Outcome,
    backend: &BackendId,
    case: &Case,
    inputs: &Inputs,
    known: &KnownIssues,
) -> Outcome {
    let witnessed = || known.witnessed(backend, case).filter(|_| safeguards.have(Safeguard::Witness));
    match outcome {
        Outcome::Failed { why, figures } => match known.explaining(backend, case, inputs, &why, &figures) {
            Some(issue) => Outcome::Known { issue: issue.id.clone(), why, figures },
            None => Outcome::Failed { why, figures },
        },
        Outcome::Passed(figures) => match witnessed() {
            Some(issue) => Outcome::NoLongerFails { issue: issue.id.clone(), figures: Box::new(figures) },
            None => Outcome::Passed(figures),
        },
        Outcome::Suspect { why, figures } => match witnessed() {
            Some(issue) => Outcome::NoLongerFails { issue: issue.id.clone(), figures },
            None => Outcome::Suspect { why, figures },
        },
        Outcome::Measured(figures, measurement) => match witnessed() {
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
