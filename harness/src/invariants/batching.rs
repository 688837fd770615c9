//! An entry of a batch alone is the same as in the batch.

use touchstone_kernels::{Backend, Inputs, Operand, Problem, Tensor};

use super::Invariant;
use super::answer::{Answer, Held, Stop};
use crate::families;

pub(super) fn invariant() -> Invariant {
    Invariant {
        name: "batching",
        family: None,
        about: "The last entry of a batch alone gives what it gives in the batch.",
        holds: is_the_same_alone,
    }
}

/// The problem of the last entry of a batch alone; none where there are not several.
pub(crate) fn last_alone(problem: &Problem, inputs: &Inputs) -> Option<(Problem, Inputs)> {
    let alone = Problem::new(families::checks(&problem.op).alone()?, problem.dtype).ok()?;
    let tensor = |operand: &Operand| Some((operand.name, last_entry(inputs.get(operand.name)?, operand)?));
    let tensors = alone.operands().iter().map(tensor).collect::<Option<Vec<_>>>()?;
    let inputs = Inputs::new(&alone, tensors).ok()?;
    Some((alone, inputs))
}

fn is_the_same_alone(backend: &dyn Backend, answer: &Answer) -> Held {
    let (problem, inputs) = last_alone(&answer.problem, &answer.inputs).ok_or(Stop::NotApplicable)?;
    let alone = Answer::of(backend, &problem, inputs)?;
    answer.results.iter().zip(&alone.results).try_for_each(|(batch, alone)| {
        let start = batch.got.len() - alone.got.len();
        batch.relates(alone, 1.0, (0..alone.got.len()).map(|i| (start + i, i)))
    })
}

/// The last entry of an operand that has one for each of the batch; all of one that has not.
fn last_entry(whole: &Tensor, operand: &Operand) -> Option<Tensor> {
    let bytes = whole.bytes();
    let last = &bytes[bytes.len() - operand.bytes() as usize..];
    Tensor::from_bytes(operand.element, &operand.shape, last).ok()
}
