//! Many rows: queries in the lanes.
//!
//! A task's rows are cut into *strips* of two or three vectors. For each tile of keys and each
//! strip: scores = K·Qᵀ with a vector of queries for each key, so that the softmax over keys is
//! arithmetic between vectors, and then the transposed result Oᵀ += Vᵀ·P.

use std::borrow::Cow;
use std::ops::Range;

use super::amx::Products;
use super::exp2::exp2;
use super::finish;
use super::operands::{MaskRow, Operands};
use super::product::{accumulate, block_rows, scores, strip_vectors};
use super::rules::{QueryLanes, Rules};
use super::transpose::{to_columns, to_rows};
use super::words::pack_queries;
use super::{Partial, Task, Unit, hull};
use crate::dtype::{DType, Element};
use crate::simd::buffer::Buffer;
use crate::simd::cut::cut_mut;
use crate::simd::lanes::{Kernel, Lanes, MAX_LANES};
use crate::simd::pairs::Pairs;
use crate::simd::tiles::BLOCK;

/// Most keys of a tile: their scores for a strip stay in L1, and the running results are touched once
/// in so many multiply-adds.
const KEYS: usize = 128;

/// Most rows of a strip.
pub(super) const MAX_WIDTH: usize = 3 * MAX_LANES;

#[derive(Default)]
pub(super) struct Scratch {
    q: Buffer,
    o: Buffer,
    scores: Buffer,
    mask: Buffer,
    k: Buffer,
    v: Buffer,
    weights: Buffer,
    lanes: Buffer,
}

/// One task. Nothing comes of it where its queries are not for the unit.
pub(super) struct Tile<'a, 'b, T> {
    pub(super) x: &'a Operands<'b, T>,
    pub(super) task: &'a Task,
    pub(super) clean: bool,
    pub(super) unit: Unit,
    pub(super) partial: &'a mut Partial,
    pub(super) scratch: &'a mut Scratch,
}

/// A few vectors of queries.
struct Strip<'a> {
    /// Its rows of the task.
    rows: Range<usize>,
    /// Lanes: its rows and what fills up the last vector.
    width: usize,
    /// \[D\]\[width\], or words of two bf16.
    q: &'a mut [f32],
    /// \[Dv\]\[width\].
    o: &'a mut [f32],
    max: &'a mut [f32],
    sum: &'a mut [f32],
    start: &'a mut [f32],
    end: &'a mut [f32],
    position: &'a mut [f32],
    slope: &'a mut [f32],
    /// Keys that any row sees, and that all rows see.
    any: Range<usize>,
    all: Range<usize>,
}

impl<T: Element> Kernel for Tile<'_, '_, T> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Option<()> {
        let Tile { x, task, clean, unit, partial, scratch } = self;
        let (depth, v_dim) = (x.spec.head_dim, x.spec.v_dim);
        let rules = Rules::new(x.spec, x.has_mask());
        let amx = match unit {
            Unit::Tiles(tiles) => {
                Some(Products::new(tiles.session(), depth, v_dim, KEYS.min(task.keys.len())))
            }
            Unit::Lanes | Unit::Pairs(_) => None,
        };
        let (strip, padded) = match &amx {
            None => (strip_vectors::<L>() * L::N, task.rows().next_multiple_of(L::N)),
            Some(_) => (BLOCK, task.rows().next_multiple_of(BLOCK)),
        };
        // Of a query.
        let words = match (&amx, unit) {
            (Some(amx), _) => amx.depth(),
            (None, Unit::Pairs(_)) => depth / 2,
            (None, _) => depth,
        };

