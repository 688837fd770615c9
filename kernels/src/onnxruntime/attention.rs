//! Scaled dot-product attention.
//!
//! ONNX's Attention has the order of our spec from version 24 on: scale, softcap, mask, softmax. It
//! takes grouped heads as they are. Its causal mask is aligned top-left; every other mask by position,
//! padding and ALiBi become one mask made before the run, as models make it once for all their layers.
//! There are kernels for f32 and f16.
//!
//! Of a cache ONNX Runtime's kernel takes the rows in use, without gaps: so does the operand here, as
//! the model before would have left it.

use std::borrow::Cow;

use super::graph::{Attribute, Edge, Graph, Role};
use super::{Entry, HasKernel, of};
use crate::backend::{Declaration, Rounded};
use crate::dtype::{DType, Element};
use crate::error::BackendError;
use crate::op::attention::{Attention, Mask};
use crate::operands::Inputs;
use crate::tensor::Tensor;
use crate::unstated::Unstated;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<Attention>];

impl HasKernel for Attention {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        attention(self, graph)
    }

    fn declared(&self, dtype: DType, declaration: Declaration) -> Declaration {
        Declaration { probabilities: probabilities_are(self, dtype), ..declaration }
    }

    fn unstated(&self, call: Unstated, graph: &mut Graph) -> Result<Option<Edge>, BackendError> {
        if call != Unstated::Causal {
            return Ok(None);
        }
        let operands = [graph.operand("q")?, graph.operand("k")?, graph.operand("v")?];
        Ok(Some(graph.node("Attention", &operands, &[("is_causal", Attribute::Int(1))])))
    }
}

/// The kernel for f16 rounds the probabilities, but ALiBi's bias does not fit into f16.
fn probabilities_are(spec: &Attention, dtype: DType) -> Rounded {
    if dtype == DType::F16 && !spec.alibi { Rounded::Storage } else { Rounded::F32 }
}

fn attention(spec: &Attention, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    if let Some(reason) = refusal(spec) {
        return Err(BackendError::Unsupported { reason: reason.into() });
    }
    let is_wide = probabilities_are(spec, graph.dtype) == Rounded::F32;
    let mut inputs = vec![graph.operand("q")?, in_use("k", spec, graph)?, in_use("v", spec, graph)?];
    if is_wide {
        inputs.iter_mut().for_each(|input| *input = graph.widen(*input));
    }
    let masking = Masking::of(spec);
    let dtype = if is_wide { DType::F32 } else { graph.dtype };
    match masking {
        Masking::None | Masking::TopLeft => {}
        Masking::Boolean => inputs.push(graph.known(Role::Input, |operands| {
            let (shape, visible) = mask(spec, operands, |_| 1_u8, 0)?;
            Ok(Tensor::from_slice(&shape, &visible)?.into())
        })?),
        Masking::Additive => inputs.push(graph.known(Role::Input, |operands| {
            let (shape, bias) = mask(spec, operands, |bias| bias, f32::NEG_INFINITY)?;
            with_element!(dtype, T => {
                let bias: Vec<T> = bias.into_iter().map(T::from_f32).collect();
                Ok(Tensor::from_slice(&shape, &bias)?.into())
            })
        })?),
    }
    let mut attributes = vec![("scale", Attribute::Float(spec.scale))];
    if masking == Masking::TopLeft {
        attributes.push(("is_causal", Attribute::Int(1)));
    }
    if let Some(softcap) = spec.softcap {
        attributes.push(("softcap", Attribute::Float(softcap)));
    }
    let out = graph.node("Attention", &inputs, &attributes);
    Ok(vec![if is_wide { graph.round(out) } else { out }])
}

fn refusal(spec: &Attention) -> Option<&'static str> {
    match spec {
        Attention { sinks: true, .. } => Some("ONNX's Attention has no sinks"),
        Attention { lse: true, .. } => Some("ONNX's Attention gives no log-sum-exp"),
        // Its operands may still have rows: those of a cache.
        _ if spec.kv_len == 0 => Some(super::EMPTY),
        _ if spec.scale <= 0.0 => Some("ONNX Runtime's Attention wants a scale greater than 0"),
        _ => None,
    }
}

