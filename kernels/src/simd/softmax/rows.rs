//! Softmax along the last axis: all lanes hold neighbours of one row.

use std::cell::Cell;

use super::passes::{DEPTH, Parts, Passes, Pivot, read, write};
use super::{BLOCK, Pass, Variant, kept_in, larger};
use crate::dtype::{DType, Element};
use crate::simd::buffer::Buffer;
use crate::simd::cut::{cut, cut_mut};
use crate::simd::lanes::{AHEAD, Lanes};
use crate::simd::sum::Total;
use crate::tensor::ALIGNMENT;

/// Elements of the longest rows of which several are better in different passes than one after the other.
pub(super) fn longest_in_flight<T: Element>(log: bool) -> usize {
    match T::DTYPE {
        // Nothing is kept, so that more rows fit into L2; and one by one, their exponentials are not
        // reused either.
        _ if log => 4 * BLOCK,
        // One by one, exponentials wait in the result, and what is fetched is a whole row ahead.
        DType::F32 => 4096,
        _ => 2 * BLOCK,
    }
}

/// So many rows of more than [`BLOCK`] elements are worth the memory where exponentials wait.
const ROWS: usize = 4;

/// Elements of rows of which several fit into L1.
const SHORT: usize = 2048;

thread_local! {
    /// Where the exponentials of two rows wait, from call to call.
    static KEPT: Cell<Buffer> = const { Cell::new(Buffer::EMPTY) };
}

/// Rows that a thread had better take together: before the first and after the last of them, passes run
/// alone.
pub(super) const TOGETHER: usize = 16;

/// Longer rows, of which each is fetched while the one before is worked on.
pub(super) const IN_TURN: usize = 4;

/// Whole rows.
pub(super) struct Rows<'a, T> {
    pub(super) x: &'a [T],
    pub(super) out: &'a mut [T],
    pub(super) len: usize,
}

impl<T: Element> Pass for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes, V: Variant>(self, passes: Passes<L, V>) {
        let rows = self.x.len() / self.len.max(1);
        if self.len <= longest_in_flight::<T>(V::LOG) && (self.len <= BLOCK || rows >= ROWS) {
            self.in_flight(passes);
        } else {
            self.one_by_one(passes);
        }
    }
}

/// A row whose last pass is still to be done.
struct Unfinished<'a, F, T> {
    x: &'a [T],
    out: &'a mut [T],
    pivot: Pivot<F>,
    parts: Parts<F>,
}

/// Rows in different passes, side by side. The slices are of the same length, or empty where they are
/// not needed.
struct Flight<'a, T> {
    /// First pass.
    ahead: &'a [T],
    /// Second pass, and where its exponentials are kept.
    x: &'a [T],
    kept: &'a mut [f32],
    /// Last pass: the row, its exponentials and its result.
    last: &'a [T],
    before: &'a [f32],
    out: &'a mut [T],
}

impl<'a, T> Flight<'a, T> {
    /// The next `n` places. They are cut off together, so that nothing is left to be checked for each
    /// vector.
    #[inline(always)]
    fn take<V: Variant, const LAST: bool>(&mut self, n: usize) -> Flight<'a, T> {
        Flight {
            ahead: cut(&mut self.ahead, n),
            x: cut(&mut self.x, n),
            kept: if V::LOG { &mut [] } else { cut_mut(&mut self.kept, n) },
            last: if V::LOG && LAST { cut(&mut self.last, n) } else { &[] },
            before: if LAST && !V::LOG { cut(&mut self.before, n) } else { &[] },
            out: if LAST { cut_mut(&mut self.out, n) } else { &mut [] },
        }
    }
}

/// What the passes of a flight need to know.
struct Passing<F> {
    /// Of the row in the second pass.
    pivot: Pivot<F>,
    /// Of the row in the last pass.
    last: (Pivot<F>, Parts<F>),
    /// The maximum so far, of the row in the first pass.
    max: F,
    /// Bytes ahead that the first pass fetches, and the last.
    fetch: [usize; 2],
}

