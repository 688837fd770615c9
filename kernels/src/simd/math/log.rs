//! Logarithms.

use std::sync::LazyLock;

use super::exp::{LN_2_HIGH, LN_2_LOW};
use super::pieces::{Grid, Loaded, Pieces};
use super::{exp, polynomial};
use crate::simd::lanes::Lanes;

/// (log(1 + f) − f + f²/2)/f³ for 1 + f between √½ and √2: 2^-27.3 of log(1 + f).
const LN: [f32; 8] = [
    0.333_333_3,
    -0.250_008_23,
    0.200_012_6,
    -0.166_233_45,
    0.142_010_72,
    -0.131_595_46,
    0.127_656_95,
    -0.076_411_13,
];

/// log x; NaN below zero, −∞ at zero.
#[inline(always)]
pub(crate) fn ln<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let zero = lanes.splat(0.0);
    // A subnormal has no exponent to split off until it is scaled up by 2²⁴.
    let tiny = lanes.lt(x, lanes.splat(f32::MIN_POSITIVE));
    let normal = lanes.select(tiny, lanes.mul(x, lanes.splat(16_777_216.0)), x);
    let (s, e) = lanes.split(normal);
    let e = lanes.sub(e, lanes.select(tiny, lanes.splat(24.0), zero));

    let f = lanes.sub(s, lanes.splat(1.0));
    let square = lanes.mul(f, f);
    let cubic = lanes.mul(lanes.mul(f, square), polynomial(lanes, f, LN));
    let small = lanes.mul_add(e, lanes.splat(LN_2_LOW), lanes.mul_add(square, lanes.splat(-0.5), cubic));
    let ln = lanes.mul_add(e, lanes.splat(LN_2_HIGH), lanes.add(f, small));

    let ln = lanes.select(lanes.lt(x, lanes.splat(f32::INFINITY)), ln, x);
    let ln = lanes.select(lanes.eq(x, zero), lanes.splat(f32::NEG_INFINITY), ln);
    lanes.select(lanes.lt(x, zero), lanes.splat(f32::NAN), ln)
}

/// (2·artanh(v/2) − v)/v³ as a polynomial in v², for 0 ≤ v ≤ 2/3: 2^-27.7 of 2·artanh(v/2).
const LN_1P: [f32; 4] = [0.083_333_02, 0.012_506_699, 0.002_187_736_3, 0.000_547_007_4];

/// log(1 + e) for 0 ≤ e ≤ 1, to its own relative precision.
#[inline(always)]
fn ln_1p_unit<L: Lanes>(lanes: L, e: L::F) -> L::F {
    // log(1 + e) = 2·artanh(e/(2 + e)); v is twice that argument, so that v = e for tiny e.
    let v = lanes.div(e, lanes.mul_add(e, lanes.splat(0.5), lanes.splat(1.0)));
    let square = lanes.mul(v, v);
    lanes.mul_add(lanes.mul(v, square), polynomial(lanes, square, LN_1P), v)
}

/// log(1 + e^x) = max(x, 0) + log(1 + e^−|x|).
#[inline(always)]
pub(crate) fn softplus<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let e = exp(lanes, lanes.neg(lanes.abs(x)));
    lanes.add(lanes.max(x, lanes.splat(0.0)), ln_1p_unit(lanes, e))
}

/// log(1 + e^−a). Its logarithm falls by 1 at most.
pub(crate) static SOFTPLUS: LazyLock<Pieces> = LazyLock::new(|| {
    let grid = Grid { linear: 2.0, quadratic: 0.0, first: 0 };
    Pieces::fit(grid, 15.7, |a| libm::log1p(libm::exp(-a)))
});

/// log(1 + e^x) in pieces.
#[inline(always)]
pub(crate) fn softplus_near<L: Lanes>(lanes: L, pieces: &Loaded<L>, x: L::F) -> L::F {
    let a = lanes.abs(x);
    lanes.add(lanes.max(lanes.splat(0.0), x), pieces.uniform(lanes, a))
}
