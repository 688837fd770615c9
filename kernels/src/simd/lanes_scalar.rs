//! [`Lanes`] of plain Rust: one lane, every CPU, no `unsafe`.

use half::{bf16, f16};

use super::isa::Scalar;
use super::lanes::{Kernel, Lanes, TABLE};

/// a·b + c with the product exact (48 bits fit into f64) and one rounding to f64 before that to
/// f32. `f32::mul_add` would be a library call wherever FMA is not known at compile time.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    (a as f64 * b as f64 + c as f64) as f32
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn exp2(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

impl Lanes for Scalar {
    type F = f32;
    type M = bool;
    type Table = &'static [f32; TABLE];
    const N: usize = 1;
    const REGISTERS: usize = 16;

    /// Out of line like the entries of the other instruction sets, or every caller of
    /// [`Isa::run`](super::isa::Isa::run) would hold a copy.
    #[inline(never)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> f32 {
        x[0]
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> f32 {
        x[0].to_f32()
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> f32 {
        x[0].to_f32()
    }
    #[inline(always)]
    fn store(self, out: &mut [f32], a: f32) {
        out[0] = a;
    }
    #[inline(always)]
    fn store_f16(self, out: &mut [f16], a: f32) {
        out[0] = f16::from_f32(a);
    }
    #[inline(always)]
    fn store_bf16(self, out: &mut [bf16], a: f32) {
        out[0] = bf16::from_f32(a);
    }

    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: f32) -> f32 {
        a.sqrt()
    }
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        fused(a, b, c)
    }
    #[inline(always)]
    fn neg_mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        fused(-a, b, c)
    }
    #[inline(always)]
    fn mul_sub(self, a: f32, b: f32, c: f32) -> f32 {
        fused(a, b, -c)
    }
    #[inline(always)]
    fn neg(self, a: f32) -> f32 {
        -a
    }
    #[inline(always)]
    fn abs(self, a: f32) -> f32 {
        a.abs()
    }
    #[inline(always)]
    fn copysign(self, a: f32, b: f32) -> f32 {
        a.copysign(b)
    }
    /// By adding and subtracting 1.5·2²³, above which the spacing is one; larger numbers are
    /// integers already. `f32::round_ties_even` is a library call without SSE4.1.
    #[inline(always)]
    fn round(self, a: f32) -> f32 {
        const INTEGERS: f32 = 8_388_608.0;
        let magnitude = a.abs();
        let rounded = if magnitude < INTEGERS { (magnitude + INTEGERS) - INTEGERS } else { magnitude };
        rounded.copysign(a)
    }

    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn min(self, a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
    #[inline(always)]
    fn lt(self, a: f32, b: f32) -> bool {
        a < b
    }
    #[inline(always)]
    fn le(self, a: f32, b: f32) -> bool {
        a <= b
    }
    #[inline(always)]
    fn eq(self, a: f32, b: f32) -> bool {
        a == b
    }
    #[inline(always)]
    fn is_nan(self, a: f32) -> bool {
        a.is_nan()
    }
    #[inline(always)]
    fn table(self, table: &'static [f32; TABLE]) -> Self::Table {
        table
    }
    #[inline(always)]
    fn lookup(self, table: Self::Table, index: f32) -> f32 {
        table[index.to_bits() as usize % TABLE]
    }
    #[inline(always)]
    fn first(self, n: usize) -> bool {
        n > 0
    }
    #[inline(always)]
    fn and(self, a: bool, b: bool) -> bool {
        a & b
    }
    #[inline(always)]
    fn or(self, a: bool, b: bool) -> bool {
        a | b
    }
    #[inline(always)]
    fn any(self, a: bool) -> bool {
        a
    }
    #[inline(always)]
    fn select(self, mask: bool, a: f32, b: f32) -> f32 {
        if mask { a } else { b }
    }

    #[inline(always)]
    fn shift(self, a: f32, n: f32) -> f32 {
        f32::from_bits(a.to_bits().wrapping_add((n as i32 as u32) << 23))
    }
    /// In two steps, of which only the second can leave the normal range.
    #[inline(always)]
    fn ldexp(self, a: f32, n: f32) -> f32 {
        let n = (n as i32).max(-250);
        let half = n >> 1;
        a * exp2(half) * exp2(n - half)
    }
    #[inline(always)]
    fn split(self, a: f32) -> (f32, f32) {
        // The bits of √½, so that the exponent field of the difference is e.
        const ROOT_HALF: u32 = 0x3f35_04f3;
        let offset = a.to_bits().wrapping_sub(ROOT_HALF);
        let significand = f32::from_bits((offset & 0x007f_ffff).wrapping_add(ROOT_HALF));
        (significand, ((offset as i32) >> 23) as f32)
    }

    #[inline(always)]
    fn reduce_add(self, a: f32) -> f32 {
        a
    }
    #[inline(always)]
    fn reduce_max(self, a: f32) -> f32 {
        a
    }
    #[inline(always)]
    fn reduce_min(self, a: f32) -> f32 {
        a
    }
    #[inline(always)]
    fn interleave(self, a: f32, b: f32) -> (f32, f32) {
        (a, b)
    }
    #[inline(always)]
    fn deinterleave(self, a: f32, b: f32) -> (f32, f32) {
        (a, b)
    }
}
