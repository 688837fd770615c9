//! Scaled dot-product attention.

use ndarray::{ArrayView1, s};

use super::{max, sum, view, view_mut};
use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::{Attention, Mask};
use crate::operands::{Inputs, Outputs};

/// softmax(scale·q·kᵀ, capped, biased, masked)·v, one query at a time.
pub(super) fn attention<T: Element>(
    spec: &Attention,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let q = view::<T, _>(inputs, "q", (spec.batch, spec.q_heads, spec.q_len, spec.head_dim))?;
    let k = view::<T, _>(inputs, "k", (spec.batch, spec.kv_heads, spec.kv_rows(), spec.head_dim))?;
    let v = view::<T, _>(inputs, "v", (spec.batch, spec.kv_heads, spec.kv_rows(), spec.v_dim))?;
    let mask = MaskOperand::<T>::new(spec, inputs)?;
    let slopes = inputs.optional::<f32>("slopes")?;
    let sinks = inputs.optional::<f32>("sinks")?;

    for b in 0..spec.batch {
        for h in 0..spec.q_heads {
            let kv_head = h / spec.group();
            for i in 0..spec.q_len {
                // Masked keys are left out here: what they hold never meets the arithmetic.
                let mut scores: Vec<(usize, f32)> = Vec::with_capacity(spec.kv_len);
                for j in spec.key_range(i) {
                    if let Some(mask) = mask.of(b, h, i, j) {
                        let product = dot(q.slice(s![b, h, i, ..]), k.slice(s![b, kv_head, j, ..]));
                        let score = (spec.scale as f64 * product) as f32;
                        let score = spec.softcap.map_or(score, |c| c * (score / c).tanh());
                        let score = slopes.map_or(score, |slopes| score - slopes[h] * distance(spec, i, j));
                        scores.push((j, score + mask));
                    }
                }
                let sink = sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[h]);
                let m = scores.iter().map(|&(_, score)| score).fold(sink, max);

                let mut out =
                    view_mut::<T, _>(outputs, "out", (spec.batch, spec.q_heads, spec.q_len, spec.v_dim))?;
                let mut out = out.slice_mut(s![b, h, i, ..]);
                let nothing = scores.is_empty() && m == f32::NEG_INFINITY;
                let lse = if nothing {
                    out.fill(T::from_f32(0.0));
                    f32::NEG_INFINITY
                } else {
                    let weights: Vec<(usize, f32)> =
                        scores.iter().map(|&(j, score)| (j, (score - m).exp())).collect();
                    let denominator = (sink - m).exp() as f64 + sum(weights.iter().map(|&(_, p)| p));
                    for c in 0..spec.v_dim {
                        let weighted = |&(j, p)| p as f64 * v[[b, kv_head, j, c]].to_f32() as f64;
                        out[c] =
                            T::from_f32((weights.iter().map(weighted).sum::<f64>() / denominator) as f32);
                    }
                    (m as f64 + denominator.ln()) as f32
                };
                if spec.lse {
                    outputs.slice_mut("lse")?[(b * spec.q_heads + h) * spec.q_len + i] = lse;
                }
            }
        }
    }
    Ok(())
}

fn dot<T: Element>(a: ArrayView1<T>, b: ArrayView1<T>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f32() as f64 * b.to_f32() as f64).sum()
}

/// |i + kv_len − q_len − j|: for ALiBi the last query always sits at the last key, whatever the
/// alignment of the causal mask.
fn distance(spec: &Attention, i: usize, j: usize) -> f32 {
    (i + spec.kv_len).abs_diff(spec.q_len + j) as f32
}

/// The mask that is data.
struct MaskOperand<'a, T> {
    spec: &'a Attention,
    additive: Option<&'a [T]>,
    boolean: Option<&'a [u8]>,
    lengths: Option<&'a [i64]>,
}

impl<'a, T: Element> MaskOperand<'a, T> {
    fn new(spec: &'a Attention, inputs: &'a Inputs) -> Result<Self, BackendError> {
        let mut mask = MaskOperand { spec, additive: None, boolean: None, lengths: None };
        match spec.mask {
            Mask::None => {}
            Mask::Boolean(_) => mask.boolean = Some(inputs.slice("mask")?),
            Mask::Additive(_) => mask.additive = Some(inputs.slice("mask")?),
            Mask::Padding => mask.lengths = Some(inputs.slice("lengths")?),
        }
        Ok(mask)
    }

    /// What is added to the score of query i and key j; `None` when the key is masked, as it is
    /// by an additive −∞ too.
    fn of(&self, b: usize, h: usize, i: usize, j: usize) -> Option<f32> {
        let row = |axes| self.spec.mask_row(axes, b, h, i);
        match self.spec.mask {
            Mask::None => Some(0.0),
            Mask::Boolean(axes) => (self.boolean?[row(axes) + j] != 0).then_some(0.0),
            Mask::Additive(axes) => {
                Some(self.additive?[row(axes) + j].to_f32()).filter(|&m| m != f32::NEG_INFINITY)
            }
            Mask::Padding => ((j as i64) < self.lengths?[b]).then_some(0.0),
        }
    }
}
