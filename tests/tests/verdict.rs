//! What the bounds let pass and what not: the oracle's own values rounded once pass on every smoke
//! case, and small, realistic mistakes fail.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use acceptance::Posed;
use touchstone_harness::agreement::{Failure, judge};
use touchstone_harness::oracle::{self, Expected};
use touchstone_harness::suite::Suite;
use touchstone_kernels::{Declaration, Outputs, Problem, Tensor};

fn posed(case: &str) -> Posed {
    Posed::new(case.parse().unwrap())
}

fn judged(problem: &Problem, expected: &Expected, values: Vec<Vec<f64>>) -> Option<Failure> {
    let tensors = problem.results().iter().zip(values).map(|(result, values)| {
        let dtype = expected.results.iter().find(|e| e.name == result.name).unwrap().dtype;
        Tensor::from_f64(dtype, &result.shape, &values).unwrap()
    });
    let outputs = Outputs::new(problem, tensors.collect()).unwrap();
    judge(expected, &Declaration::strict("test"), &outputs).failure
}

/// The verdict on the right values of one case offered as the answer to another.
fn mistaken(right: &str, wrong: &str) -> Option<Failure> {
    let (right, wrong) = (posed(right), posed(wrong));
    // Both problems take the same inputs: only what is done with them differs.
    let answer = oracle::expect(wrong.problem(), &right.inputs);
    let values = answer.results.into_iter().map(|result| result.value).collect();
    judged(right.problem(), &right.expected, values)
}

#[test]
fn perfect_rounding_passes_everywhere() {
    let mut judgements = 0;
    for suite_case in Suite::load("smoke").unwrap().cases {
        let posed = Posed::new(suite_case.case);
        let values = posed.expected.results.iter().map(|result| result.value.clone()).collect();
        let failure = judged(posed.problem(), &posed.expected, values);
        assert_eq!(failure, None, "{}", posed.case);
        judgements += 1;
    }
    assert!(judgements > 0);
}

#[test]
fn a_few_units_in_the_last_place_fail() {
    // Bounds in f32 are tens of ulps wide (sums of n terms), in the short types hardly more than
    // the last rounding.
    for (case, ulps) in [
        ("softmax f16 shape=1x64", 4.0),
        ("softmax bf16 shape=1x64", 4.0),
        ("softmax f32 shape=1x5", 40.0),
        ("log_softmax bf16 shape=1x64", 4.0),
        ("attention bf16 h=1 lq=1 lk=33 d=16", 4.0),
        ("layer_norm f16 shape=1x64", 4.0),
        ("rms_norm bf16 shape=1x64", 4.0),
        ("batch_norm f16 shape=4x1x16", 4.0),
        ("gelu f16 shape=64", 4.0),
        ("gelu f32 shape=64", 40.0),
        ("swiglu bf16 shape=1x64", 4.0),
        ("rope f16 h=1 l=1 d=64", 4.0),
        ("rope f32 h=1 l=1 d=64", 40.0),
    ] {
        let posed = posed(case);
        let result = &posed.expected.results[0];
        let largest = (0..result.value.len())
            .max_by(|&a, &b| result.value[a].abs().total_cmp(&result.value[b].abs()))
            .unwrap();
        let off_by = |ulps: f64| {
            let mut values: Vec<Vec<f64>> = posed.expected.results.iter().map(|r| r.value.clone()).collect();
            values[0][largest] += ulps * result.dtype.ulp(values[0][largest]);
            judged(posed.problem(), &posed.expected, values)
        };
        assert_eq!(off_by(0.0), None, "{case}");
        assert!(
            matches!(off_by(ulps), Some(Failure::Outside { count: 1, .. })),
            "{case}: {:?}",
            off_by(ulps)
        );
    }
}

#[test]
fn nan_never_passes_for_a_number() {
    let posed = posed("softmax f32 shape=2x9");
    let mut values = posed.expected.results[0].value.clone();
    values[17] = f64::NAN;
    let failure = judged(posed.problem(), &posed.expected, vec![values]);
    assert!(matches!(failure, Some(Failure::NonFinite { count: 1, .. })), "{failure:?}");
    let zeros = judged(posed.problem(), &posed.expected, vec![vec![0.0; 18]]);
    assert!(matches!(zeros, Some(Failure::Outside { count: 18, .. })), "{zeros:?}");
}

