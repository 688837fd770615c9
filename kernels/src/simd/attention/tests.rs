//! Attention against `naive` at every instruction set, and what no tolerance may excuse.

use std::sync::LazyLock;
use std::time::Instant;

use proptest::prelude::*;

use crate::noise::noise;
use crate::simd::Simd;
use crate::simd::isa::Isa;
use crate::simd::peaks;
use crate::{Backend, ElementType, Inputs, Outputs, Problem, Tensor, naive::Naive};

fn run(backend: &dyn Backend, problem: &Problem, inputs: &Inputs) -> Outputs {
    let mut prepared = backend.ready(problem, inputs).unwrap();
    prepared.run().unwrap();
    prepared.run().unwrap();
    prepared.outputs().unwrap()
}

fn attention(problem: &Problem) -> &crate::op::Attention {
    problem.get().unwrap()
}

/// Operands from noise, changed by `value(operand, index, noise)`. Rows of a cache beyond kv_len
/// hold NaN.
fn inputs_with(problem: &Problem, seed: u64, value: impl Fn(&str, usize, f64) -> f64) -> Inputs {
    let spec = attention(problem);
    let beyond = |name: &str, i: usize| {
        let width = match name {
            "k" => spec.head_dim,
            "v" => spec.v_dim,
            _ => return false,
        };
        i / width % spec.kv_rows() >= spec.kv_len
    };
    let tensors = problem.operands().into_iter().enumerate().map(|(n, operand)| {
        let at = |i: usize| {
            let noise = noise(seed ^ (n as u64) << 32, i);
            if beyond(operand.name, i) { f64::NAN } else { value(operand.name, i, noise) }
        };
        let numbers = (0..operand.len()).map(at);
        let tensor = match operand.element {
            ElementType::Float(dtype) => {
                Tensor::from_f64(dtype, &operand.shape, &numbers.collect::<Vec<_>>())
            }
            ElementType::I64 => {
                let limit = operand.limit.unwrap_or(0) as f64;
                let lengths = numbers.map(|x| (x.abs() * (limit + 1.0)).min(limit) as i64);
                Tensor::from_slice(&operand.shape, &lengths.collect::<Vec<_>>())
            }
            ElementType::Bool => {
                Tensor::from_slice(&operand.shape, &numbers.map(|x| (x > -0.3) as u8).collect::<Vec<_>>())
            }
        };
        (operand.name, tensor.unwrap())
    });
    Inputs::new(problem, tensors.collect::<Vec<_>>()).unwrap()
}

/// Noise with standard deviations near 1, and every fifth entry of an additive mask −∞.
fn inputs(problem: &Problem, seed: u64) -> Inputs {
    inputs_with(problem, seed, |name, i, noise| match name {
        "mask" if i % 5 == 2 => f64::NEG_INFINITY,
        "slopes" => noise.abs() / 4.0,
        _ => 1.7 * noise,
    })
}

fn assert_close(problem: &Problem, inputs: &Inputs) {
    let expected = run(&Naive, problem, inputs);
    for isa in Isa::present() {
        let outputs = run(&Simd::new(isa, 1), problem, inputs);
        assert!(outputs.guards_intact(), "{isa} {problem}");
        for ((name, got), (_, want)) in outputs.iter().zip(expected.iter()) {
            let ulp = |y| if name == "lse" { 0.0 } else { problem.dtype.ulp(y) };
            for (i, (got, want)) in got.to_f64().into_iter().zip(want.to_f64()).enumerate() {
                let same = got == want || (got.is_nan() && want.is_nan());
                assert!(
                    same || (got - want).abs() <= 2e-5 * (1.0 + want.abs()) + ulp(want),
                    "{isa} {problem} {name}[{i}]: got {got}, expected {want}"
                );
            }
        }
    }
}

