//! The ONNX project's node tests: somebody else's cases, with somebody else's answers.
//!
//! A node test is a directory `test_<name>/` with `model.onnx`, a graph of one node, and
//! `test_data_set_0/` with `input_<i>.pb` and `output_<i>.pb`. It is [mapped](NodeTest::read) to
//! problems of ours, and judged twice: by the oracle and its bounds as any case, and against the
//! outputs that ONNX expects. The oracle itself is held to those outputs too, which checks
//! our semantics by an implementation that owes nothing to us.
//!
//! The tests come with the Python package `onnx`; `scripts/setup-onnx` fetches them.

pub(crate) mod error;
mod judge;
pub(crate) mod map;
pub(crate) mod node;
pub mod proto;
mod test;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use touchstone_kernels::{Inputs, Problem};

pub use error::{NodeTestError, NodeTestErrorKind};
pub use judge::{ATOL, Difference, Judgement, Posed, RTOL};
pub(crate) use map::{Operator, operator};
pub use test::{NodeTest, directories};

/// What a node test comes to here.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// The problems: one, but for rotary embeddings, where each position is one.
    pub parts: Vec<Part>,
    /// Outputs that are no result of ours, by their names in the model. Nothing is said about
    /// them.
    pub unjudged: Vec<String>,
}

/// A problem with what ONNX says about it.
#[derive(Clone, Debug)]
pub struct Part {
    /// The problem.
    pub problem: Problem,
    /// Its operands.
    pub inputs: Inputs,
    /// What its results have to be.
    pub wanted: Vec<Wanted>,
}

/// What a result has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Our name of the result.
    pub result: &'static str,
    /// The output's name in the model.
    pub output: String,
    /// ONNX's values, in our order.
    pub values: Vec<f64>,
}

/// Why a node test has no problem of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outside {
    /// The operator is none of ours.
    #[error("the operator is not ours")]
    Operator,
    /// It is a function's body: not one node, but this many.
    #[error("a graph of {nodes} nodes")]
    Body {
        /// How many.
        nodes: usize,
    },
    /// The operator is, but not what the test asks of it.
    #[error("{0}")]
    Semantics(String),
}
