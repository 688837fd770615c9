//! Point-wise functions and gated linear units.
//!
//! The bound of f is (k_f + κ_f)·u·|f(x)|: k_f counts roundings and the errors of elementary
//! functions, κ_f is the conditioning of an argument that f itself has to round, such as x/√2
//! inside erfc. Normwise, k_f counts relative to |x| for functions of the form x·g(x) and
//! relative to 1 for bounded ones (to |x| where that is less and they are odd); κ_f stays with the value, which it belongs to.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use rayon::prelude::*;
use touchstone_kernels::op::{Activation, Glu, GluLayout, Unary};
use touchstone_kernels::{Inputs, Problem};

use crate::oracle::rounding::{ERF, EXP, LOG, TANH, U, UNDERFLOW};
use crate::oracle::{ExpectedResult, required};

/// A function's value with its error in absolute terms.
struct Point {
    value: f64,
    error: f64,
    normwise: f64,
}

const BLOCK: usize = 1 << 14;

pub(super) fn unary(spec: &Activation, problem: &Problem, x: &[f64]) -> Vec<ExpectedResult> {
    pointwise(problem, |i| point(spec.function, x[i]))
}

pub(super) fn gated(spec: &Glu, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
    let (_, width) = spec.rows_and_width();
    let product = |gate: f64, up: f64| {
        let gate = point(spec.gate, gate);
        let value = gate.value * up;
        // The gate's value is rounded before the product, and the product once.
        let rounding = 2.0 * U * value.abs();
        // ∞·0 has no bound; the value decides.
        let scaled = |error: f64| if error == 0.0 { 0.0 } else { error * up.abs() };
        Point { value, error: scaled(gate.error) + rounding, normwise: scaled(gate.normwise) + rounding }
    };
    if spec.layout == GluLayout::Split {
        let (gate, up) = (required(inputs, "gate"), required(inputs, "up"));
        return pointwise(problem, |i| product(gate[i], up[i]));
    }
    let x = required(inputs, "x");
    pointwise(problem, |i| {
        let (row, column) = (i / width, i % width);
        let (first, second) = (x[2 * row * width + column], x[(2 * row + 1) * width + column]);
        match spec.layout {
            GluLayout::GateLast => product(second, first),
            GluLayout::GateFirst | GluLayout::Split => product(first, second),
        }
    })
}

fn pointwise(problem: &Problem, point: impl Fn(usize) -> Point + Sync) -> Vec<ExpectedResult> {
    let mut out = ExpectedResult::new(&problem.results()[0], 1);
    let mut normwise = vec![0.0; out.value.len()];
    out.blocks(BLOCK).zip(normwise.par_chunks_mut(BLOCK)).enumerate().for_each(|(n, (block, normwise))| {
        for (i, normwise) in normwise.iter_mut().enumerate() {
            let point = point(n * BLOCK + i);
            block.value[i] = point.value;
            block.error[i] = point.error;
            *normwise = point.normwise;
        }
    });
    out.normwise_error = Some(normwise);
    vec![out]
}

/// What the bound of a function at a point is made of.
struct Bound {
    /// Roundings and errors of elementary functions, in units of u.
    k: f64,
    /// Conditioning of a rounded argument, in units of u.
    conditioning: f64,
    /// What k counts relative to under the normwise contract.
    scale: f64,
    /// By what an intermediate value is multiplied at the end.
    factor: f64,
}

impl Bound {
    /// g(x), relative to the given scale normwise.
    fn plain(k: f64, scale: f64) -> Self {
        Bound { k, conditioning: 0.0, scale, factor: 1.0 }
    }

    /// x·g(x).
    fn product(x: f64, k: f64, conditioning: f64) -> Self {
        Bound { k, conditioning, scale: x.abs(), factor: 1.0 + x.abs() }
    }
}

