//! [`Lanes`] of AVX2 with FMA and F16C: eight lanes.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::isa::Avx2;
use super::lanes::{Kernel, Lanes, TABLE, head, head_mut, load_buffered, lookup_buffered};
use crate::dtype::{DType, Element};

/// Methods that only compute on registers.
macro_rules! on_registers {
    ($($(#[$doc:meta])* fn $name:ident($this:ident $(, $arg:ident: $type:ty)*) -> $result:ty { $($body:tt)* })+) => {$(
        $(#[$doc])*
        #[inline(always)]
        fn $name($this $(, $arg: $type)*) -> $result {
            // SAFETY: the token proves AVX2, FMA and F16C; nothing here touches memory.
            unsafe { $($body)* }
        }
    )+};
}

const SIGN: f32 = -0.0;

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn exp2(_proof: Avx2, n: __m256i) -> __m256 {
    // SAFETY: the token proves AVX2; nothing here touches memory.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))) }
}

/// Sliding over this table gives every mask of first lanes.
const FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Lanes for Avx2 {
    type F = __m256;
    type M = __m256;
    type Table = &'static [f32; TABLE];
    const N: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c")]
        fn entry<K: Kernel>(token: Avx2, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: the token proves AVX2, FMA and F16C.
        unsafe { entry(self, kernel) }
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> __m256 {
        let x: &[f32; 8] = head(x);
        // SAFETY: eight f32 are readable; the token proves AVX.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> __m256 {
        let x: &[f16; 8] = head(x);
        // SAFETY: sixteen bytes are readable; the token proves F16C.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> __m256 {
        let x: &[bf16; 8] = head(x);
        // SAFETY: sixteen bytes are readable; the token proves AVX2.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    fn store(self, out: &mut [f32], a: __m256) {
        let out: &mut [f32; 8] = head_mut(out);
        // SAFETY: eight f32 are writable; the token proves AVX.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), a) }
    }
    #[inline(always)]
    fn store_f16(self, out: &mut [f16], a: __m256) {
        let out: &mut [f16; 8] = head_mut(out);
        // SAFETY: sixteen bytes are writable; the token proves F16C.
        unsafe {
            let bits = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a);
            _mm_storeu_si128(out.as_mut_ptr().cast(), bits);
        }
    }
    #[inline(always)]
    fn store_bf16(self, out: &mut [bf16], a: __m256) {
        let out: &mut [bf16; 8] = head_mut(out);
        // SAFETY: sixteen bytes are writable; the token proves AVX2.
        unsafe {
            // Adding 0x7fff, and one more if the kept part is odd, carries into the upper half
            // exactly when rounding to nearest even goes up.
            let bits = _mm256_castps_si256(a);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            // A NaN could carry into infinity; keep it, quiet.
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
            let kept = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let packed = _mm256_packus_epi32(kept, kept);
            let ordered = _mm256_permute4x64_epi64::<0b00_00_10_00>(packed);
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_castsi256_si128(ordered));
        }
    }
    #[inline(always)]
    fn stream(self, out: &mut [f32], a: __m256) {
        let out: &mut [f32; 8] = head_mut(out);
        if out.as_ptr().addr().is_multiple_of(32) {
            // SAFETY: eight f32 are writable and aligned to 32 bytes; the token proves AVX.
            // Other threads see them after `fence`, as its contract says.
            unsafe { _mm256_stream_ps(out.as_mut_ptr(), a) }
        } else {
            self.store(out, a);
        }
    }
    #[inline(always)]
    fn fence(self) {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    fn prefetch<T>(self, x: &[T]) {
        // SAFETY: a prefetch never faults; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn prefetch_ahead<T>(self, x: &[T], bytes: usize) {
        // SAFETY: a prefetch of any address never faults; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().cast::<i8>().wrapping_add(bytes)) }
    }
    #[inline(always)]
    fn prefetch_to_write<T>(self, out: &[T], bytes: usize) {
        // SAFETY: a prefetch of any address never faults; where PREFETCHW is not known it does
        // nothing.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(out.as_ptr().cast::<i8>().wrapping_add(bytes)) }
    }

    /// A masked store in turn takes Zen 42 micro-operations: stores go by way of a buffer.
    #[inline(always)]
    fn load_partial<T: Element>(self, x: &[T], fill: f32) -> __m256 {
        if T::DTYPE != DType::F32 {
            return load_buffered(self, x, fill);
        }
        assert!(x.len() <= 8, "{} elements do not fit into 8 lanes", x.len());
        let mask = self.first(x.len());
        // SAFETY: the mask covers exactly the elements of x, which are f32 by their tag, and
        // masked-out lanes are not accessed; the token proves AVX.
        let loaded = unsafe { _mm256_maskload_ps(x.as_ptr().cast(), _mm256_castps_si256(mask)) };
        self.select(mask, loaded, self.splat(fill))
    }

    on_registers! {
        fn splat(self, x: f32) -> __m256 { _mm256_set1_ps(x) }
        fn add(self, a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn sub(self, a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn mul(self, a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn div(self, a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fn sqrt(self, a: __m256) -> __m256 { _mm256_sqrt_ps(a) }
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn neg_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fnmadd_ps(a, b, c) }
        fn mul_sub(self, a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmsub_ps(a, b, c) }
        fn neg(self, a: __m256) -> __m256 { _mm256_xor_ps(a, _mm256_set1_ps(SIGN)) }
        fn abs(self, a: __m256) -> __m256 { _mm256_andnot_ps(_mm256_set1_ps(SIGN), a) }
        fn copysign(self, a: __m256, b: __m256) -> __m256 {
            let sign = _mm256_set1_ps(SIGN);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        }
        fn round(self, a: __m256) -> __m256 {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        fn max(self, a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        fn min(self, a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fn lt(self, a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
        fn le(self, a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_LE_OQ>(a, b) }
        fn eq(self, a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b) }
        fn is_nan(self, a: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a) }
        fn and(self, a: __m256, b: __m256) -> __m256 { _mm256_and_ps(a, b) }
        fn or(self, a: __m256, b: __m256) -> __m256 { _mm256_or_ps(a, b) }
        fn any(self, a: __m256) -> bool { _mm256_movemask_ps(a) != 0 }
        fn select(self, mask: __m256, a: __m256, b: __m256) -> __m256 { _mm256_blendv_ps(b, a, mask) }
        fn shift(self, a: __m256, n: __m256) -> __m256 {
            // A NaN converts to 1 << 31, which the shift turns into zero.
            let exponent = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), exponent))
        }
        /// In two steps, of which only the second can leave the normal range.
        fn ldexp(self, a: __m256, n: __m256) -> __m256 {
            let n = _mm256_max_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(-250));
            let half = _mm256_srai_epi32::<1>(n);
            let rest = _mm256_sub_epi32(n, half);
            _mm256_mul_ps(_mm256_mul_ps(a, exp2(self, half)), exp2(self, rest))
        }
        fn split(self, a: __m256) -> (__m256, __m256) {
            // The bits of √½, so that the exponent field of the difference is e.
            let root_half = _mm256_set1_epi32(0x3f35_04f3);
            let offset = _mm256_sub_epi32(_mm256_castps_si256(a), root_half);
            let significand = _mm256_and_si256(offset, _mm256_set1_epi32(0x007f_ffff));
            let exponent = _mm256_cvtepi32_ps(_mm256_srai_epi32::<23>(offset));
            (_mm256_castsi256_ps(_mm256_add_epi32(significand, root_half)), exponent)
        }
        fn reduce_add(self, a: __m256) -> f32 {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
        fn reduce_max(self, a: __m256) -> f32 {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
        fn reduce_min(self, a: __m256) -> f32 {
            let four = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_min_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)))
        }
        fn reduce_add_f64(self, a: __m256) -> f64 {
            let low = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
            let four = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(a)));
            let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
        fn interleave(self, a: __m256, b: __m256) -> (__m256, __m256) {
            // unpack works in each half: (a0 b0 a1 b1 | a4 b4 a5 b5) and (a2 b2 a3 b3 | a6 …).
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
        }
        fn deinterleave(self, a: __m256, b: __m256) -> (__m256, __m256) {
            let low = _mm256_permute2f128_ps::<0x20>(a, b);
            let high = _mm256_permute2f128_ps::<0x31>(a, b);
            (_mm256_shuffle_ps::<0b10_00_10_00>(low, high), _mm256_shuffle_ps::<0b11_01_11_01>(low, high))
        }
    }

    #[inline(always)]
    fn table(self, table: &'static [f32; TABLE]) -> Self::Table {
        table
    }
    #[inline(always)]
    fn lookup(self, table: Self::Table, index: __m256) -> __m256 {
        lookup_buffered(self, table, index)
    }
    #[inline(always)]
    fn first(self, n: usize) -> __m256 {
        let mask: &[i32; 8] = head(&FIRST[8 - n.min(8)..]);
        // SAFETY: eight i32 are readable; the token proves AVX.
        unsafe { _mm256_castsi256_ps(_mm256_loadu_si256(mask.as_ptr().cast())) }
    }
}
