//! [`Lanes`] of AVX-512 F, BW, DQ and VL: sixteen lanes.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::isa::Avx512;
use super::lanes::{Kernel, Lanes, TABLE, head, head_mut};
use crate::dtype::{DType, Element};

/// Methods that only compute on registers.
macro_rules! on_registers {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty { $($body:tt)* })+) => {$(
        $(#[$doc])*
        #[inline(always)]
        fn $name(self, $($arg: $type),*) -> $result {
            // SAFETY: the token proves AVX-512 F, BW, DQ and VL; nothing here touches memory.
            unsafe { $($body)* }
        }
    )+};
}

/// The places of the upper halves of sixteen lanes, in either half of a vector of words.
const UPPER_HALVES: [u16; 32] = {
    let mut places = [0; 32];
    let mut i = 0;
    while i < 32 {
        places[i] = 2 * (i as u16 % 16) + 1;
        i += 1;
    }
    places
};

/// Rounded to bf16, to nearest even, in the upper half of each lane's bits.
#[inline(always)]
fn round_to_bf16(_proof: Avx512, a: __m512) -> __m512i {
    /// A quiet NaN for either kind of NaN, everything else as it is.
    const QUIET_NAN: i32 = 0x1111_1133;
    // SAFETY: the token proves AVX-512 F; nothing here touches memory.
    unsafe {
        // That NaN cannot carry into infinity below, as others could.
        let a = _mm512_fixupimm_ps::<0>(a, a, _mm512_set1_epi32(QUIET_NAN));
        // Adding 0x7fff, and one more if the kept part is odd, carries into the upper half
        // exactly when rounding to nearest even goes up.
        let bits = _mm512_castps_si512(a);
        let odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x0001_0000));
        let rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
        _mm512_mask_add_epi32(rounded, odd, rounded, _mm512_set1_epi32(1))
    }
}

/// Rounded to bf16, to nearest even.
#[inline(always)]
fn narrow_bf16(proof: Avx512, a: __m512) -> __m256i {
    let rounded = round_to_bf16(proof, a);
    // SAFETY: the token proves AVX-512 F and BW; 64 bytes are readable.
    unsafe {
        let places = _mm512_loadu_si512(UPPER_HALVES.as_ptr().cast());
        _mm512_castsi512_si256(_mm512_permutexvar_epi16(places, rounded))
    }
}

/// Sixteen bf16 as f32.
#[inline(always)]
fn widen_bf16(_proof: Avx512, bits: __m256i) -> __m512 {
    // SAFETY: the token proves AVX-512 F; nothing here touches memory.
    unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits))) }
}

/// The mask of the first n ≤ 16 lanes.
///
/// # Panics
/// When n is larger: the callers' memory accesses rely on it.
#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    assert!(n <= 16, "{n} elements do not fit into 16 lanes");
    ((1u32 << n) - 1) as __mmask16
}

