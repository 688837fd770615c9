//! A residual added, and rms or layer norm of the sum.

use super::{Entry, HasKernel, hosted, of};
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::residual::{AddLayerNorm, AddRmsNorm, Residual};
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<AddRmsNorm>, of::<AddLayerNorm>];

impl HasKernel for AddRmsNorm {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| add_rms_norm::<T>(&spec, i, o)))
    }
}

impl HasKernel for AddLayerNorm {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| add_layer_norm::<T>(&spec, i, o)))
    }
}

/// x + residual in f64, where it does not overflow; rounded to the storage type where that is asked for.
/// The sum is a result where that is asked for, too.
fn sums<T: Element>(
    residual: Residual,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<Vec<f64>, BackendError> {
    let (x, r) = (inputs.slice::<T>("x")?, inputs.slice::<T>("residual")?);
    let exact: Vec<f64> = x.iter().zip(r).map(|(x, r)| x.to_f32() as f64 + r.to_f32() as f64).collect();
    let stored: Vec<T> = exact.iter().map(|&s| T::from_f32(s as f32)).collect();
    if residual.sum {
        outputs.slice_mut::<T>("sum")?.copy_from_slice(&stored);
    }
    Ok(if residual.round_sum { stored.iter().map(|s| s.to_f32() as f64).collect() } else { exact })
}

/// `out = s/√(mean(s²) + eps)·(weight_offset + weight)`.
fn add_rms_norm<T: Element>(
    spec: &AddRmsNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let (_, width) = spec.rows_and_width();
    let sums = sums::<T>(spec.residual, inputs, outputs)?;
    let weight = inputs.optional::<T>("weight")?;
    let out = outputs.slice_mut::<T>("out")?;
    for (s, out) in sums.chunks(width).zip(out.chunks_mut(width)) {
        let mean_square = s.iter().map(|s| s * s).sum::<f64>() / width as f64;
        let rms = (mean_square + spec.eps as f64).sqrt();
        for (i, (s, out)) in s.iter().zip(out).enumerate() {
            let weight = weight.map_or(1.0, |w| spec.weight_offset + w[i].to_f32());
            *out = T::from_f32((s / rms) as f32 * weight);
        }
    }
    Ok(())
}

/// `out = (s − mean)/√(var + eps)·weight + bias`, with the variance in a pass of its own.
fn add_layer_norm<T: Element>(
    spec: &AddLayerNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let (_, width) = spec.rows_and_width();
    let sums = sums::<T>(spec.residual, inputs, outputs)?;
    let (weight, bias) = (inputs.optional::<T>("weight")?, inputs.optional::<T>("bias")?);
    let out = outputs.slice_mut::<T>("out")?;
    for (s, out) in sums.chunks(width).zip(out.chunks_mut(width)) {
        let mean = s.iter().sum::<f64>() / width as f64;
        let variance = s.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>() / width as f64;
        let rstd = 1.0 / (variance + spec.eps as f64).sqrt();
        for (i, (s, out)) in s.iter().zip(out).enumerate() {
            let weight = weight.map_or(1.0, |w| w[i].to_f32());
            let bias = bias.map_or(0.0, |b| b[i].to_f32());
            *out = T::from_f32(((s - mean) * rstd) as f32 * weight + bias);
        }
    }
    Ok(())
}