        let mut q = scratch.q.reserve(padded.div_ceil(strip) * strip * words);
        let mut o = scratch.o.reserve(padded * v_dim);
        let mut per_lane = scratch.lanes.reserve(padded * 6);
        let mut strips = Vec::with_capacity(padded.div_ceil(strip));
        let mut first = 0;
        while first < padded {
            // Two strips of two vectors, rather than three and one.
            let left = padded - first;
            let width = if left == 4 * L::N { 2 * L::N } else { left }.min(strip);
            let mut piece = || cut_mut(&mut per_lane, width);
            let mut strip = Strip {
                rows: first..(first + width).min(task.rows()),
                width,
                max: piece(),
                sum: piece(),
                start: piece(),
                end: piece(),
                position: piece(),
                slope: piece(),
                q: cut_mut(&mut q, width * words),
                o: cut_mut(&mut o, width * v_dim),
                any: 0..0,
                all: 0..0,
            };
            strip.begin(x, task);
            match unit {
                Unit::Lanes => strip.pack(lanes, x, task, rules.scale),
                _ if strip.pack_words(lanes, x, task, rules.scale, words) => {}
                _ => return None,
            }
            strips.push(strip);
            first += width;
        }

        let score_tile = scratch.scores.reserve(KEYS * strip);
        let mask_tile = scratch.mask.reserve(if x.has_mask() { KEYS * strip } else { 0 });
        let seen = strips.iter().fold(0..0, |seen, strip| hull(seen, strip.any.clone()));
        let tiles = seen.len().div_ceil(KEYS).max(1);
        let tile = seen.len().div_ceil(tiles).max(1).next_multiple_of(block_rows::<L>()).min(KEYS);
        for first in seen.clone().step_by(tile) {
            let keys = first..(first + tile).min(seen.end);
            let (k, v) = (x.keys(task.batch, task.kv_head, &keys), x.values(task.batch, task.kv_head, &keys));
            let cleaned_k;
            let (k, v) = match (&amx, unit) {
                (None, Unit::Pairs(pairs)) => {
                    cleaned_k = cleaned_if(clean, k);
                    let k = Keys::Pairs(pairs, bytemuck::cast_slice(&cleaned_k));
                    (k, as_f32(lanes, v, clean, &mut scratch.v))
                }
                (None, _) => {
                    let k = Keys::Lanes(as_f32(lanes, k, clean, &mut scratch.k));
                    (k, as_f32(lanes, v, clean, &mut scratch.v))
                }
                (Some(amx), _) => {
                    let (k, v) = (cleaned_if(clean, k), cleaned_if(clean, v));
                    let packed_k = scratch.k.reserve(amx.key_words());
                    let packed_v = scratch.v.reserve(amx.value_words());
                    amx.pack_keys(&k, depth, packed_k);
                    amx.pack_values(lanes, &v, v_dim, packed_v);
                    (Keys::Tiles(amx, packed_k), &*packed_v)
                }
            };
            for strip in &mut strips {
                let mut seen = keys.start.max(strip.any.start)..keys.end.min(strip.any.end);
                if seen.is_empty() {
                    continue;
                }
                if amx.is_some() {
                    // Packed operands are taken whole.
                    seen = keys.clone();
                }
                let mask = if x.has_mask() {
                    strip.mask(lanes, x, task, &seen, mask_tile);
                    Some(&mask_tile[..seen.len() * strip.width])
                } else {
                    None
                };
                let plain = rules.is_empty() && strip.all.start <= seen.start && seen.end <= strip.all.end;
                let part = seen.start - keys.start..seen.end - keys.start;
                let (v, weights, scores) = match &amx {
                    None => (&v[part.start * v_dim..part.end * v_dim], None, seen.len() * strip.width),
                    Some(amx) => (v, Some(scratch.weights.reserve(amx.weight_words())), amx.score_words()),
                };
                lanes.run(Step {
                    k: k.of(part, depth),
                    v,
                    weights,
                    keys: seen.len(),
                    factor: match unit {
                        Unit::Lanes => 1.0,
                        Unit::Pairs(_) | Unit::Tiles(_) => rules.scale.abs(),
                    },
                    depth,
                    v_dim,
                    first: seen.start,
                    rules: if plain { None } else { Some(&rules) },
                    mask,
                    scores: &mut score_tile[..scores],
                    strip,
                });
            }
        }

