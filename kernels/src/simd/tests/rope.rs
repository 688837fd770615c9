//! Rotary position embedding.

use proptest::prelude::*;

use super::{Case, dtypes, normal};
use crate::op::Rope;

/// Checks against angles, sines and products in f64.
fn check(case: &Case, positions: &[i64]) {
    let spec = case.problem.get::<Rope>().unwrap();
    let x = case.input("x");
    let theta = spec.frequencies(None);
    let (mut y, mut magnitude) = (x.clone(), vec![0.0; x.len()]);
    for row in 0..spec.batch * spec.heads * spec.len {
        let batch = row / (spec.heads * spec.len);
        let position = if spec.batched_positions { batch * spec.len } else { 0 } + row % spec.len;
        for (i, theta) in theta.iter().enumerate() {
            let (sine, cosine) = (positions[position] as f64 * theta).sin_cos();
            let (a, b) = spec.pair(i);
            let (a, b) = (row * spec.head_dim + a, row * spec.head_dim + b);
            y[a] = x[a] * cosine - x[b] * sine;
            y[b] = x[b] * cosine + x[a] * sine;
            magnitude[a] = x[a].hypot(x[b]);
            magnitude[b] = magnitude[a];
        }
    }
    case.check(&y, |i| case.bound(1.5, magnitude[i]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_styles_every_width(
        dtype in dtypes(),
        (batch, heads, len) in (1usize..3, 1usize..4, 1usize..5),
        half in 1usize..70,
        kept in 0usize..20,
        style in prop::sample::select(vec!["half", "interleaved"]),
        batched: bool,
        tables in prop::sample::select(vec!["prepared", "timed"]),
        seed: u64,
        far in prop::sample::select(vec![1i64, 1000, 1_000_000]),
    ) {
        let (rotary, d) = (2 * half, 2 * half + kept);
        let problem = format!(
            "rope {dtype} b={batch} h={heads} l={len} d={d} rotary_dim={rotary} style={style} \
             batched_positions={batched} tables={tables}"
        );
        let rows = if batched { batch * len } else { len };
        let positions: Vec<i64> = (0..rows as i64).map(|p| p * far + p % 7).collect();
        let case = Case::with_positions(&problem, &[normal(seed, batch * heads * len * d)], &positions);
        check(&case, &positions);
    }
}

#[test]
fn threads_change_nothing() {
    for style in ["half", "interleaved"] {
        let positions: Vec<i64> = (0..500).collect();
        let problem = format!("rope f32 h=9 l=500 d=80 rotary_dim=64 style={style}");
        Case::with_positions(&problem, &[normal(2, 9 * 500 * 80)], &positions).check_threads();
    }
}
