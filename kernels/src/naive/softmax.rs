//! softmax and log_softmax.

use ndarray::{Axis, Zip};

use super::{Entry, HasKernel, hosted, max, of, sum, view, view_mut};
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::Softmax;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<Softmax>];

impl HasKernel for Softmax {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| softmax::<T>(&spec, i, o)))
    }
}

/// exp(s·x − m)/Σ exp(s·x − m), or s·x − m − log Σ exp(s·x − m), with m the maximum of s·x along
/// the axis. s·x and its distance from m are f64: s·x may be beyond the range of f32.
fn softmax<T: Element>(spec: &Softmax, inputs: &Inputs, outputs: &mut Outputs) -> Result<(), BackendError> {
    let x = view::<T, _>(inputs, "x", spec.dims())?;
    let mut out = view_mut::<T, _>(outputs, "out", spec.dims())?;
    Zip::from(x.lanes(Axis(1))).and(out.lanes_mut(Axis(1))).for_each(|x, mut out| {
        let scaled = || x.iter().map(|x| spec.scale as f64 * x.to_f32() as f64);
        let m = scaled().fold(f64::NEG_INFINITY, max);
        let shifted = || scaled().map(|x| (x - m) as f32);
        let denominator = sum(shifted().map(f32::exp));
        for (shifted, out) in shifted().zip(&mut out) {
            *out = T::from_f32(match spec.log {
                false => (shifted.exp() as f64 / denominator) as f32,
                true => (shifted as f64 - denominator.ln()) as f32,
            });
        }
    });
    Ok(())
}
