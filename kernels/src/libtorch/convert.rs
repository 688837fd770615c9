//! Between our tensors and libtorch's, and from its errors to ours.
//!
//! Data cross as bytes: `tch` speaks an older ndarray than we do, and bytes serve f16 and bf16 too.

use std::cell::RefCell;

use tch::{Device, Kind, TchError, Tensor as Torch};

use crate::dtype::{DType, ElementType};
use crate::error::{BackendError, InputError};
use crate::op::Operand;
use crate::operands::Inputs;
use crate::tensor::Tensor;

/// libtorch's name of a storage type.
pub(super) fn kind(dtype: DType) -> Kind {
    match dtype {
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
    }
}

fn kind_of(element: ElementType) -> Kind {
    match element {
        ElementType::Float(dtype) => kind(dtype),
        ElementType::I64 => Kind::Int64,
        ElementType::Bool => Kind::Bool,
    }
}

/// Dimensions as libtorch counts them.
pub(super) fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&n| n as i64).collect()
}

/// The operands of a problem, copied to a device as a family asks for them.
pub(super) struct Operands<'a> {
    /// The operands in host memory.
    pub(super) host: &'a Inputs,
    /// Where everything goes.
    pub(super) device: Device,
    /// The storage type.
    pub(super) dtype: DType,
    /// What has been uploaded so far, by name.
    uploaded: RefCell<Vec<(String, Torch)>>,
}

impl<'a> Operands<'a> {
    pub(super) fn new(host: &'a Inputs, device: Device, dtype: DType) -> Self {
        Operands { host, device, dtype, uploaded: RefCell::default() }
    }

    /// What has been uploaded, by name; it shares its memory with what was handed out.
    pub(super) fn into_uploaded(self) -> Vec<(String, Torch)> {
        self.uploaded.into_inner()
    }

    /// An operand that the problem is known to have.
    pub(super) fn get(&self, name: &str) -> Result<Torch, BackendError> {
        self.optional(name)?.ok_or_else(|| InputError::Missing { name: name.into() }.into())
    }

    /// An operand that the problem may have.
    pub(super) fn optional(&self, name: &str) -> Result<Option<Torch>, BackendError> {
        let Some(tensor) = self.host.get(name) else { return Ok(None) };
        let tensor = to_torch(tensor)?.f_to_device(self.device)?;
        self.uploaded.borrow_mut().push((name.to_string(), tensor.shallow_clone()));
        Ok(Some(tensor))
    }

    /// A tensor of f32 from host memory.
    pub(super) fn upload_f32(&self, data: &[f32], size: &[i64]) -> Result<Torch, TchError> {
        self.upload_bytes(bytemuck::cast_slice(data), size, Kind::Float)
    }

    /// A tensor of truth values from host memory.
    pub(super) fn upload_bool(&self, data: &[bool], size: &[i64]) -> Result<Torch, TchError> {
        self.upload_bytes(bytemuck::cast_slice(data), size, Kind::Bool)
    }

    fn upload_bytes(&self, bytes: &[u8], size: &[i64], kind: Kind) -> Result<Torch, TchError> {
        Torch::f_from_data_size(bytes, size, kind)?.f_to_device(self.device)
    }

    /// Memory for intermediate f32 values, allocated once.
    pub(super) fn scratch(&self, size: &[i64]) -> Result<Torch, TchError> {
        Torch::f_empty(size, (Kind::Float, self.device))
    }
}

/// A tensor of ours as one of libtorch's in host memory.
pub(super) fn to_torch(tensor: &Tensor) -> Result<Torch, TchError> {
    Torch::f_from_data_size(tensor.bytes(), &sizes(tensor.shape()), kind_of(tensor.element()))
}

/// A result that no kernel has written: NaN everywhere.
pub(super) fn unwritten(result: &Operand, device: Device) -> Result<Torch, TchError> {
    Torch::f_full(sizes(&result.shape), f64::NAN, (kind_of(result.element), device))
}

/// A result, copied back to host memory.
pub(super) fn download(result: &Operand, tensor: &Torch) -> Result<Tensor, BackendError> {
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let mut host = Tensor::zeros(result.element, &shape);
    let found = tensor.f_kind()?;
    if found != kind_of(result.element) {
        return Err(
            TchError::Kind(format!("'{}' is {found:?}, expected {}", result.name, result.element)).into()
        );
    }
    let len = host.len();
    tensor.f_copy_data_u8(host.bytes_mut(), len)?;
    Ok(host)
}

/// libtorch's texts end in a C++ stack trace, which is cut off.
impl From<TchError> for BackendError {
    fn from(error: TchError) -> Self {
        let text = match error {
            TchError::Torch(text) => text,
            other => other.to_string(),
        };
        let message = text.lines().next().unwrap_or_default().trim().to_string();
        let lower = message.to_lowercase();
        if lower.contains("out of memory") || lower.contains("allocate memory") {
            BackendError::OutOfMemory { message }
        } else {
            BackendError::Library { library: "libtorch", message }
        }
    }
}
