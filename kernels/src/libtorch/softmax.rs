//! softmax and log_softmax.

use tch::{Kind, Tensor as Torch};

use super::convert::{Operands, sizes};
use super::{Bound, Entry, HasKernel, Step, Target, of, reused};
use crate::backend::Declaration;
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::Softmax;

pub(super) const KERNELS: &[Entry] = &[of::<Softmax>];

impl HasKernel for Softmax {
    fn declares(&self, dtype: DType, _target: Target) -> Declaration {
        reused(match (self.scale == 1.0, dtype) {
            (true, _) => "fused",
            (false, DType::F32) => "composed: mul, softmax",
            (false, _) => "composed: to f32, mul, softmax, round",
        })
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        prepare(self, operands).map(Bound::from)
    }
}

/// The softmax of libtorch has no scale: another one than 1 is multiplied first, in f32.
fn prepare(spec: &Softmax, operands: &Operands) -> Result<Step, BackendError> {
    let x = operands.get("x")?;
    let axis = spec.axis as i64;
    let log = spec.log;
    let softmax = move |x: &Torch, out: &Torch| match log {
        false => x.f_softmax_int_out(out, axis, None::<Kind>),
        true => x.f_log_softmax_int_out(out, axis, None::<Kind>),
    };
    if spec.scale == 1.0 {
        return Ok(Box::new(move |out| softmax(&x, &out[0]).map(drop)));
    }
    let scale = f64::from(spec.scale);
    let mut scaled = operands.scratch(&sizes(&spec.shape))?;
    if operands.dtype == DType::F32 {
        return Ok(Box::new(move |out| {
            let _ = x.f_mul_scalar_out(&scaled, scale)?;
            softmax(&scaled, &out[0]).map(drop)
        }));
    }
    let wide = operands.scratch(&sizes(&spec.shape))?;
    Ok(Box::new(move |out| {
        scaled.f_copy_(&x)?;
        let _ = scaled.f_mul_scalar_(scale)?;
        let _ = softmax(&scaled, &wide)?;
        out[0].f_copy_(&wide)
    }))
}
