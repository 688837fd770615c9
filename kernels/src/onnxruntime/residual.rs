//! A residual added, and rms or layer norm of the sum. ONNX Runtime fuses an Add and a LayerNormalization that
//! follows it, where the types are those of its fused kernel.

use super::graph::{Attribute, Edge, Graph};
use super::{Entry, HasKernel, of};
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::residual::{AddLayerNorm, AddRmsNorm, Residual};

pub(super) const KERNELS: &[Entry] = &[of::<AddRmsNorm>, of::<AddLayerNorm>];

impl HasKernel for AddRmsNorm {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        let Sum { stored, normed } = add(self.residual, graph)?;
        let width = &self.shape[self.shape.len() - 1..];
        let weight = graph.parameter_or("weight", self.weight, 1.0, width)?;
        let mut weight = graph.widen(weight);
        if self.weight_offset != 0.0 {
            let offset = graph.number(self.weight_offset)?;
            weight = graph.node("Add", &[weight, offset], &[]);
        }
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(self.eps))];
        let out = graph.node("RMSNormalization", &[normed, weight], &attributes);
        let out = graph.round(out);
        Ok(std::iter::once(out).chain(self.residual.sum.then_some(stored)).collect())
    }
}

impl HasKernel for AddLayerNorm {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        let Sum { stored, normed } = add(self.residual, graph)?;
        let width = &self.shape[self.shape.len() - 1..];
        let weight = graph.parameter_or("weight", self.affine.weight, 1.0, width)?;
        let mut inputs = vec![normed, graph.widen(weight)];
        if self.affine.bias {
            let bias = graph.parameter("bias")?;
            inputs.push(graph.widen(bias));
        }
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(self.eps))];
        let out = graph.node("LayerNormalization", &inputs, &attributes);
        let out = graph.round(out);
        Ok(std::iter::once(out).chain(self.residual.sum.then_some(stored)).collect())
    }
}

/// The sum in the storage type, and in f32 as the norm takes it.
struct Sum {
    stored: Edge,
    normed: Edge,
}

fn add(residual: Residual, graph: &mut Graph) -> Result<Sum, BackendError> {
    let (x, r) = (graph.operand("x")?, graph.operand("residual")?);
    let (x, r) = (graph.widen(x), graph.widen(r));
    let sum = graph.node("Add", &[x, r], &[]);
    if graph.dtype == DType::F32 {
        return Ok(Sum { stored: sum, normed: sum });
    }
    let stored = graph.round(sum);
    let normed = if residual.round_sum { graph.widen(stored) } else { sum };
    Ok(Sum { stored, normed })
}
