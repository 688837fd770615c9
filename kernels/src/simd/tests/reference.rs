//! The point-wise functions in f64, with their limits at ±∞.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// x·factor with the limit 0 at −∞.
fn times(x: f64, factor: f64) -> f64 {
    if factor == 0.0 { x.signum() * 0.0 } else { x * factor }
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

pub(crate) fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

pub(crate) fn leaky_relu(slope: f32) -> impl Fn(f64) -> f64 {
    move |x| if x < 0.0 { slope as f64 * x } else { x }
}

pub(crate) fn silu(x: f64) -> f64 {
    times(x, sigmoid(x))
}

pub(crate) fn swish(beta: f32) -> impl Fn(f64) -> f64 {
    move |x| times(x, sigmoid(beta as f64 * x))
}

pub(crate) fn mish(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    if x < 0.0 {
        times(x, e * (2.0 + e) / (2.0 + e * (2.0 + e)))
    } else {
        x * ((1.0 + 2.0 * e) / (1.0 + 2.0 * e + 2.0 * e * e))
    }
}

pub(crate) fn gelu(x: f64) -> f64 {
    times(x, 0.5 * libm::erfc(-x * FRAC_1_SQRT_2))
}

pub(crate) fn gelu_tanh(x: f64) -> f64 {
    times(x, sigmoid((8.0 / PI).sqrt() * (x + 0.044715 * x * x * x)))
}

pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

pub(crate) fn elu(alpha: f32) -> impl Fn(f64) -> f64 {
    move |x| if x > 0.0 { x } else { alpha as f64 * libm::expm1(x) }
}

pub(crate) fn hard_swish(x: f64) -> f64 {
    times(x, (x + 3.0).clamp(0.0, 6.0) / 6.0)
}
