//! A computation as a graph of ONNX operators, before it becomes a session.
//!
//! Each family writes its specs into a [`Graph`], and everything follows from that one description:
//! the session that runs, the path that a declaration names, and the refusal of what cannot be
//! written. A graph without operands is a sketch: the same operators, and no data.

use std::borrow::Cow;
use std::fmt;

use crate::dtype::DType;
use crate::error::{BackendError, InputError};
use crate::operands::Inputs;
use crate::tensor::Tensor;

/// A tensor in the graph: an input, an initializer or what a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge(usize);

impl Edge {
    /// Its name in the model.
    pub(super) fn name(self) -> String {
        format!("t{}", self.0)
    }
}

/// An attribute of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Attribute {
    /// An integer or a truth value.
    Int(i64),
    /// A number.
    Float(f32),
    /// A word.
    Text(&'static str),
}

/// One operator, applied.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    /// The operator, after its domain where that is not ONNX's own: `com.microsoft QuickGelu`.
    pub(super) operator: &'static str,
    pub(super) inputs: Vec<Edge>,
    pub(super) outputs: Vec<Edge>,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
}

impl Node {
    /// The operator and its domain.
    pub(super) fn operator_and_domain(&self) -> (&'static str, &'static str) {
        match self.operator.split_once(' ') {
            Some((domain, operator)) => (operator, domain),
            None => (self.operator, ""),
        }
    }
}

/// How a tensor that is known before the run enters the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// As an input, bound once.
    Input,
    /// As an input of f32 that a kernel writes over, and that is 0 before each run.
    Scratch,
    /// As an initializer, like the weights of a model: ONNX Runtime computes whatever depends on
    /// these alone when it makes the session.
    Initializer,
}

/// The elements of a tensor that is known before the run.
#[derive(Debug, PartialEq)]
pub(super) enum Values<'a> {
    /// An operand, or what was made of operands.
    Tensor(Cow<'a, Tensor>),
    /// Numbers of double precision, in one dimension.
    F64(Vec<f64>),
}

impl From<Tensor> for Values<'_> {
    fn from(tensor: Tensor) -> Self {
        Values::Tensor(Cow::Owned(tensor))
    }
}

/// A tensor that is known before the run.
#[derive(Debug, PartialEq)]
pub(super) struct Known<'a> {
    pub(super) edge: Edge,
    pub(super) role: Role,
    pub(super) values: Values<'a>,
}

impl Known<'_> {
    /// The same without a borrow.
    pub(super) fn into_owned(self) -> Known<'static> {
        let values = match self.values {
            Values::Tensor(tensor) => tensor.into_owned().into(),
            Values::F64(numbers) => Values::F64(numbers),
        };
        Known { edge: self.edge, role: self.role, values }
    }
}

/// Makes an input of the model from the operands, in each load.
type Make = Box<dyn for<'i> Fn(&'i Inputs) -> Result<Cow<'i, Tensor>, BackendError>>;

/// An input of the model that is new in every call.
pub(super) struct Loaded {
    pub(super) edge: Edge,
    pub(super) make: Make,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("edge", &self.edge).finish_non_exhaustive()
    }
}

/// What a graph is made of: the tensors known before the run, those of them that are loaded anew, and the
/// nodes.
pub(super) type Parts<'a> = (Vec<Known<'a>>, Vec<Loaded>, Vec<Node>);

/// A graph under construction.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    /// The storage type of the problem.
    pub(super) dtype: DType,
    /// The operands; none in a sketch.
    operands: Option<&'a Inputs>,
    known: Vec<Known<'a>>,
    loaded: Vec<Loaded>,
    nodes: Vec<Node>,
    /// For each edge, whether it is known when the session is made.
    is_constant: Vec<bool>,
}

impl<'a> Graph<'a> {
    /// An empty graph over operands.
    pub(super) fn new(dtype: DType, operands: &'a Inputs) -> Self {
        Graph { operands: Some(operands), ..Graph::sketch(dtype) }
    }

    /// An empty graph without data.
    pub(super) fn sketch(dtype: DType) -> Self {
        Graph {
            dtype,
            operands: None,
            known: Vec::new(),
            loaded: Vec::new(),
            nodes: Vec::new(),
            is_constant: Vec::new(),
        }
    }

    /// A data operand of the problem as it is.
    pub(super) fn operand(&mut self, name: &'static str) -> Result<Edge, BackendError> {
        self.data(move |operands| Ok(Cow::Borrowed(tensor(operands, name)?)))
    }

