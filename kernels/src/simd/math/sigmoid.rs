//! The logistic function, the hyperbolic tangent, and the units built on them.

use std::sync::LazyLock;

use super::pieces::{Grid, Loaded, Pieces};
use super::{Scaled, clamp, exp_m1_split, exp_split, polynomial};
use crate::simd::lanes::Lanes;

/// (r, n) with r·2ⁿ = sigmoid(z + low): 1/(1 + e) for z ≥ 0, else e/(1 + e), where e = e^−|z|.
/// z must be above −300; low is the part of z that does not fit into f32.
#[inline(always)]
fn logistic<L: Lanes>(lanes: L, z: L::F, low: Option<L::F>) -> (L::F, L::F) {
    let (zero, one) = (lanes.splat(0.0), lanes.splat(1.0));
    let negative = lanes.lt(z, zero);
    // Far above zero e only has to vanish.
    let a = lanes.max(lanes.splat(-300.0), lanes.neg(lanes.abs(z)));
    #[expect(clippy::manual_map, reason = "a closure cannot be #[inline(always)]")]
    let low = match low {
        Some(low) => Some(lanes.select(negative, low, lanes.neg(low))),
        None => None,
    };
    let (p, n) = exp_split(lanes, a, low);
    let denominator = lanes.add(one, lanes.shift(p, lanes.max(lanes.splat(-125.0), n)));
    let r = lanes.div(lanes.select(negative, p, one), denominator);
    (r, lanes.select(negative, n, zero))
}

/// 1/(1 + e^−x).
#[inline(always)]
pub(crate) fn sigmoid<L: Lanes>(lanes: L, x: L::F) -> Scaled<L::F> {
    let (r, n) = logistic(lanes, lanes.max(lanes.splat(-300.0), x), None);
    Scaled { m: lanes.splat(1.0), r, n }
}

/// x·sigmoid(x).
#[inline(always)]
pub(crate) fn silu<L: Lanes>(lanes: L, x: L::F) -> Scaled<L::F> {
    // At −200 the result is below 2⁻²⁸⁰: zero, even if multiplied by the largest number.
    let m = lanes.max(lanes.splat(-200.0), x);
    let (r, n) = logistic(lanes, m, None);
    Scaled { m, r, n }
}

/// x·sigmoid(β·x) for β ≠ 0.
#[inline(always)]
pub(crate) fn swish<L: Lanes>(lanes: L, x: L::F, beta: f32) -> L::F {
    let beta = lanes.splat(beta);
    // The product β·x is exact in two parts; the second matters less than 2⁻¹⁰⁰ once β·x is
    // beyond ±300, where it could be ∞ − ∞.
    let finite = clamp(lanes, x, f32::MIN, f32::MAX);
    let product = lanes.mul(beta, finite);
    let z = clamp(lanes, product, -300.0, 300.0);
    let near = lanes.eq(z, product);
    let low = lanes.select(near, lanes.mul_sub(beta, finite, product), lanes.splat(0.0));
    let (r, n) = logistic(lanes, z, Some(low));
    // In the tail, m·r could overflow before 2ⁿ brings it back: move a factor of two from r to 2ⁿ.
    let tail = lanes.lt(n, lanes.splat(-1.5));
    let r = lanes.select(tail, lanes.mul(r, lanes.splat(0.5)), r);
    let n = lanes.select(tail, lanes.add(n, lanes.splat(1.0)), n);
    let m = lanes.select(tail, finite, x);
    Scaled { m, r, n }.wide_value(lanes)
}

/// 2·√(2/π) and the rest.
const GELU_LINEAR: f32 = 1.595_769_2;
const GELU_LINEAR_LOW: f32 = -4.534_068e-8;
/// 2·√(2/π)·0.044715 and the rest.
const GELU_CUBIC: f32 = 0.071_354_814;
const GELU_CUBIC_LOW: f32 = 2.398_832_5e-9;

/// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))) = x·sigmoid(z) with z twice the argument of tanh.
///
/// An error of z enters the result |z| times as large, so z = x·(c₁ + c₃·x²) is computed in two
/// parts.
#[inline(always)]
pub(crate) fn gelu_tanh<L: Lanes>(lanes: L, x: L::F) -> Scaled<L::F> {
    // At −14 the result is below 2⁻³⁰⁰; above 14 the factor of x is 1.
    let m = lanes.max(lanes.splat(-14.0), x);
    let near = lanes.min(lanes.splat(14.0), m);
    let (linear, linear_low) = (lanes.splat(GELU_LINEAR), lanes.splat(GELU_LINEAR_LOW));
    let (cubic, cubic_low) = (lanes.splat(GELU_CUBIC), lanes.splat(GELU_CUBIC_LOW));
    let square = lanes.mul(near, near);
    let square_low = lanes.mul_sub(near, near, square);
    let term = lanes.mul(cubic, square);
    let term_low = lanes.mul_sub(cubic, square, term);
    let term_low = lanes.mul_add(cubic, square_low, lanes.mul_add(cubic_low, square, term_low));
    // The exact error of the sum (Knuth).
    let factor = lanes.add(linear, term);
    let rounded_term = lanes.sub(factor, linear);
    let error = lanes.add(lanes.sub(linear, lanes.sub(factor, rounded_term)), lanes.sub(term, rounded_term));
    let factor_low = lanes.add(error, lanes.add(term_low, linear_low));
    let z = lanes.mul(near, factor);
    let low = lanes.mul_add(near, factor_low, lanes.mul_sub(near, factor, z));
    let (r, n) = logistic(lanes, z, Some(low));
    Scaled { m, r, n }
}

/// (tanh(x) − x)/x³ as a polynomial in x², for |x| ≤ 5/8: 2^-27.7 of tanh x.
const TANH: [f32; 5] = [-0.333_332_8, 0.133_314_06, -0.053_736_515, 0.020_628_167, -0.005_692_296];

