//! A residual added, and rms or layer norm of the sum, as models in PyTorch write it: two operations.

use tch::{Kind, TchError, Tensor as Torch};

use super::convert::{Operands, sizes};
use super::{Bound, Entry, HasKernel, Step, Target, of};
use crate::backend::{Declaration, Moments};
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::residual::{AddLayerNorm, AddRmsNorm, Residual};

pub(super) const KERNELS: &[Entry] = &[of::<AddRmsNorm>, of::<AddLayerNorm>];

impl HasKernel for AddRmsNorm {
    fn declares(&self, dtype: DType, _target: Target) -> Declaration {
        let shifted = self.weight_offset != 0.0;
        Declaration::library(match (self.residual.round_sum || dtype == DType::F32, shifted) {
            (true, false) => "composed: add, rms_norm",
            (true, true) => "composed: add, to f32, weight + offset, rms_norm, round",
            (false, _) => "composed: to f32, add, rms_norm, round",
        })
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        let weight = operands.optional("weight")?;
        let width = sizes(&self.shape[self.shape.len() - 1..]);
        let (eps, offset) = (f64::from(self.eps), f64::from(self.weight_offset));
        let is_wide = operands.dtype != DType::F32 && (!self.residual.round_sum || offset != 0.0);
        let norm = move |sum: &Torch| {
            let weight = match &weight {
                Some(weight) if is_wide || offset != 0.0 => {
                    Some(weight.f_to_kind(Kind::Float)?.f_add_scalar(offset)?)
                }
                weight => weight.as_ref().map(Torch::shallow_clone),
            };
            sum.f_rms_norm(&width, weight.as_ref(), eps)
        };
        added(self.residual, operands, is_wide, norm)
    }
}

impl HasKernel for AddLayerNorm {
    fn declares(&self, dtype: DType, target: Target) -> Declaration {
        let path = match self.residual.round_sum || dtype == DType::F32 {
            true => "composed: add, layer_norm",
            false => "composed: to f32, add, layer_norm, round",
        };
        let declared = Declaration::library(path);
        // As ATen's layer norm for CUDA.
        match target.device.is_cuda() {
            true => Declaration { moments: Moments::Running, ..declared },
            false => declared,
        }
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        let is_wide = operands.dtype != DType::F32 && !self.residual.round_sum;
        let parameter = |name| -> Result<Option<Torch>, BackendError> {
            let given = operands.optional(name)?;
            Ok(if is_wide { given.map(|tensor| tensor.f_to_kind(Kind::Float)).transpose()? } else { given })
        };
        let (weight, bias) = (parameter("weight")?, parameter("bias")?);
        let width = sizes(&self.shape[self.shape.len() - 1..]);
        let eps = f64::from(self.eps);
        let norm = move |sum: &Torch| sum.f_layer_norm(&width, weight.as_ref(), bias.as_ref(), eps, true);
        added(self.residual, operands, is_wide, norm)
    }
}

/// `norm` of the sum. With `is_wide` it takes f32: the sum before it is rounded, or the rounded one widened.
fn added(
    residual: Residual,
    operands: &Operands,
    is_wide: bool,
    norm: impl Fn(&Torch) -> Result<Torch, TchError> + 'static,
) -> Result<Bound, BackendError> {
    let (x, r) = (operands.get("x")?, operands.get("residual")?);
    let kind = x.f_kind()?;
    let step: Step = Box::new(move |out: &mut [Torch]| {
        let sum = x.f_add(&r)?;
        out[0] = if !is_wide {
            norm(&sum)?
        } else if residual.round_sum {
            norm(&sum.f_to_kind(Kind::Float)?)?.f_to_kind(kind)?
        } else {
            norm(&x.f_to_kind(Kind::Float)?.f_add(&r)?)?.f_to_kind(kind)?
        };
        if residual.sum {
            out[1] = sum;
        }
        Ok(())
    });
    Ok(step.into())
}
