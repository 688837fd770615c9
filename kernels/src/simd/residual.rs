//! A residual added, and the norm of the sum.
//!
//! Row by row: a row's sum is still in L1 when its statistics are known, so that each operand is read once
//! from memory and each result written once. The sum lies in its own result where there is one that stays in
//! the caches, else in a row of scratch memory. Where the norm takes the sum as it is before it is rounded to
//! a storage type, that row is f32; what overflows there is computed again in f64.

use std::sync::Arc;

use super::lanes::{Kernel, Lanes};
use super::norm::moments::{Moments, mean_square};
use super::norm::normal::{Affine, Normal, Step, Traffic, load_at, map, normalize};
use super::norm::rows::PAST_CACHES;
use super::{Engine, Entry, HasKernel, of};
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::host::HostPrepared;
use crate::op::residual::{AddLayerNorm, AddRmsNorm, Residual};
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<AddRmsNorm>, of::<AddLayerNorm>];

impl HasKernel for AddRmsNorm {
    fn path(&self) -> &'static str {
        "fused"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        let (engine, spec) = (Arc::clone(engine), self.clone());
        let form = Form { width: spec.rows_and_width().1, eps: spec.eps, residual: spec.residual };
        with_element!(problem.dtype, T => {
            let kernel = move |inputs: &Inputs, outputs: &mut Outputs| {
                let norm = Norm::Rms { weight: inputs.optional::<T>("weight")?, offset: spec.weight_offset };
                add_norm::<T>(&engine, form, norm, inputs, outputs)
            };
            Ok(Box::new(HostPrepared::new(problem, inputs, kernel)))
        })
    }
}

impl HasKernel for AddLayerNorm {
    fn path(&self) -> &'static str {
        "fused"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        let engine = Arc::clone(engine);
        let form = Form { width: self.rows_and_width().1, eps: self.eps, residual: self.residual };
        with_element!(problem.dtype, T => {
            let kernel = move |inputs: &Inputs, outputs: &mut Outputs| {
                let (weight, bias) = (inputs.optional::<T>("weight")?, inputs.optional::<T>("bias")?);
                add_norm::<T>(&engine, form, Norm::Layer { weight, bias }, inputs, outputs)
            };
            Ok(Box::new(HostPrepared::new(problem, inputs, kernel)))
        })
    }
}

/// What is the same for every row.
#[derive(Clone, Copy)]
struct Form {
    width: usize,
    eps: f32,
    residual: Residual,
}

/// The norm that follows the sum.
#[derive(Clone, Copy)]
enum Norm<'a, T> {
    /// s·rstd·(offset + weight).
    Rms { weight: Option<&'a [T]>, offset: f32 },
    /// (s − mean)·rstd·weight + bias.
    Layer { weight: Option<&'a [T]>, bias: Option<&'a [T]> },
}

/// Bands for each thread: enough to even out what threads lose to others.
const BANDS: usize = 4;

fn add_norm<T: Element>(
    engine: &Engine,
    form: Form,
    norm: Norm<T>,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let (x, residual) = (inputs.slice::<T>("x")?, inputs.slice::<T>("residual")?);
    if x.is_empty() {
        return Ok(());
    }
    let mut results = outputs.iter_mut().map(|(_, tensor)| tensor.as_mut_slice::<T>());
    let out = results.next().transpose()?.unwrap_or_default();
    let sum = results.next().transpose()?.unwrap_or_default();

    let bands = match engine.threads.worth(x.len()) {
        1 => 1,
        threads => BANDS * threads,
    };
    let len = (x.len() / form.width).div_ceil(bands) * form.width;
    let mut sums = sum.chunks_mut(len);
    let operands = x.chunks(len).zip(residual.chunks(len)).zip(out.chunks_mut(len));
    let past_caches = size_of_val(x) >= PAST_CACHES;
    let rows = operands.map(|((x, residual), out)| {
        let sum = sums.next().unwrap_or_default();
        Rows { x, residual, out, sum, form, norm, past_caches }
    });
    engine.threads.map(rows.collect(), |rows| engine.isa.run(rows));
    Ok(())
}

/// Some rows; `sum` is empty where the sum is no result.
struct Rows<'a, T> {
    x: &'a [T],
    residual: &'a [T],
    out: &'a mut [T],
    sum: &'a mut [T],
    form: Form,
    norm: Norm<'a, T>,
    past_caches: bool,
}

impl<T: Element> Kernel for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Rows { x, residual, out, sum, form, norm, past_caches } = self;
        let width = form.width;
        let is_exact = !form.residual.round_sum;
        let stays = !is_exact && !past_caches && !sum.is_empty();
        let mut wide = vec![0f32; if is_exact { width } else { 0 }];
        let mut stored = vec![T::zeroed(); if is_exact || stays { 0 } else { width }];
        let mut sums = sum.chunks_exact_mut(width);
        let rows = x.chunks_exact(width).zip(residual.chunks_exact(width)).zip(out.chunks_exact_mut(width));
        for ((x, residual), out) in rows {
            let sum = sums.next().unwrap_or_default();
            if is_exact {
                add(lanes, x, residual, &mut wide);
                copy(lanes, &wide, sum, past_caches);
                if !finish(lanes, norm, form.eps, &wide, out, past_caches) {
                    in_f64(x, residual, form.eps, norm, out);
                }
            } else if stays {
                add(lanes, x, residual, sum);
                finish(lanes, norm, form.eps, sum, out, past_caches);
            } else {
                add(lanes, x, residual, &mut stored);
                copy(lanes, &stored, sum, past_caches);
                finish(lanes, norm, form.eps, &stored, out, past_caches);
            }
        }
        lanes.fence();
    }
}