/// The right result of a neighbouring problem: each pair is a mistake that people make.
#[test]
fn neighbouring_semantics_fail() {
    let attention = "attention f32 h=4 hkv=4 lq=24 lk=40 d=32";
    for (right, wrong) in [
        (format!("{attention} causal=bottom_right"), format!("{attention} causal=top_left")),
        (format!("{attention} causal=top_left"), format!("{attention}")),
        (format!("{attention} window=7,0"), format!("{attention} window=8,0")),
        (format!("{attention} softcap=20"), format!("{attention} softcap=21")),
        (format!("{attention} softcap=30"), format!("{attention}")),
        (format!("{attention}"), format!("{attention} scale=0.03125")),
        ("softmax f32 shape=4x8x8 axis=1".into(), "softmax f32 shape=4x8x8 axis=2".into()),
        ("softmax bf16 shape=4x64 scale=0.5".into(), "softmax bf16 shape=4x64".into()),
        ("gelu f32 shape=31x67".into(), "gelu_tanh f32 shape=31x67".into()),
        ("gelu_tanh f16 shape=31x67 fill=spread".into(), "gelu f16 shape=31x67".into()),
        ("gelu bf16 shape=31x67 fill=spread".into(), "gelu_tanh bf16 shape=31x67".into()),
        ("gelu f32 shape=31x67 fill=wide".into(), "relu f32 shape=31x67".into()),
        ("silu f32 shape=257".into(), "hard_swish f32 shape=257".into()),
        ("silu f16 shape=257".into(), "swish f16 shape=257 beta=1.702".into()),
        ("glu f32 shape=5x67 layout=gate_last".into(), "glu f32 shape=5x67 layout=gate_first".into()),
        ("swiglu bf16 shape=5x67".into(), "geglu bf16 shape=5x67".into()),
        ("layer_norm f32 shape=3x48".into(), "layer_norm f32 shape=3x48 eps=0.0001".into()),
        ("rms_norm f16 shape=3x48".into(), "rms_norm f16 shape=3x48 weight_offset=1".into()),
        ("batch_norm f32 shape=4x3x5 momentum=0.1".into(), "batch_norm f32 shape=4x3x5 momentum=0.9".into()),
        ("group_norm f32 shape=2x6x7 groups=3".into(), "group_norm f32 shape=2x6x7 groups=2".into()),
        ("rope f32 h=2 l=9 d=64".into(), "rope f32 h=2 l=9 d=64 style=interleaved".into()),
        ("rope bf16 h=2 l=9 d=64 base=500000".into(), "rope bf16 h=2 l=9 d=64".into()),
        ("rope f16 h=2 l=9 d=64 rotary_dim=32".into(), "rope f16 h=2 l=9 d=64".into()),
    ] {
        let failure = mistaken(&right, &wrong);
        assert!(matches!(failure, Some(Failure::Outside { .. })), "{wrong} for {right}: {failure:?}");
        assert_eq!(mistaken(&right, &right), None, "{right}");
    }
}

/// One key of two thousand left out, the fault that a whole-tensor error hides.
#[test]
fn a_dropped_key_fails() {
    for dtype in ["f32", "f16"] {
        let posed = posed(&format!("attention {dtype} h=1 lq=4 lk=2048 d=64"));
        let all_but_the_last: Problem =
            format!("attention {dtype} h=1 lq=4 lk=2047 d=64 cache=2048").parse().unwrap();
        let answer = oracle::expect(&all_but_the_last, &posed.inputs);
        let values = vec![answer.results[0].value.clone()];
        let failure = judged(posed.problem(), &posed.expected, values);
        assert!(matches!(failure, Some(Failure::Outside { .. })), "{dtype}: {failure:?}");
    }
}

/// At position 10⁶ an angle in f32 is wrong by hundredths of a radian.
#[test]
fn angles_in_f32_fail_at_far_positions() {
    let posed = posed("rope bf16 h=1 l=5 d=64 fill=far");
    let positions = posed.inputs.slice::<i64>("positions").unwrap();
    let x = posed.inputs.get("x").unwrap().to_f64();
    let mut out = x.clone();
    for (row, &position) in positions.iter().enumerate() {
        for i in 0..32 {
            let theta = 10_000f32.powf(-2.0 * i as f32 / 64.0);
            let (sin, cos) = (position as f32 * theta).sin_cos();
            let (a, b) = (x[row * 64 + i], x[row * 64 + i + 32]);
            out[row * 64 + i] = a * cos as f64 - b * sin as f64;
            out[row * 64 + i + 32] = b * cos as f64 + a * sin as f64;
        }
    }
    let failure = judged(posed.problem(), &posed.expected, vec![out]);
    assert!(matches!(failure, Some(Failure::Outside { .. })), "{failure:?}");
}
