//! Scores of attention, for defects that come from their size.

use rayon::prelude::*;
use touchstone_kernels::op::{Attention, Mask};
use touchstone_kernels::{DType, Inputs};

/// A key whose weight is below e⁻²⁰ of the largest moves no result by a rounding of f16.
const NEGLIGIBLE: f64 = 20.0;

/// The score of a visible key.
#[derive(Clone, Copy)]
struct Score {
    /// scale·q·k.
    raw: f64,
    /// With softcap and mask.
    value: f64,
    /// The most by which it is off after its roundings to the storage type.
    error: f64,
}

/// The operands of one problem.
struct Operands<'a> {
    spec: &'a Attention,
    unit: f64,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    mask: Option<Vec<f64>>,
    lengths: Option<Vec<f64>>,
}

impl<'a> Operands<'a> {
    fn new(spec: &'a Attention, dtype: DType, inputs: &Inputs) -> Self {
        let optional = |name| inputs.get(name).map(|tensor| tensor.to_f64());
        let required = |name| optional(name).unwrap_or_default();
        Operands {
            spec,
            unit: dtype.unit_roundoff(),
            q: required("q"),
            k: required("k"),
            v: required("v"),
            mask: optional("mask"),
            lengths: optional("lengths"),
        }
    }

    /// Row `index` of the used keys or values of a head.
    fn row<'b>(&self, all: &'b [f64], head: usize, width: usize, index: usize) -> &'b [f64] {
        &all[(head / self.spec.group() * self.spec.kv_rows() + index) * width..][..width]
    }

    /// Of query i of a head, counted over all batches: each visible key with what the mask adds to it.
    fn visible(&self, head: usize, i: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let spec = self.spec;
        let (b, h) = (head / spec.q_heads, head % spec.q_heads);
        let length = self.lengths.as_ref().map_or(usize::MAX, |lengths| lengths[b].max(0.0) as usize);
        spec.key_range(i).filter(move |j| *j < length).filter_map(move |j| match (spec.mask, &self.mask) {
            (Mask::Boolean(axes), Some(mask)) => {
                (mask[spec.mask_row(axes, b, h, i) + j] != 0.0).then_some((j, 0.0))
            }
            (Mask::Additive(axes), Some(mask)) => {
                let added = mask[spec.mask_row(axes, b, h, i) + j];
                (added != f64::NEG_INFINITY).then_some((j, added))
            }
            _ => Some((j, 0.0)),
        })
    }

    /// The visible scores of query i of a head.
    ///
    /// q and k are rounded after each is multiplied by √scale, then their product, the softcap's quotient,
    /// hyperbolic tangent and product, and the sum with the mask.
    fn scores(&self, head: usize, i: usize) -> Vec<Score> {
        let (spec, u) = (self.spec, self.unit);
        let scale = spec.scale as f64;
        let q = &self.q[(head * spec.q_len + i) * spec.head_dim..][..spec.head_dim];
        let score = |(j, added): (usize, f64)| {
            let k = self.row(&self.k, head, spec.head_dim, j);
            let (mut product, mut magnitude) = (0.0, 0.0);
            for (q, k) in q.iter().zip(k) {
                product += q * k;
                magnitude += (q * k).abs();
            }
            let raw = scale * product;
            let mut error = u * (2.0 * scale.abs() * magnitude + raw.abs());
            let capped = spec.softcap.map_or(raw, |c| c as f64 * (raw / c as f64).tanh());
            if spec.softcap.is_some() {
                error += u * (raw.abs() + 2.0 * capped.abs());
            }
            let value = capped + added;
            if added != 0.0 {
                error += u * value.abs();
            }
            Score { raw, value, error }
        };
        self.visible(head, i).map(score).collect()
    }

    fn heads(&self) -> std::ops::Range<usize> {
        0..self.spec.batch * self.spec.q_heads
    }
}

/// The most by which attention is off whose scores are rounded to the storage type.
///
/// Scores that are off by no more than δ move a mean of values by at most (e^2δ − 1)·(max v − min v), and
/// never out of the values' range. Keys count whose weight may be more than e⁻²⁰ of the largest. The
/// probabilities are rounded as well: 6u + Lk·2⁻²⁵ times the largest |v|, with f16's smallest number 2⁻²⁴.
pub(super) fn rounding_error(spec: &Attention, dtype: DType, inputs: &Inputs) -> f64 {
    let operands = Operands::new(spec, dtype, inputs);
    let of_head = |head: usize| {
        let mut low = vec![0.0f64; spec.v_dim];
        let mut high = vec![0.0f64; spec.v_dim];
        for j in 0..spec.kv_len {
            for (c, &v) in operands.row(&operands.v, head, spec.v_dim, j).iter().enumerate() {
                if v.is_finite() {
                    (low[c], high[c]) = if j == 0 { (v, v) } else { (low[c].min(v), high[c].max(v)) };
                }
            }
        }
        let range = low.iter().zip(&high).map(|(low, high)| high - low).fold(0.0, f64::max);
        let largest = low.iter().chain(&high).fold(0.0, |m: f64, v| m.max(v.abs()));
        let delta = (0..spec.q_len).map(|i| largest_error(&operands.scores(head, i))).fold(0.0, f64::max);
        let probabilities =
            6.0 * dtype.unit_roundoff() + spec.kv_len as f64 * dtype.smallest_subnormal() / 2.0;
        let moved = (2.0 * delta).exp_m1();
        // From there on a row may come as 0, as if it saw no key.
        let values = if moved < 1.0 { moved * range } else { range.max(largest) };
        values + probabilities * largest
    };
    operands.heads().into_par_iter().map(of_head).reduce(|| 0.0, f64::max)
}

/// The largest error among the scores of a row whose keys may count.
fn largest_error(scores: &[Score]) -> f64 {
    let largest = scores.iter().map(|s| s.value - s.error).fold(f64::NEG_INFINITY, f64::max);
    let counts = |s: &&Score| s.value + s.error > largest - NEGLIGIBLE;
    scores.iter().filter(counts).map(|s| s.error).fold(0.0, f64::max)
}

/// Whether a visible score, before or after its mask, is beyond the largest number of the storage type.
pub(super) fn overflow(spec: &Attention, dtype: DType, inputs: &Inputs) -> bool {
    let operands = Operands::new(spec, dtype, inputs);
    let beyond = |s: &Score| s.raw.abs() + s.error > dtype.max() || s.value.abs() + s.error > dtype.max();
    operands
        .heads()
        .into_par_iter()
        .any(|head| (0..spec.q_len).any(|i| operands.scores(head, i).iter().any(beyond)))
}

/// Whether all keys that a query sees have the lowest finite number as their additive mask.
pub(super) fn sees_penalties_only(spec: &Attention, dtype: DType, inputs: &Inputs) -> bool {
    let operands = Operands::new(spec, dtype, inputs);
    let lowest = -dtype.max();
    operands.heads().into_par_iter().any(|head| {
        (0..spec.q_len).any(|i| {
            let mut keys = operands.visible(head, i).peekable();
            keys.peek().is_some() && keys.all(|(_, added)| added <= lowest)
        })
    })
}

/// Whether position hides a key from a query: causal, or a window that is shorter than the keys.
pub(super) fn hides_keys(spec: &Attention) -> bool {
    (0..spec.q_len).any(|i| spec.key_range(i) != (0..spec.kv_len))
}
