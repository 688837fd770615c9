//! Rotary position embedding.

use ndarray::s;

use super::{Entry, HasKernel, hosted, of, view, view_mut};
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::Rope;
use crate::op::rope::RopeTables;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<Rope>];

impl HasKernel for Rope {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => match spec.tables {
            RopeTables::Timed => {
                hosted(problem, inputs, move |i, o| rope::<T>(&spec, &tables(&spec, i)?, i, o))
            }
            RopeTables::Prepared => {
                let tables = tables(&spec, inputs)?;
                hosted(problem, inputs, move |i, o| rope::<T>(&spec, &tables, i, o))
            }
        })
    }
}

/// Cosines and sines, one row for each entry of `positions`.
fn tables(spec: &Rope, inputs: &Inputs) -> Result<(Vec<f32>, Vec<f32>), BackendError> {
    Ok(spec.tables(inputs.slice("positions")?, inputs.optional("freq_factors")?))
}

/// (x₀, x₁) → (x₀·cos − x₁·sin, x₁·cos + x₀·sin) for each pair of the first rotary_dim channels;
/// the others are copied.
fn rope<T: Element>(
    spec: &Rope,
    (cos, sin): &(Vec<f32>, Vec<f32>),
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let shape = (spec.batch, spec.heads, spec.len, spec.head_dim);
    let x = view::<T, _>(inputs, "x", shape)?;
    let mut out = view_mut::<T, _>(outputs, "out", shape)?;
    out.assign(&x);
    let pairs = spec.rotary_dim / 2;
    for b in 0..spec.batch {
        for h in 0..spec.heads {
            for l in 0..spec.len {
                let row = if spec.batched_positions { b * spec.len + l } else { l };
                let x = x.slice(s![b, h, l, ..]);
                let mut out = out.slice_mut(s![b, h, l, ..]);
                for i in 0..pairs {
                    let (cos, sin) = (cos[row * pairs + i], sin[row * pairs + i]);
                    let (i0, i1) = spec.pair(i);
                    let (x0, x1) = (x[i0].to_f32(), x[i1].to_f32());
                    out[i0] = T::from_f32(x0 * cos - x1 * sin);
                    out[i1] = T::from_f32(x1 * cos + x0 * sin);
                }
            }
        }
    }
    Ok(())
}
