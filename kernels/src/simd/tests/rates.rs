//! Rates of this machine, printed: `cargo test --release rates -- --ignored --nocapture`.

use std::time::Instant;

use super::{Case, normal};
use crate::Backend;
use crate::simd::Simd;
use crate::simd::isa::Isa;

fn measure(problem: &str, values: &[Vec<f64>], positions: &[i64]) {
    let case = Case::with_positions(problem, values, positions);
    let work = case.problem.work();
    print!("{problem:<52}");
    for isa in Isa::present() {
        let simd = Simd::new(isa, 1);
        let mut prepared = simd.prepare(&case.problem, &case.inputs).unwrap();
        let mut best = f64::INFINITY;
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < 0.2 {
            let start = Instant::now();
            prepared.run().unwrap();
            best = best.min(start.elapsed().as_secs_f64());
        }
        let elements = case.problem.results()[0].len() as f64;
        print!("  {isa} {:6.2} GB/s {:5.2} Ge/s", work.bytes as f64 / best / 1e9, elements / best / 1e9);
    }
    println!();
}

#[test]
#[ignore = "prints rates"]
fn rates() {
    for name in crate::op::Unary::NAMES {
        measure(&format!("{name} f32 shape=65536"), &[normal(1, 1 << 16)], &[]);
    }
    measure("gelu f16 shape=65536", &[normal(1, 1 << 16)], &[]);
    measure("gelu bf16 shape=65536", &[normal(1, 1 << 16)], &[]);
    measure("relu f32 shape=16777216", &[normal(1, 1 << 24)], &[]);
    measure("swiglu f32 shape=65536", &[normal(1, 1 << 16), normal(2, 1 << 16)], &[]);
    for name in ["softmax", "log_softmax"] {
        for shape in ["1024x64", "64x1024", "512x32000"] {
            let len = shape.split('x').map(|n| n.parse::<usize>().unwrap()).product();
            measure(&format!("{name} f32 shape={shape}"), &[normal(1, len)], &[]);
        }
        measure(&format!("{name} bf16 shape=64x1024"), &[normal(1, 1 << 16)], &[]);
        measure(&format!("{name} f32 shape=64x1024 axis=0"), &[normal(1, 1 << 16)], &[]);
    }
    let positions: Vec<i64> = (0..128).collect();
    for style in ["half", "interleaved"] {
        let problem = format!("rope f32 h=8 l=128 d=128 style={style}");
        measure(&problem, &[normal(1, 8 * 128 * 128)], &positions);
    }
}
