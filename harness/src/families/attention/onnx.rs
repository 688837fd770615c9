//! Attention and FlexAttention.
//!
//! Ours takes heads on an axis of their own, all keys in one tensor, and at most one mask. So heads
//! are split off the features of 3D inputs, keys and values of the past are put before the new
//! ones, and what hides keys beside a mask goes into the mask as −∞ or false: both hide a key
//! exactly, whatever it holds.

use ndarray::{Array4, ArrayD, Axis, Ix4, Slice, concatenate};
use touchstone_kernels::op::attention::MaskAxes;
use touchstone_kernels::op::{Attention, Causal, Mask};
use touchstone_kernels::{DType, ElementType};

use crate::onnx::Mapped;
use crate::onnx::error::NodeTestError;
use crate::onnx::node::{Claim, Given, Node, Unmapped, part};
use crate::onnx::value::{Value, tensor};

pub(super) fn attention(node: &Node) -> Result<Mapped, Unmapped> {
    if node.integer("softmax_precision")?.is_some_and(|precision| precision != 1) {
        return Err(Unmapped::Outside("softmax in another type than f32 (softmax_precision)".into()));
    }
    let q_heads = node.count("q_num_heads")?;
    let kv_heads = node.count("kv_num_heads")?;
    let (query, key, value) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let dtype = query.dtype()?;
    let q = heads(query, q_heads)?;
    let past_len = node.optional(4).map_or(0, |past| past.shape().get(2).copied().unwrap_or(0));
    let k = cached(node, heads(key, kv_heads)?, 4, 1)?;
    let v = cached(node, heads(value, kv_heads)?, 5, 2)?;

    let (batch, q_heads, q_len, head_dim) = q.dim();
    let mut spec = Attention {
        kv_heads: k.dim().1,
        kv_len: k.dim().2,
        v_dim: v.dim().3,
        softcap: node.number("softcap")?.filter(|&cap| cap != 0.0),
        ..Attention::new(batch, q_heads, q_len, head_dim)
    };
    if let Some(scale) = node.number("scale")? {
        spec.scale = scale;
    }
    let mut operands = vec![
        Given("q", query, tensor(query.tensor.element(), &q.into_dyn())),
        Given("k", key, tensor(key.tensor.element(), &k.into_dyn())),
        Given("v", value, tensor(value.tensor.element(), &v.into_dyn())),
    ];
    operands.extend(hide(node, &mut spec, dtype, past_len)?);

    let output = node.output()?;
    let claim = Claim("out", output, heads(output, q_heads)?.into_dyn());
    let part = part(spec, dtype, operands, vec![claim])?;
    // The scores, at one stage or another.
    let unjudged = node.optional_output(3).map(|value| value.name.clone());
    Ok(Mapped { parts: vec![part], unjudged: unjudged.into_iter().collect() })
}

/// A tensor as [B, heads, L, D]: so it is, or it is [B, L, heads·D].
pub(in crate::families) fn heads(value: &Value, heads: usize) -> Result<Array4<f64>, NodeTestError> {
    let array = value.array();
    let array = match *value.shape() {
        [_, _, _, _] => array.into_dimensionality::<Ix4>(),
        [batch, len, features] if heads > 0 && features.is_multiple_of(heads) => array
            .into_shape_with_order((batch, len, heads, features / heads))
            .map(|array| array.permuted_axes([0, 2, 1, 3])),
        _ => {
            let shape = value.shape();
            return Err(
                value.wrong(format!("has shape {shape:?}, expected 4 dimensions, or 3 with {heads} heads"))
            );
        }
    };
    array.map_err(|error| value.wrong(error.to_string()))
}

/// Keys or values after those of the past, which the node may hand back as an output.
fn cached(node: &Node, new: Array4<f64>, past: usize, present: usize) -> Result<Array4<f64>, NodeTestError> {
    let all = match node.optional(past) {
        None => new,
        Some(past) => {
            let before = heads(past, 0)?;
            concatenate(Axis(2), &[before.view(), new.view()]).map_err(|_| {
                past.wrong(format!("of shape {:?} does not go before {:?}", past.shape(), new.dim()))
            })?
        }
    };
    if let Some(present) = node.optional_output(present)
        && present.array() != all.view().into_dyn()
    {
        return Err(present.wrong("is not the past with the new keys or values behind it"));
    }
    Ok(all)
}