    /// An input of the model that is made of data operands, as a copy and nothing more.
    pub(super) fn data(
        &mut self,
        make: impl for<'i> Fn(&'i Inputs) -> Result<Cow<'i, Tensor>, BackendError> + 'static,
    ) -> Result<Edge, BackendError> {
        let edge = self.known(Role::Input, |operands| Ok(Values::Tensor(make(operands)?)))?;
        self.loaded.push(Loaded { edge, make: Box::new(make) });
        Ok(edge)
    }

    /// An operand that is a weight in a model.
    pub(super) fn parameter(&mut self, name: &str) -> Result<Edge, BackendError> {
        self.known(Role::Initializer, |operands| operand(operands, name))
    }

    /// A parameter where the problem has it, else equal numbers in the given shape and the storage type.
    pub(super) fn parameter_or(
        &mut self,
        name: &str,
        is_operand: bool,
        otherwise: f64,
        shape: &[usize],
    ) -> Result<Edge, BackendError> {
        if is_operand {
            return self.parameter(name);
        }
        let dtype = self.dtype;
        self.known(Role::Initializer, |_| {
            let numbers = vec![otherwise; shape.iter().product()];
            Ok(Tensor::from_f64(dtype, shape, &numbers)?.into())
        })
    }

    /// A number in f32.
    pub(super) fn number(&mut self, number: f32) -> Result<Edge, BackendError> {
        self.known(Role::Initializer, |_| Ok(Tensor::from_slice(&[], &[number])?.into()))
    }

    /// Dimensions or axes.
    pub(super) fn integers(&mut self, integers: &[usize]) -> Result<Edge, BackendError> {
        let integers: Vec<i64> = integers.iter().map(|&n| n as i64).collect();
        self.known(Role::Initializer, |_| Ok(Tensor::from_slice(&[integers.len()], &integers)?.into()))
    }

    /// A tensor made of operands before the run; a sketch does not make it.
    pub(super) fn known(
        &mut self,
        role: Role,
        make: impl FnOnce(&'a Inputs) -> Result<Values<'a>, BackendError>,
    ) -> Result<Edge, BackendError> {
        let edge = self.edge(role == Role::Initializer);
        if let Some(operands) = self.operands {
            let values = make(operands)?;
            self.known.push(Known { edge, role, values });
        }
        Ok(edge)
    }

    /// Applies an operator with one result.
    pub(super) fn node(
        &mut self,
        operator: &'static str,
        inputs: &[Edge],
        attributes: &[(&'static str, Attribute)],
    ) -> Edge {
        let [output] = self.node_of(operator, inputs, attributes);
        output
    }

    /// Applies an operator with several results.
    pub(super) fn node_of<const N: usize>(
        &mut self,
        operator: &'static str,
        inputs: &[Edge],
        attributes: &[(&'static str, Attribute)],
    ) -> [Edge; N] {
        let is_constant = inputs.iter().all(|edge| self.is_constant[edge.0]);
        let outputs = [(); N].map(|()| self.edge(is_constant));
        self.nodes.push(Node {
            operator,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            attributes: attributes.to_vec(),
        });
        outputs
    }

    /// A tensor of the storage type in f32.
    pub(super) fn widen(&mut self, edge: Edge) -> Edge {
        match self.dtype {
            DType::F32 => edge,
            _ => self.cast(edge, 1),
        }
    }

    /// A tensor of f32 in the storage type.
    pub(super) fn round(&mut self, edge: Edge) -> Edge {
        match self.dtype {
            DType::F32 => edge,
            DType::F16 => self.cast(edge, 10),
            DType::BF16 => self.cast(edge, 16),
        }
    }

    /// A tensor in a type by its number in ONNX's `TensorProto.DataType`.
    pub(super) fn cast(&mut self, edge: Edge, to: i64) -> Edge {
        self.node("Cast", &[edge], &[("to", Attribute::Int(to))])
    }

    /// A tensor of other dimensions with the same elements.
    pub(super) fn reshape(&mut self, edge: Edge, shape: &[usize]) -> Result<Edge, BackendError> {
        let shape = self.integers(shape)?;
        Ok(self.node("Reshape", &[edge, shape], &[]))
    }

    /// The operators that run, in order: several are a composition. What depends on initializers alone
    /// does not run.
    pub(super) fn path(&self) -> String {
        let runs = |node: &&Node| node.inputs.iter().any(|edge| !self.is_constant[edge.0]);
        let operators: Vec<_> = self.nodes.iter().filter(runs).map(|node| node.operator).collect();
        let composed = if operators.len() > 1 { "composed: " } else { "" };
        format!("{composed}{}", operators.join(", "))
    }

    /// What it is made of.
    pub(super) fn into_parts(self) -> Parts<'a> {
        (self.known, self.loaded, self.nodes)
    }

    fn edge(&mut self, is_constant: bool) -> Edge {
        self.is_constant.push(is_constant);
        Edge(self.is_constant.len() - 1)
    }
}

fn operand<'a>(operands: &'a Inputs, name: &str) -> Result<Values<'a>, BackendError> {
    Ok(Values::Tensor(Cow::Borrowed(tensor(operands, name)?)))
}

fn tensor<'a>(operands: &'a Inputs, name: &str) -> Result<&'a Tensor, BackendError> {
    Ok(operands.get(name).ok_or_else(|| InputError::Missing { name: name.into() })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_names_what_runs_and_not_what_is_folded() {
        let mut graph = Graph::sketch(DType::BF16);
        let x = graph.operand("x").unwrap();
        let (x, weight) = (graph.widen(x), graph.parameter("weight").unwrap());
        let weight = graph.widen(weight);
        let product = graph.node("com.microsoft QuickGelu", &[x, weight], &[]);
        graph.round(product);
        assert_eq!(graph.path(), "composed: Cast, com.microsoft QuickGelu, Cast");
        let (known, _, nodes) = graph.into_parts();
        assert!(known.is_empty(), "a sketch holds no data");
        assert_eq!(nodes.len(), 4);
        assert_eq!(nodes[2].operator_and_domain(), ("QuickGelu", "com.microsoft"));
    }
}
