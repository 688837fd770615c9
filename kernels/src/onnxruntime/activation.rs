//! Point-wise functions and gated linear units.
//!
//! The kernels are for f32. Two operators of ONNX have none, and are written as ONNX defines them:
//! HardSwish and Mish.

use super::graph::{Attribute, Edge, Graph};
use super::{Entry, HasKernel, of};
use crate::error::BackendError;
use crate::op::{Activation, Glu, GluLayout, Unary};
use crate::unstated::Unstated;

pub(super) const KERNELS: &[Entry] = &[of::<Activation>, of::<Glu>];

impl HasKernel for Activation {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        activation(self, graph)
    }

    fn unstated(&self, call: Unstated, graph: &mut Graph) -> Result<Option<Edge>, BackendError> {
        if call != Unstated::Gelu {
            return Ok(None);
        }
        let x = graph.operand("x")?;
        Ok(Some(graph.node("Gelu", &[x], &[])))
    }
}

impl HasKernel for Glu {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        glu(self, graph)
    }
}

fn activation(spec: &Activation, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    let x = graph.operand("x")?;
    let x = graph.widen(x);
    let out = function(spec.function, x, graph);
    Ok(vec![graph.round(out)])
}

/// A function of a tensor of f32.
fn function(function: Unary, x: Edge, graph: &mut Graph) -> Edge {
    let (operator, attribute) = match function {
        Unary::Relu => ("Relu", None),
        Unary::LeakyRelu { slope } => ("LeakyRelu", Some(("alpha", Attribute::Float(slope)))),
        Unary::Sigmoid => ("Sigmoid", None),
        Unary::Tanh => ("Tanh", None),
        Unary::Gelu => ("Gelu", None),
        Unary::GeluTanh => ("Gelu", Some(("approximate", Attribute::Text("tanh")))),
        Unary::Silu => ("com.microsoft QuickGelu", Some(("alpha", Attribute::Float(1.0)))),
        Unary::Swish { beta } => ("com.microsoft QuickGelu", Some(("alpha", Attribute::Float(beta)))),
        Unary::Softplus => ("Softplus", None),
        Unary::Elu { alpha } => ("Elu", Some(("alpha", Attribute::Float(alpha)))),
        Unary::HardSwish => {
            let attributes = [("alpha", Attribute::Float(1.0 / 6.0)), ("beta", Attribute::Float(0.5))];
            let gate = graph.node("HardSigmoid", &[x], &attributes);
            return graph.node("Mul", &[x, gate], &[]);
        }
        Unary::Mish => {
            let softplus = graph.node("Softplus", &[x], &[]);
            let gate = graph.node("Tanh", &[softplus], &[]);
            return graph.node("Mul", &[x, gate], &[]);
        }
        Unary::Erf => ("Erf", None),
        Unary::Exp => ("Exp", None),
    };
    graph.node(operator, &[x], attribute.as_slice())
}

fn glu(spec: &Glu, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    let [gate, up] = match spec.layout {
        GluLayout::Split => {
            let operands = [graph.operand("gate")?, graph.operand("up")?];
            operands.map(|operand| graph.widen(operand))
        }
        packed => {
            let x = graph.operand("x")?;
            let x = graph.widen(x);
            let attributes = [("axis", Attribute::Int(-1)), ("num_outputs", Attribute::Int(2))];
            let [first, second] = graph.node_of("Split", &[x], &attributes);
            if packed == GluLayout::GateFirst { [first, second] } else { [second, first] }
        }
    };
    let gate = function(spec.gate, gate, graph);
    let out = graph.node("Mul", &[gate, up], &[]);
    Ok(vec![graph.round(out)])
}
