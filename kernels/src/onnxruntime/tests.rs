//! Each path against the naive backend, and each refusal by its reason.

use std::collections::BTreeMap;

use super::{COMMIT, OnnxRuntime, commit, environment};
use crate::against_naive::{
    ATTENTION, NORM, ROPE, SOFTMAX, activations, agrees, compare, fill, in_every_dtype, inputs, run,
};
use crate::backend::{Backend, Support};
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::registry::Registry;
use crate::tensor::Tensor;

const BACKEND: &str = "onnxruntime/cpu";

/// The backend's support for a problem. A build with this feature is tested with the library.
fn support(registry: &Registry, problem: &Problem) -> Support {
    let Some(backend) = registry.find(BACKEND) else {
        let absent = registry.absent().iter().find(|absent| absent.id.as_str() == BACKEND);
        panic!("{BACKEND} is absent: {}", absent.map_or("and no reason is given", |absent| &absent.reason));
    };
    backend.supports(problem)
}

/// Runs what is supported, and checks that what is refused is so for one of `reasons`. All of these
/// must occur.
fn agree<'a>(problems: impl IntoIterator<Item = &'a str>, reasons: &[&str]) {
    let registry = Registry::standard(2);
    let (mut executed, mut refused) = (0, BTreeMap::<&str, usize>::new());
    for problem in problems.into_iter().flat_map(in_every_dtype) {
        match support(&registry, &problem) {
            Support::Yes => {
                agrees(BACKEND, &problem);
                executed += 1;
            }
            Support::No(found) => {
                let expected = reasons.iter().find(|reason| found.contains(**reason));
                *refused.entry(expected.unwrap_or_else(|| panic!("{problem}: {found}"))).or_default() += 1;
            }
        }
    }
    println!("{executed} executed, refused: {refused:?}");
    assert!(executed > 0, "nothing was executed");
    assert_eq!(refused.len(), reasons.len(), "expected {reasons:?}, found {refused:?}");
}

#[test]
fn attention_agrees() {
    agree(ATTENTION.iter().copied(), &["no sinks", "no log-sum-exp", "empty tensors"]);
}

#[test]
fn softmax_agrees() {
    agree(SOFTMAX.iter().copied(), &["empty tensors"]);
}

#[test]
fn norms_agree() {
    agree(NORM.iter().copied(), &[]);
}

#[test]
fn activations_agree() {
    agree(activations().iter().map(String::as_str), &[]);
}

#[test]
fn rope_agrees() {
    agree(ROPE.iter().copied(), &[]);
}

/// A path names the operators of the graph, without what is folded when the session is made.
#[test]
fn paths_name_what_runs() {
    let registry = Registry::standard(1);
    for (problem, path) in [
        ("softmax f32 shape=4x8", "Softmax"),
        ("softmax bf16 shape=4x8 scale=0.5", "composed: Cast, Mul, Softmax, Cast"),
        ("swish f32 shape=4", "com.microsoft QuickGelu"),
        ("mish f32 shape=4", "composed: Softplus, Tanh, Mul"),
        ("rms_norm f16 shape=4x8 weight_offset=1", "composed: Cast, RMSNormalization, Cast"),
        ("layer_norm bf16 shape=4x8 bias=false", "LayerNormalization"),
        ("batch_norm f32 shape=4x3x5", "composed: BatchNormalization, Mul, Add, Mul, Add"),
        ("attention f32 h=4 hkv=2 lq=3 lk=9 d=8 causal=bottom_right softcap=5", "Attention"),
        ("attention f16 h=2 lq=3 d=8 alibi=true", "composed: Cast, Cast, Cast, Attention, Cast"),
    ] {
        let problem: Problem = problem.parse().unwrap();
        assert_eq!(support(&registry, &problem), Support::Yes, "{problem}");
        assert_eq!(registry.find(BACKEND).unwrap().declares(&problem).path, path, "{problem}");
    }
}

/// Copies of a problem share the session, and with it the threads, but no operand and no result. Other
/// weights are another model.
#[test]
fn copies_share_a_session() {
    let backend = OnnxRuntime::new(environment().unwrap(), 1);
    let problem: Problem = "layer_norm f32 shape=4x8".parse().unwrap();
    let filled = |x: u64, weight: u64| {
        let seed = |name| if name == "x" { x } else { weight };
        let tensors = problem.operands().into_iter().map(|o| (o.name, fill(&o, seed(o.name))));
        Inputs::new(&problem, tensors).unwrap()
    };
    let users = || backend.latest.lock().unwrap().strong_count();
    let operands = [filled(1, 1), filled(2, 1), filled(3, 3)];
    let mut copies = Vec::new();
    for (operands, sharing) in operands.iter().zip([1, 2, 1]) {
        copies.push(backend.ready(&problem, operands).unwrap());
        assert_eq!(users(), sharing);
    }
    copies.iter_mut().for_each(|copy| copy.run().unwrap());
    for (copy, operands) in copies.iter_mut().zip(&operands) {
        compare(&problem, &run("naive", &problem, operands), &copy.outputs().unwrap(), 2e-6);
    }
    copies.clear();
    assert_eq!(users(), 0, "a session outlives its users");
}

/// The kernel writes its statistics over its inputs. An infinite one must not reach the next run.
#[test]
fn statistics_of_one_run_do_not_reach_the_next() {
    let problem: Problem = "batch_norm f32 shape=2x1".parse().unwrap();
    let operands = inputs(&problem);
    let tensors = operands.iter().map(|(name, tensor)| match name {
        "x" => (name, Tensor::from_slice(&[2, 1], &[f32::INFINITY, 1.0]).unwrap()),
        _ => (name, tensor.clone()),
    });
    let operands = Inputs::new(&problem, tensors).unwrap();
    let mean = |outputs: Outputs| outputs.get("running_mean").unwrap().to_f64()[0];
    assert_eq!(mean(run("naive", &problem, &operands)), f64::INFINITY);
    assert_eq!(mean(run(BACKEND, &problem, &operands)), f64::INFINITY);
}

#[test]
fn commit_is_read_from_the_build() {
    let wheel = "ORT Build Info: git-branch=HEAD, git-commit-id=6af1a93, fp8-kv-cache=1, build type=Release";
    assert_eq!(commit(wheel), COMMIT);
    assert_eq!(commit("ORT Build Info: build type=Debug"), "unknown");
}
