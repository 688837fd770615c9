//! layer, rms, batch, group and instance norm.

use super::graph::{Attribute, Edge, Graph, Role};
use super::{Entry, HasKernel, of};
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::norm::BatchNormMode;
use crate::op::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use crate::tensor::Tensor;

pub(super) const KERNELS: &[Entry] =
    &[of::<LayerNorm>, of::<RmsNorm>, of::<BatchNorm>, of::<GroupNorm>, of::<InstanceNorm>];

impl HasKernel for LayerNorm {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        layer_norm(self, graph)
    }
}

impl HasKernel for RmsNorm {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        rms_norm(self, graph)
    }
}

impl HasKernel for BatchNorm {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        batch_norm(self, graph)
    }
}

impl HasKernel for GroupNorm {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        group_norm(self, graph)
    }
}

impl HasKernel for InstanceNorm {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        instance_norm(self, graph)
    }
}

fn epsilon(eps: f32) -> (&'static str, Attribute) {
    ("epsilon", Attribute::Float(eps))
}

/// There are kernels for every storage type.
fn layer_norm(spec: &LayerNorm, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    let first = spec.shape.len() - spec.axes;
    let mut inputs = vec![
        graph.operand("x")?,
        graph.parameter_or("weight", spec.affine.weight, 1.0, &spec.shape[first..])?,
    ];
    if spec.affine.bias {
        inputs.push(graph.parameter("bias")?);
    }
    let attributes = [("axis", Attribute::Int(first as i64)), epsilon(spec.eps)];
    Ok(vec![graph.node("LayerNormalization", &inputs, &attributes)])
}

/// There are kernels for every storage type, and none has an offset or rounds before the weight: the
/// offset is added to the weight in f32 beforehand, and a rounded value is widened again.
fn rms_norm(spec: &RmsNorm, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    let x = graph.operand("x")?;
    let width = &spec.shape[spec.shape.len() - 1..];
    let is_rounded_twice = spec.weight && spec.round_before_weight && graph.dtype != DType::F32;
    let offset = if spec.weight { spec.weight_offset } else { 0.0 };
    if offset == 0.0 && !is_rounded_twice {
        let weight = graph.parameter_or("weight", spec.weight, 1.0, width)?;
        return Ok(vec![rms(x, weight, graph.dtype, spec.eps, graph)]);
    }

    let weight = graph.parameter("weight")?;
    let mut weight = graph.widen(weight);
    if offset != 0.0 {
        let offset = graph.number(offset)?;
        weight = graph.node("Add", &[weight, offset], &[]);
    }
    let out = if is_rounded_twice {
        let ones = graph.parameter_or("weight", false, 1.0, width)?;
        let normalized = rms(x, ones, graph.dtype, spec.eps, graph);
        let normalized = graph.widen(normalized);
        graph.node("Mul", &[normalized, weight], &[])
    } else {
        let x = graph.widen(x);
        rms(x, weight, DType::F32, spec.eps, graph)
    };
    Ok(vec![graph.round(out)])
}

/// ONNX's operator, or ONNX Runtime's older one where that alone has a kernel.
fn rms(x: Edge, weight: Edge, dtype: DType, eps: f32, graph: &mut Graph) -> Edge {
    let operator = match dtype {
        DType::F32 | DType::F16 => "RMSNormalization",
        DType::BF16 => "SimplifiedLayerNormalization",
    };
    graph.node(operator, &[x, weight], &[("axis", Attribute::Int(-1)), epsilon(eps)])
}

