//! Elementary functions over lanes: branch-free, the same bits in every lane.
//!
//! The largest error over all f32 arguments, in units of the result's last place, is asserted in
//! `tests` for every instruction set of the machine; results below the smallest normal and the
//! limits at ±∞ are right, and NaN stays NaN.
//!
//! The polynomials are minimax fits (Remez exchange on the weighted error, coefficients rounded to
//! f32 one after the other from the lowest, the rest fitted again after each). Every one is
//! followed by its interval and largest weighted error.

mod erf;
mod exp;
mod log;
mod pieces;
mod scaled;
mod sigmoid;
#[cfg(test)]
mod tests;

pub(crate) use erf::{ERF_PIECES, NORMAL, erf, erf_near, gelu, gelu_near};
pub(crate) use exp::{exp, exp_m1_negative, exp_m1_split, exp_split, exp_split_short};
pub(crate) use log::{SOFTPLUS, ln, softplus, softplus_near};
pub(crate) use pieces::{Loaded, Pieces};
pub(crate) use scaled::Scaled;
pub(crate) use sigmoid::{
    GELU_TANH, MISH, SIGMOID, TANH_PIECES, gelu_tanh, gelu_tanh_near, mish, mish_near, sigmoid, sigmoid_near,
    silu, silu_near, swish, tanh, tanh_near,
};

use super::lanes::Lanes;

/// c₀ + c₁·x + c₂·x² + … by Horner's rule.
#[inline(always)]
pub(crate) fn polynomial<L: Lanes, const K: usize>(lanes: L, x: L::F, c: [f32; K]) -> L::F {
    let mut sum = lanes.splat(c[K - 1]);
    for k in (0..K - 1).rev() {
        sum = lanes.mul_add(sum, x, lanes.splat(c[k]));
    }
    sum
}

/// x held between two limits; NaN stays NaN.
#[inline(always)]
pub(crate) fn clamp<L: Lanes>(lanes: L, x: L::F, low: f32, high: f32) -> L::F {
    lanes.min(lanes.splat(high), lanes.max(lanes.splat(low), x))
}
