//! Few rows: K and V stream past, the head dimension in the lanes.
//!
//! With one to eight rows, as in decoding, the time is that of reading K and V once. A score is a
//! dot product along the rows of K; the result is a sum of rows of V.

use std::borrow::Cow;
use std::ops::Range;

use super::exp2::exp2;
use super::finish;
use super::operands::{MaskRow, Operands};
use super::rules::{QueryLanes, Rules};
use super::tile::cleaned;
use super::transpose::across;
use super::{Partial, Task, hull};
use crate::dtype::{DType, Element};
use crate::simd::buffer::Buffer;
use crate::simd::lanes::{Kernel, Lanes, MAX_LANES};

/// Keys of a tile: runs of K and V long enough for what fetches them ahead.
const KEYS: usize = 256;

#[derive(Default)]
pub(super) struct Scratch {
    q: Buffer,
    scores: Buffer,
}

/// One task.
pub(super) struct Stream<'a, 'b, T> {
    pub(super) x: &'a Operands<'b, T>,
    pub(super) task: &'a Task,
    pub(super) clean: bool,
    pub(super) partial: &'a mut Partial,
    pub(super) scratch: &'a mut Scratch,
}

/// 0, 1, 2 …
const COUNT: [f32; MAX_LANES] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// Calls `$block::<L, T, ROWS>(row, …)` for blocks of four, two and one rows.
macro_rules! in_row_blocks {
    ($rows:expr, $block:ident($($arg:expr),*)) => {{
        let mut row = 0;
        while row + 4 <= $rows {
            $block::<L, T, 4>(row, $($arg),*);
            row += 4;
        }
        if row + 2 <= $rows {
            $block::<L, T, 2>(row, $($arg),*);
            row += 2;
        }
        if row < $rows {
            $block::<L, T, 1>(row, $($arg),*);
        }
    }};
}

impl<T: Element> Kernel for Stream<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Stream { x, task, clean, partial, scratch } = self;
        let (depth, v_dim, rows) = (x.spec.head_dim, x.spec.v_dim, task.rows());
        let rules = Rules::new(x.spec, x.has_mask());
        let padded = depth.next_multiple_of(L::N);
        let q = scratch.q.reserve(rows * padded);
        let scores = scratch.scores.reserve(rows * KEYS);
        partial.rows.fill(0.0);
        let mut seen = 0..0;
        for row in 0..rows {
            let (h, i) = task.head_and_query(row);
            scaled(lanes, x.query(task.batch, h, i), rules.scale, &mut q[row * padded..][..padded]);
            (partial.max[row], partial.sum[row]) = finish::first(x, task, h);
            seen = hull(seen, range(x, task, i));
        }

        for first in (seen.start..seen.end).step_by(KEYS) {
            let keys = first..(first + KEYS).min(seen.end);
            let mut k = Cow::Borrowed(x.keys(task.batch, task.kv_head, &keys));
            let mut v = Cow::Borrowed(x.values(task.batch, task.kv_head, &keys));
            if clean {
                (k, v) = (Cow::Owned(cleaned(&k)), Cow::Owned(cleaned(&v)));
            }
            in_row_blocks!(rows, dots(lanes, &k, depth, q, padded, scores));
            for row in 0..rows {
                let s = &mut scores[row * KEYS..][..keys.len().next_multiple_of(L::N)];
                let out = &mut partial.rows[row * v_dim..][..v_dim];
                weights(lanes, x, task, &rules, row, &keys, s, out, &mut partial.max, &mut partial.sum);
            }
            in_row_blocks!(rows, sums(lanes, &v, v_dim, scores, &mut partial.rows));
        }
    }
}

/// The keys of the task that query i sees.
fn range<T: Element>(x: &Operands<T>, task: &Task, i: usize) -> Range<usize> {
    let range = x.key_range(task.batch, i);
    range.start.max(task.keys.start)..range.end.min(task.keys.end)
}

/// Scores of R rows from `row` on against all keys; and the values below: as functions of their own, in
/// which the registers suffice for the loop.
#[inline(always)]
fn dots<L: Lanes, T: Element, const R: usize>(
    row: usize,
    lanes: L,
    k: &[T],
    depth: usize,
    q: &[f32],
    padded: usize,
    scores: &mut [f32],
) {
    lanes.run(Dots::<T, R> { row, k, depth, q, padded, scores });
}

