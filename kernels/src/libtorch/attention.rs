//! Scaled dot-product attention.
//!
//! `scaled_dot_product_attention` where the spec is query, key, value, scale, grouped heads and a
//! mask: a window, bottom-right alignment, padding and ALiBi are masks too. A softcap, sinks or a
//! log-sum-exp are beyond it, and composed in f32.
//!
//! Masks are built by `prepare` from positions and the operands `mask`, `lengths` and `slopes`, as
//! models build them once for all their layers. A `mask` operand alone is handed over as it is, and
//! libtorch converts a boolean one in every call.
//!
//! SDPA chooses among several kernels. Which one, [`Declaration::path`] says; on a GPU libtorch is
//! asked when the problem is prepared. A [`Kernel`] can be asked for by itself where `tch` binds it:
//! flash attention and cuDNN's on a GPU are not bound, so they run only where libtorch chooses them.

mod composed;
mod masking;

use std::ops::Range;

use tch::{Device, Kind, TchError, Tensor as Torch};

use composed::Composed;
use masking::Masking;

use super::convert::{Operands, download, kind, sizes};
use super::{Bound, Entry, HasKernel, Target, of, reused};
use crate::backend::{Declaration, Rounded, Support};
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::attention::{Attention, Mask};
use crate::operands::Outputs;
use crate::problem::Problem;
use crate::unstated::{Habit, Unstated};

pub(super) const KERNELS: &[Entry] = &[of::<Attention>];

impl HasKernel for Attention {
    fn has_choices(&self) -> bool {
        true
    }

    fn supports(&self, dtype: DType, target: Target) -> Support {
        target.kernel.map_or(Support::Yes, |kernel| kernel.supports(self, dtype, target.device))
    }

    fn declares(&self, dtype: DType, target: Target) -> Declaration {
        declares(self, dtype, target.device, target.kernel)
    }

    fn prepare(&self, operands: &Operands, target: Target) -> Result<Bound, BackendError> {
        prepare(self, operands, target.kernel)
    }

    fn unstated(
        &self,
        _call: Unstated,
        problem: &Problem,
        operands: &Operands,
    ) -> Result<Habit, BackendError> {
        let (q, k, v) = (operands.get("q")?, operands.get("k")?, operands.get("v")?);
        let (no_mask, scale, grouped) = (None::<&Torch>, f64::from(self.scale), self.group() > 1);
        let out = Torch::f_scaled_dot_product_attention(&q, &k, &v, no_mask, 0.0, true, scale, grouped)?;
        let results = problem.results();
        Ok(Habit::Results(Outputs::new(problem, vec![download(&results[0], &out)?])?))
    }
}

/// A kernel of SDPA that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// The tiled one for CPUs.
    Flash,
    /// The tiled one for GPUs that came from xFormers.
    Efficient,
    /// Matrix products and a softmax.
    Math,
}

impl Kernel {
    /// Those of a device.
    pub(super) fn of(device: Device) -> [Kernel; 2] {
        match device {
            Device::Cpu => [Kernel::Flash, Kernel::Math],
            _ => [Kernel::Efficient, Kernel::Math],
        }
    }

    /// Its name in SDPA.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kernel::Flash => "flash",
            Kernel::Efficient => "efficient",
            Kernel::Math => "math",
        }
    }

    /// Whether it computes a problem.
    pub(super) fn supports(self, spec: &Attention, dtype: DType, device: Device) -> Support {
        let path = Path::of(spec, dtype, device);
        if path == Path::Composed {
            return Support::No("beyond SDPA: composed, so no kernel of SDPA runs".into());
        }
        match self {
            Kernel::Flash if path != Path::Flash => Support::No(
                "SDPA's flash kernel for CPUs takes K and V of one head size, and no empty tensors".into(),
            ),
            Kernel::Efficient if spec.group() > 1 => {
                Support::No("SDPA's efficient kernel wants as many heads in K and V as in Q".into())
            }
            _ => Support::Yes,
        }
    }
}

/// How a problem is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// SDPA by the tiled kernel for CPUs.
    Flash,
    /// SDPA by matrix products and a softmax.
    Math,
    /// SDPA on a GPU, by a kernel that depends on the device.
    Gpu,
    /// Our own matrix products and softmax.
    Composed,
}

