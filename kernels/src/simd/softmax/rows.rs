//! Softmax along the last axis: all lanes hold neighbours of one row.

use super::passes::{AHEAD, Parts, Passes, Pivot, read, write};
use super::{BLOCK, Pass, Variant, kept_in, larger};
use crate::dtype::Element;
use crate::simd::lanes::Lanes;

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
        if self.len <= BLOCK { self.in_flight(passes) } else { self.one_by_one(passes) }
    }
}

/// A row whose last pass is still to be done.
struct Unfinished<'a, F, T> {
    x: &'a [T],
    out: &'a mut [T],
    pivot: Pivot<F>,
    parts: Parts<F>,
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
        let lowest = lanes.splat(f32::NEG_INFINITY);
        let kept_len = if V::LOG { 0 } else { self.len };
        let (mut kept, mut before) = (vec![0.0; kept_len], vec![0.0; kept_len]);
        let rows = self.x.chunks_exact(self.len);
        let mut ahead = rows.clone();
        let mut maxima = [f32::NEG_INFINITY; 2];
        for (max, x) in maxima.iter_mut().zip(ahead.by_ref()) {
            *max = passes.block_max(x);
        }
        let mut unfinished: Option<Unfinished<L::F, T>> = None;
        for (x, out) in rows.zip(self.out.chunks_exact_mut(self.len)) {
            let pivot = Pivot::new(lanes, lanes.splat(maxima[0]));
            let after_next = ahead.next().unwrap_or(x);
            let mut max = lowest;
            let sum = passes.block_sum_with(
                &pivot,
                x,
                #[inline(always)]
                |start, count, e| {
                    if !V::LOG {
                        write(lanes, &mut kept[start..], count, e);
                    }
                    if let Some(row) = &mut unfinished {
                        let y = if V::LOG {
                            passes.difference(&row.pivot, row.parts, read(lanes, &row.x[start..], count))
                        } else {
                            passes.quotient(row.parts, read(lanes, &before[start..], count))
                        };
                        lanes.prefetch_to_write(&row.out[start..], AHEAD);
                        write(lanes, &mut row.out[start..], count, y);
                    }
                    lanes.prefetch_ahead(&after_next[start..], AHEAD);
                    let scaled = passes.scaled(read(lanes, &after_next[start..], count));
                    let scaled =
                        if count == L::N { scaled } else { lanes.select(lanes.first(count), scaled, lowest) };
                    max = lanes.max(scaled, max);
                },
            );
            unfinished = Some(Unfinished { x, out, pivot, parts: passes.finish(&pivot, sum) });
            maxima = [maxima[1], lanes.reduce_max(max)];
            std::mem::swap(&mut kept, &mut before);
        }
        if let Some(Unfinished { x, out, pivot, parts }) = unfinished {
            passes.block_finish(&pivot, parts, x, &before, out);
        }
    }

    /// Long rows, in blocks.
    #[inline(always)]
    fn one_by_one<L: Lanes, V: Variant>(self, passes: Passes<L, V>) {
        for (x, out) in self.x.chunks_exact(self.len).zip(self.out.chunks_exact_mut(self.len)) {
            let mut max = f32::NEG_INFINITY;
            for x in x.chunks(BLOCK) {
                max = larger(max, passes.block_max(x));
            }
            let pivot = Pivot::new(passes.lanes, passes.lanes.splat(max));
            let mut sum = 0.0;
            for (x, out) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                sum += passes.block_sum(&pivot, x, kept_in::<V, T>(out));
            }
            let parts = passes.finish(&pivot, sum);
            for (x, out) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                passes.block_finish(&pivot, parts, x, &[], out);
            }
        }
    }
}