struct Dots<'a, T, const R: usize> {
    row: usize,
    k: &'a [T],
    depth: usize,
    q: &'a [f32],
    padded: usize,
    scores: &'a mut [f32],
}

impl<T: Element, const R: usize> Kernel for Dots<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Dots { row, k, depth, q, padded, scores } = self;
        // As many accumulators as lanes, so that their sums fill a vector; at least eight.
        let at = match (L::N, R) {
            (16, 1) => dots_by::<L, T, R, 16>(row, lanes, k, depth, q, padded, scores),
            (16, 2) | (_, 1) => dots_by::<L, T, R, 8>(row, lanes, k, depth, q, padded, scores),
            (16, _) | (_, 2) => dots_by::<L, T, R, 4>(row, lanes, k, depth, q, padded, scores),
            _ => dots_by::<L, T, R, 2>(row, lanes, k, depth, q, padded, scores),
        };
        for (n, key) in k[at * depth..].chunks_exact(depth).enumerate() {
            for (r, [sum]) in dots_of::<L, T, R, 1>(row, lanes, key, depth, q, padded).into_iter().enumerate()
            {
                scores[(row + r) * KEYS + at + n] = lanes.reduce_add(sum);
            }
        }
    }
}

/// Scores of R rows against K keys at a time, until fewer are left. Returns how many it has done.
#[inline(always)]
fn dots_by<L: Lanes, T: Element, const R: usize, const K: usize>(
    row: usize,
    lanes: L,
    k: &[T],
    depth: usize,
    q: &[f32],
    padded: usize,
    scores: &mut [f32],
) -> usize {
    let blocks = k.chunks_exact(K * depth);
    let done = blocks.len() * K;
    for (n, block) in blocks.enumerate() {
        let sums = dots_of::<L, T, R, K>(row, lanes, block, depth, q, padded);
        let mut dots = [0.0; 2 * MAX_LANES];
        for (sums, dots) in sums.as_flattened().chunks(L::N).zip(dots.chunks_mut(L::N)) {
            lanes.store(dots, across(lanes, sums));
        }
        for (r, dots) in dots.chunks_exact(K).take(R).enumerate() {
            scores[(row + r) * KEYS + n * K..][..K].copy_from_slice(dots);
        }
    }
    done
}

/// A query times the scale, with zeros after it. Of two vectors together the elements are in the order of
/// [`Lanes::load_two`], in which the keys meet them.
#[inline(always)]
fn scaled<L: Lanes, T: Element>(lanes: L, query: &[T], scale: f32, q: &mut [f32]) {
    let scale = lanes.splat(scale);
    let paired = if by_two::<T>() { query.len() - query.len() % (2 * L::N) } else { 0 };
    let (pairs, rest) = query.split_at(paired);
    let (q_pairs, q_rest) = q.split_at_mut(pairs.len());
    for (x, q) in pairs.chunks_exact(2 * L::N).zip(q_pairs.chunks_exact_mut(2 * L::N)) {
        let (a, b) = lanes.load_two(x);
        lanes.store(q, lanes.mul(a, scale));
        lanes.store(&mut q[L::N..], lanes.mul(b, scale));
    }
    for (x, q) in rest.chunks(L::N).zip(q_rest.chunks_exact_mut(L::N)) {
        lanes.store(q, lanes.mul(lanes.load_partial(x, 0.0), scale));
    }
}

/// Whether two vectors are loaded at a time, which brings nothing to f32.
#[inline(always)]
fn by_two<T: Element>() -> bool {
    T::DTYPE != DType::F32
}

