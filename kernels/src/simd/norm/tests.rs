//! The norms against `naive` at every instruction set, and the promises that rounding must keep.

use proptest::prelude::*;

use crate::noise::noise;
use crate::op::RmsNorm;
use crate::simd::Simd;
use crate::simd::isa::Isa;
use crate::{Backend, DType, Inputs, Outputs, Problem, Tensor, naive::Naive};

fn run(backend: &dyn Backend, problem: &Problem, inputs: &Inputs) -> Outputs {
    let mut prepared = backend.ready(problem, inputs).unwrap();
    prepared.run().unwrap();
    prepared.run().unwrap();
    prepared.outputs().unwrap()
}

/// Operands filled by `value(operand, index)`.
fn inputs(problem: &Problem, value: impl Fn(&str, usize) -> f64) -> Inputs {
    let tensors = problem.operands().into_iter().map(|operand| {
        let data: Vec<f64> = (0..operand.len()).map(|i| value(operand.name, i)).collect();
        (operand.name, Tensor::from_f64(problem.dtype, &operand.shape, &data).unwrap())
    });
    Inputs::new(problem, tensors.collect::<Vec<_>>()).unwrap()
}

fn assert_close(problem: &Problem, inputs: &Inputs, tolerance: f64) {
    // Two roundings to storage may each fall to the other side; the first counts up to twice after
    // the weight.
    let rounded_twice = problem.get::<RmsNorm>().is_some_and(|spec| spec.round_before_weight);
    let ulps = if rounded_twice { 3.0 } else { 1.0 };
    let expected = run(&Naive, problem, inputs);
    for isa in Isa::present() {
        let outputs = run(&Simd::new(isa, 1), problem, inputs);
        assert!(outputs.guards_intact(), "{isa} {problem}");
        for ((name, got), (_, want)) in outputs.iter().zip(expected.iter()) {
            for (i, (got, want)) in got.to_f64().into_iter().zip(want.to_f64()).enumerate() {
                let allowed = tolerance * (1.0 + want.abs()) + ulps * problem.dtype.ulp(want);
                let same = got == want || (got.is_nan() && want.is_nan());
                assert!(
                    same || (got - want).abs() <= allowed,
                    "{isa} {problem} {name}[{i}]: got {got}, expected {want}"
                );
            }
        }
    }
}

