//! layer, rms, batch, group and instance norm.

use tch::{Kind, Tensor as Torch};

use super::convert::{Operands, sizes};
use super::{Bound, Entry, HasKernel, Step, Target, of, reused};
use crate::backend::{Declaration, Moments, Support};
use crate::dtype::DType;
use crate::error::{BackendError, InputError};
use crate::op::norm::BatchNormMode;
use crate::op::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};

pub(super) const KERNELS: &[Entry] =
    &[of::<LayerNorm>, of::<RmsNorm>, of::<BatchNorm>, of::<GroupNorm>, of::<InstanceNorm>];

/// ATen's norms for CUDA reduce by Welford's update (WelfordOps, cuWelfordOnlineSum).
fn on(target: Target, declaration: Declaration) -> Declaration {
    match target.device.is_cuda() {
        true => Declaration { moments: Moments::Running, ..declaration },
        false => declaration,
    }
}

impl HasKernel for LayerNorm {
    fn declares(&self, _dtype: DType, target: Target) -> Declaration {
        on(target, Declaration::library("fused"))
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        layer_norm(self, operands).map(Bound::from)
    }
}

impl HasKernel for RmsNorm {
    fn declares(&self, dtype: DType, _target: Target) -> Declaration {
        rms_norm_declares(self, dtype)
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        rms_norm(self, operands).map(Bound::from)
    }
}

impl HasKernel for BatchNorm {
    fn supports(&self, _dtype: DType, _target: Target) -> Support {
        match self.mode {
            BatchNormMode::Train if self.shape.contains(&0) => {
                Support::No("libtorch has no batch statistics of an empty tensor".into())
            }
            _ => Support::Yes,
        }
    }

    fn declares(&self, _dtype: DType, target: Target) -> Declaration {
        match self.mode {
            BatchNormMode::Train => on(
                target,
                reused("batch_norm with parameters in f32, after a copy of the running statistics"),
            ),
            BatchNormMode::Infer => reused("batch_norm with parameters in f32"),
        }
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        batch_norm(self, operands).map(Bound::from)
    }
}

impl HasKernel for GroupNorm {
    fn declares(&self, _dtype: DType, target: Target) -> Declaration {
        on(target, Declaration::library("fused"))
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        group_norm(self, operands).map(Bound::from)
    }
}

impl HasKernel for InstanceNorm {
    fn supports(&self, _dtype: DType, _target: Target) -> Support {
        match self.shape[..2].contains(&0) {
            true => Support::No("libtorch's instance norm fails on no samples or no channels".into()),
            false => Support::Yes,
        }
    }

    fn declares(&self, _dtype: DType, target: Target) -> Declaration {
        on(target, Declaration::library("instance_norm with parameters in f32"))
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        instance_norm(self, operands).map(Bound::from)
    }
}

fn layer_norm(spec: &LayerNorm, operands: &Operands) -> Result<Step, BackendError> {
    let (x, weight, bias) = affine(operands)?;
    let normalized = sizes(&spec.shape[spec.shape.len() - spec.axes..]);
    let eps = f64::from(spec.eps);
    Ok(Box::new(move |out| {
        out[0] = x.f_layer_norm(&normalized, weight.as_ref(), bias.as_ref(), eps, true)?;
        Ok(())
    }))
}

/// How the weight of rms norm enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weighting {
    /// By libtorch's own operation.
    Inside,
    /// So, after an offset is added to it. For f16 and bf16 all of it is f32 until the end, because
    /// the sum would be rounded otherwise.
    Shifted,
    /// As a product with the normalized value that libtorch has rounded.
    After,
}

impl Weighting {
    fn of(spec: &RmsNorm) -> Self {
        match (spec.weight, spec.round_before_weight) {
            (true, true) => Weighting::After,
            (true, false) if spec.weight_offset != 0.0 => Weighting::Shifted,
            _ => Weighting::Inside,
        }
    }
}

fn rms_norm_declares(spec: &RmsNorm, dtype: DType) -> Declaration {
    match (Weighting::of(spec), dtype) {
        (Weighting::Inside, _) => Declaration::library("rms_norm"),
        (Weighting::Shifted, DType::F32) => Declaration::library("composed: add, rms_norm"),
        (Weighting::Shifted, _) => reused("composed: to f32, add, rms_norm, round"),
        (Weighting::After, _) => reused("composed: rms_norm, mul"),
    }
}

