//! The tensors of a node test, with the files they come from.

use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use prost::Message;
use touchstone_kernels::{DType, ElementType, Tensor};

use super::error::{NodeTestError, NodeTestErrorKind};
use super::proto;

/// A named tensor.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// Its name in the model.
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) file: PathBuf,
    /// The tensor.
    pub(crate) tensor: Tensor,
}

impl Value {
    /// Reads a tensor file and holds it against what the model declares.
    pub(crate) fn read(file: &Path, declared: &proto::ValueInfo) -> Result<Self, NodeTestError> {
        let at = |kind| NodeTestError { path: file.into(), kind };
        let bytes = std::fs::read(file).map_err(|error| at(error.into()))?;
        let message = proto::Tensor::decode(bytes.as_slice()).map_err(|error| at(error.into()))?;
        let wrong = |message: String| {
            at(NodeTestErrorKind::Tensor {
                name: declared.name.clone(),
                message: format!("{message} by the model"),
            })
        };
        if let Some(tensor_type) = declared.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) {
            if tensor_type.elem_type != message.data_type {
                let [(found, _), (expected, _)] =
                    [message.data_type, tensor_type.elem_type].map(proto::element_type);
                return Err(wrong(format!("holds {found}, expected {expected}")));
            }
            if let Some(shape) = &tensor_type.shape {
                let fits = |(dim, n): (&proto::Dimension, &i64)| dim.dim_value.is_none_or(|dim| dim == *n);
                if shape.dim.len() != message.dims.len() || !shape.dim.iter().zip(&message.dims).all(fits) {
                    let expected: Vec<String> = shape
                        .dim
                        .iter()
                        .map(|dim| dim.dim_value.map_or("?".into(), |n| n.to_string()))
                        .collect();
                    let expected = expected.join(", ");
                    return Err(wrong(format!("has shape {:?}, expected [{expected}]", message.dims)));
                }
            }
        }
        Value::from_message(&declared.name, file, &message)
    }

    /// The tensor of a message.
    pub(crate) fn from_message(
        name: &str,
        file: &Path,
        message: &proto::Tensor,
    ) -> Result<Self, NodeTestError> {
        let wrong = |message: String| NodeTestError {
            path: file.into(),
            kind: NodeTestErrorKind::Tensor { name: name.into(), message },
        };
        let (type_name, element) = proto::element_type(message.data_type);
        let element = element.ok_or_else(|| wrong(format!("holds {type_name}, which no operand does")))?;
        let shape = message.dims.iter().map(|&n| usize::try_from(n)).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| wrong(format!("has shape {:?}", message.dims)))?;
        let bytes = shape.iter().try_fold(element.size(), |bytes, &n| bytes.checked_mul(n));
        let found = message.raw_data.len();
        if bytes != Some(found) {
            return Err(wrong(format!("of shape {shape:?} and {type_name} holds {found} bytes of raw data")));
        }
        let tensor = Tensor::from_bytes(element, &shape, &message.raw_data)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Value { name: name.into(), file: file.into(), tensor })
    }

    /// The complaint about this tensor.
    pub(crate) fn wrong(&self, message: impl Into<String>) -> NodeTestError {
        let (name, message) = (self.name.clone(), message.into());
        NodeTestError { path: self.file.clone(), kind: NodeTestErrorKind::Tensor { name, message } }
    }

    /// The dimensions.
    pub(crate) fn shape(&self) -> &[usize] {
        self.tensor.shape()
    }

    /// The storage type of a floating-point tensor.
    pub(crate) fn dtype(&self) -> Result<DType, NodeTestError> {
        match self.tensor.element() {
            ElementType::Float(dtype) => Ok(dtype),
            found => Err(self.wrong(format!("holds {found}, expected floating-point numbers"))),
        }
    }

    /// The elements in f64, which holds each of them exactly.
    pub(crate) fn array(&self) -> ArrayD<f64> {
        #[expect(clippy::expect_used, reason = "a tensor has as many elements as its shape says")]
        ArrayD::from_shape_vec(self.shape(), self.tensor.to_f64())
            .expect("as many elements as the shape says")
    }
}

/// An array as a tensor of an element type that holds its elements exactly.
pub(crate) fn tensor(element: ElementType, array: &ArrayD<f64>) -> Tensor {
    let values: Vec<f64> = array.iter().copied().collect();
    let tensor = match element {
        ElementType::Float(dtype) => Tensor::from_f64(dtype, array.shape(), &values),
        ElementType::Bool => {
            let flags: Vec<u8> = values.iter().map(|&x| u8::from(x != 0.0)).collect();
            Tensor::from_bytes(element, array.shape(), &flags)
        }
        ElementType::I64 => {
            let integers: Vec<i64> = values.iter().map(|&x| x as i64).collect();
            Tensor::from_slice(array.shape(), &integers)
        }
    };
    #[expect(clippy::expect_used, reason = "an array has as many elements as its shape says")]
    tensor.expect("as many elements as the shape says")
}