impl Path {
    /// On the CPU the rule is that of libtorch's `sdp_utils_cpp.cpp`; a test compares it with what
    /// the library answers.
    fn of(spec: &Attention, dtype: DType, device: Device) -> Self {
        // ALiBi needs a mask of f32, which the GPU kernels take only with queries of f32.
        let mask_too_wide = spec.alibi && dtype != DType::F32 && device != Device::Cpu;
        if spec.softcap.is_some() || spec.sinks || spec.lse || mask_too_wide {
            Path::Composed
        } else if device != Device::Cpu {
            Path::Gpu
        } else if spec.head_dim == spec.v_dim && spec.q_len > 0 && spec.kv_len > 0 {
            Path::Flash
        } else {
            Path::Math
        }
    }
}

/// The tiled kernels round the probabilities to the storage type before they meet V. The one for
/// CPUs works on bf16 by instructions that flush subnormals.
fn declares(spec: &Attention, dtype: DType, device: Device, kernel: Option<Kernel>) -> Declaration {
    let path = match (Path::of(spec, dtype, device), kernel) {
        (Path::Flash | Path::Gpu, Some(Kernel::Math)) => Path::Math,
        (path, _) => path,
    };
    let declaration = match path {
        Path::Flash => Declaration::library("sdpa flash"),
        Path::Math => Declaration::library("sdpa math"),
        Path::Gpu => Declaration::library(kernel.map_or("sdpa", |_| "sdpa efficient")),
        Path::Composed => reused("composed: matmul, softmax, matmul in f32"),
    };
    match path {
        Path::Flash | Path::Gpu if dtype != DType::F32 => Declaration {
            probabilities: Rounded::Storage,
            flushes_subnormals: path == Path::Flash && dtype == DType::BF16,
            ..declaration
        },
        _ => declaration,
    }
}

fn prepare(spec: &Attention, operands: &Operands, kernel: Option<Kernel>) -> Result<Bound, BackendError> {
    // A user's cache is a larger buffer, of which libtorch gets a view.
    let in_use = |x: Torch| x.f_narrow(2, 0, spec.kv_len as i64);
    let (q, k, v) = (operands.get("q")?, in_use(operands.get("k")?)?, in_use(operands.get("v")?)?);
    let path = Path::of(spec, operands.dtype, operands.device);
    if path == Path::Composed {
        let mut attention = Composed::new(spec, operands, [q, k, v])?;
        return Ok(Bound { step: Box::new(move |out| attention.run(out)), path: None });
    }
    let (mask, is_causal) = sdpa_mask(spec, operands)?;
    let (scale, grouped) = (f64::from(spec.scale), spec.group() > 1);
    let chosen = match (path, kernel) {
        (Path::Gpu, None) => Some(choice(&q, &k, &v, mask.as_ref(), is_causal, scale, grouped)?),
        _ => None,
    };
    let mask = match (mask, kernel) {
        (Some(mask), Some(_)) => Some(bias(spec, operands.dtype, mask)?),
        (mask, _) => mask,
    };
    let step = move |out: &mut [Torch]| {
        let mask = mask.as_ref();
        out[0] = match kernel {
            None => Torch::f_scaled_dot_product_attention(&q, &k, &v, mask, 0.0, is_causal, scale, grouped)?,
            Some(Kernel::Math) => {
                let unused = None::<&Torch>;
                let (out, _) = Torch::f_internal_scaled_dot_product_attention_math(
                    &q, &k, &v, mask, 0.0, is_causal, unused, scale, grouped,
                )?;
                out
            }
            Some(Kernel::Flash) => {
                let (out, _) = Torch::f_internal_scaled_dot_product_flash_attention_for_cpu(
                    &q, &k, &v, 0.0, is_causal, mask, scale,
                )?;
                out
            }
            Some(Kernel::Efficient) => {
                let (out, ..) = Torch::f_internal_scaled_dot_product_efficient_attention(
                    &q, &k, &v, mask, false, 0.0, is_causal, scale,
                )?;
                out
            }
        };
        Ok(())
    };
    Ok(Bound { step: Box::new(step), path: chosen })
}

/// A mask as SDPA hands it to its kernels: numbers to be added, of the queries' type, for each
/// pair of query and key.
fn bias(spec: &Attention, dtype: DType, mask: Torch) -> Result<Torch, TchError> {
    let mask = match mask.f_kind()? {
        Kind::Bool => Torch::f_where_scalar(&mask, 0.0, f64::NEG_INFINITY)?.f_to_kind(kind(dtype))?,
        _ => mask,
    };
    mask.f_expand(sizes(&[spec.batch, spec.q_heads, spec.q_len, spec.kv_len]), false)
}

