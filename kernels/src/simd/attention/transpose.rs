//! Square blocks turned from rows into columns or added up, in registers.

use crate::dtype::Element;
use crate::simd::lanes::{Lanes, MAX_LANES};

/// Transposes the first N of the vectors as an N×N matrix.
///
/// Interleaving row i with row i + N/2 rotates the address of every element, the bits of its row
/// followed by those of its column, by one bit; after log₂ N rounds the two have changed places.
#[inline(always)]
pub(super) fn transpose<L: Lanes>(lanes: L, block: &mut [L::F; MAX_LANES]) {
    for _ in 0..L::N.trailing_zeros() {
        let rows = *block;
        for i in 0..L::N / 2 {
            (block[2 * i], block[2 * i + 1]) = lanes.interleave(rows[i], rows[i + L::N / 2]);
        }
    }
}

/// The sums of N vectors across their lanes, that of vector i in lane i. Adds halves to each other like
/// [`Lanes::reduce_add`], but those of two vectors at once.
#[inline(always)]
pub(super) fn across<L: Lanes>(lanes: L, vectors: &[L::F]) -> L::F {
    let mut sums = [lanes.splat(0.0); MAX_LANES];
    sums[..L::N].copy_from_slice(&vectors[..L::N]);
    let mut half = L::N / 2;
    while half > 0 {
        for i in 0..half {
            let (low, high) = lanes.interleave(sums[i], sums[i + half]);
            sums[i] = lanes.add(low, high);
        }
        half /= 2;
    }
    sums[0]
}

/// Writes factor·row(r)\[c\] to `columns[c·stride + r]` for r below N and c below `width`. From the
/// first row on that is `None`, all become zero.
#[inline(always)]
pub(super) fn to_columns<'a, L: Lanes, T: Element>(
    lanes: L,
    row: impl Fn(usize) -> Option<&'a [T]>,
    factor: L::F,
    width: usize,
    columns: &mut [f32],
    stride: usize,
) {
    let mut rows: [&[T]; MAX_LANES] = [&[]; MAX_LANES];
    let mut count = 0;
    for slot in rows.iter_mut().take(L::N) {
        let Some(row) = row(count) else { break };
        *slot = &row[..width];
        count += 1;
    }
    for c in (0..width).step_by(L::N) {
        let n = L::N.min(width - c);
        let columns = &mut columns[c * stride..];
        let mut block = [lanes.splat(0.0); MAX_LANES];
        // Nothing is asked for each row of a whole block.
        if n == L::N && count == L::N {
            for (vector, row) in block.iter_mut().zip(rows).take(L::N) {
                *vector = lanes.mul(factor, lanes.load_as(&row[c..c + L::N]));
            }
        } else {
            for (vector, row) in block.iter_mut().zip(&rows[..count]) {
                *vector = lanes.mul(factor, lanes.load_partial(&row[c..c + n], 0.0));
            }
        }
        transpose(lanes, &mut block);
        if n == L::N {
            for (r, vector) in block.iter().enumerate().take(L::N) {
                lanes.store(&mut columns[r * stride..], *vector);
            }
        } else {
            for (r, vector) in block.iter().enumerate().take(n) {
                lanes.store(&mut columns[r * stride..], *vector);
            }
        }
    }
}

/// Writes `columns[c·stride + r]` to `rows[r·width + c]` for r below `count` ≤ N and c below
/// `width`.
#[inline(always)]
pub(super) fn to_rows<L: Lanes>(
    lanes: L,
    columns: &[f32],
    stride: usize,
    width: usize,
    rows: &mut [f32],
    count: usize,
) {
    for c in (0..width).step_by(L::N) {
        let n = L::N.min(width - c);
        let columns = &columns[c * stride..];
        let mut block = [lanes.splat(0.0); MAX_LANES];
        if n == L::N && count == L::N {
            for (r, vector) in block.iter_mut().enumerate().take(L::N) {
                *vector = lanes.load(&columns[r * stride..]);
            }
            transpose(lanes, &mut block);
            for (r, vector) in block.iter().enumerate().take(L::N) {
                lanes.store(&mut rows[r * width + c..], *vector);
            }
        } else {
            for (r, vector) in block.iter_mut().enumerate().take(n) {
                *vector = lanes.load(&columns[r * stride..]);
            }
            transpose(lanes, &mut block);
            for (r, vector) in block.iter().enumerate().take(count) {
                lanes.store_partial(&mut rows[r * width + c..][..n], *vector);
            }
        }
    }
}
