//! ONNX's own operators as they are called: with the defaults of their attributes.

use super::graph::{Attribute, Edge, Graph};
use super::rope;
use crate::error::BackendError;
use crate::op::Op;
use crate::problem::Problem;
use crate::unstated::Unstated;

/// Writes a call of f32 into a graph, if ONNX has an operator of that name.
pub(super) fn write(
    call: Unstated,
    problem: &Problem,
    graph: &mut Graph,
) -> Result<Option<Edge>, BackendError> {
    Ok(match (call, &problem.op) {
        (Unstated::Causal, Op::Attention(_)) => {
            let operands = [graph.operand("q")?, graph.operand("k")?, graph.operand("v")?];
            Some(graph.node("Attention", &operands, &[("is_causal", Attribute::Int(1))]))
        }
        (Unstated::Gelu, Op::Activation(_)) => {
            let x = graph.operand("x")?;
            Some(graph.node("Gelu", &[x], &[]))
        }
        (Unstated::Rope, Op::Rope(spec)) => {
            let x = graph.operand("x")?;
            let [cos, sin] = rope::prepared(spec, graph)?;
            Some(graph.node("RotaryEmbedding", &[x, cos, sin], &[]))
        }
        _ => None,
    })
}