/// Products of R rows with K keys, still to be added up across the lanes.
#[inline(always)]
fn dots_of<L: Lanes, T: Element, const R: usize, const K: usize>(
    row: usize,
    lanes: L,
    k: &[T],
    depth: usize,
    q: &[f32],
    padded: usize,
) -> [[L::F; K]; R] {
    let mut keys = [&k[..0]; K];
    for (n, key) in keys.iter_mut().enumerate() {
        *key = &k[n * depth..][..depth];
    }
    let mut rows = [&q[..0]; R];
    for (r, q_row) in rows.iter_mut().enumerate() {
        *q_row = &q[(row + r) * padded..][..padded];
    }
    let mut sums = [[lanes.splat(0.0); K]; R];
    let mut d = 0;
    while by_two::<T>() && d + 2 * L::N <= depth {
        let mut vectors = [[lanes.splat(0.0); K]; 2];
        for (n, key) in keys.into_iter().enumerate() {
            (vectors[0][n], vectors[1][n]) = lanes.load_two(&key[d..d + 2 * L::N]);
        }
        let [first, second] = vectors;
        add_products(lanes, &mut sums, rows, d, first);
        add_products(lanes, &mut sums, rows, d + L::N, second);
        d += 2 * L::N;
    }
    while d + L::N <= depth {
        let mut vectors = [lanes.splat(0.0); K];
        for (vector, key) in vectors.iter_mut().zip(keys) {
            *vector = lanes.load_as(&key[d..d + L::N]);
        }
        add_products(lanes, &mut sums, rows, d, vectors);
        d += L::N;
    }
    if d < depth {
        let mut vectors = [lanes.splat(0.0); K];
        for (vector, key) in vectors.iter_mut().zip(keys) {
            *vector = lanes.load_partial(&key[d..], 0.0);
        }
        add_products(lanes, &mut sums, rows, d, vectors);
    }
    sums
}

#[inline(always)]
fn add_products<L: Lanes, const R: usize, const K: usize>(
    lanes: L,
    sums: &mut [[L::F; K]; R],
    rows: [&[f32]; R],
    d: usize,
    keys: [L::F; K],
) {
    for (sums, q) in sums.iter_mut().zip(rows) {
        let q = lanes.load(&q[d..]);
        for (sum, key) in sums.iter_mut().zip(keys) {
            *sum = lanes.mul_add(q, key, *sum);
        }
    }
}

/// Scores to weights, for one row; what the row has so far is rescaled to the new maximum.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the state of a row lies in three arrays")]
fn weights<L: Lanes, T: Element>(
    lanes: L,
    x: &Operands<T>,
    task: &Task,
    rules: &Rules,
    row: usize,
    keys: &Range<usize>,
    s: &mut [f32],
    out: &mut [f32],
    max: &mut [f32],
    sum: &mut [f32],
) {
    let (h, i) = task.head_and_query(row);
    let visible = range(x, task, i);
    s[keys.len()..].fill(f32::NEG_INFINITY);
    if !rules.is_empty() || keys.start < visible.start || visible.end < keys.end {
        let query = QueryLanes {
            start: lanes.splat(visible.start as f32),
            end: lanes.splat(visible.end as f32),
            position: lanes.splat(x.position(i) as f32),
            slope: lanes.splat((x.slope(h) as f64 * std::f64::consts::LOG2_E) as f32),
        };
        let mask = x.mask_row(task.batch, h, i, keys);
        for (n, s) in s.chunks_exact_mut(L::N).enumerate() {
            let at = n * L::N..keys.len().min((n + 1) * L::N);
            if at.is_empty() {
                break;
            }
            let key = lanes.add(lanes.splat((keys.start + at.start) as f32), lanes.load(&COUNT));
            let mask = || match &mask {
                None => lanes.splat(0.0),
                Some(MaskRow::Additive(row)) => lanes.load_partial(&row[at.clone()], 0.0),
                Some(MaskRow::Boolean(row)) => {
                    let mut mask = [f32::NEG_INFINITY; MAX_LANES];
                    for (to, may) in mask.iter_mut().zip(&row[at.clone()]) {
                        *to = if *may != 0 { 0.0 } else { f32::NEG_INFINITY };
                    }
                    lanes.load(&mask)
                }
            };
            let score = rules.apply(lanes, lanes.load(s), &query, key, mask);
            let valid = lanes.first(at.len());
            lanes.store(s, lanes.select(valid, score, lanes.splat(f32::NEG_INFINITY)));
        }
    }

    // As in `tile`: a NaN is ignored here, and makes its weight NaN.
    let mut new = lanes.splat(max[row]);
    for s in s.chunks_exact(L::N) {
        new = lanes.max(lanes.load(s), new);
    }
    let new = lanes.reduce_max(new);
    let from = lanes.splat(if new == f32::NEG_INFINITY { 0.0 } else { new });
    let mut sums = lanes.splat(0.0);
    for s in s.chunks_exact_mut(L::N) {
        let [p] = exp2(lanes, [lanes.sub(lanes.load(s), from)]);
        sums = lanes.add(sums, p);
        lanes.store(s, p);
    }
    let [factor] = exp2(lanes, [lanes.sub(lanes.splat(max[row]), from)]);
    let mut first = [0.0; MAX_LANES];
    lanes.store(&mut first, factor);
    sum[row] = sum[row] * first[0] + lanes.reduce_add(sums);
    if new > max[row] {
        max[row] = new;
        out.iter_mut().for_each(|out| *out *= first[0]);
    }
}