/// K or V, of which a cache has more rows than are in use.
fn in_use(name: &'static str, spec: &Attention, graph: &mut Graph) -> Result<Edge, BackendError> {
    if spec.kv_rows() == spec.kv_len {
        return graph.operand(name);
    }
    let width = if name == "k" { spec.head_dim } else { spec.v_dim };
    let dtype = graph.dtype;
    let shape = [spec.batch, spec.kv_heads, spec.kv_len, width];
    let (allocated, used) = (spec.kv_rows() * width, spec.kv_len * width);
    graph.data(move |operands| {
        with_element!(dtype, T => {
            let heads = operands.slice::<T>(name)?.chunks_exact(allocated);
            let rows: Vec<T> = heads.flat_map(|head| &head[..used]).copied().collect();
            Ok(Cow::Owned(Tensor::from_slice(&shape, &rows)?))
        })
    })
}

/// What hides keys and biases scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Masking {
    None,
    /// The operator's own causal mask.
    TopLeft,
    /// Truth values.
    Boolean,
    /// Numbers to be added, −∞ for hidden keys.
    Additive,
}

impl Masking {
    fn of(spec: &Attention) -> Self {
        let every_query = |sees: fn(&Attention, usize) -> usize| {
            (0..spec.q_len).all(|i| spec.key_range(i) == (0..sees(spec, i)))
        };
        match spec.mask {
            _ if spec.alibi => Masking::Additive,
            Mask::Additive(_) => Masking::Additive,
            Mask::Boolean(_) | Mask::Padding => Masking::Boolean,
            Mask::None if every_query(|spec, _| spec.kv_len) => Masking::None,
            Mask::None if every_query(|spec, i| spec.kv_len.min(i + 1)) => Masking::TopLeft,
            Mask::None => Masking::Boolean,
        }
    }
}

/// A mask [B or 1, Hq or 1, Lq, Lk]: `visible` of its bias for a key that the query sees, else `hidden`.
/// The operator broadcasts batch and heads only.
fn mask<T: Copy>(
    spec: &Attention,
    operands: &Inputs,
    visible: impl Fn(f32) -> T,
    hidden: T,
) -> Result<([usize; 4], Vec<T>), BackendError> {
    let (by_sample, by_head) = match spec.mask {
        Mask::None => (false, false),
        Mask::Padding => (true, false),
        Mask::Boolean(axes) | Mask::Additive(axes) => (axes.batch, axes.heads),
    };
    let size = |differs: bool, n: usize| if differs { n } else { 1 };
    let shape =
        [size(by_sample, spec.batch), size(by_head || spec.alibi, spec.q_heads), spec.q_len, spec.kv_len];
    let data = operands.get("mask").or(operands.get("lengths")).map(Tensor::to_f64).unwrap_or_default();
    let slopes = operands.optional::<f32>("slopes")?;

    let mut values = vec![hidden; shape.iter().product()];
    for (row, values) in values.chunks_exact_mut(spec.kv_len.max(1)).enumerate() {
        let (i, h, b) = (row % spec.q_len, row / spec.q_len % shape[1], row / spec.q_len / shape[1]);
        for j in spec.key_range(i) {
            let (is_visible, added) = match spec.mask {
                Mask::None => (true, 0.0),
                Mask::Padding => ((j as f64) < data[b], 0.0),
                Mask::Boolean(axes) => (data[spec.mask_row(axes, b, h, i) + j] != 0.0, 0.0),
                Mask::Additive(axes) => (true, data[spec.mask_row(axes, b, h, i) + j]),
            };
            // Aligned bottom-right, whatever the causal mask is.
            let distance = (i + spec.kv_len).abs_diff(spec.q_len + j) as f64;
            let alibi = slopes.map_or(0.0, |slopes| -f64::from(slopes[h]) * distance);
            if is_visible {
                values[j] = visible((alibi + added) as f32);
            }
        }
    }
    Ok((shape, values))
}
