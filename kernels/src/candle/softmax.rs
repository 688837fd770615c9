//! softmax and log_softmax.

use candle_core::{DType, Result};
use candle_nn::ops;

use super::{Compute, Entry, HasKernel, Operands, Place, of};
use crate::backend::Declaration;
use crate::op::Softmax;

pub(super) const KERNELS: &[Entry] = &[of::<Softmax>];

impl HasKernel for Softmax {
    fn declares(&self, _dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library(match (self.log, is_last(self), self.scale == 1.0) {
            (false, true, true) => "softmax_last_dim",
            (false, false, true) => "softmax",
            (true, _, true) => "log_softmax",
            (false, true, false) => "scaled in f32, softmax_last_dim",
            (false, false, false) => "scaled in f32, softmax",
            (true, _, false) => "scaled in f32, log_softmax",
        })
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        let x = operands.upload("x")?;
        let spec = self.clone();
        Ok(Box::new(move || {
            let scaled = match spec.scale {
                1.0 => x.clone(),
                scale => (x.to_dtype(DType::F32)? * scale as f64)?,
            };
            let out = match spec.log {
                true => ops::log_softmax(&scaled, spec.axis)?,
                false if is_last(&spec) => ops::softmax_last_dim(&scaled)?,
                false => ops::softmax(&scaled, spec.axis)?,
            };
            Ok(vec![out.to_dtype(x.dtype())?])
        }))
    }
}

fn is_last(spec: &Softmax) -> bool {
    spec.axis + 1 == spec.shape.len()
}
