//! layer, rms, batch, group and instance norm.

use candle_core::{D, DType, Tensor};
use candle_nn::{BatchNorm, GroupNorm, LayerNorm, Module, ModuleT, ops};

use super::{Compute, Operands};
use crate::op::{self, BatchNormMode};

/// Which operations run. As in candle's own module, a norm without bias is not the fused one.
pub(super) fn layer_norm_path(spec: &op::LayerNorm) -> &'static str {
    if spec.affine.bias { "ops::layer_norm" } else { "LayerNorm without bias" }
}

pub(super) fn layer_norm(spec: &op::LayerNorm, operands: &Operands) -> candle_core::Result<Compute> {
    let (rows, width) = spec.rows_and_width();
    let x = operands.upload("x")?;
    let weight = operands.upload_or("weight", 1.0, width)?.flatten_all()?;
    let bias = operands.upload_optional("bias")?.map(|bias| bias.flatten_all()).transpose()?;
    let eps = spec.eps as f64;
    let norm = match bias {
        Some(bias) => LayerNorm::new(weight, bias, eps),
        None => LayerNorm::new_no_bias(weight, eps),
    };
    Ok(Box::new(move || {
        let out = norm.forward(&x.reshape((rows, width))?)?;
        Ok(vec![out.reshape(x.shape())?])
    }))
}

/// Which operations run. Candle's fused operation has no offset and does not round in between.
pub(super) fn rms_norm_path(spec: &op::RmsNorm, dtype: crate::DType) -> &'static str {
    let f32 = dtype == crate::DType::F32;
    match (spec.weight_offset == 0.0, spec.round_before_weight && !f32) {
        (true, false) => "ops::rms_norm",
        (true, true) => "ops::rms_norm_slow",
        (false, false) if f32 => "weight + offset, ops::rms_norm",
        (false, _) => "composed in f32",
    }
}

pub(super) fn rms_norm(spec: &op::RmsNorm, operands: &Operands) -> candle_core::Result<Compute> {
    let (_, width) = spec.rows_and_width();
    let x = operands.upload("x")?;
    // Without a weight there is nothing that the offset could be added to.
    let offset = if spec.weight { spec.weight_offset as f64 } else { 0.0 };
    let weight = operands.upload_or("weight", 1.0, width)?;
    let (eps, round) = (spec.eps, spec.round_before_weight && x.dtype() != DType::F32);
    Ok(match (offset == 0.0, round) {
        (true, false) => Box::new(move || Ok(vec![ops::rms_norm(&x, &weight, eps)?])),
        (true, true) => Box::new(move || Ok(vec![ops::rms_norm_slow(&x, &weight, eps)?])),
        (false, false) if x.dtype() == DType::F32 => {
            Box::new(move || Ok(vec![ops::rms_norm(&x, &(&weight + offset)?, eps)?]))
        }
        (false, round) => Box::new(move || {
            let wide = x.to_dtype(DType::F32)?;
            let mean_square = wide.sqr()?.mean_keepdim(D::Minus1)?;
            let mut normalized = wide.broadcast_div(&(mean_square + eps as f64)?.sqrt()?)?;
            if round {
                normalized = normalized.to_dtype(x.dtype())?.to_dtype(DType::F32)?;
            }
            let weight = (weight.to_dtype(DType::F32)? + offset)?;
            Ok(vec![normalized.broadcast_mul(&weight)?.to_dtype(x.dtype())?])
        }),
    })
}

/// Candle's module keeps its running statistics in variables, which must be f32 when it trains:
/// it is built anew for each run, and computes in f32 whatever the storage type is.
pub(super) fn batch_norm(spec: &op::BatchNorm, operands: &Operands) -> candle_core::Result<Compute> {
    let (_, channels, _) = spec.dims();
    let x = operands.upload("x")?;
    let affine = spec.affine.weight || spec.affine.bias;
    let weight = operands.upload_or("weight", 1.0, channels)?;
    let bias = operands.upload_or("bias", 0.0, channels)?;
    let running_mean = operands.upload("running_mean")?;
    let running_var = operands.upload("running_var")?;
    let (eps, momentum) = (spec.eps as f64, spec.momentum as f64);
    let train = spec.mode == BatchNormMode::Train;
    Ok(Box::new(move || {
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32);
        let (mean, var) = (wide(&running_mean)?, wide(&running_var)?);
        let norm = if affine {
            let (weight, bias) = (wide(&weight)?, wide(&bias)?);
            BatchNorm::new_with_momentum(channels, mean, var, weight, bias, eps, momentum)?
        } else {
            BatchNorm::new_no_bias_with_momentum(channels, mean, var, eps, momentum)?
        };
        let out = norm.forward_t(&wide(&x)?, train)?.contiguous()?.to_dtype(x.dtype())?;
        if !train {
            return Ok(vec![out]);
        }
        let mean = norm.running_mean().to_dtype(x.dtype())?;
        let var = norm.running_var().to_dtype(x.dtype())?;
        Ok(vec![out, mean, var])
    }))
}

pub(super) fn group_norm(spec: &op::GroupNorm, operands: &Operands) -> candle_core::Result<Compute> {
    grouped(spec.dims(), spec.groups, spec.eps, operands)
}

/// Group norm with a group for each channel: candle has no instance norm.
pub(super) fn instance_norm(spec: &op::InstanceNorm, operands: &Operands) -> candle_core::Result<Compute> {
    let (n, channels, spatial) = spec.dims();
    grouped((n, channels, spatial), channels, spec.eps, operands)
}

fn grouped(
    (n, channels, spatial): (usize, usize, usize),
    groups: usize,
    eps: f32,
    operands: &Operands,
) -> candle_core::Result<Compute> {
    let x = operands.upload("x")?;
    let weight = operands.upload_or("weight", 1.0, channels)?;
    let bias = operands.upload_or("bias", 0.0, channels)?;
    let norm = GroupNorm::new(weight, bias, channels, groups, eps as f64)?;
    Ok(Box::new(move || {
        let out = norm.forward(&x.reshape((n, channels, spatial))?)?;
        Ok(vec![out.reshape(x.shape())?])
    }))
}
