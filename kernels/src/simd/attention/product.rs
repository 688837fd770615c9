//! The two matrix products of a step, on registers.
//!
//! Queries lie in the lanes. A block of MR keys (or MR columns of V) times NR vectors of queries
//! accumulates in MR·NR registers: each step loads NR vectors, broadcasts MR numbers straight
//! from K or V as they lie in memory, and does MR·NR multiply-adds. 8×3 fills 32 registers with
//! 24 accumulators, 6×2 fills 16 with 12; both hide the latency of FMA, and neither needs K or V
//! to be packed.

use crate::simd::isa::Isa;
use crate::simd::lanes::{Kernel, Lanes};

/// Vectors of queries that are computed together.
pub(super) const fn strip_vectors<L: Lanes>() -> usize {
    if L::REGISTERS >= 32 { 3 } else { 2 }
}

/// The same in rows, of an instruction set chosen at run time.
pub(super) fn strip_rows(isa: Isa) -> usize {
    struct Rows;
    impl Kernel for Rows {
        type Output = usize;
        #[inline(always)]
        fn run<L: Lanes>(self, _: L) -> usize {
            strip_vectors::<L>() * L::N
        }
    }
    isa.run(Rows)
}

/// Keys that are computed together.
pub(super) const fn block_rows<L: Lanes>() -> usize {
    if L::REGISTERS >= 32 { 8 } else { 6 }
}

/// Calls `$block::<L, MR, NR>(at, …)` for blocks of 8 or 6, then 4, 2 and 1, until `$n` are done.
macro_rules! in_blocks {
    ($L:ident, $NR:ident, $n:expr, $block:ident($($arg:expr),*)) => {{
        let n = $n;
        let mut at = 0;
        if $L::REGISTERS >= 32 {
            while at + 8 <= n {
                $block::<$L, 8, $NR>(at, $($arg),*);
                at += 8;
            }
        } else {
            while at + 6 <= n {
                $block::<$L, 6, $NR>(at, $($arg),*);
                at += 6;
            }
        }
        if at + 4 <= n {
            $block::<$L, 4, $NR>(at, $($arg),*);
            at += 4;
        }
        if at + 2 <= n {
            $block::<$L, 2, $NR>(at, $($arg),*);
            at += 2;
        }
        if at < n {
            $block::<$L, 1, $NR>(at, $($arg),*);
        }
    }};
}

/// s\[j\] = Σ_d k\[j\]\[d\]·q\[d\] for all keys, where s\[j\] and q\[d\] are NR vectors.
#[inline(always)]
pub(super) fn scores<L: Lanes, const NR: usize>(lanes: L, k: &[f32], depth: usize, q: &[f32], s: &mut [f32]) {
    in_blocks!(L, NR, k.len() / depth, scores_of(lanes, k, depth, q, s));
}

#[inline(always)]
fn scores_of<L: Lanes, const MR: usize, const NR: usize>(
    at: usize,
    lanes: L,
    k: &[f32],
    depth: usize,
    q: &[f32],
    s: &mut [f32],
) {
    let mut keys = [&k[..0]; MR];
    for (r, key) in keys.iter_mut().enumerate() {
        *key = &k[(at + r) * depth..][..depth];
    }
    let mut sums = [[lanes.splat(0.0); NR]; MR];
    for (d, q) in (0..depth).zip(q.chunks_exact(NR * L::N)) {
        let mut vectors = [lanes.splat(0.0); NR];
        for (v, vector) in vectors.iter_mut().enumerate() {
            *vector = lanes.load(&q[v * L::N..]);
        }
        for (key, sums) in keys.iter().zip(&mut sums) {
            let k = lanes.splat(key[d]);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = lanes.mul_add(vector, k, *sum);
            }
        }
    }
    // Cut to a length that is known, and indexed: so the sums stay in registers until they are stored.
    let s = &mut s[at * NR * L::N..][..MR * NR * L::N];
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            lanes.store(&mut s[(r * NR + v) * L::N..], sum);
        }
    }
}

/// o\[c\] = o\[c\]·correction + Σ_j v\[j\]\[c\]·p\[j\] for all columns c of V, where o\[c\], the
/// correction and p\[j\] are NR vectors.
#[inline(always)]
pub(super) fn accumulate<L: Lanes, const NR: usize>(
    lanes: L,
    v: &[f32],
    v_dim: usize,
    p: &[f32],
    correction: &[f32],
    o: &mut [f32],
) {
    in_blocks!(L, NR, v_dim, accumulate_of(lanes, v, v_dim, p, correction, o));
}

#[inline(always)]
fn accumulate_of<L: Lanes, const MR: usize, const NR: usize>(
    at: usize,
    lanes: L,
    v: &[f32],
    v_dim: usize,
    p: &[f32],
    correction: &[f32],
    o: &mut [f32],
) {
    let mut sums = [[lanes.splat(0.0); NR]; MR];
    for (v, p) in v.chunks_exact(v_dim).zip(p.chunks_exact(NR * L::N)) {
        let mut vectors = [lanes.splat(0.0); NR];
        for (v, vector) in vectors.iter_mut().enumerate() {
            *vector = lanes.load(&p[v * L::N..]);
        }
        for (v, sums) in v[at..at + MR].iter().zip(&mut sums) {
            let v = lanes.splat(*v);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = lanes.mul_add(vector, v, *sum);
            }
        }
    }
    let o = &mut o[at * NR * L::N..][..MR * NR * L::N];
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            let o = &mut o[(r * NR + v) * L::N..];
            let correction = lanes.load(&correction[v * L::N..]);
            lanes.store(o, lanes.mul_add(lanes.load(o), correction, sum));
        }
    }
}
