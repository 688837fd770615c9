//! softmax and log_softmax.

use super::graph::{Attribute, Edge, Graph};
use super::{Entry, HasKernel, of};
use crate::error::BackendError;
use crate::op::Softmax;

pub(super) const KERNELS: &[Entry] = &[of::<Softmax>];

impl HasKernel for Softmax {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        softmax(self, graph)
    }
}

/// ONNX Runtime has kernels for f32, without a scale.
fn softmax(spec: &Softmax, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    let x = graph.operand("x")?;
    let mut x = graph.widen(x);
    if spec.scale != 1.0 {
        let scale = graph.number(spec.scale)?;
        x = graph.node("Mul", &[x, scale], &[]);
    }
    let operator = if spec.log { "LogSoftmax" } else { "Softmax" };
    let out = graph.node(operator, &[x], &[("axis", Attribute::Int(spec.axis as i64))]);
    Ok(vec![graph.round(out)])
}