/// In training ONNX's operator keeps the running variance *biased*. With a momentum of 0 it hands out
/// the statistics of the batch instead, whatever running ones it is given.
///
/// ONNX Runtime's kernel writes its new statistics over the old ones, even where those are inputs of
/// the model, and an infinite one would make the next run's NaN: what they are given is renewed.
fn batch_norm(spec: &BatchNorm, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    let channels = spec.shape[1];
    let x = graph.operand("x")?;
    let x = graph.widen(x);
    let [weight, bias] = channel_parameters([spec.affine.weight, spec.affine.bias], channels, graph)?;
    let (mean, var) = (graph.parameter("running_mean")?, graph.parameter("running_var")?);
    let running = [graph.widen(mean), graph.widen(var)];
    if spec.mode == BatchNormMode::Infer {
        let [mean, var] = running;
        let out = graph.node("BatchNormalization", &[x, weight, bias, mean, var], &[epsilon(spec.eps)]);
        return Ok(vec![graph.round(out)]);
    }
    let mut statistics = || {
        let zeros = |_| Ok(Tensor::from_slice(&[channels], &vec![0.0_f32; channels])?.into());
        graph.known(Role::Scratch, zeros)
    };
    let (mean, var) = (statistics()?, statistics()?);
    let attributes =
        [epsilon(spec.eps), ("momentum", Attribute::Float(0.0)), ("training_mode", Attribute::Int(1))];
    let [out, batch_mean, batch_var] =
        graph.node_of("BatchNormalization", &[x, weight, bias, mean, var], &attributes);

    let (n, _, spatial) = spec.dims();
    let count = (n * spatial) as f64;
    let momentum = f64::from(spec.momentum);
    let mut results = vec![out];
    for (running, batch, new) in
        [(running[0], batch_mean, momentum), (running[1], batch_var, momentum * count / (count - 1.0))]
    {
        let (old, new) = (graph.number((1.0 - momentum) as f32)?, graph.number(new as f32)?);
        let (kept, added) = (graph.node("Mul", &[running, old], &[]), graph.node("Mul", &[batch, new], &[]));
        results.push(graph.node("Add", &[kept, added], &[]));
    }
    Ok(results.into_iter().map(|result| graph.round(result)).collect())
}

/// ONNX's operator has no kernel: ONNX Runtime would put nearly thirty nodes in its place. Each group
/// is a row of layer norm, and weight and bias follow.
fn group_norm(spec: &GroupNorm, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    let (n, channels, spatial) = spec.dims();
    let width = channels / spec.groups * spatial;
    let x = graph.operand("x")?;
    let x = graph.widen(x);
    let rows = graph.reshape(x, &[n * spec.groups, width])?;
    let ones = graph.parameter_or("weight", false, 1.0, &[width])?;
    let ones = graph.widen(ones);
    let attributes = [("axis", Attribute::Int(-1)), epsilon(spec.eps)];
    let normalized = graph.node("LayerNormalization", &[rows, ones], &attributes);
    let mut out = graph.reshape(normalized, &[n, channels, spatial])?;
    for (is_operand, name, operator) in
        [(spec.affine.weight, "weight", "Mul"), (spec.affine.bias, "bias", "Add")]
    {
        if is_operand {
            let parameter = graph.parameter(name)?;
            let parameter = graph.widen(parameter);
            let column = graph.reshape(parameter, &[channels, 1])?;
            out = graph.node(operator, &[out, column], &[]);
        }
    }
    let out = graph.reshape(out, &spec.shape)?;
    Ok(vec![graph.round(out)])
}

fn instance_norm(spec: &InstanceNorm, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    let x = graph.operand("x")?;
    let mut x = graph.widen(x);
    // The kernel wants a spatial axis.
    let (n, channels, spatial) = spec.dims();
    let has_spatial_axes = spec.shape.len() > 2;
    if !has_spatial_axes {
        x = graph.reshape(x, &[n, channels, spatial])?;
    }
    let [weight, bias] = channel_parameters([spec.affine.weight, spec.affine.bias], channels, graph)?;
    let mut out = graph.node("InstanceNormalization", &[x, weight, bias], &[epsilon(spec.eps)]);
    if !has_spatial_axes {
        out = graph.reshape(out, &spec.shape)?;
    }
    Ok(vec![graph.round(out)])
}

/// Weight and bias in f32, which the operators want both: ones and zeros where the problem has none.
fn channel_parameters(
    are_operands: [bool; 2],
    channels: usize,
    graph: &mut Graph,
) -> Result<[Edge; 2], BackendError> {
    let [has_weight, has_bias] = are_operands;
    let weight = graph.parameter_or("weight", has_weight, 1.0, &[channels])?;
    let bias = graph.parameter_or("bias", has_bias, 0.0, &[channels])?;
    Ok([graph.widen(weight), graph.widen(bias)])
}
