//! The exponential function.

use super::{clamp, polynomial};
use crate::simd::lanes::Lanes;

/// log₂ e.
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 rounded to f32, and the rest (Cody & Waite 1980). With FMA, n·LN_2_HIGH is subtracted
/// without error.
pub(super) const LN_2_HIGH: f32 = std::f32::consts::LN_2;
pub(super) const LN_2_LOW: f32 = -1.904_654_2e-9;

/// (e^r − 1 − r)/r² for |r| ≤ ln(2)/2: 2^-26.1 of e^r − 1.
const EXP_M1: [f32; 5] = [0.499_999_97, 0.166_665_39, 0.041_667_756, 0.008_367_124, 0.001_383_564_3];

/// 1.5·2²³: numbers up to 2²² that are added to it come out as integers.
const INTEGERS: f32 = 12_582_912.0;

/// x/ln 2 to the nearest integer, for |x| up to 2²¹.
#[inline(always)]
fn nearest_power<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let integers = lanes.splat(INTEGERS);
    lanes.sub(lanes.mul_add(x, lanes.splat(LOG2_E), integers), integers)
}

/// x + low = t − c + n·ln 2 with n integral and |t − c| ≤ ln(2)/2 and a hair.
struct Reduced<F> {
    /// x − n·LN_2_HIGH, exact.
    t: F,
    /// n·LN_2_LOW − low.
    c: F,
    n: F,
}

impl<F: Copy> Reduced<F> {
    #[inline(always)]
    fn new<L: Lanes<F = F>>(lanes: L, x: F, low: Option<F>) -> Self {
        let n = nearest_power(lanes, x);
        let t = lanes.neg_mul_add(n, lanes.splat(LN_2_HIGH), x);
        let c = match low {
            None => lanes.mul(n, lanes.splat(LN_2_LOW)),
            Some(low) => lanes.mul_sub(n, lanes.splat(LN_2_LOW), low),
        };
        Reduced { t, c, n }
    }

    /// e^(t − c) − 1.
    #[inline(always)]
    fn exp_m1<L: Lanes<F = F>>(&self, lanes: L) -> F {
        // The rounding of t − c would be a quarter of the result's last place; in the terms of
        // second order it does not matter, and in the first c joins those.
        let r = lanes.sub(self.t, self.c);
        lanes.add(self.t, lanes.mul_sub(lanes.mul(r, r), polynomial(lanes, r, EXP_M1), self.c))
    }
}

/// (u, n) with e^(x + low) = (1 + u)·2ⁿ, |u| < 0.42, n integral, for |x| up to 2²⁰ and |low| well
/// below 1. NaN gives NaN twice.
///
/// A factor y of the result is best applied as y + y·u, which skips the rounding of 1 + u.
#[inline(always)]
pub(crate) fn exp_m1_split<L: Lanes>(lanes: L, x: L::F, low: Option<L::F>) -> (L::F, L::F) {
    let reduced = Reduced::new(lanes, x, low);
    (reduced.exp_m1(lanes), reduced.n)
}

/// (p, n) with e^(x + low) = p·2ⁿ: [`exp_m1_split`] with p = 1 + u, 0.7 < p < 1.42.
#[inline(always)]
pub(crate) fn exp_split<L: Lanes>(lanes: L, x: L::F, low: Option<L::F>) -> (L::F, L::F) {
    let (u, n) = exp_m1_split(lanes, x, low);
    (lanes.add(u, lanes.splat(1.0)), n)
}

/// (p, n) like [`exp_split`], to 0.92 ULP of p instead of 0.6 in three instructions less: where no
/// further rounding follows, or one ULP is little beside what does.
#[inline(always)]
pub(crate) fn exp_split_short<L: Lanes>(lanes: L, x: L::F, low: Option<L::F>) -> (L::F, L::F) {
    let n = nearest_power(lanes, x);
    let mut r = lanes.neg_mul_add(n, lanes.splat(LN_2_HIGH), x);
    if let Some(low) = low {
        r = lanes.add(r, low);
    }
    let r = lanes.neg_mul_add(n, lanes.splat(LN_2_LOW), r);
    let one = lanes.splat(1.0);
    let quotient = lanes.mul_add(r, polynomial(lanes, r, EXP_M1), one);
    (lanes.mul_add(r, quotient, one), n)
}

/// e^x.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(lanes: L, x: L::F) -> L::F {
    // Above 88.73 the result overflows, below −103.98 it rounds to zero.
    let (p, n) = exp_split_short(lanes, clamp(lanes, x, -104.0, 89.0), None);
    lanes.ldexp(p, n)
}

/// e^x − 1 for x ≤ 0; unspecified above.
#[inline(always)]
pub(crate) fn exp_m1_negative<L: Lanes>(lanes: L, x: L::F) -> L::F {
    // Below −17.4 the result rounds to −1.
    let reduced = Reduced::new(lanes, clamp(lanes, x, -20.0, 1.0), None);
    let scale = lanes.exp2i(reduced.n);
    // scale·(e^r − 1) + (scale − 1), of which the second term is exact for n ≥ −24.
    lanes.mul_add(scale, reduced.exp_m1(lanes), lanes.sub(scale, lanes.splat(1.0)))
}
