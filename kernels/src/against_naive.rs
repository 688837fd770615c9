//! Libraries against the naive backend, on problems that reach each of their paths, with a loose
//! tolerance: the harness has the derived bounds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::dtype::{DType, ElementType};
use crate::noise::noise;
use crate::op::{self, Operand, Schema, Unary};
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::registry::Registry;
use crate::tensor::Tensor;

pub(crate) fn fill(operand: &Operand, seed: u64) -> Tensor {
    let numbers = (0..operand.len()).map(|i| 3.0 * noise(seed, i));
    match (operand.element, operand.limit) {
        (ElementType::Float(dtype), _) if operand.name == "running_var" => {
            let positive: Vec<f64> = numbers.map(|x| x.abs() + 0.1).collect();
            Tensor::from_f64(dtype, &operand.shape, &positive)
        }
        (ElementType::Float(dtype), _) if operand.name == "freq_factors" => {
            let positive: Vec<f64> = numbers.map(|x| x.abs() + 1.0).collect();
            Tensor::from_f64(dtype, &operand.shape, &positive)
        }
        (ElementType::Float(dtype), _) => {
            Tensor::from_f64(dtype, &operand.shape, &numbers.collect::<Vec<_>>())
        }
        (ElementType::Bool, _) => {
            Tensor::from_slice(&operand.shape, &numbers.map(|x| u8::from(x > -1.0)).collect::<Vec<_>>())
        }
        (ElementType::I64, limit) => {
            let limit = limit.unwrap_or(1_000_000) as u64;
            let within = numbers.map(|x| (x.to_bits() >> 20) % (limit + 1)).map(|x| x as i64);
            Tensor::from_slice(&operand.shape, &within.collect::<Vec<_>>())
        }
    }
    .unwrap()
}

pub(crate) fn inputs(problem: &Problem) -> Inputs {
    let tensors = problem.operands();
    Inputs::new(problem, tensors.iter().enumerate().map(|(n, o)| (o.name, fill(o, n as u64)))).unwrap()
}

pub(crate) fn run(backend: &str, problem: &Problem, inputs: &Inputs) -> Outputs {
    let registry = Registry::standard(2);
    let backend = registry.find(backend).unwrap();
    let mut prepared = backend.ready(problem, inputs).unwrap();
    // Twice: what the first run leaves behind must not change the second.
    prepared.run().unwrap();
    prepared.run().unwrap();
    prepared.sync().unwrap();
    prepared.outputs().unwrap()
}

/// A problem without its dtype, in every dtype.
pub(crate) fn in_every_dtype(problem: &str) -> [Problem; 3] {
    let (op, fields) = problem.split_once(' ').unwrap();
    DType::ALL.map(|dtype| format!("{op} {dtype} {fields}").parse().unwrap())
}

/// Runs a problem on a backend and on the naive one.
pub(crate) fn agrees(backend: &str, problem: &Problem) {
    let tolerance = match problem.dtype {
        DType::F32 => 2e-6,
        DType::F16 => 2e-3,
        DType::BF16 => 1.6e-2,
    };
    let inputs = inputs(problem);
    compare(problem, &run("naive", problem, &inputs), &run(backend, problem, &inputs), tolerance);
}

pub(crate) fn compare(problem: &Problem, expected: &Outputs, got: &Outputs, tolerance: f64) {
    for ((name, expected), (_, got)) in expected.iter().zip(got.iter()) {
        let (expected, got) = (expected.to_f64(), got.to_f64());
        let finite = expected.iter().filter(|x| x.is_finite());
        let scale = finite.fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        for (i, (e, g)) in expected.iter().zip(&got).enumerate() {
            let same = e == g || (e.is_nan() && g.is_nan());
            assert!(
                same || (e - g).abs() <= tolerance * scale,
                "{problem}: {name}[{i}] expected {e:e}, got {g:e} (scale {scale:e})"
            );
        }
    }
}