fn problems() -> impl Strategy<Value = String> {
    let len = || prop_oneof![1usize..20, 30usize..70, 90usize..210];
    let lens = (len(), prop_oneof![Just(0usize), len(), len(), len()], 0usize..30);
    let heads = (1usize..3, 1usize..3, prop_oneof![Just(1usize), 1usize..5, Just(9)]);
    let dims = prop::sample::select(vec![(64, 64), (40, 40), (16, 24), (1, 1), (7, 3), (80, 33), (24, 8)]);
    let causal = prop::sample::select(vec!["none", "none", "top_left", "bottom_right"]);
    let window =
        prop::sample::select(vec!["", "", "", "window=3,0", "window=40,7", "window=-1,5", "window=0,-1"]);
    let axes = prop::sample::select(vec!["111k", "11qk", "1h1k", "b1qk", "bhqk"]);
    let mask = (0..8u8, axes).prop_map(|(kind, axes)| match kind {
        0 | 1 => format!("mask=bool:{axes}"),
        2 | 3 => format!("mask=float:{axes}"),
        4 => "mask=padding".into(),
        _ => String::new(),
    });
    let extras = (any::<bool>(), 0..4u8, 0..4u8, 0..4u8);
    let dtype = prop::sample::select(vec!["f32", "f32", "f16", "bf16"]);
    (dtype, heads, lens, dims, causal, window, mask, extras).prop_map(
        |(
            dtype,
            (b, hkv, group),
            (lq, lk, cache),
            (d, dv),
            causal,
            window,
            mask,
            (lse, cap, alibi, sinks),
        )| {
            let mut text = format!(
                "attention {dtype} b={b} h={} hkv={hkv} lq={lq} lk={lk} d={d} dv={dv} causal={causal} \
                 cache={} lse={lse} {window} {mask}",
                hkv * group,
                lk + cache
            );
            for (on, field) in [(cap, " softcap=1.5"), (alibi, " alibi=true"), (sinks, " sinks=true")] {
                if on == 0 {
                    text += field;
                }
            }
            text
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn agrees_with_naive(text in problems(), seed: u64) {
        let problem: Problem = text.parse().unwrap();
        assert_close(&problem, &inputs(&problem, seed));
    }
}

/// Causal alignments with q_len ≠ kv_len, window edges, tile edges, few and many rows, splits.
#[test]
fn agrees_with_naive_at_the_edges() {
    for fields in [
        "h=1 lq=5 lk=9 d=8 causal=top_left",
        "h=1 lq=9 lk=5 d=8 causal=bottom_right lse=true",
        "h=1 lq=97 lk=95 d=8 causal=bottom_right lse=true",
        "h=1 lq=95 lk=193 d=8 causal=top_left",
        "h=1 lq=100 lk=100 d=8 window=0,0",
        "h=1 lq=100 lk=100 d=8 causal=bottom_right window=96,0",
        "h=1 lq=100 lk=300 d=8 causal=top_left window=95,2",
        "h=9 hkv=1 lq=13 lk=200 d=64 causal=bottom_right",
        "h=130 hkv=1 lq=2 lk=100 d=16",
        "h=1 lq=1 lk=3000 d=128 lse=true sinks=true",
        "h=8 hkv=1 lq=1 lk=3000 d=64 alibi=true",
        "h=1 lq=20 lk=3000 d=64 causal=bottom_right lse=true sinks=true",
        "h=2 lq=3 lk=1500 d=40 dv=72 causal=bottom_right window=600,0",
        "h=1 lq=0 lk=5 d=8 lse=true",
        "h=1 lq=3 lk=0 d=8 lse=true",
        "h=1 lq=200 lk=0 d=8 lse=true",
    ] {
        for dtype in ["f32", "bf16"] {
            let problem: Problem = format!("attention {dtype} {fields}").parse().unwrap();
            assert_close(&problem, &inputs(&problem, 11));
        }
    }
}

/// With scores far above 2²⁴ one key has all the weight, and the result is its value, to the last bit of
/// small numbers too: the weight is 1, and not 2^-120 divided by itself.
#[test]
fn a_key_with_all_the_weight_has_weight_one() {
    for fields in ["h=1 lq=15 lk=200 d=8", "h=5 hkv=1 lq=3 lk=3 d=4", "h=1 lq=1 lk=600 d=8"] {
        for dtype in ["f32", "f16", "bf16"] {
            for scale in ["10000000", "1000000000", "-3000000000"] {
                let problem: Problem = format!("attention {dtype} {fields} scale={scale}").parse().unwrap();
                let small = if dtype == "f16" { 1e-6 } else { 1e-15 };
                let inputs = inputs_with(
                    &problem,
                    5,
                    |name, _, noise| if name == "v" { noise * small } else { noise },
                );
                let expected = run(&Naive, &problem, &inputs);
                for isa in Isa::present() {
                    let outputs = run(&Simd::new(isa, 1), &problem, &inputs);
                    assert_eq!(outputs.get("out"), expected.get("out"), "{isa} {problem}");
                }
            }
        }
    }
}

/// What masked keys and values hold does not change a single bit of the result.
#[test]
fn masked_keys_leak_nothing() {
    let (lq, lk, d) = (50, 120, 24);
    for (fields, lq) in [
        ("mask=bool:11qk", lq),
        ("mask=float:11qk", lq),
        ("mask=padding", lq),
        ("causal=bottom_right window=30,0", lq),
        ("mask=bool:11qk", 2),
        ("mask=float:11qk", 2),
        ("causal=top_left", 3),
    ] {
        for dtype in ["f32", "f16"] {
            let problem = format!("attention {dtype} h=2 lq={lq} lk={lk} d={d} lse=true {fields}");
            let problem: Problem = problem.parse().unwrap();
            // Every third key is masked, for half of the queries all are.
            let hidden = |i: usize| i % lk % 3 == 1 || i / lk % 2 == 1;
            let masked = |name: &str, i: usize, x: f64| match name {
                "mask" if hidden(i) => f64::NEG_INFINITY,
                "mask" => 1.0,
                "lengths" => 0.25,
                _ => x,
            };
            let spec = attention(&problem);
            let unseen = |j: usize| match fields.split('=').next() {
                Some("mask") if fields == "mask=padding" => j >= 31,
                Some("mask") => j % 3 == 1,
                _ => (0..lq).all(|i| !spec.key_range(i).contains(&j)),
            };
            let clean = inputs_with(&problem, 5, masked);
            for poison in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let poisoned = inputs_with(&problem, 5, |name, i, x| {
                    let x = masked(name, i, x);
                    if matches!(name, "k" | "v") && unseen(i / d % lk) { poison } else { x }
                });
                for isa in Isa::present() {
                    let [clean, poisoned] =
                        [&clean, &poisoned].map(|inputs| run(&Simd::new(isa, 1), &problem, inputs));
                    assert_eq!(clean, poisoned, "{isa} {problem} {poison}");
                }
                assert_close(&problem, &poisoned);
            }
        }
    }
}

#[test]
fn rows_without_a_key_are_zero() {
    for lq in [2, 100] {
        for fields in ["lk=70 mask=bool:11qk", "lk=70 mask=float:11qk", "lk=70 mask=padding", "lk=0"] {
            let problem = format!("attention f32 h=2 lq={lq} d=8 lse=true {fields}");
            let problem: Problem = problem.parse().unwrap();
            let inputs = inputs_with(&problem, 1, |name, _, x| match name {
                "mask" => f64::NEG_INFINITY,
                "lengths" => 0.0,
                "v" => f64::NAN,
                _ => x,
            });
            for isa in Isa::present() {
                let outputs = run(&Simd::new(isa, 1), &problem, &inputs);
                let of = |name| outputs.get(name).unwrap().to_f64();
                assert!(of("out").iter().all(|y| y.to_bits() == 0), "{isa} {problem}");
                assert!(of("lse").iter().all(|y| *y == f64::NEG_INFINITY), "{isa} {problem}");
            }
        }
    }
}

/// NaN in what a row sees reaches exactly that row; a score of −∞ makes its key invisible.
#[test]
fn visible_nan_propagates() {
    for lq in [4, 64] {
        let problem = format!("attention f32 h=1 lq={lq} lk={lq} d=8 causal=top_left lse=true");
        let problem: Problem = problem.parse().unwrap();
        for (name, at, rows) in [("q", 3, 3..4), ("k", 2, 2..lq), ("v", 1, 1..lq)] {
            let inputs = inputs_with(&problem, 9, |operand, i, x| {
                if operand == name && i / 8 == at && i % 8 == 5 { f64::NAN } else { x }
            });
            for isa in Isa::present() {
                let out = run(&Simd::new(isa, 1), &problem, &inputs).get("out").unwrap().to_f64();
                for (i, y) in out.iter().enumerate() {
                    let hit = rows.contains(&(i / 8)) && (name != "v" || i % 8 == 5);
                    assert_eq!(y.is_nan(), hit, "{isa} {problem} {name} out[{i}]");
                }
            }
        }
        // −∞ by data: k[1] = −∞ against positive queries, and its value is NaN.
        let problem: Problem = format!("attention f32 h=1 lq={lq} lk={lq} d=1").parse().unwrap();
        let inputs = inputs_with(&problem, 3, |name, i, x| match (name, i) {
            ("q", _) => 0.5 + x.abs(),
            ("k", 1) => f64::NEG_INFINITY,
            ("v", 1) => f64::NAN,
            _ => x,
        });
        for isa in Isa::present() {
            let out = run(&Simd::new(isa, 1), &problem, &inputs).get("out").unwrap().to_f64();
            assert!(out.iter().all(|y| y.is_finite()), "{isa} {problem}");
        }
    }
}

#[test]
fn thread_count_changes_nothing() {
    for fields in [
        "h=3 lq=200 lk=200 d=64 causal=bottom_right lse=true",
        "h=8 hkv=2 lq=50 lk=3000 d=64",
        "h=1 lq=1 lk=20000 d=128",
        "b=3 h=2 lq=130 lk=77 d=40 mask=padding",
    ] {
        for dtype in ["f32", "f16", "bf16"] {
            let problem: Problem = format!("attention {dtype} {fields}").parse().unwrap();
            let inputs = inputs(&problem, 2);
            for isa in Isa::present() {
                let [one, two] = [1, 2].map(|threads| run(&Simd::new(isa, threads), &problem, &inputs));
                assert_eq!(one, two, "{isa} {problem}");
            }
        }
    }
}

/// A dominant key at every position is found, with scores far beyond what exp can hold.
#[test]
fn needles() {
    let lk = 200;
    for lq in [1, 17] {
        for needle in 0..lk {
            let problem: Problem = format!("attention f32 h=1 lq={lq} lk={lk} d=8 scale=1").parse().unwrap();
            let inputs = inputs_with(&problem, 4, |name, i, x| match name {
                "q" => 10.0,
                "k" if i / 8 == needle => 10.0,
                "k" => -10.0,
                _ => x,
            });
            let value = &inputs.get("v").unwrap().to_f64()[needle * 8..][..8];
            for isa in Isa::present() {
                let out = run(&Simd::new(isa, 1), &problem, &inputs).get("out").unwrap().to_f64();
                assert!(out.chunks(8).all(|row| row == value), "{isa} {problem} {needle}");
            }
        }
    }
}

/// Seconds that this thread has been running, without those in which others had its core; wall
/// time where the system does not tell.
fn on_cpu() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = schedule.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

/// Seconds of one call: the clock is coarse, so that many calls are taken together.
fn seconds(work: &mut dyn FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let (start, mut calls) = (on_cpu(), 0.0);
        while on_cpu() < start + 0.1 {
            work();
            calls += 1.0;
        }
        best = best.min((on_cpu() - start) / calls);
    }
    best
}

