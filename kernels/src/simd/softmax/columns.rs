//! Softmax along an axis that is not the last: each lane holds a row of its own.

use super::passes::{Parts, Passes, Pivot, read, write};
use super::{Pass, Variant};
use crate::dtype::{DType, Element};
use crate::simd::lanes::Lanes;
use crate::simd::math;
use crate::simd::sum::Sum;

/// Columns of an array [len, inner]: `inner` places apart in `x` from one index of the axis to
/// the next.
pub(super) struct Columns<'a, T> {
    /// The whole array.
    pub(super) x: &'a [T],
    /// Its inner dimension.
    pub(super) inner: usize,
    /// The first column.
    pub(super) first: usize,
    /// For each index of the axis, the columns of the result.
    pub(super) rows: Vec<&'a mut [T]>,
}

/// Cuts the columns of an array into one part for each thread.
pub(super) fn split<'a, T>(
    x: &'a [T],
    out: &'a mut [T],
    inner: usize,
    threads: usize,
) -> Vec<Columns<'a, T>> {
    // Whole cache lines, and vectors of every instruction set.
    let width = inner.div_ceil(threads).next_multiple_of(64);
    let mut parts: Vec<Columns<T>> = (0..inner)
        .step_by(width)
        .map(|first| Columns { x, inner, first, rows: Vec::with_capacity(out.len() / inner) })
        .collect();
    for row in out.chunks_exact_mut(inner) {
        for (part, columns) in parts.iter_mut().zip(row.chunks_mut(width)) {
            part.rows.push(columns);
        }
    }
    parts
}

impl<T: Element> Pass for Columns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes, V: Variant>(mut self, passes: Passes<L, V>) {
        let width = self.rows.first().map_or(0, |row| row.len());
        let mut column = 0;
        while column + 4 * L::N <= width {
            self.vectors::<L, V, 4>(passes, column, L::N);
            column += 4 * L::N;
        }
        // The last whole vector overlaps the one before and repeats its results.
        let count = L::N.min(width);
        while column < width {
            self.vectors::<L, V, 1>(passes, column.min(width - count), count);
            column += L::N;
        }
    }
}

impl<T: Element> Columns<'_, T> {
    /// K vectors of columns from `column` on; of a single one only `count` lanes exist.
    #[inline(always)]
    fn vectors<L: Lanes, V: Variant, const K: usize>(
        &mut self,
        passes: Passes<L, V>,
        column: usize,
        count: usize,
    ) {
        const DEPTH: usize = 8;
        let lanes = passes.lanes;
        let zero = lanes.splat(0.0);
        let x = self.x.chunks_exact(self.inner);
        let from = self.first + column;

        let mut max = [lanes.splat(f32::NEG_INFINITY); K];
        for row in x.clone() {
            for (k, max) in max.iter_mut().enumerate() {
                *max = passes.maximum(read(lanes, &row[from + k * L::N..], count), *max);
            }
        }
        let mut pivot = [Pivot::new(lanes, max[0]); K];
        for k in 1..K {
            pivot[k] = Pivot::new(lanes, max[k]);
        }

        let mut sums = [Sum::zero(lanes); K];
        let mut partial = [zero; K];
        for (a, (row, out)) in x.clone().zip(&mut self.rows).enumerate() {
            for k in 0..K {
                let e = passes.exponential(&pivot[k], read(lanes, &row[from + k * L::N..], count));
                partial[k] = lanes.add(partial[k], e);
                if !V::LOG && T::DTYPE == DType::F32 {
                    write(lanes, &mut out[column + k * L::N..], count, e);
                }
            }
            if a % DEPTH == DEPTH - 1 {
                for k in 0..K {
                    sums[k].add(lanes, partial[k]);
                    partial[k] = zero;
                }
            }
        }
        let mut parts = [Parts { high: zero, low: zero }; K];
        for k in 0..K {
            sums[k].add(lanes, partial[k]);
            parts[k] = finish(passes, &pivot[k], sums[k]);
        }

        for (row, out) in x.zip(&mut self.rows) {
            for k in 0..K {
                let y = if V::LOG {
                    passes.difference(&pivot[k], parts[k], read(lanes, &row[from + k * L::N..], count))
                } else if T::DTYPE == DType::F32 {
                    passes.quotient(parts[k], read(lanes, &out[column + k * L::N..], count))
                } else {
                    passes.quotient(
                        parts[k],
                        passes.exponential(&pivot[k], read(lanes, &row[from + k * L::N..], count)),
                    )
                };
                write(lanes, &mut out[column + k * L::N..], count, y);
            }
        }
    }
}

/// What finishes the rows of one vector.
#[inline(always)]
fn finish<L: Lanes, V: Variant>(passes: Passes<L, V>, pivot: &Pivot<L::F>, sum: Sum<L::F>) -> Parts<L::F> {
    let lanes = passes.lanes;
    let (sum, rest) = sum.parts(lanes);
    if V::LOG {
        let log = math::ln(lanes, lanes.div(sum, pivot.exp(lanes, pivot.max, None)));
        let mut total = Sum::zero(lanes);
        total.add(lanes, pivot.max);
        total.add(lanes, log);
        let (high, low) = total.parts(lanes);
        Parts { high, low }
    } else {
        // One Newton step gives the rest of the reciprocal.
        let one = lanes.splat(1.0);
        let high = lanes.div(one, sum);
        let residual = lanes.neg_mul_add(rest, high, lanes.neg_mul_add(sum, high, one));
        Parts { high, low: lanes.mul(residual, high) }
    }
}