impl<F: Copy> Passing<F> {
    /// One vector of each row, from place `i` on. Returns its exponentials.
    #[inline(always)]
    fn vector<L: Lanes<F = F>, V: Variant, T: Element, const LAST: bool>(
        &mut self,
        passes: Passes<L, V>,
        rows: &mut Flight<T>,
        i: usize,
        count: usize,
    ) -> F {
        let lanes = passes.lanes;
        let e = passes.exponential(&self.pivot, read(lanes, &rows.x[i..], count));
        if !V::LOG {
            write(lanes, &mut rows.kept[i..], count, e);
        }
        if LAST {
            let (pivot, parts) = &self.last;
            let y = if V::LOG {
                passes.difference(pivot, *parts, read(lanes, &rows.last[i..], count))
            } else {
                passes.quotient(*parts, read(lanes, &rows.before[i..], count))
            };
            lanes.prefetch_to_write(&rows.out[i..], self.fetch[1]);
            write(lanes, &mut rows.out[i..], count, y);
        }
        lanes.prefetch_ahead(&rows.ahead[i..], self.fetch[0]);
        let scaled = passes.scaled(read(lanes, &rows.ahead[i..], count));
        let lowest = lanes.splat(f32::NEG_INFINITY);
        let scaled = if count == L::N { scaled } else { lanes.select(lanes.first(count), scaled, lowest) };
        self.max = lanes.max(scaled, self.max);
        e
    }

    /// All of the rows. Returns the sum of the exponentials.
    #[inline(always)]
    fn all<L: Lanes<F = F>, V: Variant, T: Element, const LAST: bool>(
        &mut self,
        passes: Passes<L, V>,
        mut rows: Flight<T>,
    ) -> f64 {
        let mut sum = 0.0;
        while !rows.x.is_empty() {
            let block = rows.take::<V, LAST>(rows.x.len().min(BLOCK));
            sum += self.block::<L, V, T, LAST>(passes, block);
        }
        sum
    }

    /// A block of the rows.
    #[inline(always)]
    fn block<L: Lanes<F = F>, V: Variant, T: Element, const LAST: bool>(
        &mut self,
        passes: Passes<L, V>,
        mut rows: Flight<T>,
    ) -> f64 {
        let lanes = passes.lanes;
        let zero = lanes.splat(0.0);
        let mut sum = Total::zero(lanes);
        while !rows.x.is_empty() {
            let mut group = rows.take::<V, LAST>(rows.x.len().min(4 * DEPTH * L::N));
            let mut sums = [zero; 4];
            while group.x.len() >= 4 * L::N {
                let mut four = group.take::<V, LAST>(4 * L::N);
                for (i, sum) in sums.iter_mut().enumerate() {
                    let e = self.vector::<L, V, T, LAST>(passes, &mut four, i * L::N, L::N);
                    *sum = lanes.add(*sum, e);
                }
            }
            // As in `block_sum`, bit for bit: long rows go that way on several threads.
            let mut rest = 0;
            while group.x.len() >= L::N {
                let mut one = group.take::<V, LAST>(L::N);
                let e = self.vector::<L, V, T, LAST>(passes, &mut one, 0, L::N);
                sums[rest] = lanes.add(sums[rest], e);
                rest += 1;
            }
            let count = group.x.len();
            if count > 0 {
                let mut tail = group.take::<V, LAST>(count);
                let e = self.vector::<L, V, T, LAST>(passes, &mut tail, 0, count);
                sums[3] = lanes.add(sums[3], lanes.select(lanes.first(count), e, zero));
            }
            sum.add(lanes, lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3])));
        }
        sum.of_lanes(lanes)
    }
}

