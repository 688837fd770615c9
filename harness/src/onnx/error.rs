//! What can be wrong with the files of a node test.

use std::path::PathBuf;

use touchstone_kernels::InputError;

/// A node test that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct NodeTestError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: NodeTestErrorKind,
}

/// What is wrong with a node test.
#[derive(Debug, thiserror::Error)]
pub enum NodeTestErrorKind {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is not a message of the expected kind, or a damaged one.
    #[error("not a whole ONNX file: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A directory without node tests.
    #[error("holds no ONNX node test: neither it nor a directory in it has a model.onnx")]
    Empty,
    /// The model lacks something, or contradicts itself.
    #[error("{0}")]
    Model(String),
    /// A tensor is not what it has to be.
    #[error("tensor '{name}' {message}")]
    Tensor {
        /// Its name in the model.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// An operand does not fit the problem.
    #[error(transparent)]
    Input(#[from] InputError),
}
