//! AVX512-BF16: sums of products of pairs of bf16, sixteen at a time.
//!
//! One instruction adds to each of sixteen f32 the two products of a pair: twice the multiply-adds of
//! an FMA. What it computes is what AMX does (see [`tiles`](super::tiles)): products exact in f32,
//! additions that round to nearest even, subnormal operands counted as zero and subnormal sums made
//! zero, whatever the thread's modes are.

pub use machine::Pairs;

#[cfg(target_arch = "x86_64")]
mod machine {
    use std::arch::x86_64::*;

    /// Lanes of a vector.
    const N: usize = 16;

    /// The proof that this CPU has AVX512-BF16.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pairs(());

    impl Pairs {
        /// The proof, where it can be had.
        pub fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"))
                .then_some(Pairs(()))
        }

        /// s\[j\] = Σ_d k\[j\]\[d\]·q\[d\] for all keys, where s\[j\] and q\[d\] are NR vectors. Keys lie
        /// as in memory; q holds, for each pair of d, words of two bf16, the first in the lower half.
        ///
        /// # Panics
        /// When `depth` is odd or zero, or a slice too short.
        pub fn scores<const NR: usize>(self, k: &[u16], depth: usize, q: &[f32], s: &mut [f32]) {
            assert!(depth > 0 && depth.is_multiple_of(2), "an odd head dimension has no pairs");
            // SAFETY: the token proves AVX-512 F and BF16.
            unsafe { all_scores::<NR>(k.as_chunks().0, depth / 2, q, s) }
        }
    }

    /// Blocks of eight keys, then what is left: 8 × 3 sums fill 24 of 32 registers.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn all_scores<const NR: usize>(k: &[[u16; 2]], words: usize, q: &[f32], s: &mut [f32]) {
        let q = &q[..words * NR * N];
        let keys = k.len() / words;
        let mut at = 0;
        while at + 8 <= keys {
            block::<8, NR>(&k[at * words..], words, q, &mut s[at * NR * N..]);
            at += 8;
        }
        if at + 4 <= keys {
            block::<4, NR>(&k[at * words..], words, q, &mut s[at * NR * N..]);
            at += 4;
        }
        if at + 2 <= keys {
            block::<2, NR>(&k[at * words..], words, q, &mut s[at * NR * N..]);
            at += 2;
        }
        if at < keys {
            block::<1, NR>(&k[at * words..], words, q, &mut s[at * NR * N..]);
        }
    }

    /// MR keys.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn block<const MR: usize, const NR: usize>(k: &[[u16; 2]], words: usize, q: &[f32], s: &mut [f32]) {
        let mut keys = [&k[..0]; MR];
        for (r, key) in keys.iter_mut().enumerate() {
            *key = &k[r * words..][..words];
        }
        let mut sums = [[_mm512_setzero_ps(); NR]; MR];
        for (w, q) in (0..words).zip(q.chunks_exact(NR * N)) {
            let mut vectors = [pairs(_mm512_setzero_si512()); NR];
            for (v, vector) in vectors.iter_mut().enumerate() {
                let q: &[f32] = &q[v * N..][..N];
                // SAFETY: sixteen f32 are readable.
                *vector = pairs(unsafe { _mm512_loadu_si512(q.as_ptr().cast()) });
            }
            for (key, sums) in keys.iter().zip(&mut sums) {
                let k = pairs(_mm512_set1_epi32(bytemuck::cast(key[w])));
                for (sum, vector) in sums.iter_mut().zip(vectors) {
                    *sum = _mm512_dpbf16_ps(*sum, vector, k);
                }
            }
        }
        let s = &mut s[..MR * NR * N];
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let s: &mut [f32] = &mut s[(r * NR + v) * N..][..N];
                // SAFETY: sixteen f32 are writable.
                unsafe { _mm512_storeu_ps(s.as_mut_ptr(), sum) }
            }
        }
    }

    /// The same bits, as the type of 32 bf16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn pairs(words: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes of which any are valid.
        unsafe { std::mem::transmute(words) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod machine {
    use std::convert::Infallible;

    /// Nothing here multiplies pairs.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pairs(Infallible);

    impl Pairs {
        /// None.
        pub fn detect() -> Option<Self> {
            None
        }

        /// Never called.
        pub fn scores<const NR: usize>(self, _: &[u16], _: usize, _: &[f32], _: &mut [f32]) {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// Small integers, of which every sum is exact.
    fn sums_are_those_of_the_definition<const NR: usize>(pairs: Pairs) {
        let (keys, depth, width) = (15, 6, NR * 16);
        let number = |i: usize| (i * 37 % 17) as f32 - 8.0;
        let k: Vec<u16> = (0..keys * depth).map(|i| bf16::from_f32(number(i)).to_bits()).collect();
        let q = |d: usize, r: usize| number(d * 29 + r * 5 + 3);
        let word = |low: f32, high: f32| f32::from_bits(low.to_bits() >> 16 | high.to_bits());
        let words: Vec<f32> = (0..depth / 2 * width)
            .map(|i| (i / width * 2, i % width))
            .map(|(d, r)| word(q(d, r), q(d + 1, r)))
            .collect();
        let mut s = vec![f32::NAN; keys * width];
        pairs.scores::<NR>(&k, depth, &words, &mut s);
        for (i, s) in s.iter().enumerate() {
            let (j, r) = (i / width, i % width);
            let sum: f32 = (0..depth).map(|d| number(j * depth + d) * q(d, r)).sum();
            assert_eq!(*s, sum, "key {j}, row {r}");
        }
    }

    #[test]
    #[cfg_attr(not(has_avx512_bf16), ignore = "no AVX512-BF16 on this machine")]
    fn scores_are_those_of_the_definition() {
        let pairs = Pairs::detect().expect("this was built on a machine with AVX512-BF16");
        sums_are_those_of_the_definition::<1>(pairs);
        sums_are_those_of_the_definition::<2>(pairs);
        sums_are_those_of_the_definition::<3>(pairs);
    }

    #[test]
    #[cfg_attr(not(has_avx512_bf16), ignore = "no AVX512-BF16 on this machine")]
    fn slices_that_are_too_short_are_refused() {
        let pairs = Pairs::detect().expect("this was built on a machine with AVX512-BF16");
        for (depth, q, s) in [(3, 64, 64), (0, 64, 64), (4, 31, 64), (4, 64, 15)] {
            let refused = std::panic::catch_unwind(|| {
                pairs.scores::<1>(&[0; 4], depth, &vec![0.0; q], &mut vec![0.0; s]);
            });
            assert!(refused.is_err(), "depth {depth}, {q} words of queries, {s} scores");
        }
    }
}