#[test]
#[ignore = "prints rates of this machine"]
fn rates() {
    for isa in Isa::present().into_iter().filter(|isa| isa.lanes() > 1) {
        let flops = peaks::fma(isa, 1_000_000) as f64;
        let seconds = seconds(&mut || {
            peaks::fma(isa, 1_000_000);
        });
        println!("{isa} peak: {:.1} GFLOP/s", flops / seconds / 1e9);
    }
    let chosen = std::env::var("RATES").unwrap_or_default();
    for fields in [
        "h=12 lq=128 d=64",
        "h=12 lq=128 d=64 causal=top_left",
        "h=12 lq=512 d=64",
        "h=12 lq=512 d=64 causal=top_left",
        "h=12 lq=1024 d=64",
        "h=12 lq=1024 d=64 causal=top_left",
        "h=8 lq=2048 d=128",
        "h=8 lq=2048 d=128 causal=top_left",
        "h=12 lq=512 d=64 mask=bool:11qk",
        "h=32 lq=1 lk=2048 d=128",
        "h=32 hkv=4 lq=1 lk=2048 d=128",
        "h=4 lq=1 lk=2048 d=128",
    ] {
        for dtype in ["f32", "f16", "bf16"] {
            let problem: Problem = format!("attention {dtype} {fields}").parse().unwrap();
            let inputs = inputs_with(&problem, 1, |_, _, x| x);
            for isa in Isa::present().into_iter().filter(|isa| isa.lanes() > 1) {
                if !format!("{isa} {problem}").contains(&chosen) {
                    continue;
                }
                let simd = Simd::new(isa, 1);
                let mut prepared = simd.ready(&problem, &inputs).unwrap();
                prepared.run().unwrap();
                let seconds = seconds(&mut || prepared.run().unwrap());
                let work = problem.work();
                println!(
                    "{isa} {problem}: {:.1} GFLOP/s, {:.1} GB/s, {:.3} ms",
                    work.flops as f64 / seconds / 1e9,
                    work.bytes as f64 / seconds / 1e9,
                    seconds * 1e3
                );
            }
        }
    }
}
