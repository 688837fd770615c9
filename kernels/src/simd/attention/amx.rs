//! The two matrix products of a step over bf16, in tile registers.
//!
//! Q, K and V go in as they are. A weight is the sum of three bf16, its *parts*: the upper eight
//! significant bits, the next eight and the rest, cut off and not rounded, so that their products with a
//! value add up to that of the weight itself. Products of two bf16 are exact in f32, and so the result is
//! as accurate as one by multiply-adds of f32.
//!
//! Tiles take subnormal numbers for zero, and so the values are scaled by [`VALUES`] and the weights by
//! [`WEIGHTS`], powers of two that the result is divided by. What then still vanishes is below 2⁻¹⁵⁰ of
//! a weight or value of 1, which is f32's own underflow. Results beyond 2⁶³ overflow; rows that are not
//! finite are computed again elsewhere. Queries are only looked at: with subnormal or huge ones the task
//! is not for tiles. What a key holds must not decide that: other rows may not see it.
//!
//! All matrices are padded with zeros to whole blocks.

use crate::dtype::Element;
use crate::simd::lanes::{Lanes, MAX_LANES};
use crate::simd::tiles::{BLOCK, Chunk, Session, TILE};

use super::exp2::exp2;
use super::transpose::transpose;

/// Factor of V.
const VALUES: f32 = (1u64 << 40) as f32;

/// Factor of the weights.
const WEIGHTS: f32 = (1u64 << 24) as f32;

/// Parts of a weight.
const PARTS: usize = 3;

/// The products of a task's steps, and the form of their operands.
pub(super) struct Products {
    session: Session,
    /// Words of a row of queries or keys: pairs of D.
    depth: usize,
    /// Rows of Vᵀ.
    columns: usize,
    /// Keys of a tile.
    keys: usize,
    /// What a block of scores is the sum of.
    scores: Vec<Chunk>,
    /// What a block of results is the sum of, the smallest parts first: so little is lost.
    sums: Vec<Chunk>,
}

impl Products {
    /// For tiles of up to `keys` keys.
    pub(super) fn new(session: Session, head_dim: usize, v_dim: usize, keys: usize) -> Self {
        let depth = head_dim.div_ceil(2).next_multiple_of(TILE);
        let columns = v_dim.next_multiple_of(BLOCK);
        let keys = keys.next_multiple_of(BLOCK);
        let chunk = |word: usize, b: usize| Chunk { a: word, b: b + word * BLOCK };
        let scores = (0..depth).step_by(TILE).map(|word| chunk(word, 0)).collect();
        let pairs = keys / 2;
        let of_part =
            |part: usize| (0..pairs).step_by(TILE).map(move |word| chunk(word, part * pairs * BLOCK));
        let sums = (0..PARTS).rev().flat_map(of_part).collect();
        Products { session, depth, columns, keys, scores, sums }
    }

    /// Words of a row of queries.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Words of a tile's packed keys.
    pub(super) fn key_words(&self) -> usize {
        self.keys * self.depth
    }

    /// Words of a tile's packed values.
    pub(super) fn value_words(&self) -> usize {
        self.columns * self.keys / 2
    }

    /// Words of a step's packed weights.
    pub(super) fn weight_words(&self) -> usize {
        PARTS * self.keys / 2 * BLOCK
    }

    /// Scores of a step.
    pub(super) fn score_words(&self) -> usize {
        self.keys * BLOCK
    }

    /// Packs the keys of a tile, \[keys\]\[D/2\] words.
    #[inline(always)]
    pub(super) fn pack_keys<T: Element>(&self, k: &[T], depth: usize, to: &mut [f32]) {
        let zero = T::from_f32(0.0);
        // Two bf16 are a word, and lie in it as in memory.
        let mut rows = bytemuck::cast_slice_mut::<f32, T>(to).chunks_exact_mut(2 * self.depth);
        for (row, to) in k.chunks_exact(depth).zip(rows.by_ref()) {
            to[..depth].copy_from_slice(row);
            to[depth..].fill(zero);
        }
        rows.for_each(|to| to.fill(zero));
    }

    /// Packs the transposed values of a tile, \[Dv\]\[keys/2\] words.
    #[inline(always)]
    pub(super) fn pack_values<L: Lanes, T: Element>(&self, lanes: L, v: &[T], v_dim: usize, to: &mut [f32]) {
        let (stride, factor, rows) = (self.keys / 2, lanes.splat(VALUES), v.len() / v_dim);
        for column in (0..self.columns).step_by(L::N) {
            let run = column.min(v_dim)..v_dim.min(column + L::N);
            for word in (0..stride).step_by(L::N) {
                let mut block = [lanes.splat(0.0); MAX_LANES];
                for (n, words) in block.iter_mut().enumerate().take(L::N) {
                    let j = 2 * (word + n);
                    let mut pair = [lanes.splat(0.0); 2];
                    for (n, x) in pair.iter_mut().enumerate().take(rows.saturating_sub(j)) {
                        *x = lanes.mul(factor, head_of(lanes, &v[(j + n) * v_dim..][run.clone()]));
                    }
                    *words = lanes.bf16_pair(pair[0], pair[1]);
                }
                transpose(lanes, &mut block);
                for (c, vector) in block.iter().enumerate().take(L::N) {
                    lanes.store(&mut to[(column + c) * stride + word..], *vector);
                }
            }
        }
    }