        for strip in strips {
            let rows = strip.rows.clone();
            partial.max[rows.clone()].copy_from_slice(&strip.max[..rows.len()]);
            partial.sum[rows.clone()].copy_from_slice(&strip.sum[..rows.len()]);
            for r in (0..rows.len()).step_by(L::N) {
                let out = &mut partial.rows[(rows.start + r) * v_dim..];
                to_rows(lanes, &strip.o[r..], strip.width, v_dim, out, L::N.min(rows.len() - r));
            }
        }
        Some(())
    }
}

/// The keys of a tile, for what multiplies them.
#[derive(Clone, Copy)]
enum Keys<'a> {
    /// \[keys\]\[D\].
    Lanes(&'a [f32]),
    /// \[keys\]\[D\], the bits of bf16.
    Pairs(Pairs, &'a [u16]),
    /// Packed.
    Tiles(&'a Products, &'a [f32]),
}

impl Keys<'_> {
    /// Some of them. What is packed is taken whole.
    fn of(self, part: Range<usize>, depth: usize) -> Self {
        let part = part.start * depth..part.end * depth;
        match self {
            Keys::Lanes(k) => Keys::Lanes(&k[part]),
            Keys::Pairs(pairs, k) => Keys::Pairs(pairs, &k[part]),
            Keys::Tiles(..) => self,
        }
    }
}

/// A tile in f32: as it lies in memory where it can be, else converted.
#[inline(always)]
fn as_f32<'a, L: Lanes, T: Element>(lanes: L, x: &'a [T], clean: bool, buffer: &'a mut Buffer) -> &'a [f32] {
    if T::DTYPE == DType::F32 && !clean {
        return bytemuck::cast_slice(x);
    }
    let x = cleaned_if(clean, x);
    let to = buffer.reserve(x.len());
    for (x, to) in x.chunks(L::N).zip(to.chunks_mut(L::N)) {
        if x.len() == L::N {
            lanes.store(to, lanes.load_as(x));
        } else {
            lanes.store_partial(to, lanes.load_partial(x, 0.0));
        }
    }
    to
}

#[inline(always)]
fn cleaned_if<T: Element>(clean: bool, x: &[T]) -> Cow<'_, [T]> {
    if clean { Cow::Owned(cleaned(x)) } else { Cow::Borrowed(x) }
}

/// A copy with 0 for ∞ and NaN.
#[cold]
#[inline(never)]
pub(super) fn cleaned<T: Element>(x: &[T]) -> Vec<T> {
    x.iter().map(|x| if x.to_f32().is_finite() { *x } else { T::from_f32(0.0) }).collect()
}

