//! Tensors written out for other tools.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use safetensors::tensor::TensorView;
use touchstone_kernels::{DType, ElementType, Inputs, Tensor};

use crate::case::Case;
use crate::oracle::Expected;

/// Writes tensors as safetensors, with the case in the metadata.
pub(super) fn dump<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'static str, &'a Tensor)>,
    case: &str,
) -> anyhow::Result<()> {
    write(path, views(tensors)?, [("touchstone_case", case.to_string())])
}

fn views<'a>(
    tensors: impl Iterator<Item = (&'static str, &'a Tensor)>,
) -> anyhow::Result<Vec<(&'static str, TensorView<'a>)>> {
    tensors
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
        .collect()
}

/// Writes the operands of a case as a capture, which `eval` reads, with the first expected result.
pub(super) fn dump_capture(
    path: &Path,
    case: &Case,
    inputs: &Inputs,
    expected: &Expected,
) -> anyhow::Result<()> {
    let text = case.problem.to_string();
    let mut problem = serde_json::Map::new();
    problem.insert("op".into(), case.problem.name().into());
    for (key, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
        problem.insert(key.into(), value.into());
    }
    let bytes: Option<(Vec<u8>, Vec<usize>)> = expected
        .results
        .first()
        .map(|result| (result.value.iter().flat_map(|x| x.to_le_bytes()).collect(), result.shape.clone()));
    let mut views = views(inputs.iter())?;
    if let Some((bytes, shape)) = &bytes {
        views.push(("expected", TensorView::new(safetensors::Dtype::F64, shape.clone(), bytes)?));
    }
    let metadata = [
        ("touchstone", "1".to_string()),
        ("problem", serde_json::Value::from(problem).to_string()),
        ("source", format!("touchstone repro '{case}'")),
        ("touchstone_case", case.to_string()),
    ];
    write(path, views, metadata)
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
    write(path, views, [])
}

fn write<const N: usize>(
    path: &Path,
    views: Vec<(&str, TensorView)>,
    metadata: [(&str, String); N],
) -> anyhow::Result<()> {
    let metadata = HashMap::from(metadata.map(|(key, value)| (key.to_string(), value)));
    let bytes = safetensors::serialize(views, Some(metadata))?;
    touchstone_reports::store::write_whole(path, &bytes).context("cannot write the tensors")
}
