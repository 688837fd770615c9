//! layer, rms, batch, group and instance norm.

use ndarray::Axis;

use super::{Entry, HasKernel, hosted, of, sum, view, view_mut};
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] =
    &[of::<LayerNorm>, of::<RmsNorm>, of::<BatchNorm>, of::<GroupNorm>, of::<InstanceNorm>];

impl HasKernel for LayerNorm {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| layer_norm::<T>(&spec, i, o)))
    }
}

impl HasKernel for RmsNorm {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| rms_norm::<T>(&spec, i, o)))
    }
}

impl HasKernel for BatchNorm {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| batch_norm::<T>(&spec, i, o)))
    }
}

impl HasKernel for GroupNorm {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| group_norm::<T>(&spec, i, o)))
    }
}

impl HasKernel for InstanceNorm {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| instance_norm::<T>(&spec, i, o)))
    }
}

/// Mean and biased variance, in two passes.
fn moments<T: Element>(x: impl ExactSizeIterator<Item = T> + Clone) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = sum(x.clone().map(T::to_f32)) / n;
    let variance = x.map(|x| (x.to_f32() as f64 - mean).powi(2)).sum::<f64>() / n;
    (mean, variance)
}

/// `out = (x − mean)/√(var + eps)·weight + bias` for one x after the other.
struct Normalize {
    mean: f64,
    rstd: f64,
}

impl Normalize {
    fn new((mean, variance): (f64, f64), eps: f32) -> Self {
        Normalize { mean, rstd: 1.0 / (variance + eps as f64).sqrt() }
    }

    fn apply<T: Element>(&self, x: T, weight: f32, bias: f32) -> T {
        let normalized = ((x.to_f32() as f64 - self.mean) * self.rstd) as f32;
        T::from_f32(normalized * weight + bias)
    }
}

/// The affine operands, 1 and 0 where there are none.
struct Affine<'a, T> {
    weight: Option<&'a [T]>,
    bias: Option<&'a [T]>,
}

impl<'a, T: Element> Affine<'a, T> {
    fn new(inputs: &'a Inputs) -> Result<Self, BackendError> {
        Ok(Affine { weight: inputs.optional("weight")?, bias: inputs.optional("bias")? })
    }

    fn at(&self, i: usize) -> (f32, f32) {
        (self.weight.map_or(1.0, |w| w[i].to_f32()), self.bias.map_or(0.0, |b| b[i].to_f32()))
    }
}

fn layer_norm<T: Element>(
    spec: &LayerNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let x = view::<T, _>(inputs, "x", spec.rows_and_width())?;
    let mut out = view_mut::<T, _>(outputs, "out", spec.rows_and_width())?;
    let affine = Affine::<T>::new(inputs)?;
    for (x, mut out) in x.outer_iter().zip(out.outer_iter_mut()) {
        let row = Normalize::new(moments(x.iter().copied()), spec.eps);
        for (i, (x, out)) in x.iter().zip(&mut out).enumerate() {
            let (weight, bias) = affine.at(i);
            *out = row.apply(*x, weight, bias);
        }
    }
    Ok(())
}

/// `out = x/√(mean(x²) + eps)·(weight_offset + weight)`.
fn rms_norm<T: Element>(spec: &RmsNorm, inputs: &Inputs, outputs: &mut Outputs) -> Result<(), BackendError> {
    let x = view::<T, _>(inputs, "x", spec.rows_and_width())?;
    let mut out = view_mut::<T, _>(outputs, "out", spec.rows_and_width())?;
    let weight = inputs.optional::<T>("weight")?;
    for (x, mut out) in x.outer_iter().zip(out.outer_iter_mut()) {
        let mean_square = x.iter().map(|x| (x.to_f32() as f64).powi(2)).sum::<f64>() / x.len() as f64;
        let rms = (mean_square + spec.eps as f64).sqrt();
        for (i, (x, out)) in x.iter().zip(&mut out).enumerate() {
            let mut normalized = (x.to_f32() as f64 / rms) as f32;
            if spec.round_before_weight {
                normalized = T::from_f32(normalized).to_f32();
            }
            let weight = weight.map_or(1.0, |w| spec.weight_offset + w[i].to_f32());
            *out = T::from_f32(normalized * weight);
        }
    }
    Ok(())
}

fn batch_norm<T: Element>(
    spec: &BatchNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let x = view::<T, _>(inputs, "x", spec.dims())?;
    let affine = Affine::<T>::new(inputs)?;
    let running_mean = inputs.slice::<T>("running_mean")?;
    let running_var = inputs.slice::<T>("running_var")?;
    for (c, x) in x.axis_iter(Axis(1)).enumerate() {
        let running = (running_mean[c].to_f32() as f64, running_var[c].to_f32() as f64);
        let used = match spec.mode {
            BatchNormMode::Infer => running,
            BatchNormMode::Train => moments(x.iter().copied()),
        };
        let channel = Normalize::new(used, spec.eps);
        let (weight, bias) = affine.at(c);
        let mut out = view_mut::<T, _>(outputs, "out", spec.dims())?;
        out.index_axis_mut(Axis(1), c).zip_mut_with(&x, |out, x| *out = channel.apply(*x, weight, bias));

        if spec.mode == BatchNormMode::Train {
            let m = spec.momentum as f64;
            let n = x.len() as f64;
            let updated = |running, batch| T::from_f32(((1.0 - m) * running + m * batch) as f32);
            outputs.slice_mut("running_mean")?[c] = updated(running.0, used.0);
            outputs.slice_mut("running_var")?[c] = updated(running.1, used.1 * n / (n - 1.0));
        }
    }
    Ok(())
}

fn group_norm<T: Element>(
    spec: &GroupNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let (n, channels, spatial) = spec.dims();
    grouped::<T>((n, spec.groups, channels / spec.groups, spatial), spec.eps, inputs, outputs)
}

/// Group norm with a group for each channel.
fn instance_norm<T: Element>(
    spec: &InstanceNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let (n, channels, spatial) = spec.dims();
    grouped::<T>((n, channels, 1, spatial), spec.eps, inputs, outputs)
}

/// Normalization over the last two of (samples, groups, channels in a group, spatial).
fn grouped<T: Element>(
    shape: (usize, usize, usize, usize),
    eps: f32,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let x = view::<T, _>(inputs, "x", shape)?;
    let mut out = view_mut::<T, _>(outputs, "out", shape)?;
    let affine = Affine::<T>::new(inputs)?;
    for (x, mut out) in x.outer_iter().zip(out.outer_iter_mut()) {
        for (g, (x, mut out)) in x.outer_iter().zip(out.outer_iter_mut()).enumerate() {
            let group = Normalize::new(moments(x.iter().copied()), eps);
            for (c, (x, mut out)) in x.outer_iter().zip(out.outer_iter_mut()).enumerate() {
                let (weight, bias) = affine.at(g * shape.2 + c);
                out.zip_mut_with(&x, |out, x| *out = group.apply(*x, weight, bias));
            }
        }
    }
    Ok(())
}
