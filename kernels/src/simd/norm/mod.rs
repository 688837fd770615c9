//! Normalizations: layer, rms, batch, group and instance.
//!
//! [`moments`] holds the statistics, [`normal`] the element-wise step that follows them; `rows`
//! and `channels` bring the operands of each operation to these two.

mod channels;
pub(super) mod moments;
pub(super) mod normal;
pub(super) mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{Engine, Entry, HasKernel, of};
use crate::backend::Prepared;
use crate::error::BackendError;
use crate::host::HostPrepared;
use crate::op::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] =
    &[of::<LayerNorm>, of::<RmsNorm>, of::<BatchNorm>, of::<GroupNorm>, of::<InstanceNorm>];

/// A normalization from operands to results.
type Kernel<O> = fn(&Engine, &O, &Inputs, &mut Outputs) -> Result<(), BackendError>;

/// A kernel, bound to a problem.
fn hosted<O: Clone + 'static>(
    (engine, spec, kernel): (&Arc<Engine>, &O, Kernel<O>),
    problem: &Problem,
    inputs: &Inputs,
) -> Result<Box<dyn Prepared>, BackendError> {
    let (engine, spec) = (Arc::clone(engine), spec.clone());
    let kernel = move |inputs: &Inputs, outputs: &mut Outputs| kernel(&engine, &spec, inputs, outputs);
    Ok(Box::new(HostPrepared::new(problem, inputs, kernel)))
}

impl HasKernel for LayerNorm {
    fn path(&self) -> &'static str {
        "fused"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        with_element!(problem.dtype, T => hosted((engine, self, rows::layer_norm::<T>), problem, inputs))
    }
}

impl HasKernel for RmsNorm {
    fn path(&self) -> &'static str {
        "fused"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        with_element!(problem.dtype, T => hosted((engine, self, rows::rms_norm::<T>), problem, inputs))
    }
}

impl HasKernel for BatchNorm {
    fn path(&self) -> &'static str {
        "fused"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        with_element!(problem.dtype, T => hosted((engine, self, channels::batch_norm::<T>), problem, inputs))
    }
}

impl HasKernel for GroupNorm {
    fn path(&self) -> &'static str {
        "fused"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        with_element!(problem.dtype, T => hosted((engine, self, channels::group_norm::<T>), problem, inputs))
    }
}

impl HasKernel for InstanceNorm {
    fn path(&self) -> &'static str {
        "fused"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        with_element!(problem.dtype, T => hosted((engine, self, channels::instance_norm::<T>), problem, inputs))
    }
}
