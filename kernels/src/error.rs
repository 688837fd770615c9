//! The errors of this crate: typed, and carrying the operands they speak of.

use crate::dtype::ElementType;

/// A problem text, a suite entry or a name that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A value outside a closed set.
    #[error("{what} '{found}' is not one of: {expected}")]
    Choice {
        /// What was being read.
        what: &'static str,
        /// The text found.
        found: String,
        /// The values that exist.
        expected: String,
    },
    /// A value of the wrong form.
    #[error("{key}={found}: expected {expected}")]
    Value {
        /// The field.
        key: String,
        /// The text found.
        found: String,
        /// The form it should have.
        expected: String,
    },
    /// A field that the operation needs.
    #[error("{op}: the field '{key}' is missing ({expected})")]
    Missing {
        /// The operation.
        op: String,
        /// The field.
        key: &'static str,
        /// The form it should have.
        expected: &'static str,
    },
    /// A field that the operation does not have.
    #[error("{op} has no field '{key}'; its fields are: {known}")]
    Unknown {
        /// The operation.
        op: String,
        /// The field.
        key: String,
        /// The fields that exist.
        known: String,
    },
    /// The same field twice.
    #[error("the field '{key}' is given twice")]
    Twice {
        /// The field.
        key: String,
    },
    /// A word that is not `key=value`.
    #[error("'{word}' is not of the form key=value")]
    NotAField {
        /// The word.
        word: String,
    },
    /// A text without an operation or dtype.
    #[error("'{text}' is not a problem: expected '<operation> <dtype> key=value …'")]
    NotAProblem {
        /// The text.
        text: String,
    },
    /// Well-formed fields that contradict each other.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl ParseError {
    pub(crate) fn choice(what: &'static str, found: &str, expected: &str) -> Self {
        ParseError::Choice { what, found: found.into(), expected: expected.into() }
    }
}

/// Dimensions or parameters of an operation that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {message}")]
pub struct ShapeError {
    /// The operation.
    pub op: &'static str,
    /// What does not fit, with the values.
    pub message: String,
}

/// Tensors that are not the operands of a problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// An operand is absent.
    #[error("operand '{name}' is missing")]
    Missing {
        /// The operand.
        name: String,
    },
    /// A tensor that the operation does not take.
    #[error("'{name}' is not an operand of this problem; they are: {known}")]
    Unknown {
        /// The tensor.
        name: String,
        /// The operands that exist.
        known: String,
    },
    /// A wrong shape.
    #[error("operand '{name}' has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The operand.
        name: String,
        /// The shape that the problem asks for.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A wrong element type.
    #[error("operand '{name}' holds {found}, expected {expected}")]
    Type {
        /// The operand.
        name: String,
        /// The type that the problem asks for.
        expected: ElementType,
        /// The type found.
        found: ElementType,
    },
    /// A value that has no meaning for the operation.
    #[error("operand '{name}', element {index}: {found} is not in {expected}")]
    Value {
        /// The operand.
        name: String,
        /// The linear index.
        index: usize,
        /// The value found.
        found: i64,
        /// The values allowed.
        expected: String,
    },
    /// A buffer whose length is not that of its shape.
    #[error("a tensor of shape {shape:?} has {expected} bytes, found {found}")]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// Bytes by shape and type.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}

/// What a backend can answer when it prepares, runs or hands back.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The backend was handed a problem that it does not support.
    #[error("unsupported: {reason}")]
    Unsupported {
        /// Why.
        reason: String,
    },
    /// The operands do not fit.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The library behind the backend failed.
    #[error("{library}: {message}")]
    Library {
        /// Its name.
        library: &'static str,
        /// Its own words.
        message: String,
    },
    /// The device has not enough memory.
    #[error("out of memory: {message}")]
    OutOfMemory {
        /// The library's own words.
        message: String,
    },
}

impl BackendError {
    /// A backend has no kernel for the operation of that name.
    pub fn no_kernel(backend: &str, op: &str) -> Self {
        BackendError::Unsupported { reason: format!("{backend} has no {op}") }
    }
}
