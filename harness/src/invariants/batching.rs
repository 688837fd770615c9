//! An entry of a batch alone is the same as in the batch.

use touchstone_kernels::op::{
    Activation, Attention, BatchNorm, BatchNormMode, Glu, GroupNorm, InstanceNorm, LayerNorm, RmsNorm, Rope,
    Softmax,
};
use touchstone_kernels::{Backend, Inputs, Op, Operand, Problem, Tensor};

use super::Invariant;
use super::answer::{Answer, Held, Stop};

pub(super) fn invariant() -> Invariant {
    Invariant {
        name: "batching",
        family: None,
        about: "The last entry of a batch alone gives what it gives in the batch.",
        holds: is_the_same_alone,
    }
}

/// The same operation on one entry of its first axis; none where that axis is not a batch.
fn single(op: &Op) -> Option<(Op, usize)> {
    let one = |shape: &[usize]| {
        let mut shape = shape.to_vec();
        let entries = std::mem::replace(&mut shape[0], 1);
        (shape, entries)
    };
    Some(match op {
        Op::Attention(spec) => (Op::Attention(Attention { batch: 1, ..spec.clone() }), spec.batch),
        Op::Rope(spec) => (Op::Rope(Rope { batch: 1, ..spec.clone() }), spec.batch),
        Op::Softmax(spec) if spec.axis > 0 => {
            let (shape, entries) = one(&spec.shape);
            (Op::Softmax(Softmax { shape, ..spec.clone() }), entries)
        }
        Op::LayerNorm(spec) if spec.axes < spec.shape.len() => {
            let (shape, entries) = one(&spec.shape);
            (Op::LayerNorm(LayerNorm { shape, ..spec.clone() }), entries)
        }
        Op::RmsNorm(spec) if spec.shape.len() > 1 => {
            let (shape, entries) = one(&spec.shape);
            (Op::RmsNorm(RmsNorm { shape, ..spec.clone() }), entries)
        }
        Op::BatchNorm(spec) if spec.mode == BatchNormMode::Infer => {
            let (shape, entries) = one(&spec.shape);
            (Op::BatchNorm(BatchNorm { shape, ..spec.clone() }), entries)
        }
        Op::GroupNorm(spec) => {
            let (shape, entries) = one(&spec.shape);
            (Op::GroupNorm(GroupNorm { shape, ..spec.clone() }), entries)
        }
        Op::InstanceNorm(spec) => {
            let (shape, entries) = one(&spec.shape);
            (Op::InstanceNorm(InstanceNorm { shape, ..spec.clone() }), entries)
        }
        Op::Activation(spec) if !spec.shape.is_empty() => {
            let (shape, entries) = one(&spec.shape);
            (Op::Activation(Activation { shape, ..spec.clone() }), entries)
        }
        Op::Glu(spec) if spec.shape.len() > 1 => {
            let (shape, entries) = one(&spec.shape);
            (Op::Glu(Glu { shape, ..spec.clone() }), entries)
        }
        _ => return None,
    })
}

/// The problem of the last entry of a batch alone; none where there are not several.
pub(crate) fn last_alone(problem: &Problem, inputs: &Inputs) -> Option<(Problem, Inputs)> {
    let (op, _) = single(&problem.op).filter(|(_, entries)| *entries > 1)?;
    let alone = Problem::new(op, problem.dtype).ok()?;
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
