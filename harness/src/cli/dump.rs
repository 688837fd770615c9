//! Tensors written out for other tools.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use safetensors::tensor::TensorView;
use touchstone_kernels::{DType, ElementType, Tensor};

use crate::oracle::Expected;

/// Writes tensors as safetensors, with the case in the metadata.
pub(super) fn dump<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'static str, &'a Tensor)>,
    case: &str,
) -> anyhow::Result<()> {
    let views = tensors
        .map(|(name, tensor)| {
            let dtype = match tensor.element() {
                ElementType::Float(DType::F32) => safetensors::Dtype::F32,
                ElementType::Float(DType::F16) => safetensors::Dtype::F16,
                ElementType::Float(DType::BF16) => safetensors::Dtype::BF16,
                ElementType::I64 => safetensors::Dtype::I64,
                ElementType::Bool => safetensors::Dtype::BOOL,
            };
            Ok((name, TensorView::new(dtype, tensor.shape().to_vec(), tensor.bytes())?))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    write(path, views, case)
}

/// Writes expected values and componentwise errors, in f64.
pub(super) fn dump_expected(path: &Path, expected: &Expected) -> anyhow::Result<()> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = expected
        .results
        .iter()
        .flat_map(|result| {
            [("", &result.value), ("_error", &result.error)].map(|(suffix, data)| {
                let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
                (format!("{}{suffix}", result.name), result.shape.clone(), bytes)
            })
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(safetensors::Dtype::F64, shape.clone(), bytes)?))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    write(path, views, "")
}

fn write(path: &Path, views: Vec<(&str, TensorView)>, case: &str) -> anyhow::Result<()> {
    let metadata = HashMap::from([("touchstone_case".to_string(), case.to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata))?;
    touchstone_reports::store::write_whole(path, &bytes).context("cannot write the tensors")
}
