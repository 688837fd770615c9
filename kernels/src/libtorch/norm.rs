//! layer, rms, batch, group and instance norm.

use tch::{Kind, Tensor as Torch};

use super::convert::{Operands, sizes};
use super::{Step, reused};
use crate::backend::Declaration;
use crate::error::BackendError;
use crate::op::norm::BatchNormMode;
use crate::op::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};

pub(super) fn layer_norm_declares() -> Declaration {
    Declaration::library("fused")
}

pub(super) fn layer_norm(spec: &LayerNorm, operands: &Operands) -> Result<Step, BackendError> {
    let (x, weight, bias) = affine(operands)?;
    let normalized = sizes(&spec.shape[spec.shape.len() - spec.axes..]);
    let eps = f64::from(spec.eps);
    Ok(Box::new(move |out| {
        out[0] = x.f_layer_norm(&normalized, weight.as_ref(), bias.as_ref(), eps, true)?;
        Ok(())
    }))
}

pub(super) fn rms_norm_declares(spec: &RmsNorm) -> Declaration {
    match weighting(spec) {
        Weighting::Inside => Declaration::library("rms_norm"),
        Weighting::Shifted => Declaration::library("composed: weight + offset in f32, rms_norm"),
        Weighting::After => reused("composed: rms_norm, mul"),
    }
}

/// How the weight enters.
enum Weighting {
    /// By libtorch's own operation.
    Inside,
    /// So, but an offset is added to it in f32 first.
    Shifted,
    /// As a product with the normalized value that libtorch has rounded.
    After,
}

fn weighting(spec: &RmsNorm) -> Weighting {
    match (spec.weight, spec.round_before_weight) {
        (true, true) => Weighting::After,
        (true, false) if spec.weight_offset != 0.0 => Weighting::Shifted,
        _ => Weighting::Inside,
    }
}

pub(super) fn rms_norm(spec: &RmsNorm, operands: &Operands) -> Result<Step, BackendError> {
    let x = operands.get("x")?;
    let weight = operands.optional("weight")?;
    let width = sizes(&spec.shape[spec.shape.len() - 1..]);
    let (eps, offset) = (f64::from(spec.eps), f64::from(spec.weight_offset));
    let shifted = move |weight: &Torch| match offset {
        0.0 => weight.f_alias(),
        _ => weight.f_to_kind(Kind::Float)?.f_add_scalar(offset),
    };
    Ok(match (weighting(spec), weight) {
        (Weighting::After, Some(weight)) => Box::new(move |out| {
            let normalized = x.f_rms_norm(&width, None::<&Torch>, eps)?;
            normalized.f_mul_out(&out[0], &shifted(&weight)?).map(drop)
        }),
        (_, weight) => Box::new(move |out| {
            let weight = weight.as_ref().map(shifted).transpose()?;
            out[0] = x.f_rms_norm(&width, weight.as_ref(), eps)?;
            Ok(())
        }),
    })
}

pub(super) fn batch_norm_declares(spec: &BatchNorm) -> Declaration {
    reused(match spec.mode {
        BatchNormMode::Train => "fused, after a copy of the running statistics",
        BatchNormMode::Infer => "fused",
    })
}

/// Training updates the running statistics in place, so every run starts from a copy of the given
/// ones; of C elements each, it weighs nothing.
pub(super) fn batch_norm(spec: &BatchNorm, operands: &Operands) -> Result<Step, BackendError> {
    let (x, weight, bias) = affine(operands)?;
    let (mean, var) = (operands.get("running_mean")?, operands.get("running_var")?);
    let training = spec.mode == BatchNormMode::Train;
    let (momentum, eps) = (f64::from(spec.momentum), f64::from(spec.eps));
    // The statistics of the batch, which nobody asks for.
    let channels = if training { spec.shape[1] as i64 } else { 0 };
    let (saved_mean, saved_rstd) = (operands.scratch(&[channels])?, operands.scratch(&[channels])?);
    Ok(Box::new(move |results| {
        let (weight, bias) = (weight.as_ref(), bias.as_ref());
        if let [_, running_mean, running_var] = results {
            running_mean.f_copy_(&mean)?;
            running_var.f_copy_(&var)?;
        }
        let (out, mean, var) = match &*results {
            [out, running_mean, running_var] => (out, running_mean, running_var),
            results => (&results[0], &mean, &var),
        };
        x.f_native_batch_norm_out(
            out,
            &saved_mean,
            &saved_rstd,
            weight,
            bias,
            Some(mean),
            Some(var),
            training,
            momentum,
            eps,
        )
        .map(drop)
    }))
}

pub(super) fn group_norm_declares() -> Declaration {
    Declaration::library("fused")
}

pub(super) fn group_norm(spec: &GroupNorm, operands: &Operands) -> Result<Step, BackendError> {
    let (x, weight, bias) = affine(operands)?;
    let (groups, eps) = (spec.groups as i64, f64::from(spec.eps));
    Ok(Box::new(move |out| {
        out[0] = x.f_group_norm(groups, weight.as_ref(), bias.as_ref(), eps, true)?;
        Ok(())
    }))
}

/// libtorch itself reduces it to batch norm of a tensor with N·C channels.
pub(super) fn instance_norm_declares() -> Declaration {
    Declaration::library("instance_norm")
}

pub(super) fn instance_norm(spec: &InstanceNorm, operands: &Operands) -> Result<Step, BackendError> {
    let (x, weight, bias) = affine(operands)?;
    let eps = f64::from(spec.eps);
    let none = None::<Torch>;
    Ok(Box::new(move |out| {
        let (weight, bias) = (weight.as_ref(), bias.as_ref());
        out[0] = x.f_instance_norm(weight, bias, none.as_ref(), none.as_ref(), true, 0.0, eps, true)?;
        Ok(())
    }))
}

fn affine(operands: &Operands) -> Result<(Torch, Option<Torch>, Option<Torch>), BackendError> {
    Ok((operands.get("x")?, operands.optional("weight")?, operands.optional("bias")?))
}
