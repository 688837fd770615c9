//! The error function, and the normal distribution behind GELU.

use std::f64::consts::FRAC_1_SQRT_2;
use std::sync::LazyLock;

use super::pieces::{Grid, Loaded, Pieces};
use super::{Scaled, exp, exp_m1_split, polynomial};
use crate::simd::lanes::Lanes;

/// (erf(x) − x)/x as a polynomial in x², for |x| ≤ 0.921875: 2^-25.9 of erf x.
const ERF: [f32; 6] =
    [0.128_379_15, -0.376_124_98, 0.112_818_435, -0.026_767_349, 0.004_994_038, -0.000_599_450_5];

/// (log erfc(t) + t)/t for 0.9 ≤ t ≤ 3.95: its error is 2^-28.3 of erf t.
const LOG_ERFC: [f32; 6] =
    [-0.128_519_95, -0.635_699_4, -0.105_286_79, 0.022_905_968, -0.003_219_948_2, 0.000_214_590_7];

/// 2/√π·∫₀ˣ e^(−t²) dt.
#[inline(always)]
pub(crate) fn erf<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let a = lanes.abs(x);
    let near = lanes.mul_add(x, polynomial(lanes, lanes.mul(x, x), ERF), x);
    // From 3.9193 on the result rounds to 1.
    let t = lanes.min(lanes.splat(3.95), a);
    let log_erfc = lanes.mul_add(t, polynomial(lanes, t, LOG_ERFC), lanes.neg(t));
    let far = lanes.sub(lanes.splat(1.0), exp(lanes, log_erfc));
    lanes.select(lanes.lt(a, lanes.splat(0.921_875)), near, lanes.copysign(far, x))
}

/// Φ(−a)·e^(a²/2)·(a + 4) as a polynomial in s = (a − A)/(a + 4), for 0.44 ≤ a ≤ 20: 2^-27.2.
///
/// The ratio falls like 1/a; the factor a + 4 keeps that out of the polynomial, and s maps the
/// long tail to a short interval. A lies where a rounding error of s should matter least, and
/// such that the constant coefficient is nearly an f32.
const NORMAL_TAIL: [f32; 10] = [
    1.040_588_4,
    -1.338_678_6,
    1.202_202,
    -0.717_045_4,
    0.225_884_2,
    0.018_514_788,
    -0.041_412_335,
    0.002_760_168_6,
    0.009_414_91,
    -0.003_296_036_7,
];
const NORMAL_TAIL_CENTRE: f32 = 1898.0 / 1024.0;

/// (Φ(x) − ½)/x as a polynomial in x², for |x| ≤ ½: 2^-28.7 of Φ(−|x|).
const NORMAL_CENTRE: [f32; 4] = [0.398_942_26, -0.066_489_47, 0.009_961_108, -0.001_122_675_3];

/// x·Φ(x) with the distribution function Φ of the standard normal distribution.
#[inline(always)]
pub(crate) fn gelu<L: Lanes>(lanes: L, x: L::F) -> Scaled<L::F> {
    let (zero, one, half) = (lanes.splat(0.0), lanes.splat(1.0), lanes.splat(0.5));
    // At −20 the result is below 2⁻²⁹⁰: zero, even if multiplied by the largest number.
    let m = lanes.max(lanes.splat(-20.0), x);
    let a = lanes.min(lanes.splat(20.0), lanes.abs(m));

    // Below zero the result is −g·p(s)·e^(−a²/2) with g = a/(a + 4), of which s is a linear function:
    // what an error of g does to the one factor, the other takes back to a tenth in the far tail.
    let g = lanes.div(a, lanes.add(lanes.splat(4.0), a));
    let quarter = lanes.splat(NORMAL_TAIL_CENTRE / 4.0);
    let s = lanes.mul_sub(g, lanes.add(one, quarter), quarter);
    // Above, Φ(−a) comes without the factor a: 1/(a + 4) = (1 − g)/4.
    let negative = lanes.lt(x, zero);
    let factor = lanes.select(negative, g, lanes.neg_mul_add(g, lanes.splat(0.25), lanes.splat(0.25)));
    let tail = lanes.mul(factor, polynomial(lanes, s, NORMAL_TAIL));
    // −a²/2 in two parts: an error in it enters the result a²/2 times as large.
    let minus_half_a = lanes.mul(a, lanes.splat(-0.5));
    let exponent = lanes.mul(minus_half_a, a);
    let low = lanes.mul_sub(minus_half_a, a, exponent);
    let (u, n) = exp_m1_split(lanes, exponent, Some(low));
    let r = lanes.mul_add(tail, u, tail);

    // Φ(a) = 1 − Φ(−a).
    let above = lanes.sub(one, lanes.shift(r, lanes.max(lanes.splat(-100.0), n)));
    let r = lanes.select(negative, r, above);
    let n = lanes.select(negative, n, zero);
    let factor = lanes.select(negative, lanes.splat(-1.0), m);

    let centre = lanes.mul_add(m, polynomial(lanes, lanes.mul(m, m), NORMAL_CENTRE), half);
    let small = lanes.lt(a, half);
    Scaled {
        m: lanes.select(small, m, factor),
        r: lanes.select(small, centre, r),
        n: lanes.select(small, zero, n),
    }
}

/// erf, in pieces that grow with the distance from where it bends.
pub(crate) static ERF_PIECES: LazyLock<Pieces> = LazyLock::new(|| {
    let grid = Grid { linear: 12.0, quadratic: -1.05, first: 0 };
    Pieces::fit_odd(grid, 4.0, libm::erf)
});

/// erf x in pieces.
#[inline(always)]
pub(crate) fn erf_near<L: Lanes>(lanes: L, pieces: &Loaded<L>, x: L::F) -> L::F {
    pieces.odd(lanes, x, 4.0)
}

/// Φ(−a). Its logarithm falls by about a + 0.8.
pub(crate) static NORMAL: LazyLock<Pieces> = LazyLock::new(|| {
    let grid = Grid { linear: 1.42, quadratic: 0.885, first: 0 };
    Pieces::fit(grid, 5.2, |a| 0.5 * libm::erfc(a * FRAC_1_SQRT_2))
});

/// x·Φ(x) in pieces: max(x, 0) − |x|·Φ(−|x|).
#[inline(always)]
pub(crate) fn gelu_near<L: Lanes>(lanes: L, pieces: &Loaded<L>, x: L::F) -> L::F {
    let a = lanes.abs(x);
    lanes.neg_mul_add(a, pieces.graded(lanes, a), lanes.max(lanes.splat(0.0), x))
}