impl Lanes for Avx512 {
    type F = __m512;
    type M = __mmask16;
    type Table = (__m512, __m512);
    const N: usize = 16;
    const REGISTERS: usize = 32;
    const LOOKS_UP: bool = true;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn entry<K: Kernel>(token: Avx512, kernel: K) -> K::Output {
            kernel.run(token)
        }
        // SAFETY: the token proves all of these.
        unsafe { entry(self, kernel) }
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        let x: &[f32; 16] = head(x);
        // SAFETY: sixteen f32 are readable; the token proves AVX-512 F.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16]) -> __m512 {
        let x: &[f16; 16] = head(x);
        // SAFETY: 32 bytes are readable; the token proves AVX-512 F.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16]) -> __m512 {
        let x: &[bf16; 16] = head(x);
        // SAFETY: 32 bytes are readable; the token proves AVX-512 F.
        widen_bf16(self, unsafe { _mm256_loadu_si256(x.as_ptr().cast()) })
    }
    #[inline(always)]
    fn store(self, out: &mut [f32], a: __m512) {
        let out: &mut [f32; 16] = head_mut(out);
        // SAFETY: sixteen f32 are writable; the token proves AVX-512 F.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), a) }
    }
    #[inline(always)]
    fn store_f16(self, out: &mut [f16], a: __m512) {
        let out: &mut [f16; 16] = head_mut(out);
        // SAFETY: 32 bytes are writable; the token proves AVX-512 F.
        unsafe {
            let bits = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), bits);
        }
    }
    #[inline(always)]
    fn store_bf16(self, out: &mut [bf16], a: __m512) {
        let out: &mut [bf16; 16] = head_mut(out);
        let bits = narrow_bf16(self, a);
        // SAFETY: 32 bytes are writable; the token proves AVX.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bits) }
    }
    #[inline(always)]
    fn stream(self, out: &mut [f32], a: __m512) {
        let out: &mut [f32; 16] = head_mut(out);
        if out.as_ptr().addr().is_multiple_of(64) {
            // SAFETY: sixteen f32 are writable and aligned to 64 bytes; the token proves
            // AVX-512 F. Other threads see them after `fence`, as its contract says.
            unsafe { _mm512_stream_ps(out.as_mut_ptr(), a) }
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

    #[inline(always)]
    fn load_partial<T: Element>(self, x: &[T], fill: f32) -> __m512 {
        let mask = first_lanes(x.len());
        // SAFETY: the mask covers exactly the elements of x, and masked-out lanes are not
        // accessed; T is the type of the branch, by its tag; the token proves AVX-512 F, BW, VL.
        unsafe {
            let loaded = match T::DTYPE {
                DType::F32 => _mm512_maskz_loadu_ps(mask, x.as_ptr().cast()),
                DType::F16 => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, x.as_ptr().cast())),
                DType::BF16 => widen_bf16(self, _mm256_maskz_loadu_epi16(mask, x.as_ptr().cast())),
            };
            _mm512_mask_blend_ps(mask, _mm512_set1_ps(fill), loaded)
        }
    }
    /// Of bf16 the even elements and the odd ones: what widens them is a shift or a mask.
    #[inline(always)]
    fn load_two<T: Element>(self, x: &[T]) -> (__m512, __m512) {
        if T::DTYPE != DType::BF16 {
            return (self.load_as(x), self.load_as(&x[Self::N..]));
        }
        let x: &[T; 32] = head(x);
        // SAFETY: T is bf16, by its tag, so that 64 bytes are readable; the token proves AVX-512 F.
        let both = unsafe { _mm512_castsi512_ps(_mm512_loadu_si512(x.as_ptr().cast())) };
        // SAFETY: as above; nothing here touches memory.
        let even = unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(both))) };
        (even, self.bf16_part(both))
    }
    #[inline(always)]
    fn in_order<T: Element>(self, (a, b): (__m512, __m512)) -> (__m512, __m512) {
        if T::DTYPE == DType::BF16 { self.interleave(a, b) } else { (a, b) }
    }
    #[inline(always)]
    fn store_two<T: Element>(self, out: &mut [T], (a, b): (__m512, __m512)) {
        if T::DTYPE != DType::BF16 {
            self.store_as(out, a);
            return self.store_as(&mut out[Self::N..], b);
        }
        let (a, b) = (round_to_bf16(self, a), round_to_bf16(self, b));
        let out: &mut [T; 32] = head_mut(out);
        // SAFETY: T is bf16, by its tag, so that 64 bytes are writable; the token proves AVX-512 F
        // and BW.
        unsafe {
            let both = self.bf16_pair(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_castps_si512(both));
        }
    }
    #[inline(always)]
    fn store_partial<T: Element>(self, out: &mut [T], a: __m512) {
        let mask = first_lanes(out.len());
        // SAFETY: the mask covers exactly the elements of out, and masked-out lanes are not
        // accessed; T is the type of the branch, by its tag; the token proves AVX-512 F, BW, VL.
        unsafe {
            match T::DTYPE {
                DType::F32 => _mm512_mask_storeu_ps(out.as_mut_ptr().cast(), mask, a),
                DType::F16 => {
                    let bits = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
                    _mm256_mask_storeu_epi16(out.as_mut_ptr().cast(), mask, bits);
                }
                DType::BF16 => {
                    _mm256_mask_storeu_epi16(out.as_mut_ptr().cast(), mask, narrow_bf16(self, a));
                }
            }
        }
    }

    on_registers! {
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn sqrt(a: __m512) -> __m512 { _mm512_sqrt_ps(a) }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn neg_mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fnmadd_ps(a, b, c) }
        fn mul_sub(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmsub_ps(a, b, c) }
        fn neg(a: __m512) -> __m512 { _mm512_xor_ps(a, _mm512_set1_ps(-0.0)) }
        fn abs(a: __m512) -> __m512 { _mm512_andnot_ps(_mm512_set1_ps(-0.0), a) }
        fn copysign(a: __m512, b: __m512) -> __m512 {
            // 0xd8 is the truth table of `sign ? b : a`.
            let sign = _mm512_set1_epi32(i32::MIN);
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xd8>(a, b, sign))
        }
        fn round(a: __m512) -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn lt(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
        fn le(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b) }
        fn eq(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b) }
        fn is_nan(a: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a) }
        fn select(mask: __mmask16, a: __m512, b: __m512) -> __m512 { _mm512_mask_blend_ps(mask, b, a) }
        fn shift(a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
        fn ldexp(a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
        fn split(a: __m512) -> (__m512, __m512) {
            // The bits of √½, so that the exponent field of the difference is e.
            let root_half = _mm512_set1_epi32(0x3f35_04f3);
            let offset = _mm512_sub_epi32(_mm512_castps_si512(a), root_half);
            let significand = _mm512_and_si512(offset, _mm512_set1_epi32(0x007f_ffff));
            let exponent = _mm512_cvtepi32_ps(_mm512_srai_epi32::<23>(offset));
            (_mm512_castsi512_ps(_mm512_add_epi32(significand, root_half)), exponent)
        }
        fn bf16_part(a: __m512) -> __m512 {
            let kept = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), kept))
        }
        fn bf16_pair(low: __m512, high: __m512) -> __m512 {
            let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(low));
            // The odd half-lanes of high, the even ones of low.
            _mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, low, _mm512_castps_si512(high)))
        }
        fn lookup(table: (__m512, __m512), index: __m512) -> __m512 {
            _mm512_permutex2var_ps(table.0, _mm512_castps_si512(index), table.1)
        }
        fn reduce_add(a: __m512) -> f32 { _mm512_reduce_add_ps(a) }
        fn reduce_max(a: __m512) -> f32 { _mm512_reduce_max_ps(a) }
        fn reduce_min(a: __m512) -> f32 { _mm512_reduce_min_ps(a) }
        fn reduce_add_f64(a: __m512) -> f64 {
            let low = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
            let high = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(a));
            _mm512_reduce_add_pd(_mm512_add_pd(low, high))
        }
        fn interleave(a: __m512, b: __m512) -> (__m512, __m512) {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b))
        }
        fn deinterleave(a: __m512, b: __m512) -> (__m512, __m512) {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        }
    }

    #[inline(always)]
    fn table(self, table: &'static [f32; TABLE]) -> (__m512, __m512) {
        (self.load(&table[..16]), self.load(&table[16..]))
    }
    #[inline(always)]
    fn first(self, n: usize) -> __mmask16 {
        first_lanes(n.min(16))
    }
    #[inline(always)]
    fn and(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn or(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }
    #[inline(always)]
    fn any(self, a: __mmask16) -> bool {
        a != 0
    }
}