/// Value and bounds of a function at `x`.
fn point(function: Unary, x: f64) -> Point {
    let value = value(function, x);
    let bound = match function {
        Unary::Relu => Bound::plain(0.0, 0.0),
        Unary::LeakyRelu { .. } => Bound::plain(1.0, x.abs()),
        Unary::Sigmoid => Bound::plain(EXP + 3.0, 1.0),
        // Odd functions: near 0 they are as good as their argument, not as 1.
        Unary::Tanh => Bound::plain(TANH, x.abs().min(1.0)),
        Unary::Erf => Bound::plain(ERF, x.abs().min(1.0)),
        Unary::Exp => Bound::plain(EXP, value.abs()),
        // Φ at a rounded argument: |x·φ(x)/Φ(x)| times its 1.5 roundings.
        Unary::Gelu => Bound::product(x, ERF + 3.0, 1.5 * phi_conditioning(x)),
        Unary::GeluTanh => {
            // z = c·(x + a·x³): 3.6 roundings of all of z, and 2.5 of the cubic's share more.
            let share = 0.044_715 * x * x / (1.0 + 0.044_715 * x * x);
            let z = tanh_argument(x);
            Bound::product(x, EXP + 5.0, (3.6 + 2.5 * share) * sigmoid_conditioning(2.0 * z))
        }
        Unary::Silu => Bound::product(x, EXP + 4.0, 0.0),
        Unary::Swish { beta } => Bound::product(x, EXP + 4.0, sigmoid_conditioning(beta as f64 * x)),
        Unary::Softplus => Bound::plain(EXP + LOG + 2.0, value.abs().max(1.0)),
        // expm1 is as accurate as exp; with exp(x) − 1 only the normwise bound holds.
        Unary::Elu { alpha } => Bound::plain(EXP + 3.0, value.abs().max(alpha.abs() as f64)),
        Unary::HardSwish => Bound::product(x, 4.0, 0.0),
        Unary::Mish => Bound::product(x, EXP + LOG + TANH + 2.0, 0.0),
    };
    // At an infinite argument the limit is exact, and so is the rectifier everywhere.
    if bound.k == 0.0 || !x.is_finite() {
        return Point { value, error: 0.0, normwise: 0.0 };
    }
    // Below the smallest normal an elementary function with an error of k·u has one of k·2⁻¹⁵⁰,
    // absolutely; a product with x carries that on.
    let underflow = UNDERFLOW * TANH * bound.factor;
    let error = |scale: f64| U * (bound.k * scale + bound.conditioning * value.abs()) + underflow;
    Point { value, error: error(value.abs()), normwise: error(bound.scale.max(value.abs())) }
}

/// The function in f64, with its limits at ±∞.
pub(super) fn value(function: Unary, x: f64) -> f64 {
    // x·g(x) at −∞, where g vanishes faster than x grows.
    let vanishing = x == f64::NEG_INFINITY;
    match function {
        Unary::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Unary::LeakyRelu { slope } => {
            if x < 0.0 {
                slope as f64 * x
            } else {
                x
            }
        }
        Unary::Sigmoid => sigmoid(x),
        Unary::Tanh => x.tanh(),
        Unary::Erf => libm::erf(x),
        Unary::Exp => x.exp(),
        Unary::Gelu | Unary::GeluTanh | Unary::Silu | Unary::Mish | Unary::HardSwish if vanishing => -0.0,
        Unary::Gelu => 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2),
        Unary::GeluTanh => x * sigmoid(2.0 * tanh_argument(x)),
        Unary::Silu => x * sigmoid(x),
        Unary::Swish { beta } => swish(x, beta as f64),
        Unary::Softplus => softplus(x),
        Unary::Elu { alpha } => {
            if x > 0.0 {
                x
            } else {
                alpha as f64 * x.exp_m1()
            }
        }
        Unary::HardSwish => x * ((x + 3.0).clamp(0.0, 6.0) / 6.0),
        Unary::Mish => x * softplus(x).tanh(),
    }
}

fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// x·σ(βx); at ±∞ the limit of x, x/2 or −0 by the sign of βx.
fn swish(x: f64, beta: f64) -> f64 {
    if x.is_infinite() {
        return match (beta * x.signum()).partial_cmp(&0.0) {
            Some(std::cmp::Ordering::Less) => 0.0f64.copysign(x),
            _ => x,
        };
    }
    x * sigmoid(beta * x)
}

fn softplus(x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

/// √(2/π)·(x + 0.044715·x³).
fn tanh_argument(x: f64) -> f64 {
    (2.0 / PI).sqrt() * (x + 0.044_715 * x * x * x)
}

/// |z·σ'(z)/σ(z)|: how much a relative error of z costs σ(z).
fn sigmoid_conditioning(z: f64) -> f64 {
    if z.is_finite() { z.abs() * sigmoid(-z) } else { 0.0 }
}

/// |x·φ(x)/Φ(x)|: how much a relative error of x costs Φ(x); about x² in the lower tail.
fn phi_conditioning(x: f64) -> f64 {
    // Below −26 Φ underflows in f64, and long before in f32.
    let x = x.max(-26.0);
    let density = 0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI * (-0.5 * x * x).exp();
    let probability = 0.5 * libm::erfc(-x * FRAC_1_SQRT_2);
    (x * density / probability).abs()
}
