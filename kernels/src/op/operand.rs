//! Operands and results: names, element types, shapes, and what they mean.

use crate::dtype::{DType, ElementType};
use crate::tensor::Tensor;

/// What the elements of an operand mean. Inputs are drawn by it, and it decides what a kernel may see
/// before its data arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Activations: new in every call.
    Data,
    /// A learned factor, near 1 in a fresh model.
    Weight,
    /// A learned factor to which the operation adds a constant: near 0 in a fresh model.
    OffsetWeight,
    /// A learned term: biases, attention sinks, a running mean.
    Bias,
    /// Numbers greater than zero: a running variance.
    Variance,
    /// Divisors of RoPE's frequencies.
    FrequencyFactors,
    /// ALiBi's slopes, one for each head.
    Slopes,
    /// What hides keys from queries: truth values, or terms of the scores.
    Mask,
    /// How many keys of each batch entry are in use.
    Lengths,
    /// Positions of tokens.
    Positions,
}

impl Kind {
    /// When a kernel gets an operand of this kind, unless the operation says otherwise.
    const fn binding(self) -> Binding {
        match self {
            Kind::Data => Binding::Load,
            _ => Binding::Prepare,
        }
    }
}

/// When a kernel gets to see an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// In [`Backend::prepare`](crate::Backend::prepare): what a model has once (weights) and what a
    /// serving engine plans once for a batch (masks, lengths, positions of prepared tables). It may be
    /// packed, folded and uploaded there.
    Prepare,
    /// In [`Prepared::load`](crate::Prepared::load): what is new in every call. It is copied there, and
    /// all computing with it belongs to the run.
    Load,
}

/// One named tensor of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Its name in OPS: `x`, `q`, `weight`, `positions` …
    pub name: &'static str,
    /// What it means.
    pub kind: Kind,
    /// When a kernel gets it. Nothing for a result.
    pub binding: Binding,
    /// Its element type.
    pub element: ElementType,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// The largest integer it may hold, for lengths.
    pub limit: Option<i64>,
}

impl Operand {
    /// An operand of that kind.
    pub fn new(name: &'static str, kind: Kind, element: ElementType, shape: impl Into<Vec<usize>>) -> Self {
        Operand { name, kind, binding: kind.binding(), element, shape: shape.into(), limit: None }
    }

    /// A floating-point data operand, or a result.
    pub fn float(name: &'static str, dtype: DType, shape: impl Into<Vec<usize>>) -> Self {
        Operand::new(name, Kind::Data, ElementType::Float(dtype), shape)
    }

    /// The same of another kind.
    #[must_use]
    pub fn of(self, kind: Kind) -> Self {
        Operand { kind, binding: kind.binding(), ..self }
    }

    /// The same, loaded with the data in every call whatever its kind.
    #[must_use]
    pub fn loaded(self) -> Self {
        Operand { binding: Binding::Load, ..self }
    }

    /// The same, with integers of at most `limit`.
    #[must_use]
    pub fn at_most(self, limit: i64) -> Self {
        Operand { limit: Some(limit), ..self }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size in bytes.
    pub fn bytes(&self) -> u64 {
        (self.len() * self.element.size()) as u64
    }

    /// A tensor for this result that no kernel has written: every number is NaN.
    pub fn unwritten(&self) -> Tensor {
        let mut tensor = Tensor::zeros(self.element, &self.shape);
        tensor.poison();
        tensor
    }
}