pub(crate) const ATTENTION: &[&str] = &[
    "attention b=2 h=3 lq=17 d=16",
    "attention h=8 hkv=2 lq=5 lk=37 d=64",
    "attention h=4 hkv=1 lq=1 lk=40 d=32 causal=bottom_right cache=64",
    "attention b=2 h=2 lq=33 d=40 causal=top_left",
    "attention h=2 lq=9 lk=5 d=16 causal=top_left",
    "attention h=2 lq=9 lk=5 d=16 causal=bottom_right",
    "attention h=2 lq=5 lk=9 d=16 causal=bottom_right",
    "attention h=2 lq=20 d=16 causal=top_left window=4,0",
    "attention h=2 lq=20 lk=30 d=16 window=3,2",
    "attention b=2 h=4 hkv=2 lq=8 d=16 mask=bool:bhqk",
    "attention b=2 h=4 hkv=2 lq=8 d=16 mask=bool:11qk causal=top_left",
    "attention b=2 h=4 hkv=2 lq=8 d=16 mask=float:b1qk",
    "attention b=2 h=4 hkv=2 lq=8 d=16 mask=float:1h1k causal=bottom_right",
    "attention b=3 h=2 lq=6 d=16 mask=padding",
    "attention b=3 h=2 lq=6 d=16 mask=padding causal=top_left",
    "attention h=4 lq=8 lk=11 d=16 alibi=true causal=bottom_right",
    "attention h=4 lq=8 d=16 alibi=true mask=float:11qk",
    "attention h=4 lq=8 d=16 dv=24",
    "attention h=4 hkv=2 lq=8 d=24 dv=16 causal=bottom_right",
    "attention h=2 lq=8 d=16 scale=0.7",
    "attention b=2 h=4 hkv=2 lq=8 lk=12 d=16 softcap=2.5 causal=bottom_right cache=20",
    "attention b=2 h=4 hkv=2 lq=8 d=16 sinks=true window=2,0",
    "attention b=2 h=4 hkv=2 lq=8 d=16 dv=8 lse=true causal=top_left",
    "attention b=2 h=4 hkv=2 lq=8 d=16 lse=true sinks=true softcap=5 alibi=true mask=bool:b11k",
    "attention b=3 h=2 lq=6 d=16 lse=true mask=padding",
    "attention h=2 lq=0 lk=4 d=8",
    "attention h=2 lq=4 lk=0 d=8",
    "attention h=2 lq=4 lk=0 d=8 lse=true",
    "attention h=2 lq=4 lk=0 d=8 lse=true sinks=true",
    "attention h=2 lq=4 lk=0 d=8 lse=true alibi=true",
];

pub(crate) const SOFTMAX: &[&str] = &[
    "softmax shape=5x33",
    "softmax shape=3x4x7 axis=1",
    "softmax shape=3x4x7 axis=0 scale=0.3",
    "log_softmax shape=5x33",
    "log_softmax shape=3x4x7 axis=1 scale=-2",
    "softmax shape=3x1",
    "softmax shape=0x4",
    "softmax shape=4x0",
];

pub(crate) const NORM: &[&str] = &[
    "layer_norm shape=6x40",
    "layer_norm shape=2x3x5x7 axes=2 bias=false",
    "layer_norm shape=6x40 weight=false",
    "layer_norm shape=6x40 weight=false bias=false eps=0.1",
    "rms_norm shape=6x40",
    "rms_norm shape=2x3x40 weight=false",
    "rms_norm shape=6x40 weight_offset=1",
    "rms_norm shape=6x40 round_before_weight=true",
    "rms_norm shape=6x40 round_before_weight=true weight_offset=1",
    "rms_norm shape=6x40 round_before_weight=true weight=false",
    "batch_norm shape=4x6x5x5",
    "batch_norm shape=4x6x5x5 mode=infer",
    "batch_norm shape=8x6 momentum=0.3 bias=false",
    "batch_norm shape=8x6x3 mode=infer weight=false",
    "batch_norm shape=8x6x3 weight=false bias=false",
    "group_norm shape=2x6x5x5 groups=3",
    "group_norm shape=2x6x5 groups=6 weight=false",
    "group_norm shape=2x6 groups=2 bias=false",
    "instance_norm shape=2x6x5x5",
    "instance_norm shape=2x6x5 weight=false",
    "instance_norm shape=2x6x5 bias=false",
];

/// Every function and every gated unit, and their parameters.
pub(crate) fn activations() -> Vec<String> {
    let functions = Unary::NAMES.map(|name| format!("{name} shape=5x67"));
    let parameters =
        ["leaky_relu shape=67 slope=0.2", "leaky_relu shape=67 slope=-0.2", "elu shape=67 alpha=1.7"];
    let betas = [1.702, -0.5, 0.0].map(|beta| format!("swish shape=67 beta={beta}"));
    let layouts = ["split", "gate_first", "gate_last"];
    let has_layout = |schema: &&Schema| schema.fields.iter().any(|field| field.key == "layout");
    let schemas = op::families().flat_map(|family| family.operations).filter(has_layout);
    let gated = schemas
        .flat_map(|schema| layouts.map(|layout| format!("{} shape=3x21 layout={layout}", schema.name)));
    functions.into_iter().chain(parameters.map(String::from)).chain(betas).chain(gated).collect()
}

pub(crate) const ROPE: &[&str] = &[
    "rope b=2 h=3 l=7 d=16",
    "rope b=2 h=3 l=7 d=16 style=interleaved",
    "rope b=2 h=3 l=7 d=16 rotary_dim=10 batched_positions=true",
    "rope b=2 h=3 l=7 d=16 rotary_dim=10 style=interleaved batched_positions=true tables=timed",
    "rope b=2 h=3 l=7 d=17 rotary_dim=10 style=interleaved",
    "rope h=3 l=7 d=16 freq_factors=true scaling=linear:4",
    "rope h=3 l=7 d=16 scaling=yarn:8,4096,32,1 tables=timed",
    "rope h=3 l=7 d=16 scaling=llama3:8,1,4,8192",
];
