//! layer, rms, batch, group and instance norm.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{BatchNorm, GroupNorm, LayerNorm, Module, ModuleT, ops};

use super::{Compute, Entry, HasKernel, Operands, Place, of};
use crate::backend::Declaration;
use crate::op::{self, BatchNormMode};

pub(super) const KERNELS: &[Entry] = &[
    of::<op::LayerNorm>,
    of::<op::RmsNorm>,
    of::<op::BatchNorm>,
    of::<op::GroupNorm>,
    of::<op::InstanceNorm>,
];

impl HasKernel for op::LayerNorm {
    fn declares(&self, _dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library(layer_norm_path(self))
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        layer_norm(self, operands)
    }
}

impl HasKernel for op::RmsNorm {
    fn declares(&self, dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library(rms_norm_path(self, dtype))
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        rms_norm(self, operands)
    }
}

impl HasKernel for op::BatchNorm {
    fn declares(&self, _dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library("BatchNorm in f32")
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        batch_norm(self, operands)
    }
}

impl HasKernel for op::GroupNorm {
    fn declares(&self, _dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library("GroupNorm")
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        grouped(self.dims(), self.groups, self.eps, operands)
    }
}

impl HasKernel for op::InstanceNorm {
    fn declares(&self, _dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library("GroupNorm")
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        // Group norm with a group for each channel: candle has no instance norm.
        let (n, channels, spatial) = self.dims();
        grouped((n, channels, spatial), channels, self.eps, operands)
    }
}

/// Which operations run. As in candle's own module, a norm without bias is not the fused one.
fn layer_norm_path(spec: &op::LayerNorm) -> &'static str {
    if spec.affine.bias { "ops::layer_norm" } else { "LayerNorm without bias" }
}

fn layer_norm(spec: &op::LayerNorm, operands: &Operands) -> Result<Compute> {
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
fn rms_norm_path(spec: &op::RmsNorm, dtype: crate::DType) -> &'static str {
    let f32 = dtype == crate::DType::F32;
    match (spec.weight_offset == 0.0, spec.round_before_weight && !f32) {
        (true, false) => "ops::rms_norm",
        (true, true) => "ops::rms_norm_slow",
        (false, false) if f32 => "weight + offset, ops::rms_norm",
        (false, _) => "composed in f32",
    }
}

fn rms_norm(spec: &op::RmsNorm, operands: &Operands) -> Result<Compute> {
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
fn batch_norm(spec: &op::BatchNorm, operands: &Operands) -> Result<Compute> {
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

fn grouped(
    (n, channels, spatial): (usize, usize, usize),
    groups: usize,
    eps: f32,
    operands: &Operands,
) -> Result<Compute> {
    let x = operands.upload("x")?;
    let weight = operands.upload_or("weight", 1.0, channels)?;
    let bias = operands.upload_or("bias", 0.0, channels)?;
    let norm = GroupNorm::new(weight, bias, channels, groups, eps as f64)?;
    Ok(Box::new(move || {
        let out = norm.forward(&x.reshape((n, channels, spatial))?)?;
        Ok(vec![out.reshape(x.shape())?])
    }))
}