impl Strip<'_> {
    /// Sets what each lane needs to know.
    #[inline(always)]
    fn begin<T: Element>(&mut self, x: &Operands<T>, task: &Task) {
        self.o.fill(0.0);
        self.any = 0..0;
        self.all = 0..usize::MAX;
        let rows = self.rows.len();
        let different = if x.queries_alike() { rows.min(1) } else { rows };
        for lane in 0..different {
            let (h, i) = task.head_and_query(self.rows.start + lane);
            let range = x.key_range(task.batch, i);
            let start = range.start.max(task.keys.start);
            let end = range.end.min(task.keys.end).max(start);
            (self.max[lane], self.sum[lane]) = finish::first(x, task, h);
            (self.start[lane], self.end[lane]) = (start as f32, end as f32);
            self.position[lane] = x.position(i) as f32;
            self.slope[lane] = (x.slope(h) as f64 * std::f64::consts::LOG2_E) as f32;
            self.all = self.all.start.max(start)..self.all.end.min(end);
            self.any = hull(self.any.clone(), start..end);
        }
        // Lanes without a query see nothing.
        let unused = [f32::NEG_INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0];
        let lanes = [
            &mut self.max,
            &mut self.sum,
            &mut self.start,
            &mut self.end,
            &mut self.position,
            &mut self.slope,
        ];
        for (lanes, unused) in lanes.into_iter().zip(unused) {
            let first = lanes[0];
            lanes[different..rows].fill(first);
            lanes[rows..self.width].fill(unused);
        }
    }

    /// The query in a lane, if there is one.
    fn query<'x, T: Element>(
        rows: &Range<usize>,
        lane: usize,
        x: &Operands<'x, T>,
        task: &Task,
    ) -> Option<&'x [T]> {
        let row = rows.start + lane;
        (row < rows.end).then(|| {
            let (h, i) = task.head_and_query(row);
            x.query(task.batch, h, i)
        })
    }

    /// Packs the queries, scaled.
    #[inline(always)]
    fn pack<L: Lanes, T: Element>(&mut self, lanes: L, x: &Operands<T>, task: &Task, scale: f32) {
        let scale = lanes.splat(scale);
        for lane in (0..self.width).step_by(L::N) {
            let row = |r: usize| Self::query(&self.rows, lane + r, x, task);
            to_columns(lanes, row, scale, x.spec.head_dim, &mut self.q[lane..], self.width);
        }
    }

    /// Packs the queries as words of two bf16, not scaled. Whether they are for units that take them.
    #[inline(always)]
    fn pack_words<L: Lanes, T: Element>(
        &mut self,
        lanes: L,
        x: &Operands<T>,
        task: &Task,
        scale: f32,
        words: usize,
    ) -> bool {
        let row = |lane: usize| Self::query(&self.rows, lane, x, task);
        pack_queries(lanes, row, (x.spec.head_dim, scale), (words, self.width), self.q)
    }

    /// The mask over a run of keys, [keys][width]: what is added, −∞ where nothing may be seen.
    #[inline(always)]
    fn mask<L: Lanes, T: Element>(
        &self,
        lanes: L,
        x: &Operands<T>,
        task: &Task,
        keys: &Range<usize>,
        mask: &mut [f32],
    ) {
        let one = lanes.splat(1.0);
        let mut booleans = [[0.0; KEYS]; MAX_LANES];
        for lane in (0..self.width).step_by(L::N) {
            let mut additive: [Option<&[T]>; MAX_LANES] = [None; MAX_LANES];
            for r in 0..L::N.min(self.rows.len().saturating_sub(lane)) {
                let (h, i) = task.head_and_query(self.rows.start + lane + r);
                match x.mask_row(task.batch, h, i, keys) {
                    None => {}
                    Some(MaskRow::Additive(row)) => additive[r] = Some(row),
                    Some(MaskRow::Boolean(row)) => {
                        for (to, may) in booleans[r].iter_mut().zip(row) {
                            *to = if *may != 0 { 0.0 } else { f32::NEG_INFINITY };
                        }
                    }
                }
            }
            let columns = &mut mask[lane..];
            if additive[0].is_some() {
                to_columns(lanes, |r| additive[r], one, keys.len(), columns, self.width);
            } else {
                let row = |r: usize| Some(&booleans[r][..keys.len()]);
                to_columns(lanes, row, one, keys.len(), columns, self.width);
            }
        }
    }
}

/// A strip against a tile of keys. Does not depend on the storage type, and is a function of its
/// own: `run` is not inlined into the task.
struct Step<'a, 'b> {
    k: Keys<'a>,
    v: &'a [f32],
    /// For tiles, room for packed weights.
    weights: Option<&'a mut [f32]>,
    keys: usize,
    /// What scores are still to be multiplied with: queries in bf16 are not scaled.
    factor: f32,
    depth: usize,
    v_dim: usize,
    /// The number of the first key.
    first: usize,
    /// None when plain scores are final and every row sees every key.
    rules: Option<&'a Rules>,
    mask: Option<&'a [f32]>,
    scores: &'a mut [f32],
    strip: &'a mut Strip<'b>,
}

impl Kernel for Step<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        match self.strip.width / L::N {
            1 => self.step::<L, 1>(lanes),
            3 if strip_vectors::<L>() == 3 => self.step::<L, 3>(lanes),
            _ => self.step::<L, 2>(lanes),
        }
    }
}