fn rms_norm(spec: &RmsNorm, operands: &Operands) -> Result<Step, BackendError> {
    let x = operands.get("x")?;
    let weight = operands.optional("weight")?;
    let width = sizes(&spec.shape[spec.shape.len() - 1..]);
    let (eps, offset) = (f64::from(spec.eps), f64::from(spec.weight_offset));
    let shifted = move |weight: &Torch| weight.f_to_kind(Kind::Float)?.f_add_scalar(offset);
    Ok(match (Weighting::of(spec), weight) {
        (Weighting::Inside, weight) | (_, weight @ None) => Box::new(move |out| {
            out[0] = x.f_rms_norm(&width, weight.as_ref(), eps)?;
            Ok(())
        }),
        (Weighting::Shifted, Some(weight)) if operands.dtype == DType::F32 => Box::new(move |out| {
            out[0] = x.f_rms_norm(&width, Some(&shifted(&weight)?), eps)?;
            Ok(())
        }),
        (Weighting::Shifted, Some(weight)) => {
            let mut wide = operands.scratch(&x.size())?;
            Box::new(move |out| {
                wide.f_copy_(&x)?;
                out[0].f_copy_(&wide.f_rms_norm(&width, Some(&shifted(&weight)?), eps)?)
            })
        }
        (Weighting::After, Some(weight)) => Box::new(move |out| {
            let normalized = x.f_rms_norm(&width, None::<&Torch>, eps)?;
            normalized.f_mul_out(&out[0], &shifted(&weight)?).map(drop)
        }),
    })
}

/// Training updates the running statistics in place, so every run starts from a copy of the given
/// ones; of C elements each, it weighs nothing.
///
/// Parameters and statistics are f32 on the device whatever the storage type is, as in PyTorch's
/// mixed precision: with parameters in f16 or bf16 libtorch rounds the mean of the batch to that
/// type too before it subtracts it.
fn batch_norm(spec: &BatchNorm, operands: &Operands) -> Result<Step, BackendError> {
    let x = operands.get("x")?;
    let [weight, bias] = parameters(operands, ["weight", "bias"])?;
    let [Some(mean), Some(var)] = parameters(operands, ["running_mean", "running_var"])? else {
        return Err(InputError::Missing { name: "running_mean or running_var".into() }.into());
    };
    let training = spec.mode == BatchNormMode::Train;
    let (momentum, eps) = (f64::from(spec.momentum), f64::from(spec.eps));
    let mut updated = [mean.f_empty_like()?, var.f_empty_like()?];
    // libtorch also hands out the statistics of the batch.
    let channels = if training { mean.size() } else { vec![0] };
    let (batch_mean, batch_rstd) = (operands.scratch(&channels)?, operands.scratch(&channels)?);
    Ok(Box::new(move |results| {
        let (mut used_mean, mut used_var) = (&mean, &var);
        if training {
            updated[0].f_copy_(&mean)?;
            updated[1].f_copy_(&var)?;
            (used_mean, used_var) = (&updated[0], &updated[1]);
        }
        let (weight, bias) = (weight.as_ref(), bias.as_ref());
        let (mean, var) = (Some(used_mean), Some(used_var));
        let out = &results[0];
        let _ = x.f_native_batch_norm_out(
            out,
            &batch_mean,
            &batch_rstd,
            weight,
            bias,
            mean,
            var,
            training,
            momentum,
            eps,
        )?;
        results[1..].iter_mut().zip(&updated).try_for_each(|(result, updated)| result.f_copy_(updated))
    }))
}

/// Operands in f32, whatever the storage type is.
fn parameters<const N: usize>(
    operands: &Operands,
    names: [&str; N],
) -> Result<[Option<Torch>; N], BackendError> {
    let mut parameters = [const { None }; N];
    for (parameter, name) in parameters.iter_mut().zip(names) {
        *parameter = operands.optional(name)?.map(|tensor| tensor.f_to_kind(Kind::Float)).transpose()?;
    }
    Ok(parameters)
}

fn group_norm(spec: &GroupNorm, operands: &Operands) -> Result<Step, BackendError> {
    let (x, weight, bias) = affine(operands)?;
    let (groups, eps) = (spec.groups as i64, f64::from(spec.eps));
    Ok(Box::new(move |out| {
        out[0] = x.f_group_norm(groups, weight.as_ref(), bias.as_ref(), eps, true)?;
        Ok(())
    }))
}

/// libtorch makes it a batch norm of N·C channels, so that what [`batch_norm`] says of parameters
/// holds here: a weight of 1 stands in for none.
fn instance_norm(spec: &InstanceNorm, operands: &Operands) -> Result<Step, BackendError> {
    let x = operands.get("x")?;
    let [weight, bias] = parameters(operands, ["weight", "bias"])?;
    let channels = spec.shape[1] as i64;
    let weight = weight.map_or_else(|| Torch::f_ones([channels], (Kind::Float, operands.device)), Ok)?;
    let eps = f64::from(spec.eps);
    let no = None::<&Torch>;
    Ok(Box::new(move |out| {
        out[0] = x.f_instance_norm(Some(&weight), bias.as_ref(), no, no, true, 0.0, eps, true)?;
        Ok(())
    }))
}

fn affine(operands: &Operands) -> Result<(Torch, Option<Torch>, Option<Torch>), BackendError> {
    Ok((operands.get("x")?, operands.optional("weight")?, operands.optional("bias")?))
}
