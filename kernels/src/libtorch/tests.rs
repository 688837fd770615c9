//! Each path against the naive backend.

use crate::against_naive::{
    ATTENTION, NORM, ROPE, SOFTMAX, activations, agrees, compare, fill, in_every_dtype, run,
};
use crate::error::BackendError;
use crate::operands::Inputs;
use crate::problem::Problem;

fn agree<'a>(problems: impl IntoIterator<Item = &'a str>) {
    for problem in problems.into_iter().flat_map(in_every_dtype) {
        agrees("libtorch/cpu", &problem);
    }
}

#[test]
fn attention_agrees() {
    agree(ATTENTION.iter().copied());
}

#[test]
fn softmax_agrees() {
    agree(SOFTMAX.iter().copied());
}

#[test]
fn norms_agree() {
    agree(NORM.iter().copied());
}

#[test]
fn activations_agree() {
    agree(activations().iter().map(String::as_str));
}

#[test]
fn rope_agrees() {
    agree(ROPE.iter().copied());
}

/// Our own composition spreads nothing from masked keys, and all from visible ones.
#[test]
fn composed_attention_keeps_masked_values_apart() {
    let problem: Problem = "attention f32 h=2 lq=6 d=8 softcap=3 causal=top_left".parse().unwrap();
    let tensors = problem.operands().into_iter().enumerate().map(|(n, operand)| {
        let mut tensor = fill(&operand, n as u64);
        if operand.name == "v" {
            // Rows of the last two keys of the first head: the last query sees both, one query sees
            // the first of them, the others neither.
            let v = tensor.as_mut_slice::<f32>().unwrap();
            (v[4 * 8], v[4 * 8 + 1], v[4 * 8 + 2]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
            (v[5 * 8 + 2], v[5 * 8 + 3]) = (f32::INFINITY, f32::NAN);
        }
        (operand.name, tensor)
    });
    let inputs = Inputs::new(&problem, tensors).unwrap();
    let (expected, got) = (run("naive", &problem, &inputs), run("libtorch/cpu", &problem, &inputs));
    let non_finite = expected.get("out").unwrap().to_f64().iter().filter(|x| !x.is_finite()).count();
    assert_eq!(non_finite, 7, "the case must tell");
    compare(&problem, &expected, &got, 2e-6);
}

#[test]
fn errors_are_typed() {
    let error = |result: Result<tch::Tensor, tch::TchError>| BackendError::from(result.unwrap_err());
    let options = (tch::Kind::Float, tch::Device::Cpu);
    let too_large = error(tch::Tensor::f_empty([1 << 58], options));
    assert!(matches!(too_large, BackendError::OutOfMemory { .. }), "{too_large:?}");
    let negative = error(tch::Tensor::f_empty([-1], options));
    assert!(
        matches!(&negative, BackendError::Library { library: "libtorch", message } if !message.contains('\n'))
    );
}