/// Whatever hides keys: causality, lengths, and the mask, in as few of our terms as can say it.
fn hide<'a>(
    node: &'a Node,
    spec: &mut Attention,
    dtype: DType,
    past_len: usize,
) -> Result<Option<Given<'a>>, Unmapped> {
    // Query i sees the keys up to past_len + i.
    let causal = node.integer("is_causal")?.unwrap_or(0) != 0;
    let aligned = past_len + spec.q_len == spec.kv_len;
    spec.causal = match (causal, past_len) {
        (true, 0) => Causal::TopLeft,
        (true, _) if aligned => Causal::BottomRight,
        _ => Causal::None,
    };
    let misaligned = causal && spec.causal == Causal::None;
    let lengths = node.optional(6);
    let mask = node.optional(3);
    if let (Some(lengths), None, false) = (lengths, mask, misaligned) {
        spec.mask = Mask::Padding;
        return Ok(Some(Given::whole("lengths", lengths)));
    }
    let (element, from, given) = match mask {
        None if misaligned => (ElementType::Bool, node.input(0)?, ArrayD::from_elem(vec![spec.kv_len], 1.0)),
        None => return Ok(None),
        Some(mask) => (mask.tensor.element(), mask, mask.array()),
    };
    let hidden = match element {
        ElementType::Bool => 0.0,
        ElementType::Float(found) if found == dtype => f64::NEG_INFINITY,
        found => return Err(Unmapped::Outside(format!("a mask of {found} for tensors of {dtype}"))),
    };
    let full = (spec.batch, spec.q_heads, spec.q_len, spec.kv_len);
    let mut given = mask_of_four(given, spec.kv_len, hidden, node.opset)
        .filter(|given| given.broadcast(full).is_some())
        .ok_or_else(|| from.wrong(format!("of shape {:?} is no mask of {full:?}", from.shape())))?;
    if misaligned {
        given = repeated(&given, 2, spec.q_len);
        for (i, mut row) in given.axis_iter_mut(Axis(2)).enumerate() {
            let future = (past_len + i + 1).min(spec.kv_len);
            row.slice_axis_mut(Axis(2), Slice::from(future..)).fill(hidden);
        }
    }
    if let Some(lengths) = lengths {
        if lengths.shape() != [spec.batch] {
            let shape = lengths.shape();
            return Err(lengths.wrong(format!("has shape {shape:?}, expected [{}]", spec.batch)).into());
        }
        given = repeated(&given, 0, spec.batch);
        let ends = lengths.tensor.as_slice::<i64>().map_err(|error| lengths.wrong(error.to_string()))?;
        for (mut sample, &length) in given.axis_iter_mut(Axis(0)).zip(ends) {
            let end = usize::try_from(length).ok().filter(|&end| end <= spec.kv_len);
            let end = end.ok_or_else(|| lengths.wrong(format!("says {length} of {} keys", spec.kv_len)))?;
            sample.slice_axis_mut(Axis(2), Slice::from(end..)).fill(hidden);
        }
    }
    let (batch, heads, queries, _) = given.dim();
    let axes = MaskAxes { batch: batch != 1, heads: heads != 1, queries: queries != 1 };
    spec.mask = if hidden == 0.0 { Mask::Boolean(axes) } else { Mask::Additive(axes) };
    Ok(Some(Given("mask", from, tensor(element, &given.into_dyn()))))
}

/// A mask with axes of length 1 put before those it has, and all keys.
fn mask_of_four(mask: ArrayD<f64>, keys: usize, hidden: f64, opset: i64) -> Option<Array4<f64>> {
    let mut mask = mask;
    while mask.ndim() < 4 {
        mask.insert_axis_inplace(Axis(0));
    }
    let mask = mask.into_dimensionality::<Ix4>().ok()?;
    let (batch, heads, queries, given) = mask.dim();
    match given {
        _ if given == keys => Some(mask),
        // From version 24 on, keys that a mask does not reach are hidden.
        _ if given < keys && opset >= 24 => {
            let rest = Array4::from_elem((batch, heads, queries, keys - given), hidden);
            concatenate(Axis(3), &[mask.view(), rest.view()]).ok()
        }
        1 => Some(repeated(&mask, 3, keys)),
        _ => None,
    }
}

/// An axis of length 1 repeated to `len`; any other stays.
fn repeated(array: &Array4<f64>, axis: usize, len: usize) -> Array4<f64> {
    let mut dim = array.raw_dim();
    dim[axis] = len;
    array.broadcast(dim).map_or_else(|| array.clone(), |repeated| repeated.to_owned())
}
