//! Point-wise functions and gated linear units.

use tch::{TchError, Tensor as Torch};

use super::convert::{Operands, sizes};
use super::{Bound, Entry, HasKernel, Step, Target, of, reused};
use crate::backend::{Declaration, Support};
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::{Activation, Glu, GluLayout, Unary};
use crate::problem::Problem;
use crate::unstated::{Habit, Unstated};

pub(super) const KERNELS: &[Entry] = &[of::<Activation>, of::<Glu>];

impl HasKernel for Activation {
    fn supports(&self, _dtype: DType, _target: Target) -> Support {
        match (fused(self.function), composed(self.function)) {
            (None, None) => Support::no_kernel("libtorch", self.function.name()),
            _ => Support::Yes,
        }
    }

    fn declares(&self, dtype: DType, _target: Target) -> Declaration {
        let declaration = reused(composition(self.function).unwrap_or("fused"));
        Declaration { flushes_subnormals: flushes_subnormals(self.function, dtype), ..declaration }
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        prepare(self, operands).map(Bound::from)
    }

    /// `gelu` wants to be told which through `tch`.
    fn unstated(
        &self,
        call: Unstated,
        _problem: &Problem,
        _operands: &Operands,
    ) -> Result<Habit, BackendError> {
        Ok(if call == Unstated::Gelu { Habit::Asks } else { Habit::Absent })
    }
}

impl HasKernel for Glu {
    fn declares(&self, dtype: DType, _target: Target) -> Declaration {
        reused(match (is_fused(self), dtype) {
            (true, _) => "fused",
            (false, DType::F32) => "composed: gate function, mul",
            (false, _) => "composed: to f32, gate function, mul, round",
        })
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        glu(self, operands).map(Bound::from)
    }
}

/// `x` → `out`.
type Function = Box<dyn Fn(&Torch, &Torch) -> Result<Torch, TchError>>;

/// libtorch's own kernel of a function, which may also work in place, where it has one.
///
/// - relu is what libtorch's relu calls, which itself cannot write into given memory;
/// - softplus becomes x above 20, where log(1 + e^x) − x < 2.1e-9 is far less than half an ulp;
/// - tch binds leaky_relu with its default slope only. Its derivative times an upstream gradient g,
///   `x > 0 ? g : slope·g`, is bound with any slope; with g = x it is leaky_relu itself.
fn fused(function: Unary) -> Option<Function> {
    Some(match function {
        Unary::Relu => Box::new(|x, out| x.f_clamp_min_out(out, 0)),
        Unary::LeakyRelu { slope: 0.01 } => Box::new(|x, out| x.f_leaky_relu_out(out)),
        Unary::LeakyRelu { slope } => {
            Box::new(move |x, out| x.f_leaky_relu_backward_grad_input(out, x, f64::from(slope), false))
        }
        Unary::Sigmoid => Box::new(|x, out| x.f_sigmoid_out(out)),
        Unary::Tanh => Box::new(|x, out| x.f_tanh_out(out)),
        Unary::Gelu => Box::new(|x, out| x.f_gelu_out(out, "none")),
        Unary::GeluTanh => Box::new(|x, out| x.f_gelu_out(out, "tanh")),
        Unary::Silu | Unary::Swish { beta: 1.0 } => Box::new(|x, out| x.f_silu_out(out)),
        Unary::Softplus => Box::new(|x, out| x.f_softplus_out(out)),
        Unary::Elu { alpha: 1.0 } => Box::new(|x, out| x.f_elu_out(out)),
        Unary::HardSwish => Box::new(|x, out| x.f_hardswish_out(out)),
        Unary::Mish => Box::new(|x, out| x.f_mish_out(out)),
        Unary::Erf => Box::new(|x, out| x.f_erf_out(out)),
        Unary::Exp => Box::new(|x, out| x.f_exp_out(out)),
        _ => return None,
    })
}

/// A function made of several kernels: which, and how, given a tensor for what is in between.
struct Composition {
    path: &'static str,
    with_scratch: Box<dyn FnOnce(Torch) -> Function>,
}