/// sum = x + residual, rounded to what `sum` holds.
#[inline(always)]
fn add<L: Lanes, T: Element, S: Element>(lanes: L, x: &[T], residual: &[T], sum: &mut [S]) {
    let mut from = x.chunks_exact(L::N).zip(residual.chunks_exact(L::N));
    let mut to = sum.chunks_exact_mut(L::N);
    for ((x, residual), sum) in from.by_ref().zip(to.by_ref()) {
        lanes.store_as(sum, lanes.add(lanes.load_as(x), lanes.load_as(residual)));
    }
    let whole = x.len() / L::N * L::N;
    if whole < x.len() {
        let (x, residual) =
            (lanes.load_partial(&x[whole..], 0.0), lanes.load_partial(&residual[whole..], 0.0));
        lanes.store_partial(to.into_remainder(), lanes.add(x, residual));
    }
}

/// Copies a row to where it is a result, if it is one.
#[inline(always)]
fn copy<L: Lanes, S: Element, T: Element>(lanes: L, from: &[S], to: &mut [T], past_caches: bool) {
    if !to.is_empty() {
        map(lanes, from, to, Traffic { ahead: usize::MAX, past_caches }, &Itself);
    }
}

struct Itself;

impl<L: Lanes> Step<L> for Itself {
    #[inline(always)]
    fn apply(&self, _lanes: L, _i: usize, x: L::F) -> L::F {
        x
    }
}

/// s·rstd·(offset + weight), with what is the same for the whole row in every lane.
struct Scale<'a, L: Lanes, T> {
    rstd: L::F,
    offset: L::F,
    weight: Option<&'a [T]>,
}

impl<L: Lanes, T: Element> Step<L> for Scale<'_, L, T> {
    #[inline(always)]
    fn apply(&self, lanes: L, i: usize, x: L::F) -> L::F {
        let unit = lanes.mul(x, self.rstd);
        match self.weight {
            Some(weight) => lanes.mul(unit, lanes.add(self.offset, load_at(lanes, weight, i))),
            None => unit,
        }
    }
}

/// The norm of a row of sums; false where its statistics are not finite.
#[inline(always)]
fn finish<L: Lanes, S: Element, T: Element>(
    lanes: L,
    norm: Norm<T>,
    eps: f32,
    sums: &[S],
    out: &mut [T],
    past_caches: bool,
) -> bool {
    // The row is in L1: nothing of it has to be fetched ahead.
    let traffic = Traffic { ahead: usize::MAX, past_caches };
    match norm {
        Norm::Rms { weight, offset } => {
            let mean_square = mean_square(lanes, sums);
            let rstd = 1.0 / (mean_square + eps as f64).sqrt();
            let step = Scale { rstd: lanes.splat(rstd as f32), offset: lanes.splat(offset), weight };
            map(lanes, sums, out, traffic, &step);
            mean_square.is_finite()
        }
        Norm::Layer { weight, bias } => {
            let moments = Moments::of(lanes, std::iter::once(sums), sums.len());
            let affine = Affine::Each { weight, bias };
            normalize(lanes, &Normal::new(&moments, eps), affine, sums, out, traffic);
            moments.variance.is_finite()
        }
    }
}

/// The same with sums in f64: they may be beyond the range of f32 where the results are not.
#[cold]
#[inline(never)]
fn in_f64<T: Element>(x: &[T], residual: &[T], eps: f32, norm: Norm<T>, out: &mut [T]) {
    let n = x.len() as f64;
    let sums: Vec<f64> = x.iter().zip(residual).map(|(x, r)| x.to_f32() as f64 + r.to_f32() as f64).collect();
    let mean = match norm {
        Norm::Rms { .. } => 0.0,
        Norm::Layer { .. } => sums.iter().sum::<f64>() / n,
    };
    let variance = sums.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>() / n;
    let rstd = 1.0 / (variance + eps as f64).sqrt();
    for (i, (s, out)) in sums.iter().zip(out).enumerate() {
        let unit = ((s - mean) * rstd) as f32;
        let at = |operand: Option<&[T]>| operand.map(|operand| operand[i].to_f32());
        *out = T::from_f32(match norm {
            Norm::Rms { weight, offset } => unit * at(weight).map_or(1.0, |weight| offset + weight),
            Norm::Layer { weight, bias } => unit * at(weight).unwrap_or(1.0) + at(bias).unwrap_or(0.0),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Simd;
    use crate::simd::isa::Isa;
    use crate::{Backend, Tensor};

    /// Sums beyond f32 whose norms are within it.
    #[test]
    fn a_sum_beyond_f32_has_a_norm() {
        for isa in Isa::present() {
            for op in ["add_rms_norm", "add_layer_norm"] {
                let text = format!("{op} f32 shape=1x20 weight=false round_sum=false sum=false");
                let text = if op == "add_layer_norm" { format!("{text} bias=false") } else { text };
                let problem: Problem = text.parse().unwrap();
                let x: Vec<f32> = (0..20).map(|i| if i % 2 == 0 { 3e38 } else { -2e38 }).collect();
                let tensors = ["x", "residual"].map(|name| (name, Tensor::from_slice(&[1, 20], &x).unwrap()));
                let mut prepared =
                    Simd::new(isa, 1).ready(&problem, &Inputs::new(&problem, tensors).unwrap()).unwrap();
                prepared.run().unwrap();
                let out = prepared.outputs().unwrap().get("out").unwrap().to_f64();
                let first = if op == "add_rms_norm" { 3.0 / 6.5f64.sqrt() } else { 1.0 };
                assert!((out[0] - first).abs() < 1e-5, "{isa} {op}: {out:?}");
            }
        }
    }
}
