//! A residual added, and rms or layer norm of the sum: candle's own addition and its own norm.

use candle_core::{DType, Result};
use candle_nn::{LayerNorm, Module, ops};

use super::{Compute, Entry, HasKernel, Operands, Place, of};
use crate::backend::Declaration;
use crate::op::residual::{AddLayerNorm, AddRmsNorm, Residual};

pub(super) const KERNELS: &[Entry] = &[of::<AddRmsNorm>, of::<AddLayerNorm>];

/// Whether the sum is widened first: candle's own is in the storage type.
fn is_widened(residual: Residual, dtype: crate::DType) -> bool {
    !residual.round_sum && dtype != crate::DType::F32
}

impl HasKernel for AddRmsNorm {
    fn declares(&self, dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library(match (is_widened(self.residual, dtype), self.weight_offset == 0.0) {
            (false, true) => "composed: add, ops::rms_norm",
            (false, false) => "composed: add, weight + offset in f32, ops::rms_norm",
            (true, _) => "composed in f32: add, ops::rms_norm",
        })
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        let (x, residual) = (operands.upload("x")?, operands.upload("residual")?);
        let weight = operands.upload_or("weight", 1.0, self.rows_and_width().1)?;
        let (offset, eps) = (f64::from(self.weight_offset), self.eps);
        let (returns, widens) = (self.residual.sum, is_widened(self.residual, operands.storage));
        Ok(Box::new(move || {
            let sum = (&x + &residual)?;
            let mut results = if !widens && offset == 0.0 {
                vec![ops::rms_norm(&sum, &weight, eps)?]
            } else {
                let normed = if widens {
                    (x.to_dtype(DType::F32)? + residual.to_dtype(DType::F32)?)?
                } else {
                    sum.to_dtype(DType::F32)?
                };
                let weight = (weight.to_dtype(DType::F32)? + offset)?;
                vec![ops::rms_norm(&normed, &weight, eps)?.to_dtype(x.dtype())?]
            };
            results.extend(returns.then_some(sum));
            Ok(results)
        }))
    }
}

impl HasKernel for AddLayerNorm {
    fn declares(&self, dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library(match (is_widened(self.residual, dtype), self.affine.bias) {
            (false, true) => "composed: add, ops::layer_norm",
            (false, false) => "composed: add, LayerNorm without bias",
            (true, _) => "composed in f32: add, layer norm",
        })
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        let (_, width) = self.rows_and_width();
        let (x, residual) = (operands.upload("x")?, operands.upload("residual")?);
        let mut weight = operands.upload_or("weight", 1.0, width)?;
        let mut bias = operands.upload_optional("bias")?;
        let (returns, widens) = (self.residual.sum, is_widened(self.residual, operands.storage));
        if widens {
            weight = weight.to_dtype(DType::F32)?;
            bias = bias.map(|bias| bias.to_dtype(DType::F32)).transpose()?;
        }
        let eps = f64::from(self.eps);
        let norm = match bias {
            Some(bias) => LayerNorm::new(weight, bias, eps),
            None => LayerNorm::new_no_bias(weight, eps),
        };
        Ok(Box::new(move || {
            let sum = (&x + &residual)?;
            let out = if widens {
                norm.forward(&(x.to_dtype(DType::F32)? + residual.to_dtype(DType::F32)?)?)?
                    .to_dtype(x.dtype())?
            } else {
                norm.forward(&sum)?
            };
            Ok(std::iter::once(out).chain(returns.then_some(sum)).collect())
        }))
    }
}
