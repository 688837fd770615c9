//! Results on their way from a worker to the driver: a safetensors file.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use touchstone_kernels::{DType, ElementType, InputError, Operand, Outputs, Problem, Tensor};

/// Results that could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not safetensors, or cannot be written.
    #[error("{path}: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: safetensors::SafeTensorError,
    },
    /// The file lacks a result of the problem.
    #[error("{path}: the result '{name}' is missing")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The result.
        name: &'static str,
    },
    /// A tensor is not the result that the problem asks for.
    #[error("{path}: '{name}' holds {found:?}, expected {expected}")]
    Type {
        /// The file.
        path: PathBuf,
        /// The result.
        name: &'static str,
        /// The type of the problem.
        expected: ElementType,
        /// The type in the file.
        found: Dtype,
    },
    /// A tensor is not the result that the problem asks for.
    #[error("{path}: {source}")]
    Result {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: InputError,
    },
}

/// Writes results to a file, named as the problem names them. Returns their number.
///
/// # Errors
/// [`ExchangeError::Format`].
pub fn write(path: &Path, outputs: &Outputs) -> Result<usize, ExchangeError> {
    let format = |source| ExchangeError::Format { path: path.into(), source };
    let views: Vec<(&str, TensorView<'_>)> = outputs
        .iter()
        .map(|(name, tensor)| {
            let view = TensorView::new(dtype_of(tensor.element()), tensor.shape().to_vec(), tensor.bytes());
            view.map(|view| (name, view)).map_err(format)
        })
        .collect::<Result<_, _>>()?;
    let count = views.len();
    serialize_to_file(views, None, path).map_err(format)?;
    Ok(count)
}

/// Reads the results of `problem` from a file, each checked against it.
///
/// # Errors
/// [`ExchangeError`] naming the file and the result.
pub fn read(path: &Path, problem: &Problem) -> Result<Outputs, ExchangeError> {
    let bytes = fs::read(path).map_err(|source| ExchangeError::Read { path: path.into(), source })?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|source| ExchangeError::Format { path: path.into(), source })?;
    let tensors = problem
        .results()
        .iter()
        .map(|result| read_one(path, &file, result))
        .collect::<Result<Vec<Tensor>, _>>()?;
    Outputs::new(problem, tensors).map_err(|source| ExchangeError::Result { path: path.into(), source })
}

fn read_one(path: &Path, file: &SafeTensors<'_>, result: &Operand) -> Result<Tensor, ExchangeError> {
    let (path, name) = (PathBuf::from(path), result.name);
    let Ok(view) = file.tensor(name) else { return Err(ExchangeError::Missing { path, name }) };
    if view.dtype() != dtype_of(result.element) {
        return Err(ExchangeError::Type { path, name, expected: result.element, found: view.dtype() });
    }
    Tensor::from_bytes(result.element, view.shape(), view.data())
        .map_err(|source| ExchangeError::Result { path, source })
}

fn dtype_of(element: ElementType) -> Dtype {
    match element {
        ElementType::Float(DType::F32) => Dtype::F32,
        ElementType::Float(DType::F16) => Dtype::F16,
        ElementType::Float(DType::BF16) => Dtype::BF16,
        ElementType::I64 => Dtype::I64,
        ElementType::Bool => Dtype::BOOL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_survive_the_file_bit_for_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out put.safetensors");
        for dtype in DType::ALL {
            let problem: Problem = format!("attention {dtype} h=2 lq=3 lk=5 d=8 lse=true").parse().unwrap();
            // NaN everywhere: the bits must survive.
            let outputs = Outputs::unwritten(&problem);
            assert_eq!(write(&path, &outputs).unwrap(), problem.results().len());
            assert_eq!(read(&path, &problem).unwrap(), outputs, "{problem}");
        }
    }

    #[test]
    fn wrong_files_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let problem: Problem = "softmax f32 shape=3x5".parse().unwrap();
        assert!(matches!(read(&path, &problem), Err(ExchangeError::Read { .. })));
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(read(&path, &problem), Err(ExchangeError::Format { .. })));
        write(&path, &Outputs::unwritten(&problem)).unwrap();
        let half = "softmax f16 shape=3x5".parse().unwrap();
        assert!(matches!(read(&path, &half), Err(ExchangeError::Type { name: "out", .. })));
        let shorter = "softmax f32 shape=3x4".parse().unwrap();
        assert!(matches!(read(&path, &shorter), Err(ExchangeError::Result { .. })));
    }
}
