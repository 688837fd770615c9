//! Rates of this machine, printed: `cargo test --release rates -- --ignored --nocapture`. The
//! environment's RATES chooses those whose text has it in it, such as `avx512 softmax f32`.

use std::str::FromStr;
use std::time::Instant;

use super::{Case, normal};
use crate::simd::Simd;
use crate::simd::isa::Isa;
use crate::{Backend, Problem};

fn measure(problem: &str) {
    let chosen = std::env::var("RATES").unwrap_or_default();
    let mut isas = Isa::present();
    isas.retain(|isa| format!("{isa} {problem}").contains(&chosen));
    if isas.is_empty() {
        return;
    }
    let operands = Problem::from_str(problem).unwrap().operands();
    let lens = operands.iter().map(|operand| operand.shape.iter().product());
    let values: Vec<Vec<f64>> = lens.zip(1..).map(|(len, seed)| normal(seed, len)).collect();
    let positions: Vec<i64> = (0..128).collect();
    let case = Case::with_positions(problem, &values, &positions);
    let work = case.problem.work();
    print!("{problem:<52}");
    for isa in isas {
        let simd = Simd::new(isa, 1);
        let mut prepared = simd.ready(&case.problem, &case.inputs).unwrap();
        let mut best = f64::INFINITY;
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < 0.5 {
            let start = Instant::now();
            prepared.run().unwrap();
            best = best.min(start.elapsed().as_secs_f64());
        }
        let elements = case.problem.results()[0].len() as f64;
        let [bytes, elements, flops] =
            [work.bytes as f64, elements, work.flops as f64].map(|n| n / best / 1e9);
        print!("  {isa} {bytes:6.2} GB/s {elements:5.2} Ge/s {flops:5.0} GFLOP/s");
    }
    println!();
}

#[test]
#[ignore = "prints rates"]
fn rates() {
    for name in crate::op::Unary::NAMES {
        measure(&format!("{name} f32 shape=65536"));
    }
    for dtype in ["f16", "bf16"] {
        for name in ["relu", "gelu", "silu"] {
            measure(&format!("{name} {dtype} shape=65536"));
            measure(&format!("{name} {dtype} shape=256x4096"));
        }
    }
    measure("relu f32 shape=16777216");
    measure("swiglu f32 shape=65536");
    for name in ["softmax", "log_softmax"] {
        for shape in ["1024x64", "4x1024", "64x1024", "256x1024", "4096x1024", "64x32000", "512x32000"] {
            measure(&format!("{name} f32 shape={shape}"));
        }
        measure(&format!("{name} bf16 shape=64x1024"));
        measure(&format!("{name} f32 shape=64x1024 axis=0"));
    }
    for style in ["half", "interleaved"] {
        measure(&format!("rope f32 h=8 l=128 d=128 style={style}"));
    }
    for dtype in ["f32", "bf16"] {
        for problem in [
            "h=12 lq=64 d=64",
            "h=12 lq=128 d=64",
            "h=12 lq=197 d=64",
            "h=4 lq=512 d=64",
            "h=4 lq=512 d=64 causal=bottom_right",
            "h=2 lq=1024 d=64",
            "h=2 lq=1024 d=128",
            "h=2 lq=1024 d=128 causal=bottom_right",
            "h=32 hkv=8 lq=256 d=128 causal=bottom_right",
            "h=8 lq=1 lk=4096 d=64",
            "h=8 lq=1 lk=2048 d=128",
            "h=32 hkv=8 lq=1 lk=1024 d=128",
        ] {
            measure(&format!("attention {dtype} {problem}"));
        }
    }
}
