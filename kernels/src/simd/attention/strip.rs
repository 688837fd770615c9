//! A strip of queries, and its step over a tile of keys.

use std::ops::Range;

use super::amx::Products;
use super::exp2::exp2;
use super::finish;
use super::operands::{MaskRow, Operands};
use super::product::{accumulate, scores, strip_vectors};
use super::rules::{QueryLanes, Rules};
use super::tile::KEYS;
use super::transpose::to_columns;
use super::words::pack_queries;
use super::{Task, hull};
use crate::dtype::Element;
use crate::simd::lanes::{Kernel, Lanes, MAX_LANES};
use crate::simd::pairs::Pairs;

/// A few vectors of queries.
pub(super) struct Strip<'a> {
    /// Its rows of the task.
    pub(super) rows: Range<usize>,
    /// Lanes: its rows and what fills up the last vector.
    pub(super) width: usize,
    /// \[D\]\[width\], or words of two bf16.
    pub(super) q: &'a mut [f32],
    /// \[Dv\]\[width\].
    pub(super) o: &'a mut [f32],
    pub(super) max: &'a mut [f32],
    pub(super) sum: &'a mut [f32],
    pub(super) start: &'a mut [f32],
    pub(super) end: &'a mut [f32],
    pub(super) position: &'a mut [f32],
    pub(super) slope: &'a mut [f32],
    /// Keys that any row sees, and that all rows see.
    pub(super) any: Range<usize>,
    pub(super) all: Range<usize>,
}

/// The keys of a tile, for what multiplies them.
#[derive(Clone, Copy)]
pub(super) enum Keys<'a> {
    /// \[keys\]\[D\].
    Lanes(&'a [f32]),
    /// \[keys\]\[D\], the bits of bf16.
    Pairs(Pairs, &'a [u16]),
    /// Packed.
    Tiles(&'a Products, &'a [f32]),
}

impl Keys<'_> {
    /// Some of them. What is packed is taken whole.
    pub(super) fn of(self, part: Range<usize>, depth: usize) -> Self {
        let part = part.start * depth..part.end * depth;
        match self {
            Keys::Lanes(k) => Keys::Lanes(&k[part]),
            Keys::Pairs(pairs, k) => Keys::Pairs(pairs, &k[part]),
            Keys::Tiles(..) => self,
        }
    }
}

impl Strip<'_> {
    /// Sets what each lane needs to know.
    #[inline(always)]
    pub(super) fn begin<T: Element>(&mut self, x: &Operands<T>, task: &Task) {
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
    pub(super) fn pack<L: Lanes, T: Element>(&mut self, lanes: L, x: &Operands<T>, task: &Task, scale: f32) {
        let scale = lanes.splat(scale);
        for lane in (0..self.width).step_by(L::N) {
            let row = |r: usize| Self::query(&self.rows, lane + r, x, task);
            to_columns(lanes, row, scale, x.spec.head_dim, &mut self.q[lane..], self.width);
        }
    }

    /// Packs the queries as words of two bf16, not scaled. Whether they are for units that take them.
    #[inline(always)]
    pub(super) fn pack_words<L: Lanes, T: Element>(
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
    pub(super) fn mask<L: Lanes, T: Element>(
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

/// From here on f32 has no fractions. A maximum that was rounded may differ from the score that it comes
/// from by hundreds, and the largest weight be 2^±128 instead of 1. So scores are rounded as well.
const COARSE: f32 = 16_777_216.0;

/// A strip against a tile of keys. Does not depend on the storage type, and is a function of its
/// own: `run` is not inlined into the task.
pub(super) struct Step<'a, 'b> {
    pub(super) k: Keys<'a>,
    pub(super) v: &'a [f32],
    /// For tiles, room for packed weights.
    pub(super) weights: Option<&'a mut [f32]>,
    pub(super) keys: usize,
    /// What scores are still to be multiplied with: queries in bf16 are not scaled.
    pub(super) factor: f32,
    pub(super) depth: usize,
    pub(super) v_dim: usize,
    /// The number of the first key.
    pub(super) first: usize,
    /// None when plain scores are final and every row sees every key.
    pub(super) rules: Option<&'a Rules>,
    pub(super) mask: Option<&'a [f32]>,
    pub(super) scores: &'a mut [f32],
    pub(super) strip: &'a mut Strip<'b>,
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
        let is_scaled = factor != 1.0;
        let mut factor = lanes.splat(factor);
        let mut max = [lanes.splat(f32::NEG_INFINITY); NR];
        for s in s.chunks_exact(width) {
            for (max, s) in max.iter_mut().zip(s.chunks_exact(L::N)) {
                *max = lanes.max(lanes.load(s), *max);
            }
        }
        let mut coarse = lanes.splat(0.0);
        for (max, old) in max.iter_mut().zip(old) {
            *max = lanes.max(lanes.mul(factor, *max), old);
            coarse = lanes.max(lanes.abs(*max), coarse);
        }
        if is_scaled && lanes.any(lanes.ge(coarse, lanes.splat(COARSE))) {
            for s in s.chunks_exact_mut(L::N) {
                lanes.store(s, lanes.mul(lanes.load(s), factor));
            }
            factor = lanes.splat(1.0);
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
