//! The coded bound against the written one.

use super::*;
use crate::case::Case;

/// The bound of METHODOLOGY.md, element by element, for plain attention with or without a sink.
fn written(spec: &Attention, inputs: &Inputs) -> Vec<f64> {
    let of = |name: &str| inputs.get(name).map(|tensor| tensor.to_f64());
    let (q, k, v) = (of("q").unwrap(), of("k").unwrap(), of("v").unwrap());
    let (d, dv, n, scale) = (spec.head_dim, spec.v_dim, spec.kv_len, spec.scale as f64);
    let g = growth(n);
    let mut bounds = Vec::new();
    for i in 0..spec.q_len {
        let products = |j: usize| (0..d).map(move |c| (i * d + c, j * d + c));
        let mut keys: Vec<(f64, f64)> = (0..n)
            .map(|j| {
                let score: f64 = products(j).map(|(a, b)| q[a] * k[b]).sum();
                let magnitude: f64 = products(j).map(|(a, b)| (q[a] * k[b]).abs()).sum();
                (scale * score, (growth(d) + 2.0) * scale.abs() * magnitude)
            })
            .collect();
        keys.extend(of("sinks").map(|sinks| (sinks[0], 0.0)));
        let m = keys.iter().map(|key| key.0).fold(f64::NEG_INFINITY, f64::max);
        let whole: f64 = keys.iter().map(|key| (key.0 - m).exp()).sum();
        let p = |j: usize| (keys[j].0 - m).exp() / whole;
        let epsilon = |j: usize| U * (keys[j].1 + 2.0 * (keys[j].0 - m).abs() + EXP);
        let value = |j: usize, c: usize| if j < n { v[j * dv + c] } else { 0.0 };
        for c in 0..dv {
            let all = || 0..keys.len();
            let out: f64 = all().map(|j| p(j) * value(j, c)).sum();
            let moved: f64 = all().map(|j| p(j) * epsilon(j).exp_m1() * (value(j, c) - out).abs()).sum();
            let least: f64 = all().map(|j| p(j) * (-epsilon(j)).exp()).sum();
            let magnitude: f64 = all().map(|j| p(j) * value(j, c).abs()).sum();
            let sums = U * ((g + 1.0) * magnitude + (g + 2.0) * out.abs());
            let farthest = all().map(|j| (value(j, c) - out).abs()).fold(0.0, f64::max);
            bounds.push((moved / least).min(farthest) + sums + UNDERFLOW);
        }
    }
    bounds
}

#[test]
fn the_bound_is_the_written_one() {
    for text in [
        "attention f32 h=1 lq=3 lk=7 d=5 dv=4",
        "attention f32 h=1 lq=12 lk=90 d=16 fill=needle",
        "attention f32 h=1 lq=4 lk=9 d=8 fill=offset",
        "attention f32 h=1 lq=5 lk=11 d=8 sinks=true",
    ] {
        let case: Case = text.parse().unwrap();
        let inputs = case.inputs();
        let spec = case.problem.get::<Attention>().unwrap();
        let coded = &expect(spec, &case.problem, &inputs)[0].error;
        let written = written(spec, &inputs);
        assert_eq!(coded.len(), written.len());
        for (coded, written) in coded.iter().zip(&written) {
            assert!((coded / written - 1.0).abs() < 1e-9, "{text}: coded {coded}, written {written}");
        }
    }
}

/// Scores of 10⁸ are off by more than 1, and then the weights are anything.
#[test]
fn no_bound_is_wider_than_the_values_lie_apart() {
    let case: Case = "attention f32 h=1 lq=3 lk=7 d=5 scale=100000000".parse().unwrap();
    let inputs = case.inputs();
    let v = inputs.get("v").unwrap().to_f64();
    let spec = case.problem.get::<Attention>().unwrap();
    let out = &expect(spec, &case.problem, &inputs)[0];
    for (i, (value, error)) in out.value.iter().zip(&out.error).enumerate() {
        let column = v[i % 5..].iter().step_by(5);
        let farthest = column.map(|v| (v - value).abs()).fold(0.0, f64::max);
        assert!(*error <= farthest + 1e-5 * (value.abs() + 1.0), "{i}: {error} for {farthest}");
    }
}
