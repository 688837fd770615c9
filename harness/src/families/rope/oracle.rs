//! Rotary position embedding.
//!
//! The table holds cos and sin rounded once to f32 (error u each), the rotation has two products
//! and one sum: 4u·(|x₀·cos| + |x₁·sin|) + u·(|x₀| + |x₁|) for the table. Where the backend
//! declares tables in the storage type, u_s·(|x₀| + |x₁|) is added.
//!
//! Angles are computed in f64, in the kernel and here: θ comes from a power, at most two divisions and a
//! product, and the angle is a product again, which is ANGLE·2⁻⁵³·|angle| on either side. At position 10⁶
//! that is 10⁻⁹ and nothing; at 10⁹ it is several u, and no larger than the rotation can be, 2·(|x₀| + |x₁|).

use std::f64::consts::PI;

use rayon::prelude::*;
use touchstone_kernels::op::{Rope, RopeScaling, RopeStyle};
use touchstone_kernels::{Inputs, Problem};

use crate::oracle::ExpectedResult;
use crate::oracle::rounding::{U, UNDERFLOW};

/// 2⁻⁵³.
const HALF_ULP_OF_F64: f64 = f64::EPSILON / 2.0;

/// Relative error of an angle in units of 2⁻⁵³, of the kernel's and the oracle's together: each has a
/// power of 2 ULP (4), the exponent in it (its error times ln base / d·i, below 24 for bases up to 10¹⁰),
/// two divisions and two products (4).
const ANGLE: f64 = 64.0;

pub(super) fn expect(
    spec: &Rope,
    problem: &Problem,
    x: &[f64],
    factors: Option<Vec<f64>>,
    inputs: &Inputs,
) -> Vec<ExpectedResult> {
    let positions = crate::oracle::required(inputs, "positions");
    let (magnitude, theta) = turning(spec, factors.as_deref());
    let d = spec.head_dim;
    let half = spec.rotary_dim / 2;
    let mut out = ExpectedResult::new(&problem.results()[0], d);
    let mut storage = vec![0.0; x.len()];
    out.blocks(d).zip(storage.par_chunks_mut(d)).zip(x.par_chunks(d)).enumerate().for_each(
        |(row, ((block, storage), x))| {
            let l = row % spec.len;
            let b = row / (spec.len * spec.heads);
            let position = positions[if spec.batched_positions { b * spec.len + l } else { l }];
            block.value.copy_from_slice(x);
            for (i, theta) in theta.iter().enumerate() {
                let (first, second) = match spec.style {
                    RopeStyle::Half => (i, half + i),
                    RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                };
                let angle = position * theta;
                let (sin, cos) = angle.sin_cos();
                let turned = (ANGLE * HALF_ULP_OF_F64 * angle.abs()).min(2.0);
                let (sin, cos) = (sin * magnitude, cos * magnitude);
                let tables = magnitude * (x[first].abs() + x[second].abs());
                let mut set = |at: usize, a: f64, b: f64| {
                    block.value[at] = a + b;
                    let rounding = U * (4.0 * (a.abs() + b.abs()) + tables);
                    block.error[at] = rounding + turned * tables + 2.0 * UNDERFLOW;
                    storage[at] = problem.dtype.unit_roundoff() * tables;
                };
                set(first, x[first] * cos, -x[second] * sin);
                set(second, x[second] * cos, x[first] * sin);
            }
        },
    );
    out.declared_error = Some(storage);
    vec![out]
}

/// The factor of sine and cosine, and each pair's angle per position, from the papers' own
/// formulas.
fn turning(spec: &Rope, factors: Option<&[f64]>) -> (f64, Vec<f64>) {
    let dim = spec.rotary_dim as f64;
    let base = spec.base as f64;
    let mut magnitude = 1.0;
    let theta = (0..spec.rotary_dim / 2)
        .map(|i| {
            let exponent = 2.0 * i as f64 / dim;
            let plain = 1.0 / base.powf(exponent);
            let stretched = match spec.scaling {
                RopeScaling::None => plain,
                RopeScaling::Linear { factor } => plain / factor as f64,
                RopeScaling::Ntk { factor } => {
                    let alpha = (factor as f64).powf(dim / (dim - 2.0));
                    1.0 / (base * alpha).powf(exponent)
                }
                RopeScaling::Yarn { factor, original, beta_fast, beta_slow } => {
                    if factor > 1.0 {
                        magnitude = 1.0 + 0.1 * (factor as f64).ln();
                    }
                    // The (fractional) pair that makes `turns` full turns in the original
                    // context: original = 2π·turns·base^(2i/dim).
                    let pair = |turns: f32| {
                        dim / 2.0 * (original as f64 / (2.0 * PI * turns as f64)).ln() / base.ln()
                    };
                    let first = pair(beta_fast).floor().max(0.0);
                    let last = pair(beta_slow).ceil().min(dim - 1.0);
                    // As the reference implementation: a step where the ramp has no width.
                    let width = if last > first { last - first } else { 0.001 };
                    let kept = 1.0 - ((i as f64 - first) / width).clamp(0.0, 1.0);
                    plain * (kept + (1.0 - kept) / factor as f64)
                }
                RopeScaling::Llama3 { factor, low, high, original } => {
                    // How often the pair turns in the original context.
                    let turns = original as f64 * plain / (2.0 * PI);
                    let (low, high, factor) = (low as f64, high as f64, factor as f64);
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    plain * (kept + (1.0 - kept) / factor)
                }
            };
            stretched / factors.map_or(1.0, |f| f[i])
        })
        .collect();
    (magnitude, theta)
}
