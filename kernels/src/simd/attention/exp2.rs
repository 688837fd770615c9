//! 2^x for the weights of a softmax.

use crate::simd::lanes::Lanes;

/// (2^f − 1)/f for |f| ≤ ½: with it 1 + f·P(f) is 2^f up to 2^-28.3. Fitted by reweighted least
/// squares (Lawson), each coefficient rounded to f32 before the next ones were fitted.
const POWER: [f32; 6] =
    [0.693_147_2, 0.240_226_48, 0.055_503_6, 0.009_618_506, 0.001_339_080_6, 0.000_153_264_71];

/// 2^x for x ≤ 0 (or NaN), within 1 ULP, subnormal results included; exactly 1 at 0, and
/// exactly 0 from −151 down to −∞.
#[inline(always)]
pub(super) fn exp2<L: Lanes>(lanes: L, x: L::F) -> L::F {
    // The limit comes first, so that a NaN of x is kept.
    let x = lanes.max(lanes.splat(-200.0), x);
    let n = lanes.round(x);
    let f = lanes.sub(x, n);
    let mut p = lanes.splat(POWER[5]);
    for c in POWER[..5].iter().rev() {
        p = lanes.mul_add(p, f, lanes.splat(*c));
    }
    lanes.ldexp(lanes.mul_add(p, f, lanes.splat(1.0)), n)
}