    /// The weights of a step from its scores, \[keys\]\[32\]: adds up 2^(s·factor − from) and packs it,
    /// \[parts\]\[keys/2\]\[32\] words.
    #[inline(always)]
    pub(super) fn weigh<L: Lanes, const NR: usize>(
        &self,
        lanes: L,
        s: &[f32],
        factor: L::F,
        from: [L::F; NR],
        sums: &mut [L::F; NR],
        to: &mut [f32],
    ) {
        let (pairs, scale) = (self.keys / 2, lanes.splat(WEIGHTS));
        let mut rows = s.chunks_exact(2 * BLOCK);
        for (pair, s) in rows.by_ref().enumerate() {
            for v in 0..NR {
                let at = v * L::N;
                let (low, high) = (lanes.load(&s[at..]), lanes.load(&s[BLOCK + at..]));
                let scores = [lanes.mul_sub(low, factor, from[v]), lanes.mul_sub(high, factor, from[v])];
                let [low, high] = exp2(lanes, scores);
                sums[v] = lanes.add(sums[v], lanes.add(low, high));
                pack_parts(
                    lanes,
                    lanes.mul(low, scale),
                    lanes.mul(high, scale),
                    pairs,
                    &mut to[pair * BLOCK + at..],
                );
            }
        }
        let mut done = s.len() / (2 * BLOCK);
        let zero = lanes.splat(0.0);
        if let Some(s) = rows.remainder().get(..BLOCK) {
            for v in 0..NR {
                let at = v * L::N;
                let [low] = exp2(lanes, [lanes.mul_sub(lanes.load(&s[at..]), factor, from[v])]);
                sums[v] = lanes.add(sums[v], low);
                pack_parts(lanes, lanes.mul(low, scale), zero, pairs, &mut to[done * BLOCK + at..]);
            }
            done += 1;
        }
        for part in to.chunks_exact_mut(pairs * BLOCK) {
            part[done * BLOCK..].fill(0.0);
        }
    }

    /// The scores of a tile against a strip, \[keys\]\[32\], from packed operands.
    #[inline(always)]
    pub(super) fn scores(&self, k: &[f32], q: &[f32], s: &mut [f32]) {
        for (block, s) in s.chunks_exact_mut(BLOCK * BLOCK).enumerate() {
            self.session.multiply(&k[block * BLOCK * self.depth..], self.depth, q, &self.scores, s);
        }
    }

    /// o\[c\] = o\[c\]·correction + Σ_j v\[j\]\[c\]·p\[j\] for all columns c of V, from packed operands.
    #[inline(always)]
    pub(super) fn accumulate<L: Lanes>(
        &self,
        lanes: L,
        v: &[f32],
        p: &[f32],
        correction: &[f32],
        o: &mut [f32],
    ) {
        #[repr(align(64))]
        struct Sums([f32; BLOCK * BLOCK]);
        let mut sums = Sums([0.0; BLOCK * BLOCK]);
        let (stride, unscale) = (self.keys / 2, lanes.splat(1.0 / VALUES / WEIGHTS));
        for (block, o) in o.chunks_mut(BLOCK * BLOCK).enumerate() {
            self.session.multiply(&v[block * BLOCK * stride..], stride, p, &self.sums, &mut sums.0);
            for (at, o) in o.chunks_exact_mut(L::N).enumerate() {
                let correction = lanes.load(&correction[at * L::N % BLOCK..]);
                let sum = lanes.mul(lanes.load(&sums.0[at * L::N..]), unscale);
                lanes.store(o, lanes.mul_add(lanes.load(o), correction, sum));
            }
        }
    }
}

/// The first N numbers, with zeros where there are fewer.
#[inline(always)]
fn head_of<L: Lanes, T: Element>(lanes: L, x: &[T]) -> L::F {
    match x.get(..L::N) {
        Some(x) => lanes.load_as(x),
        None => lanes.load_partial(x, 0.0),
    }
}

/// Writes the parts of two vectors as words, `pairs` rows apart.
#[inline(always)]
fn pack_parts<L: Lanes>(lanes: L, mut low: L::F, mut high: L::F, pairs: usize, to: &mut [f32]) {
    for part in 0..PARTS {
        lanes.store(&mut to[part * pairs * BLOCK..], lanes.bf16_pair(low, high));
        (low, high) = (lanes.sub(low, lanes.bf16_part(low)), lanes.sub(high, lanes.bf16_part(high)));
    }
}
