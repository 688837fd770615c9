//! Normalizations: layer, rms, batch, group and instance.
//!
//! [`moments`] holds the statistics, [`normal`] the element-wise step that follows them; `rows`
//! and `channels` bring the operands of each operation to these two.

mod channels;
mod moments;
mod normal;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::Engine;
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::host::HostPrepared;
use crate::op::Op;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;

type Kernel = Box<dyn FnMut(&Inputs, &mut Outputs) -> Result<(), BackendError>>;

pub(super) fn prepare<T: Element>(
    engine: &Arc<Engine>,
    problem: &Problem,
    op: &Op,
    inputs: &Inputs,
) -> Result<Box<dyn Prepared>, BackendError> {
    let engine = Arc::clone(engine);
    let kernel: Kernel = match op.clone() {
        Op::LayerNorm(spec) => Box::new(move |i, o| rows::layer_norm::<T>(&engine, &spec, i, o)),
        Op::RmsNorm(spec) => Box::new(move |i, o| rows::rms_norm::<T>(&engine, &spec, i, o)),
        Op::BatchNorm(spec) => Box::new(move |i, o| channels::batch_norm::<T>(&engine, &spec, i, o)),
        Op::GroupNorm(spec) => Box::new(move |i, o| channels::group_norm::<T>(&engine, &spec, i, o)),
        Op::InstanceNorm(spec) => Box::new(move |i, o| channels::instance_norm::<T>(&engine, &spec, i, o)),
        other => {
            let reason = format!("{} is not a normalization", other.spec().name());
            return Err(BackendError::Unsupported { reason });
        }
    };
    Ok(Box::new(HostPrepared::new(problem, inputs, kernel)))
}
