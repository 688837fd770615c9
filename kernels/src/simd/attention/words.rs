//! Queries as words of two bf16, for what multiplies bf16.

use super::tile::MAX_WIDTH;
use super::transpose::to_columns;
use crate::dtype::Element;
use crate::simd::lanes::{Lanes, MAX_LANES};

/// Largest scale, and largest product of query and scale, with which 2⁻¹²⁶ is nothing in a score.
const LARGEST: f32 = (1u64 << 60) as f32;

/// Packs the queries of a strip, \[words\]\[width\], with the sign of the scale, and says whether what
/// takes subnormal numbers for zero loses nothing of them that counts. Rows that are `None` become zero,
/// and so do words beyond `depth`.
#[inline(always)]
pub(super) fn pack_queries<'a, L: Lanes, T: Element>(
    lanes: L,
    row: impl Fn(usize) -> Option<&'a [T]>,
    (depth, scale): (usize, f32),
    (words, width): (usize, usize),
    to: &mut [f32],
) -> bool {
    let zero = lanes.splat(0.0);
    let (factor, largest) = (lanes.splat(scale.abs()), lanes.splat(LARGEST));
    let sign = lanes.splat(1f32.copysign(scale));
    let mut unfit = lanes.lt(largest, factor);
    let mut rows = [None; MAX_WIDTH];
    for (r, slot) in rows.iter_mut().enumerate().take(width) {
        *slot = row(r);
    }
    for first in (0..words * 2).step_by(L::N) {
        let mut columns = [0.0; MAX_LANES * MAX_WIDTH];
        if first < depth {
            let run = first..depth.min(first + L::N);
            for lane in (0..width).step_by(L::N) {
                let row = |r: usize| rows[lane + r].map(|row: &[T]| &row[run.clone()]);
                to_columns(lanes, row, sign, run.len(), &mut columns[lane..], width);
            }
        }
        let to = &mut to[first / 2 * width..];
        for (pair, to) in columns[..L::N * width].chunks_exact(2 * width).zip(to.chunks_exact_mut(width)) {
            for lane in (0..width).step_by(L::N) {
                let (low, high) = (lanes.load(&pair[lane..]), lanes.load(&pair[width + lane..]));
                for x in [low, high] {
                    let size = lanes.abs(x);
                    let normal = lanes.splat(f32::MIN_POSITIVE);
                    let subnormal = lanes.and(lanes.lt(zero, size), lanes.lt(size, normal));
                    let large = lanes.lt(largest, lanes.mul(size, factor));
                    unfit = lanes.or(unfit, lanes.or(subnormal, large));
                }
                lanes.store(&mut to[lane..], lanes.bf16_pair(low, high));
            }
        }
    }
    !lanes.any(unfit)
}
