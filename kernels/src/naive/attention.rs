//! Scaled dot-product attention.

use ndarray::{ArrayView1, s};

use super::{Entry, HasKernel, hosted, max, of, view};
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::{Attention, Mask};
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<Attention>];

impl HasKernel for Attention {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| attention::<T>(&spec, i, o)))
    }
}

/// softmax(scale·q·kᵀ, capped, biased, masked)·v, one query at a time. Scores are f64 until their
/// distance from the largest is known: they may be beyond the range of f32.
fn attention<T: Element>(
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
    let mut lse = Vec::new();

    for (row, out) in outputs.slice_mut::<T>("out")?.chunks_exact_mut(spec.v_dim).enumerate() {
        let (i, h, b) = (row % spec.q_len, row / spec.q_len % spec.q_heads, row / spec.q_len / spec.q_heads);
        let kv_head = h / spec.group();

        // Masked keys are left out here: what they hold never meets the arithmetic.
        let score = |j: usize| {
            let mask = mask.of(b, h, i, j)?;
            let product = dot(q.slice(s![b, h, i, ..]), k.slice(s![b, kv_head, j, ..]));
            let score = spec.scale as f64 * product;
            let score =
                spec.softcap.map_or(score, |c| c as f64 * f64::from((score / c as f64) as f32).tanh());
            let score = slopes.map_or(score, |slopes| score - slopes[h] as f64 * distance(spec, i, j));
            Some((j, score + mask as f64)).filter(|&(_, score)| score != f64::NEG_INFINITY)
        };
        let scores: Vec<(usize, f64)> = spec.key_range(i).filter_map(score).collect();

        let sink = sinks.map_or(f64::NEG_INFINITY, |sinks| sinks[h] as f64);
        let m = scores.iter().map(|&(_, score)| score).fold(sink, max);
        if m == f64::NEG_INFINITY {
            out.fill(T::from_f32(0.0));
            lse.push(f32::NEG_INFINITY);
            continue;
        }
        let weight = |score: f64| ((score - m) as f32).exp() as f64;
        let mut denominator = weight(sink);
        let mut weighted = vec![0.0; spec.v_dim];
        for (j, score) in scores {
            let p = weight(score);
            denominator += p;
            for (sum, v) in weighted.iter_mut().zip(v.slice(s![b, kv_head, j, ..])) {
                *sum += p * v.to_f32() as f64;
            }
        }
        for (out, sum) in out.iter_mut().zip(weighted) {
            *out = T::from_f32((sum / denominator) as f32);
        }
        lse.push((m + denominator.ln()) as f32);
    }
    if spec.lse {
        outputs.slice_mut("lse")?.copy_from_slice(&lse);
    }
    Ok(())
}

fn dot<T: Element>(a: ArrayView1<T>, b: ArrayView1<T>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f32() as f64 * b.to_f32() as f64).sum()
}

/// |i + kv_len − q_len − j|: for ALiBi the last query always sits at the last key, whatever the
/// alignment of the causal mask.
fn distance(spec: &Attention, i: usize, j: usize) -> f64 {
    (i + spec.kv_len).abs_diff(spec.q_len + j) as f64
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

    /// What is added to the score of query i and key j; `None` when the key is masked, which an
    /// additive −∞ does too.
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