impl Step<'_, '_> {
    #[inline(always)]
    fn step<L: Lanes, const NR: usize>(self, lanes: L) {
        let Step { k, v, weights, keys, mut factor, depth, v_dim, first, rules, mask, scores: s, strip } =
            self;
        let width = NR * L::N;
        match k {
            Keys::Lanes(k) => scores::<L, NR>(lanes, k, depth, strip.q, s),
            Keys::Pairs(pairs, k) => pairs.scores::<NR>(k, depth, strip.q, s),
            Keys::Tiles(amx, k) => amx.scores(k, strip.q, s),
        }
        let s = &mut s[..keys * width];

        let load = |x: &[f32]| {
            let mut vectors = [lanes.splat(0.0); NR];
            for (vector, x) in vectors.iter_mut().zip(x.chunks_exact(L::N)) {
                *vector = lanes.load(x);
            }
            vectors
        };
        if let Some(rules) = rules {
            let (start, end) = (load(strip.start), load(strip.end));
            let (position, slope) = (load(strip.position), load(strip.slope));
            for (n, s) in s.chunks_exact_mut(width).enumerate() {
                let key = lanes.splat((first + n) as f32);
                for (lane, s) in s.chunks_exact_mut(L::N).enumerate() {
                    let query = QueryLanes {
                        start: start[lane],
                        end: end[lane],
                        position: position[lane],
                        slope: slope[lane],
                    };
                    let mask = || match mask {
                        Some(mask) => lanes.load(&mask[n * width + lane * L::N..]),
                        None => lanes.splat(0.0),
                    };
                    let score = lanes.mul(lanes.load(s), lanes.splat(factor));
                    lanes.store(s, rules.apply(lanes, score, &query, key, mask));
                }
            }
            factor = 1.0;
        }

        // A NaN among the scores is ignored here, and makes its weight NaN.
        let old = load(strip.max);
        let factor = lanes.splat(factor);
        let mut max = [lanes.splat(f32::NEG_INFINITY); NR];
        for s in s.chunks_exact(width) {
            for (max, s) in max.iter_mut().zip(s.chunks_exact(L::N)) {
                *max = lanes.max(lanes.load(s), *max);
            }
        }
        for (max, old) in max.iter_mut().zip(old) {
            *max = lanes.max(lanes.mul(factor, *max), old);
        }
        // Where every score is −∞, weights must be 0: 0 is as good a maximum as any.
        let nothing = lanes.splat(f32::NEG_INFINITY);
        let mut from = max;
        for from in &mut from {
            *from = lanes.select(lanes.eq(*from, nothing), lanes.splat(0.0), *from);
        }
        let mut sums = [lanes.splat(0.0); NR];
        let products = match (k, weights) {
            (Keys::Tiles(amx, _), Some(weights)) => {
                amx.weigh(lanes, s, factor, from, &mut sums, weights);
                Some((amx, weights))
            }
            _ => {
                for s in s.chunks_exact_mut(width) {
                    let mut x = load(s);
                    for (x, from) in x.iter_mut().zip(from) {
                        *x = lanes.mul_sub(*x, factor, from);
                    }
                    let p = exp2(lanes, x);
                    for (v, s) in s.chunks_exact_mut(L::N).enumerate() {
                        sums[v] = lanes.add(sums[v], p[v]);
                        lanes.store(s, p[v]);
                    }
                }
                None
            }
        };
        let mut correction = [0.0; 3 * MAX_LANES];
        for v in 0..NR {
            let at = v * L::N..(v + 1) * L::N;
            let [factor] = exp2(lanes, [lanes.sub(old[v], from[v])]);
            let sum = &mut strip.sum[at.clone()];
            lanes.store(sum, lanes.mul_add(lanes.load(sum), factor, sums[v]));
            lanes.store(&mut strip.max[at.clone()], max[v]);
            lanes.store(&mut correction[at], factor);
        }
        match products {
            None => accumulate::<L, NR>(lanes, v, v_dim, s, &correction, strip.o),
            Some((amx, weights)) => amx.accumulate(lanes, v, weights, &correction, strip.o),
        }
    }
}