impl<T: Element> Rows<'_, T> {
    /// Rows of which four fit into a cache: while the exponentials of one are computed, the row before
    /// is finished and the maximum of the row after the next is found, vector by vector.
    ///
    /// So memory is read and written all the time and not only in the first and the last pass, and
    /// the processor has work while the lanes of a maximum or of a sum become one number.
    #[inline(always)]
    fn in_flight<L: Lanes, V: Variant>(self, passes: Passes<L, V>) {
        let lanes = passes.lanes;
        let kept_len = if V::LOG { 0 } else { self.len };
        // Both from a cache line on.
        let apart = kept_len.next_multiple_of(ALIGNMENT / size_of::<f32>());
        let mut buffer = KEPT.take();
        let (kept, before) = buffer.reserve(apart + kept_len).split_at_mut(apart);
        let (mut kept, mut before) = (&mut kept[..kept_len], before);
        // Of longer rows, which fill L1 by themselves, less is fetched ahead.
        let far = |short: bool| if short { 2 * AHEAD } else { AHEAD / 2 };
        let fetch = [far(V::LOG || self.len <= SHORT), far(self.len <= SHORT)];
        let rows = self.x.chunks_exact(self.len);
        let mut ahead = rows.clone();
        let mut maxima = [f32::NEG_INFINITY; 2];
        for (max, x) in maxima.iter_mut().zip(ahead.by_ref()) {
            *max = passes.block_max(x);
        }
        let mut unfinished: Option<Unfinished<L::F, T>> = None;
        for (x, out) in rows.zip(self.out.chunks_exact_mut(self.len)) {
            let pivot = Pivot::new(lanes, lanes.splat(maxima[0]));
            let ahead = ahead.next().unwrap_or(x);
            let max = lanes.splat(f32::NEG_INFINITY);
            let (sum, max) = match unfinished.take() {
                None => {
                    let flight = Flight { ahead, x, kept, last: &[], before: &[], out: &mut [] };
                    let mut passing = Passing { pivot, last: (pivot, Parts::splat(lanes, 0.0)), max, fetch };
                    (passing.all::<L, V, T, false>(passes, flight), passing.max)
                }
                Some(row) => {
                    let flight = Flight { ahead, x, kept, last: row.x, before, out: row.out };
                    let mut passing = Passing { pivot, last: (row.pivot, row.parts), max, fetch };
                    (passing.all::<L, V, T, true>(passes, flight), passing.max)
                }
            };
            unfinished = Some(Unfinished { x, out, pivot, parts: passes.finish(&pivot, sum) });
            maxima = [maxima[1], lanes.reduce_max(max)];
            std::mem::swap(&mut kept, &mut before);
        }
        if let Some(Unfinished { x, out, pivot, parts }) = unfinished {
            passes.block_finish(&pivot, parts, x, before, out);
        }
        KEPT.set(buffer);
    }

    /// Long rows, in blocks.
    #[inline(always)]
    fn one_by_one<L: Lanes, V: Variant>(self, passes: Passes<L, V>) {
        let mut nexts = self.x.chunks_exact(self.len).skip(1);
        for (x, out) in self.x.chunks_exact(self.len).zip(self.out.chunks_exact_mut(self.len)) {
            // Only f32 comes in more slowly than it is worked on.
            let mut next = nexts.next().filter(|_| T::DTYPE == DType::F32).unwrap_or(&[]);
            let mut max = f32::NEG_INFINITY;
            for x in x.chunks(BLOCK) {
                max = larger(max, passes.block_max(x));
            }
            let pivot = Pivot::new(passes.lanes, passes.lanes.splat(max));
            let mut sum = 0.0;
            for (x, out) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                let part = x.len().min(next.len());
                let next = cut(&mut next, part);
                sum += passes.block_sum(&pivot, x, kept_in::<V, T>(out), next);
            }
            let parts = passes.finish(&pivot, sum);
            for (x, out) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                passes.block_finish(&pivot, parts, x, &[], out);
            }
        }
    }
}
