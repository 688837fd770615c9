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

/// Writes factor·row(r)\[c\] to `columns[c·stride + r]` for r below N and c below `width`. Rows
/// that are `None` become zero.
#[inline(always)]
pub(super) fn to_columns<'a, L: Lanes, T: Element>(
    lanes: L,
    row: impl Fn(usize) -> Option<&'a [T]>,
    factor: L::F,
    width: usize,
    columns: &mut [f32],
    stride: usize,
) {
    let mut rows = [None; MAX_LANES];
    for (r, slot) in rows.iter_mut().enumerate().take(L::N) {
        *slot = row(r);
    }
    for c in (0..width).step_by(L::N) {
        let n = L::N.min(width - c);
        let mut block = [lanes.splat(0.0); MAX_LANES];
        for (vector, row) in block.iter_mut().zip(rows).take(L::N) {
            if let Some(row) = row {
                let x = &row[c..c + n];
                let x = if n == L::N { lanes.load_as(x) } else { lanes.load_partial(x, 0.0) };
                *vector = lanes.mul(factor, x);
            }
        }
        transpose(lanes, &mut block);
        for (r, vector) in block.iter().enumerate().take(n) {
            lanes.store(&mut columns[(c + r) * stride..], *vector);
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
        let mut block = [lanes.splat(0.0); MAX_LANES];
        for (r, vector) in block.iter_mut().enumerate().take(n) {
            *vector = lanes.load(&columns[(c + r) * stride..]);
        }
        transpose(lanes, &mut block);
        for (r, vector) in block.iter().enumerate().take(count) {
            let out = &mut rows[r * width + c..][..n];
            if n == L::N {
                lanes.store(out, *vector);
            } else {
                lanes.store_partial(out, *vector);
            }
        }
    }
}