/// tanh x.
#[inline(always)]
pub(crate) fn tanh<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let a = lanes.abs(x);
    let square = lanes.mul(x, x);
    let odd = lanes.mul_add(lanes.mul(x, square), polynomial(lanes, square, TANH), x);
    // 1 − 2e/(1 + e) with e = e^(−2|x|); from 9.02 on that is 1.
    let (p, n) = exp_split(lanes, lanes.mul(lanes.min(lanes.splat(10.0), a), lanes.splat(-2.0)), None);
    let e = lanes.shift(p, n);
    let one = lanes.splat(1.0);
    let large = lanes.sub(one, lanes.div(lanes.add(e, e), lanes.add(one, e)));
    lanes.select(lanes.lt(a, lanes.splat(0.625)), odd, lanes.copysign(large, x))
}

/// x·tanh(log(1 + e^x)).
///
/// With e = e^x the factor of x is (e² + 2e)/(e² + 2e + 2); for x ≥ 0, with e = e^−x, it is
/// (1 + 2e)/(1 + 2e + 2e²). Nothing cancels.
#[inline(always)]
pub(crate) fn mish<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let (zero, one, two) = (lanes.splat(0.0), lanes.splat(1.0), lanes.splat(2.0));
    // At −120 the result is zero.
    let m = lanes.max(lanes.splat(-120.0), x);
    let (u, n) = exp_m1_split(lanes, lanes.max(lanes.splat(-120.0), lanes.neg(lanes.abs(m))), None);
    let e = lanes.shift(lanes.add(one, u), lanes.max(lanes.splat(-125.0), n));
    let negative = lanes.lt(x, zero);
    let two_plus_e = lanes.add(two, e);
    let one_plus_2e = lanes.mul_add(two, e, one);
    let below = lanes.mul_add(two_plus_e, u, two_plus_e);
    let numerator = lanes.select(negative, below, one_plus_2e);
    let denominator = lanes.select(
        negative,
        lanes.mul_add(e, two_plus_e, two),
        lanes.mul_add(lanes.add(e, e), e, one_plus_2e),
    );
    let r = lanes.div(numerator, denominator);
    Scaled { m, r, n: lanes.select(negative, n, zero) }.value(lanes)
}

/// sigmoid(−a). Its logarithm falls by 1 at most.
pub(crate) static SIGMOID: LazyLock<Pieces> = LazyLock::new(|| {
    let grid = Grid { linear: 2.0, quadratic: 0.0, first: 0 };
    Pieces::fit(grid, 15.7, |a| 1.0 / (1.0 + libm::exp(a)))
});

/// 1/(1 + e^−x) in pieces.
#[inline(always)]
pub(crate) fn sigmoid_near<L: Lanes>(lanes: L, pieces: &Loaded<L>, x: L::F) -> L::F {
    let below = pieces.uniform(lanes, lanes.abs(x));
    lanes.select(lanes.lt(x, lanes.splat(0.0)), below, lanes.sub(lanes.splat(1.0), below))
}

/// x·sigmoid(x) in pieces: max(x, 0) − |x|·sigmoid(−|x|).
#[inline(always)]
pub(crate) fn silu_near<L: Lanes>(lanes: L, pieces: &Loaded<L>, x: L::F) -> L::F {
    let a = lanes.abs(x);
    lanes.neg_mul_add(a, pieces.uniform(lanes, a), lanes.max(lanes.splat(0.0), x))
}

/// The factor of −a in gelu_tanh(−a). Its logarithm falls by 1.6 + 0.21·a², nearly a + 1.2.
pub(crate) static GELU_TANH: LazyLock<Pieces> = LazyLock::new(|| {
    let grid = Grid { linear: 2.2, quadratic: 0.86, first: 0 };
    Pieces::fit(grid, 4.8, |a| {
        let z = libm::sqrt(8.0 / std::f64::consts::PI) * (a + 0.044715 * a * a * a);
        1.0 / (1.0 + libm::exp(z))
    })
});

/// [`gelu_tanh`] in pieces.
#[inline(always)]
pub(crate) fn gelu_tanh_near<L: Lanes>(lanes: L, pieces: &Loaded<L>, x: L::F) -> L::F {
    let a = lanes.abs(x);
    lanes.neg_mul_add(a, pieces.graded(lanes, a), lanes.max(lanes.splat(0.0), x))
}

/// tanh, in pieces that grow with the distance from where it bends.
pub(crate) static TANH_PIECES: LazyLock<Pieces> = LazyLock::new(|| {
    let grid = Grid { linear: 5.3, quadratic: -0.22, first: 0 };
    Pieces::fit_odd(grid, 9.5, libm::tanh)
});

/// tanh x in pieces.
#[inline(always)]
pub(crate) fn tanh_near<L: Lanes>(lanes: L, pieces: &Loaded<L>, x: L::F) -> L::F {
    pieces.odd(lanes, x, 9.5)
}

/// tanh(log(1 + e^x)) on both sides of zero; its poles are 2.4 from the real axis.
pub(crate) static MISH: LazyLock<Pieces> = LazyLock::new(|| {
    let grid = Grid { linear: 2.0, quadratic: 0.0, first: -16 };
    Pieces::fit(grid, 7.7, |x| {
        let e = libm::exp(x);
        e * (2.0 + e) / (2.0 + e * (2.0 + e))
    })
});

/// x·tanh(log(1 + e^x)) in pieces.
#[inline(always)]
pub(crate) fn mish_near<L: Lanes>(lanes: L, pieces: &Loaded<L>, x: L::F) -> L::F {
    lanes.mul(x, pieces.uniform(lanes, x))
}