fn problems() -> impl Strategy<Value = String> {
    let dtype = prop::sample::select(vec!["f32", "f16", "bf16"]);
    let affine = (any::<bool>(), any::<bool>());
    let size = prop_oneof![1usize..40, 60usize..70, 250usize..300, Just(1031usize)];
    (0..6u8, dtype, affine, 1usize..5, 1usize..4, size).prop_map(|(op, dtype, (weight, bias), a, b, n)| {
        let affine = format!("weight={weight} bias={bias}");
        match op {
            0 => format!("layer_norm {dtype} shape={a}x{b}x{n} axes={} {affine}", 1 + a % 2),
            1 => format!(
                "rms_norm {dtype} shape={a}x{n} weight={weight} weight_offset={} round_before_weight={bias}",
                if weight { b - 1 } else { 0 }
            ),
            2 => format!("batch_norm {dtype} shape={}x{b}x{n} momentum=0.3 {affine}", a + 1),
            3 => format!(
                "batch_norm {dtype} shape={}x{n} mode={} {affine}",
                a + 1,
                if b > 1 { "train" } else { "infer" }
            ),
            4 => format!("group_norm {dtype} shape={a}x{}x{n} groups={b} {affine}", 2 * b),
            _ => format!("instance_norm {dtype} shape={a}x{b}x{n} {affine}"),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn agrees_with_naive(text in problems(), seed: u64, mean in prop_oneof![Just(0.0f64), Just(3.0), Just(1000.0)]) {
        let problem: Problem = text.parse().unwrap();
        let scale = if problem.dtype == DType::F32 { 1.0 } else { mean.max(1.0) };
        let inputs = inputs(&problem, |name, i| match name {
            "x" => mean + scale * noise(seed, i),
            "running_var" => 1.0 + noise(seed ^ 7, i).abs(),
            _ => noise(seed ^ name.len() as u64, i),
        });
        // Naive computes in f64; f32 sees numbers of size `mean` with an error of mean·2⁻²⁴.
        assert_close(&problem, &inputs, 1e-6 + mean * 4e-7);
    }
}

#[test]
fn constant_rows_are_exactly_their_bias() {
    for shape in [
        "layer_norm f32 shape=2x1000003",
        "layer_norm f32 shape=3x7",
        "layer_norm bf16 shape=3x4097",
        "group_norm f32 shape=2x4x1003 groups=2",
        "instance_norm f16 shape=2x4x1003",
        "batch_norm f32 shape=5x33x1",
        "batch_norm f32 shape=5x33x50",
    ] {
        let problem: Problem = shape.parse().unwrap();
        for value in [0.1, -12345.678, 1e-30, 3.3e6] {
            if problem.dtype == DType::F16 && value > 1e4 {
                continue;
            }
            let inputs = inputs(&problem, |name, i| match name {
                "x" => value,
                "bias" => noise(1, i),
                _ => 2.0,
            });
            for isa in Isa::present() {
                let outputs = run(&Simd::new(isa, 2), &problem, &inputs);
                let bias = inputs.get("bias").unwrap().to_f64();
                let out = outputs.get("out").unwrap().to_f64();
                let channels = problem.operands()[0].shape[1];
                let each = problem.name() == "layer_norm";
                let inner = if each { 1 } else { out.len() / (channels * problem.operands()[0].shape[0]) };
                for (i, y) in out.iter().enumerate() {
                    let bias = bias[i / inner % bias.len()];
                    assert!(*y == bias, "{isa} {problem} x={value} [{i}]: {y} instead of {bias}");
                }
            }
        }
    }
}

#[test]
fn a_large_mean_cancels_nothing() {
    for text in ["layer_norm f32 shape=4x1000 eps=1e-12", "layer_norm f32 shape=1x1000000 eps=1e-12"] {
        let problem: Problem = text.parse().unwrap();
        let inputs = inputs(&problem, |name, i| if name == "x" { 1e4 + noise(5, i) } else { 1.0 });
        assert_close(&problem, &inputs, 1e-6);
    }
}

/// The first guess of a mean is that of such elements.
#[test]
fn a_few_elements_unlike_the_rest() {
    for text in ["layer_norm f32 shape=3x1024 eps=1e-12", "instance_norm f32 shape=2x3x4096 eps=1e-12"] {
        let problem: Problem = text.parse().unwrap();
        let quarter = problem.operands()[0].shape.last().unwrap() / 4;
        for outlier in [30.0, 1e4, 1e7] {
            let x = |i: usize| if i % quarter < 16 { outlier } else { noise(6, i) };
            let inputs = inputs(&problem, |name, i| if name == "x" { x(i) } else { 1.0 });
            assert_close(&problem, &inputs, 1e-6);
        }
    }
}

#[test]
fn infinities_nan_and_squares_that_overflow() {
    for special in [f64::INFINITY, f64::NAN, 1e30] {
        for text in ["layer_norm f32 shape=2x37", "rms_norm f32 shape=2x37", "batch_norm f32 shape=3x20x9"] {
            let problem: Problem = text.parse().unwrap();
            let at = |name: &str, i| if name == "x" && i % 37 == 36 { special } else { noise(2, i).abs() };
            assert_close(&problem, &inputs(&problem, at), 1e-6);
        }
    }
}

#[test]
fn thread_count_changes_nothing() {
    for text in [
        "layer_norm f32 shape=300x1001",
        "rms_norm f16 shape=300x1001",
        "group_norm f32 shape=9x16x1001 groups=4",
        "batch_norm f32 shape=301x1001",
        "batch_norm f32 shape=3x33x3001",
    ] {
        let problem: Problem = text.parse().unwrap();
        let inputs = inputs(&problem, |name, i| if name == "running_var" { 1.0 } else { noise(3, i) });
        for isa in Isa::present() {
            let [one, two] = [1, 2].map(|threads| run(&Simd::new(isa, threads), &problem, &inputs));
            assert_eq!(one, two, "{isa} {problem}");
        }
    }
}
