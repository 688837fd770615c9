//! 2^x for the weights of a softmax.

use crate::simd::lanes::Lanes;

/// (2^f − 1)/f for |f| ≤ ½: with it 1 + f·P(f) is 2^f up to 2^-28.3. Fitted by reweighted least
/// squares (Lawson), each coefficient rounded to f32 before the next ones were fitted.
const POWER: [f32; 6] =
    [std::f32::consts::LN_2, 0.240_226_48, 0.055_503_6, 0.009_618_506, 0.001_339_080_6, 0.000_153_264_71];

/// Below this, 2^x is subnormal.
const NORMAL: f32 = -126.0;

/// 2^x in each vector, for x ≤ 0 (or NaN), within 1 ULP, subnormal results included; exactly 1
/// at 0, and exactly 0 from below −150 down to −∞.
#[inline(always)]
pub(super) fn exp2<L: Lanes, const K: usize>(lanes: L, x: [L::F; K]) -> [L::F; K] {
    let normal = lanes.splat(NORMAL);
    let mut small = lanes.lt(x[0], normal);
    for x in &x[1..] {
        small = lanes.or(small, lanes.lt(*x, normal));
    }
    // Loops, not `map`: its closure would be a function of its own, without the instructions.
    let mut p = x;
    if lanes.any(small) {
        for p in &mut p {
            *p = underflowing(lanes, *p);
        }
    } else {
        for p in &mut p {
            *p = of_normal(lanes, *p);
        }
    }
    p
}

/// 2^x for −126 ≤ x ≤ 0, where p·2ⁿ is a normal number: where n = −126, p is at least 1.
#[inline(always)]
fn of_normal<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let (p, n) = split(lanes, x);
    lanes.shift(p, n)
}

/// 2^x for x ≤ 0. What rounds to 0 is put apart, because Intel's cores take more than a hundred
/// cycles for an instruction that underflows, and masked scores of −∞ are common.
#[inline(always)]
fn underflowing<L: Lanes>(lanes: L, x: L::F) -> L::F {
    let zero = lanes.splat(0.0);
    let vanishes = lanes.lt(x, lanes.splat(-150.0));
    let (p, n) = split(lanes, lanes.select(vanishes, zero, x));
    lanes.select(vanishes, zero, lanes.ldexp(p, n))
}

/// (p, n) with 2^x = p·2ⁿ and n the integer next to x.
#[inline(always)]
fn split<L: Lanes>(lanes: L, x: L::F) -> (L::F, L::F) {
    let n = lanes.round(x);
    let f = lanes.sub(x, n);
    let mut p = lanes.splat(POWER[5]);
    for c in POWER[..5].iter().rev() {
        p = lanes.mul_add(p, f, lanes.splat(*c));
    }
    (lanes.mul_add(p, f, lanes.splat(1.0)), n)
}