/// The kernel that SDPA chooses, by its numbers in `SDPBackend`.
fn choice(
    q: &Torch,
    k: &Torch,
    v: &Torch,
    mask: Option<&Torch>,
    is_causal: bool,
    scale: f64,
    grouped: bool,
) -> Result<&'static str, TchError> {
    let number = Torch::f_internal_fused_sdp_choice(q, k, v, mask, 0.0, is_causal, scale, grouped)?;
    Ok(match number {
        0 => "sdpa math",
        1 => "sdpa flash",
        2 => "sdpa efficient",
        3 => "sdpa cudnn",
        _ => "sdpa, by a kernel without a name",
    })
}

/// What SDPA is given: a mask, or whether it is to mask causally (top-left).
fn sdpa_mask(spec: &Attention, operands: &Operands) -> Result<(Option<Torch>, bool), BackendError> {
    let keys_are = |range: fn(&Attention, usize) -> Range<usize>| {
        (0..spec.q_len).all(|i| spec.key_range(i) == range(spec, i))
    };
    let everywhere = keys_are(|spec, _| 0..spec.kv_len);
    match (spec.alibi, spec.mask) {
        (false, Mask::None) if everywhere => return Ok((None, false)),
        (false, Mask::None) if keys_are(|spec, i| 0..spec.kv_len.min(i + 1)) => return Ok((None, true)),
        (false, Mask::Boolean(_) | Mask::Additive(_)) if everywhere => {
            return Ok((operands.optional("mask")?, false));
        }
        _ => {}
    }
    let hidden = f64::NEG_INFINITY;
    let mask = match Masking::new(spec, operands)? {
        Masking { visible: Some(visible), bias: Some(bias) } => bias.f_where_scalarother(&visible, hidden)?,
        Masking { visible: Some(visible), bias: None } => Torch::f_where_scalar(&visible, 0.0, hidden)?,
        Masking { visible: None, bias: Some(bias) } => bias,
        Masking { visible: None, bias: None } => return Ok((None, false)),
    };
    // ALiBi's bias does not fit into f16 or bf16.
    let kind = if spec.alibi { Kind::Float } else { kind(operands.dtype) };
    Ok((Some(mask.f_to_kind(kind)?), false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operands::Inputs;

    #[test]
    fn path_is_the_one_that_libtorch_chooses() {
        for dtype in DType::ALL {
            for fields in [
                "h=2 lq=17 d=16",
                "h=2 lq=1 lk=40 d=64 causal=bottom_right cache=64",
                "b=2 h=8 hkv=2 lq=5 lk=9 d=80 causal=bottom_right",
                "h=4 hkv=1 lq=5 d=1",
                "h=2 lq=5 lk=1 d=16 mask=bool:b1qk",
                "b=2 h=2 lq=5 d=16 mask=float:1h1k causal=top_left",
                "b=2 h=2 lq=5 d=16 mask=padding",
                "h=2 lq=5 d=16 window=2,2 alibi=true",
                "h=2 lq=5 d=16 dv=24",
                "h=2 lq=0 lk=4 d=16",
                "h=2 lq=4 lk=0 d=16",
            ] {
                let problem: Problem = format!("attention {dtype} {fields}").parse().unwrap();
                let spec = problem.get::<Attention>().unwrap();
                let zeros = problem
                    .operands()
                    .into_iter()
                    .map(|o| (o.name, crate::Tensor::zeros(o.element, &o.shape)));
                let host = Inputs::new(&problem, zeros).unwrap();
                let operands = Operands::new(&host, Device::Cpu, dtype);
                let in_use = |name| operands.get(name).unwrap().narrow(2, 0, spec.kv_len as i64);
                let (mask, is_causal) = sdpa_mask(spec, &operands).unwrap();
                let (scale, grouped) = (f64::from(spec.scale), spec.group() > 1);
                let q = operands.get("q").unwrap();
                let chosen = choice(&q, &in_use("k"), &in_use("v"), mask.as_ref(), is_causal, scale, grouped);
                let declared = declares(spec, dtype, Device::Cpu, None).path;
                assert_eq!(declared, chosen.unwrap(), "{problem}");
            }
        }
    }
}
