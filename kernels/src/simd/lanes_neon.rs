//! [`Lanes`] of Arm's Advanced SIMD: four lanes.

use std::arch::aarch64::*;

use half::{bf16, f16};

use super::isa::Neon;
use super::lanes::{Kernel, Lanes, TABLE, head, head_mut, lookup_buffered};

/// Methods that only compute on registers.
macro_rules! on_registers {
    ($($(#[$doc:meta])* fn $name:ident($this:ident $(, $arg:ident: $type:ty)*) -> $result:ty { $($body:tt)* })+) => {$(
        $(#[$doc])*
        #[inline(always)]
        fn $name($this $(, $arg: $type)*) -> $result {
            // SAFETY: the token proves Advanced SIMD; nothing here touches memory.
            unsafe { $($body)* }
        }
    )+};
}

type F = float32x4_t;
type M = uint32x4_t;

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn exp2(_proof: Neon, n: int32x4_t) -> F {
    // SAFETY: the token proves Advanced SIMD; nothing here touches memory.
    unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127)))) }
}

impl Lanes for Neon {
    type F = F;
    type M = M;
    type Table = &'static [f32; TABLE];
    const N: usize = 4;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "neon")]
        fn entry<K: Kernel>(token: Neon, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: the token proves Advanced SIMD.
        unsafe { entry(self, kernel) }
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> F {
        let x: &[f32; 4] = head(x);
        // SAFETY: four f32 are readable; the token proves Advanced SIMD.
        unsafe { vld1q_f32(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> F {
        // The conversion instructions take Rust's unstable f16; `half` knows how to reach them.
        let x: &[f16; 4] = head(x);
        self.load(&x.map(f16::to_f32))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> F {
        let x: &[bf16; 4] = head(x);
        // SAFETY: eight bytes are readable; the token proves Advanced SIMD.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn store(self, out: &mut [f32], a: F) {
        let out: &mut [f32; 4] = head_mut(out);
        // SAFETY: four f32 are writable; the token proves Advanced SIMD.
        unsafe { vst1q_f32(out.as_mut_ptr(), a) }
    }
    #[inline(always)]
    fn store_f16(self, out: &mut [f16], a: F) {
        let mut lanes = [0.0; 4];
        self.store(&mut lanes, a);
        *head_mut(out) = lanes.map(f16::from_f32);
    }
    #[inline(always)]
    fn store_bf16(self, out: &mut [bf16], a: F) {
        let out: &mut [bf16; 4] = head_mut(out);
        // SAFETY: eight bytes are writable; the token proves Advanced SIMD.
        unsafe {
            // Adding 0x7fff, and one more if the kept part is odd, carries into the upper half
            // exactly when rounding to nearest even goes up.
            let bits = vreinterpretq_u32_f32(a);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
            // A NaN could carry into infinity; keep it, quiet.
            let quiet = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
            let kept = vbslq_u32(vceqq_f32(a, a), rounded, quiet);
            vst1_u16(out.as_mut_ptr().cast(), vshrn_n_u32::<16>(kept));
        }
    }

    on_registers! {
        fn splat(self, x: f32) -> F { vdupq_n_f32(x) }
        fn add(self, a: F, b: F) -> F { vaddq_f32(a, b) }
        fn sub(self, a: F, b: F) -> F { vsubq_f32(a, b) }
        fn mul(self, a: F, b: F) -> F { vmulq_f32(a, b) }
        fn div(self, a: F, b: F) -> F { vdivq_f32(a, b) }
        fn sqrt(self, a: F) -> F { vsqrtq_f32(a) }
        fn mul_add(self, a: F, b: F, c: F) -> F { vfmaq_f32(c, a, b) }
        fn neg_mul_add(self, a: F, b: F, c: F) -> F { vfmsq_f32(c, a, b) }
        fn mul_sub(self, a: F, b: F, c: F) -> F { vfmaq_f32(vnegq_f32(c), a, b) }
        fn neg(self, a: F) -> F { vnegq_f32(a) }
        fn abs(self, a: F) -> F { vabsq_f32(a) }
        fn copysign(self, a: F, b: F) -> F { vbslq_f32(vdupq_n_u32(1 << 31), b, a) }
        fn round(self, a: F) -> F { vrndnq_f32(a) }
        /// FMAX would return a NaN of either operand.
        fn max(self, a: F, b: F) -> F { vbslq_f32(vcgtq_f32(a, b), a, b) }
        fn min(self, a: F, b: F) -> F { vbslq_f32(vcltq_f32(a, b), a, b) }
        fn lt(self, a: F, b: F) -> M { vcltq_f32(a, b) }
        fn le(self, a: F, b: F) -> M { vcleq_f32(a, b) }
        fn eq(self, a: F, b: F) -> M { vceqq_f32(a, b) }
        fn is_nan(self, a: F) -> M { vmvnq_u32(vceqq_f32(a, a)) }
        fn and(self, a: M, b: M) -> M { vandq_u32(a, b) }
        fn or(self, a: M, b: M) -> M { vorrq_u32(a, b) }
        fn any(self, a: M) -> bool { vmaxvq_u32(a) != 0 }
        fn select(self, mask: M, a: F, b: F) -> F { vbslq_f32(mask, a, b) }
        fn shift(self, a: F, n: F) -> F {
            let exponent = vshlq_n_s32::<23>(vcvtq_s32_f32(n));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), exponent))
        }
        /// In two steps, of which only the second can leave the normal range.
        fn ldexp(self, a: F, n: F) -> F {
            let n = vmaxq_s32(vcvtq_s32_f32(n), vdupq_n_s32(-250));
            let half = vshrq_n_s32::<1>(n);
            let rest = vsubq_s32(n, half);
            vmulq_f32(vmulq_f32(a, exp2(self, half)), exp2(self, rest))
        }
        fn split(self, a: F) -> (F, F) {
            // The bits of √½, so that the exponent field of the difference is e.
            let root_half = vdupq_n_s32(0x3f35_04f3);
            let offset = vsubq_s32(vreinterpretq_s32_f32(a), root_half);
            let significand = vandq_s32(offset, vdupq_n_s32(0x007f_ffff));
            let exponent = vcvtq_f32_s32(vshrq_n_s32::<23>(offset));
            (vreinterpretq_f32_s32(vaddq_s32(significand, root_half)), exponent)
        }
        fn reduce_add(self, a: F) -> f32 { vaddvq_f32(a) }
        fn reduce_max(self, a: F) -> f32 { vmaxvq_f32(a) }
        fn reduce_min(self, a: F) -> f32 { vminvq_f32(a) }
        fn interleave(self, a: F, b: F) -> (F, F) { (vzip1q_f32(a, b), vzip2q_f32(a, b)) }
        fn deinterleave(self, a: F, b: F) -> (F, F) { (vuzp1q_f32(a, b), vuzp2q_f32(a, b)) }
    }

    #[inline(always)]
    fn table(self, table: &'static [f32; TABLE]) -> Self::Table {
        table
    }
    #[inline(always)]
    fn lookup(self, table: Self::Table, index: F) -> F {
        lookup_buffered(self, table, index)
    }
    #[inline(always)]
    fn first(self, n: usize) -> M {
        const INDEX: [u32; 4] = [0, 1, 2, 3];
        // SAFETY: four u32 are readable; the token proves Advanced SIMD.
        unsafe { vcltq_u32(vld1q_u32(INDEX.as_ptr()), vdupq_n_u32(n.min(4) as u32)) }
    }
}
