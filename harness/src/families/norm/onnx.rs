//! Normalizations.
//!
//! ONNX casts back to the storage type before scale and bias; a problem of ours says so only for
//! rms norm. The difference is one rounding, and none in f32.

use ndarray::ArrayD;
use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use touchstone_kernels::{DType, Op};

use crate::onnx::Mapped;
use crate::onnx::error::NodeTestError;
use crate::onnx::map::whole;
use crate::onnx::node::{Claim, Given, Node, Unmapped, part};
use crate::onnx::value::{Value, tensor};

/// ONNX's default in all of them.
const EPSILON: f32 = 1e-5;

pub(super) fn layer_norm(node: &Node) -> Result<Mapped, Unmapped> {
    computed_in_f32(node)?;
    let (x, scale, bias) = (node.input(0)?, node.input(1)?, node.optional(2));
    let shape = x.shape().to_vec();
    let axis = node.axis(-1, shape.len())?;
    let mut operands = vec![Given::whole("x", x), broadcast("weight", scale, &shape[axis..])?];
    if let Some(bias) = bias {
        operands.push(broadcast("bias", bias, &shape[axis..])?);
    }
    let op = Op::from(LayerNorm {
        axes: shape.len() - axis,
        shape,
        affine: Affine { weight: true, bias: bias.is_some() },
        eps: epsilon(node)?,
    });
    let part = part(op, x.dtype()?, operands, vec![Claim::whole("out", node.output()?)])?;
    // Mean and InvStdDev.
    let unjudged = (1..3).filter_map(|place| node.optional_output(place)).map(|value| value.name.clone());
    Ok(Mapped { parts: vec![part], unjudged: unjudged.collect() })
}

/// Ours goes over the last axis: the normalized axes become one.
pub(super) fn rms_norm(node: &Node) -> Result<Mapped, Unmapped> {
    computed_in_f32(node)?;
    let (x, scale) = (node.input(0)?, node.input(1)?);
    let axis = node.axis(-1, x.shape().len())?;
    let normalized = &x.shape()[axis..];
    let mut shape = x.shape()[..axis].to_vec();
    let width = normalized.iter().product();
    shape.push(width);

    let Given(name, from, weight) = broadcast("weight", scale, normalized)?;
    let weight = ndarray::Array1::from_vec(weight.to_f64()).into_dyn();
    let weight = Given(name, from, tensor(scale.tensor.element(), &weight));
    let x_as_rows = Given::reshaped("x", x, &shape)?;
    let dtype = x.dtype()?;
    let op = Op::from(RmsNorm {
        shape,
        weight: true,
        weight_offset: 0.0,
        eps: epsilon(node)?,
        round_before_weight: dtype != DType::F32,
    });
    Ok(whole(part(op, dtype, vec![x_as_rows, weight], vec![Claim::whole("out", node.output()?)])?))
}

pub(super) fn group_norm(node: &Node) -> Result<Mapped, Unmapped> {
    computed_in_f32(node)?;
    let op = Op::from(GroupNorm {
        shape: node.input(0)?.shape().to_vec(),
        groups: node.count("num_groups")?,
        affine: Affine { weight: true, bias: true },
        eps: epsilon(node)?,
    });
    by_channel(node, op)
}

pub(super) fn instance_norm(node: &Node) -> Result<Mapped, Unmapped> {
    let op = Op::from(InstanceNorm {
        shape: node.input(0)?.shape().to_vec(),
        affine: Affine { weight: true, bias: true },
        eps: epsilon(node)?,
    });
    by_channel(node, op)
}

fn by_channel(node: &Node, op: Op) -> Result<Mapped, Unmapped> {
    let x = node.input(0)?;
    let operands = vec![
        Given::whole("x", x),
        Given::whole("weight", node.input(1)?),
        Given::whole("bias", node.input(2)?),
    ];
    Ok(whole(part(op, x.dtype()?, operands, vec![Claim::whole("out", node.output()?)])?))
}

pub(super) fn batch_norm(node: &Node) -> Result<Mapped, Unmapped> {
    let x = node.input(0)?;
    let training = node.integer("training_mode")?.unwrap_or(0) != 0;
    // ONNX's momentum is the weight of the old statistics, ours that of the new ones.
    let kept = node.number("momentum")?.unwrap_or(0.9);
    let running_var = node.input(4)?;
    let op = Op::from(BatchNorm {
        shape: x.shape().to_vec(),
        mode: if training { BatchNormMode::Train } else { BatchNormMode::Infer },
        affine: Affine { weight: true, bias: true },
        eps: epsilon(node)?,
        momentum: (1.0 - kept as f64) as f32,
    });
    let operands = vec![
        Given::whole("x", x),
        Given::whole("weight", node.input(1)?),
        Given::whole("bias", node.input(2)?),
        Given::whole("running_mean", node.input(3)?),
        Given::whole("running_var", running_var),
    ];
    let mut claims = vec![Claim::whole("out", node.output()?)];
    if let (true, Some(mean)) = (training, node.optional_output(1)) {
        claims.push(Claim::whole("running_mean", mean));
    }
    if let (true, Some(variance)) = (training, node.optional_output(2)) {
        let channels = x.shape().get(1).copied().unwrap_or(1);
        let values = x.tensor.len() / channels.max(1);
        claims.push(Claim("running_var", variance, unbiased(variance, running_var, kept, values)?));
    }
    Ok(whole(part(op, x.dtype()?, operands, claims)?))
}

/// The running variance as ours updates it. ONNX adds the population variance of the batch, ours,
/// as PyTorch's, the unbiased one: the share of the batch is n/(n − 1) times as large.
fn unbiased(updated: &Value, before: &Value, kept: f32, n: usize) -> Result<ArrayD<f64>, NodeTestError> {
    if updated.shape() != before.shape() {
        return Err(updated.wrong(format!("has shape {:?}, expected {:?}", updated.shape(), before.shape())));
    }
    let old = before.array() * kept as f64;
    let correction = n as f64 / (n as f64 - 1.0);
    Ok((updated.array() - &old) * correction + old)
}

fn epsilon(node: &Node) -> Result<f32, NodeTestError> {
    Ok(node.number("epsilon")?.unwrap_or(EPSILON))
}

/// Refuses statistics in another type than f32.
fn computed_in_f32(node: &Node) -> Result<(), Unmapped> {
    match node.integer("stash_type")? {
        None | Some(1) => Ok(()),
        Some(_) => Err(Unmapped::Outside("statistics in another type than f32 (stash_type)".into())),
    }
}

/// A parameter of fewer dimensions than what it is applied to, repeated along the others.
fn broadcast<'a>(name: &'static str, value: &'a Value, shape: &[usize]) -> Result<Given<'a>, NodeTestError> {
    if value.shape() == shape {
        return Ok(Given::whole(name, value));
    }
    let array = value.array();
    let repeated = array.broadcast(shape).ok_or_else(|| {
        value.wrong(format!("has shape {:?}, which cannot be repeated to {shape:?}", value.shape()))
    })?;
    Ok(Given(name, value, tensor(value.tensor.element(), &repeated.to_owned())))
}
