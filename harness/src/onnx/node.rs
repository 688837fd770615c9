//! A node with its values, as the mapping sees it, and what the mapping makes of it.

use std::path::Path;

use ndarray::ArrayD;
use touchstone_kernels::{DType, Inputs, Op, Problem, ShapeError, Tensor};

use super::error::{NodeTestError, NodeTestErrorKind};
use super::value::Value;
use super::{Part, Wanted, proto};

/// Why a node is not mapped.
#[derive(Debug)]
pub(crate) enum Unmapped {
    /// What it computes cannot be said as a problem of ours, and why.
    Outside(String),
    /// Its files are wrong.
    Bad(Box<NodeTestError>),
}

impl From<NodeTestError> for Unmapped {
    fn from(error: NodeTestError) -> Self {
        Unmapped::Bad(Box::new(error))
    }
}

/// A parameter or dimension that ours does not take.
impl From<ShapeError> for Unmapped {
    fn from(error: ShapeError) -> Self {
        Unmapped::Outside(error.to_string())
    }
}

/// A node and the tensors around it.
pub(crate) struct Node<'a> {
    /// The directory of the test.
    pub(crate) directory: &'a Path,
    /// The node.
    pub(crate) message: &'a proto::Node,
    /// Version of the operator set.
    pub(crate) opset: i64,
    /// By place; nothing where an optional one is left out.
    pub(crate) inputs: Vec<Option<Value>>,
    /// Likewise.
    pub(crate) outputs: Vec<Option<Value>>,
}

impl Node<'_> {
    /// The complaint about this node.
    pub(crate) fn wrong(&self, message: impl std::fmt::Display) -> NodeTestError {
        let kind = NodeTestErrorKind::Model(format!("{}: {message}", self.message.op_type));
        NodeTestError { path: self.directory.join("model.onnx"), kind }
    }

    /// An input that may be left out.
    pub(crate) fn optional(&self, place: usize) -> Option<&Value> {
        self.inputs.get(place).and_then(Option::as_ref)
    }

    /// An input that the operator needs.
    pub(crate) fn input(&self, place: usize) -> Result<&Value, NodeTestError> {
        self.optional(place).ok_or_else(|| self.wrong(format!("input {place} is missing")))
    }

    /// An output that may be left out.
    pub(crate) fn optional_output(&self, place: usize) -> Option<&Value> {
        self.outputs.get(place).and_then(Option::as_ref)
    }

    /// The output that every operator has.
    pub(crate) fn output(&self) -> Result<&Value, NodeTestError> {
        self.optional_output(0).ok_or_else(|| self.wrong("it has no output"))
    }

    fn attribute(&self, name: &str, kind: i32) -> Result<Option<&proto::Attribute>, NodeTestError> {
        let found = self.message.attribute.iter().find(|attribute| attribute.name == name);
        match found {
            Some(attribute) if attribute.r#type != kind => {
                Err(self.wrong(format!("attribute '{name}' has type {}, expected {kind}", attribute.r#type)))
            }
            found => Ok(found),
        }
    }

    /// A number, if it is given.
    pub(crate) fn number(&self, name: &str) -> Result<Option<f32>, NodeTestError> {
        Ok(self.attribute(name, proto::Attribute::FLOAT)?.map(|attribute| attribute.f))
    }

    /// An integer, if it is given.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, NodeTestError> {
        Ok(self.attribute(name, proto::Attribute::INT)?.map(|attribute| attribute.i))
    }

    /// A count; 0 where it is not given.
    pub(crate) fn count(&self, name: &str) -> Result<usize, NodeTestError> {
        let count = self.integer(name)?.unwrap_or(0);
        usize::try_from(count).map_err(|_| self.wrong(format!("attribute '{name}' is {count}")))
    }

    /// A text; empty where it is not given.
    pub(crate) fn text(&self, name: &str) -> Result<&[u8], NodeTestError> {
        Ok(self.attribute(name, proto::Attribute::STRING)?.map_or(&[], |attribute| &attribute.s))
    }

    /// An axis of `rank`, counted from the end where it is negative.
    pub(crate) fn axis(&self, default: i64, rank: usize) -> Result<usize, NodeTestError> {
        let axis = self.integer("axis")?.unwrap_or(default);
        let from_start = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(from_start)
            .ok()
            .filter(|&axis| axis < rank)
            .ok_or_else(|| self.wrong(format!("axis {axis} of a tensor with {rank} dimensions")))
    }
}

/// An operand of ours, and the value that it is made of.
pub(crate) struct Given<'a>(pub(crate) &'static str, pub(crate) &'a Value, pub(crate) Tensor);

impl<'a> Given<'a> {
    /// A value as it is.
    pub(crate) fn whole(name: &'static str, value: &'a Value) -> Self {
        Given(name, value, value.tensor.clone())
    }

    /// A value in another shape with the same elements in the same order.
    pub(crate) fn reshaped(
        name: &'static str,
        value: &'a Value,
        shape: &[usize],
    ) -> Result<Self, NodeTestError> {
        Tensor::from_bytes(value.tensor.element(), shape, value.tensor.bytes())
            .map(|tensor| Given(name, value, tensor))
            .map_err(|_| {
                value.wrong(format!("has shape {:?}, expected the elements of {shape:?}", value.shape()))
            })
    }
}

/// A result of ours, the output that says what it has to be, and what that is in our order.
pub(crate) struct Claim<'a>(pub(crate) &'static str, pub(crate) &'a Value, pub(crate) ArrayD<f64>);

impl<'a> Claim<'a> {
    /// An output in its own order.
    pub(crate) fn whole(result: &'static str, output: &'a Value) -> Self {
        Claim(result, output, output.array())
    }
}

/// A problem with its operands and the results that it has to have.
pub(crate) fn part(
    op: impl Into<Op>,
    dtype: DType,
    operands: Vec<Given>,
    claims: Vec<Claim>,
) -> Result<Part, Unmapped> {
    let problem = Problem::new(op, dtype)?;
    // Each by itself first: the complaint then names the file.
    for operand in problem.operands() {
        if let Some(Given(_, value, tensor)) = operands.iter().find(|given| given.0 == operand.name) {
            operand.check(tensor).map_err(|error| value.wrong(format!("does not fit: {error}")))?;
        }
    }
    let from = operands.first().map(|given| given.1.file.clone()).unwrap_or_default();
    let inputs = Inputs::new(&problem, operands.into_iter().map(|Given(name, _, tensor)| (name, tensor)))
        .map_err(|error| NodeTestError { path: from, kind: error.into() })?;

    let results = problem.results();
    let mut wanted = Vec::new();
    for Claim(name, output, values) in claims {
        let Some(result) = results.iter().find(|result| result.name == name) else { continue };
        if output.tensor.element() != result.element {
            let (found, expected) = (output.tensor.element(), result.element);
            return Err(output.wrong(format!("holds {found}, expected {expected}")).into());
        }
        if values.len() != result.len() {
            let (found, expected) = (output.shape(), &result.shape);
            return Err(output
                .wrong(format!("has shape {found:?}, expected {expected:?} or its like"))
                .into());
        }
        wanted.push(Wanted {
            result: result.name,
            output: output.name.clone(),
            values: values.iter().copied().collect(),
        });
    }
    Ok(Part { problem, inputs, wanted })
}
