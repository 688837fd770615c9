//! The operations: what each computes, over which operands, at what cost.
//!
//! One file per family. A spec struct holds every semantic choice of its operation; nothing is
//! left to a backend's habit. The parameters are f32, and their f32 value *is* the semantics:
//! an `eps` of 1e-5 means the f32 nearest to it, for the oracle too.
//!
//! All tensors are dense and row-major. NaN in an input propagates to every output that depends
//! on it.
//!
//! # Range
//!
//! Results are those of the formula over the real numbers, rounded once to the storage type. That an
//! intermediate value leaves the range of f32 is no excuse: the squares of a norm of numbers near 10³⁰,
//! a score of 10⁴⁰, s·x in a softmax. A kernel has to compute such a result where the result itself is
//! in range, and gives ±∞ only where the result is beyond the largest number of its type.

pub mod activation;
pub mod attention;
pub mod norm;
pub mod operand;
pub mod rope;
pub mod softmax;

use std::fmt;

pub use activation::{Activation, Glu, GluLayout, Unary};
pub use attention::{Attention, Causal, Mask};
pub use norm::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
pub use operand::{Binding, Kind, Operand};
pub use rope::{Rope, RopeScaling, RopeStyle};
pub use softmax::Softmax;

use crate::dtype::DType;
use crate::error::{ParseError, ShapeError};
use crate::fields::{FieldWriter, Fields};

/// A family of operations: one file in each backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Scaled dot-product attention.
    Attention,
    /// softmax and log_softmax.
    Softmax,
    /// layer, rms, batch, group and instance norm.
    Norm,
    /// Point-wise functions and gated linear units.
    Activation,
    /// Rotary position embedding.
    Rope,
}

crate::named_enum!(Family, "family", {
    Family::Attention => "attention",
    Family::Softmax => "softmax",
    Family::Norm => "norm",
    Family::Activation => "activation",
    Family::Rope => "rope",
});

/// The most elements that a tensor may have: more than any machine holds, and few enough that no
/// count of elements or bytes leaves 64 bits.
const MOST_ELEMENTS: usize = 1 << 40;

/// Whether a tensor of these dimensions has at most [`MOST_ELEMENTS`]; a dimension of 0 excuses
/// no other.
pub(crate) fn is_addressable(shape: &[usize]) -> bool {
    let count = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim.max(1)));
    count.is_some_and(|n| n <= MOST_ELEMENTS)
}

/// The cost of a problem, declared once and the same for every backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Floating-point operations.
    pub flops: u64,
    /// Minimal memory traffic: each operand read once, each result written once.
    pub bytes: u64,
}

/// What every operation spec answers.
pub trait Spec: fmt::Debug {
    /// The operation's name: the first word of the problem text.
    fn name(&self) -> &'static str;

    /// The family it belongs to.
    fn family(&self) -> Family;

    /// Checks that dimensions and parameters fit together.
    ///
    /// # Errors
    /// [`ShapeError`] with the values that do not.
    fn check(&self) -> Result<(), ShapeError>;

    /// The operands, in order.
    fn operands(&self, dtype: DType) -> Vec<Operand>;

    /// The results, in order. The first is `out`.
    fn results(&self, dtype: DType) -> Vec<Operand>;

    /// Floating-point operations.
    fn flops(&self) -> u64;

    /// Minimal memory traffic in bytes: each operand and result once.
    fn bytes(&self, dtype: DType) -> u64 {
        self.operands(dtype).iter().chain(&self.results(dtype)).map(Operand::bytes).sum()
    }

    /// Writes the fields of the problem text.
    fn write(&self, fields: &mut FieldWriter);

    /// A [`ShapeError`] of this operation.
    fn error(&self, message: String) -> ShapeError {
        ShapeError { op: self.name(), message }
    }

    /// Checks that an eps is finite and not negative.
    ///
    /// # Errors
    /// [`ShapeError`] naming it.
    fn check_eps(&self, eps: f32) -> Result<(), ShapeError> {
        if eps.is_finite() && eps >= 0.0 {
            Ok(())
        } else {
            Err(self.error(format!("eps={eps} must be finite and not negative")))
        }
    }

    /// Checks that a parameter is finite and greater than zero.
    ///
    /// # Errors
    /// [`ShapeError`] naming it.
    fn check_positive(&self, key: &str, value: f32) -> Result<(), ShapeError> {
        if value.is_finite() && value > 0.0 {
            Ok(())
        } else {
            Err(self.error(format!("{key}={value} must be finite and greater than 0")))
        }
    }
}

/// An operation with its semantics.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Scaled dot-product attention.
    Attention(Attention),
    /// softmax or log_softmax.
    Softmax(Softmax),
    /// Layer normalization.
    LayerNorm(LayerNorm),
    /// Root-mean-square normalization.
    RmsNorm(RmsNorm),
    /// Batch normalization.
    BatchNorm(BatchNorm),
    /// Group normalization.
    GroupNorm(GroupNorm),
    /// Instance normalization.
    InstanceNorm(InstanceNorm),
    /// A point-wise function.
    Activation(Activation),
    /// A gated linear unit.
    Glu(Glu),
    /// Rotary position embedding.
    Rope(Rope),
}

impl Op {
    /// The spec behind the operation.
    pub fn spec(&self) -> &dyn Spec {
        match self {
            Op::Attention(spec) => spec,
            Op::Softmax(spec) => spec,
            Op::LayerNorm(spec) => spec,
            Op::RmsNorm(spec) => spec,
            Op::BatchNorm(spec) => spec,
            Op::GroupNorm(spec) => spec,
            Op::InstanceNorm(spec) => spec,
            Op::Activation(spec) => spec,
            Op::Glu(spec) => spec,
            Op::Rope(spec) => spec,
        }
    }

    /// Every operation name that a problem text can begin with.
    pub fn names() -> Vec<&'static str> {
        let mut names = vec![
            "attention",
            "softmax",
            "log_softmax",
            "layer_norm",
            "rms_norm",
            "batch_norm",
            "group_norm",
            "instance_norm",
            "rope",
        ];
        names.extend(Unary::NAMES);
        names.extend(Glu::NAMES);
        names
    }

    /// Reads an operation from its fields.
    ///
    /// # Errors
    /// [`ParseError`] naming the operation or field.
    pub fn parse(fields: &mut Fields) -> Result<Op, ParseError> {
        let op = match fields.op() {
            "attention" => Op::Attention(Attention::parse(fields)?),
            "softmax" | "log_softmax" => Op::Softmax(Softmax::parse(fields)?),
            "layer_norm" => Op::LayerNorm(LayerNorm::parse(fields)?),
            "rms_norm" => Op::RmsNorm(RmsNorm::parse(fields)?),
            "batch_norm" => Op::BatchNorm(BatchNorm::parse(fields)?),
            "group_norm" => Op::GroupNorm(GroupNorm::parse(fields)?),
            "instance_norm" => Op::InstanceNorm(InstanceNorm::parse(fields)?),
            "rope" => Op::Rope(Rope::parse(fields)?),
            name if Unary::NAMES.contains(&name) => Op::Activation(Activation::parse(fields)?),
            name if Glu::NAMES.contains(&name) => Op::Glu(Glu::parse(fields)?),
            name => return Err(ParseError::choice("operation", name, &Op::names().join(", "))),
        };
        Ok(op)
    }
}