fn composed(function: Unary) -> Option<Composition> {
    Some(match function {
        Unary::Swish { beta } => Composition {
            path: "composed: mul, sigmoid, clamp, mul",
            with_scratch: Box::new(move |scratch| {
                // x·sigmoid(β·x) is ∞·0 where β·x is −∞; the largest finite x has the limit there, 0.
                let (beta, max) = (f64::from(beta), f64::from(f32::MAX));
                let lower = if beta > 0.0 { -max } else { f64::NEG_INFINITY };
                let upper = if beta < 0.0 { max } else { f64::INFINITY };
                Box::new(move |x, out| {
                    let _ = x.f_mul_scalar_out(&scratch, beta)?.f_sigmoid_()?;
                    x.f_clamp_out(out, lower, upper)?.f_mul_(&scratch)
                })
            }),
        },
        // tch binds elu with α = 1 only. As in `fused`, the derivative of leaky_relu multiplies the
        // negative side.
        Unary::Elu { alpha } => Composition {
            path: "composed: elu, mul of the negative side",
            with_scratch: Box::new(move |scratch| {
                Box::new(move |x, out| {
                    let elu = x.f_elu_out(&scratch)?;
                    x.f_leaky_relu_backward_grad_input(out, &elu, f64::from(alpha), false)
                })
            }),
        },
        _ => return None,
    })
}

fn function(function: Unary, operands: &Operands, size: &[i64]) -> Result<Function, BackendError> {
    match (fused(function), composed(function)) {
        (Some(fused), _) => Ok(fused),
        (None, Some(composed)) => Ok((composed.with_scratch)(operands.scratch(size)?)),
        (None, None) => Err(BackendError::no_kernel("libtorch", function.name())),
    }
}

/// The primitives of a function that is not one kernel.
fn composition(function: Unary) -> Option<&'static str> {
    match fused(function) {
        Some(_) => None,
        None => Some(composed(function).map_or("none", |composed| composed.path)),
    }
}

/// Where the function's kernel for CPUs gives 0 instead of numbers below the smallest normal.
///
/// - sigmoid is 1/(1 + e^(−x)), and below −88.7 that exponential overflows;
/// - gelu converts to bf16 by an instruction that flushes.
fn flushes_subnormals(function: Unary, dtype: DType) -> bool {
    match function {
        Unary::Sigmoid => dtype != DType::F16,
        Unary::Gelu => dtype == DType::BF16,
        _ => false,
    }
}

fn prepare(spec: &Activation, operands: &Operands) -> Result<Step, BackendError> {
    let x = operands.get("x")?;
    let size = sizes(&spec.shape);
    let apply = function(spec.function, operands, &size)?;
    if operands.dtype == DType::F32 || composition(spec.function).is_none() {
        return Ok(Box::new(move |out| apply(&x, &out[0]).map(drop)));
    }
    let (mut wide, result) = (operands.scratch(&size)?, operands.scratch(&size)?);
    Ok(Box::new(move |out| {
        wide.f_copy_(&x)?;
        let _ = apply(&wide, &result)?;
        out[0].f_copy_(&result)
    }))
}

/// PyTorch's `glu` is the one gated unit with a kernel.
fn is_fused(spec: &Glu) -> bool {
    spec.gate == Unary::Sigmoid && spec.layout == GluLayout::GateLast
}

fn glu(spec: &Glu, operands: &Operands) -> Result<Step, BackendError> {
    if is_fused(spec) {
        let x = operands.get("x")?;
        return Ok(Box::new(move |out| x.f_glu_out(&out[0], -1).map(drop)));
    }
    let (gate, up) = match spec.layout {
        GluLayout::Split => (operands.get("gate")?, operands.get("up")?),
        packed => {
            let (x, width) = (operands.get("x")?, spec.rows_and_width().1 as i64);
            let half = |n| x.f_narrow(-1, n * width, width);
            let (first, second) = (half(0)?, half(1)?);
            if packed == GluLayout::GateFirst { (first, second) } else { (second, first) }
        }
    };
    let size = sizes(&spec.shape);
    let apply = function(spec.gate, operands, &size)?;
    if operands.dtype == DType::F32 {
        return Ok(Box::new(move |out| apply(&gate, &out[0])?.f_mul_(&up).map(drop)));
    }
    let mut wide = operands.scratch(&size)?;
    Ok(Box::new(move |out| {
        wide.f_copy_(&gate)?;
        let product = apply(&wide, &wide)?.f_mul_(&up)?;
        out[0].f_copy_(&product)
    }))
}