/// Adds the weighted values to R rows from `row` on.
#[inline(always)]
fn sums<L: Lanes, T: Element, const R: usize>(
    row: usize,
    lanes: L,
    v: &[T],
    v_dim: usize,
    p: &[f32],
    out: &mut [f32],
) {
    lanes.run(Sums::<T, R> { row, v, v_dim, p, out });
}

struct Sums<'a, T, const R: usize> {
    row: usize,
    v: &'a [T],
    v_dim: usize,
    p: &'a [f32],
    out: &'a mut [f32],
}

impl<T: Element, const R: usize> Kernel for Sums<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Sums { row, v, v_dim, p, out } = self;
        // As many accumulators as half the registers.
        let accumulators = L::REGISTERS / 2;
        let mut c = 0;
        if 8 * R <= accumulators {
            c = sums_by::<L, T, R, 8>(row, lanes, v, v_dim, p, c, out);
        }
        if 4 * R <= accumulators {
            c = sums_by::<L, T, R, 4>(row, lanes, v, v_dim, p, c, out);
        }
        c = sums_by::<L, T, R, 2>(row, lanes, v, v_dim, p, c, out);
        while c < v_dim {
            sums_of::<L, T, R, 1>(row, lanes, v, v_dim, p, c, out);
            c += L::N;
        }
    }
}

/// The same for C vectors of columns at a time, from column `c` on until fewer are left. Returns how
/// many columns are done.
#[inline(always)]
fn sums_by<L: Lanes, T: Element, const R: usize, const C: usize>(
    row: usize,
    lanes: L,
    v: &[T],
    v_dim: usize,
    p: &[f32],
    mut c: usize,
    out: &mut [f32],
) -> usize {
    while c + C * L::N <= v_dim {
        sums_of::<L, T, R, C>(row, lanes, v, v_dim, p, c, out);
        c += C * L::N;
    }
    c
}

#[inline(always)]
fn sums_of<L: Lanes, T: Element, const R: usize, const C: usize>(
    row: usize,
    lanes: L,
    v: &[T],
    v_dim: usize,
    p: &[f32],
    at: usize,
    out: &mut [f32],
) {
    let columns = at..v_dim.min(at + C * L::N);
    let mut acc = [[lanes.splat(0.0); C]; R];
    for (j, v) in v.chunks_exact(v_dim).enumerate() {
        let values = vectors::<L, T, C>(lanes, &v[columns.clone()]);
        for (r, acc) in acc.iter_mut().enumerate() {
            let p = lanes.splat(p[(row + r) * KEYS + j]);
            for (acc, value) in acc.iter_mut().zip(values) {
                *acc = lanes.mul_add(p, value, *acc);
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        let out = &mut out[(row + r) * v_dim..][columns.clone()];
        let mut acc = *acc;
        if by_two::<T>() && C.is_multiple_of(2) {
            for pair in acc.chunks_exact_mut(2) {
                (pair[0], pair[1]) = lanes.in_order::<T>((pair[0], pair[1]));
            }
        }
        for (acc, out) in acc.iter().zip(out.chunks_mut(L::N)) {
            if out.len() == L::N {
                lanes.store(out, lanes.add(lanes.load(out), *acc));
            } else {
                lanes.store_partial(out, lanes.add(lanes.load_partial(out, 0.0), *acc));
            }
        }
    }
}

/// C vectors, the last of which may reach beyond the end unless C is even; those two by two, in the order
/// of [`Lanes::load_two`].
#[inline(always)]
fn vectors<L: Lanes, T: Element, const C: usize>(lanes: L, x: &[T]) -> [L::F; C] {
    let mut vectors = [lanes.splat(0.0); C];
    if by_two::<T>() && C.is_multiple_of(2) {
        for (n, pair) in vectors.chunks_exact_mut(2).enumerate() {
            (pair[0], pair[1]) = lanes.load_two(&x[2 * n * L::N..][..2 * L::N]);
        }
    } else {
        for (n, vector) in vectors.iter_mut().enumerate() {
            *vector = match x.get(n * L::N..(n + 1) * L::N) {
                Some(x) => lanes.load_as(x),
                None => lanes.load_partial(&x[n * L::N..], 0.0),
            };
        }
    }
    vectors
}
