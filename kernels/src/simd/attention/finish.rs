//! From partial results to results.

use std::f64::consts::{LN_2, LOG2_E};
use std::sync::Mutex;

use super::operands::Operands;
use super::{Partial, Target, Task, careful, lock};
use crate::dtype::Element;
use crate::simd::isa::Isa;
use crate::simd::lanes::{Kernel, Lanes};

/// Maximum (in units of log₂ e) and sum with which a row begins, before any key: those of its
/// sink, which belongs to the first run of keys. A sink of +∞ or NaN makes the sum NaN.
pub(super) fn first<T: Element>(x: &Operands<T>, task: &Task, h: usize) -> (f32, f32) {
    match x.sink(h) {
        Some(sink) if task.split == 0 && sink != f32::NEG_INFINITY => {
            ((sink as f64 * LOG2_E) as f32, if sink.is_finite() { 1.0 } else { f32::NAN })
        }
        _ => (f32::NEG_INFINITY, 0.0),
    }
}

/// Brings the parts of a row of keys together, in order.
pub(super) fn merge(parts: &[Mutex<Partial>], to: &mut Partial, width: usize) {
    let parts: Vec<_> = parts.iter().map(lock).collect();
    let rows = parts.first().map_or(0, |part| part.max.len());
    to.resize(rows, width);
    if let [part] = &parts[..] {
        to.rows.copy_from_slice(&part.rows);
        to.max.copy_from_slice(&part.max);
        to.sum.copy_from_slice(&part.sum);
        return;
    }
    for r in 0..rows {
        let max = parts.iter().map(|part| part.max[r]).fold(f32::NEG_INFINITY, f32::max);
        let out = &mut to.rows[r * width..][..width];
        out.fill(0.0);
        let mut sum = 0.0;
        for part in &parts {
            let weight =
                if part.max[r] == max { 1.0 } else { (part.max[r] as f64 - max as f64).exp2() as f32 };
            sum += part.sum[r] as f64 * weight as f64;
            for (out, x) in out.iter_mut().zip(&part.rows[r * width..][..width]) {
                *out += *x * weight;
            }
        }
        (to.max[r], to.sum[r]) = (max, sum as f32);
    }
}

/// Divides by the sums and writes. Returns whether a result is infinite or NaN.
///
/// A row whose sum is 0 has seen no key, or only keys whose scores are below the range of f32 in units of
/// log₂ e: the lowest finite numbers, with which many models mask. Those are done one pair at a time.
pub(super) fn write<T: Element>(
    isa: Isa,
    x: &Operands<T>,
    task: &Task,
    partial: &Partial,
    target: &mut Target<T>,
) -> bool {
    let width = x.spec.v_dim;
    for (g, lse) in target.lse.iter_mut().enumerate() {
        for (n, lse) in lse.iter_mut().enumerate() {
            let row = n * task.group + g;
            let (max, sum) = (partial.max[row] as f64, partial.sum[row] as f64);
            *lse = if sum == 0.0 { f32::NEG_INFINITY } else { (max * LN_2 + sum.ln()) as f32 };
        }
    }
    let mut bad = false;
    for (g, out) in target.out.iter_mut().enumerate() {
        bad |= isa.run(Divide { partial, width, group: task.group, g, out });
    }
    for row in (0..task.rows()).filter(|&row| partial.sum[row] == 0.0) {
        let (h, i) = task.head_and_query(row);
        if careful::sees_a_key(x, task.batch, h, i) {
            let (g, n) = (row % task.group, row / task.group);
            let lse = careful::attend(x, task.batch, h, i, &mut target.out[g][n * width..][..width]);
            if let Some(piece) = target.lse.get_mut(g) {
                piece[n] = lse;
            }
        }
    }
    bad
}

/// The rows of one head.
struct Divide<'a, T> {
    partial: &'a Partial,
    width: usize,
    group: usize,
    g: usize,
    out: &'a mut [T],
}

impl<T: Element> Kernel for Divide<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> bool {
        let zero = lanes.splat(0.0);
        // 0·y is 0 for every finite y and NaN for the others, and stays NaN.
        let mut check = zero;
        let mut bad = false;
        for (n, out) in self.out.chunks_exact_mut(self.width).enumerate() {
            let row = n * self.group + self.g;
            let sum = self.partial.sum[row];
            bad |= !sum.is_finite();
            // A row that saw no key has weights and a sum of zero.
            let factor = lanes.splat(if sum == 0.0 { 0.0 } else { 1.0 / sum });
            let from = &self.partial.rows[row * self.width..][..self.width];
            let mut to = out.chunks_exact_mut(L::N);
            let mut from = from.chunks_exact(L::N);
            for (to, from) in to.by_ref().zip(from.by_ref()) {
                let y = lanes.mul(lanes.load(from), factor);
                check = lanes.mul_add(y, zero, check);
                lanes.store_as(to, y);
            }
            if !from.remainder().is_empty() {
                let y = lanes.mul(lanes.load_partial(from.remainder(), 0.0), factor);
                check = lanes.mul_add(y, zero, check);
                lanes.store_partial(to.into_remainder(), y);
            }
        }
        bad || lanes.any(lanes.is_nan(check))
    }
}
