//! Point-wise functions and gated linear units.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops;

use super::{Compute, Entry, HasKernel, Operands, Place, of};
use crate::backend::{Declaration, Support};
use crate::op::{Activation, Glu, GluLayout, Unary};
use crate::unstated::Unstated;

pub(super) const KERNELS: &[Entry] = &[of::<Activation>, of::<Glu>];

impl HasKernel for Activation {
    fn supports(&self, _place: Place) -> Support {
        match Path::of(self.function) {
            Some(_) => Support::Yes,
            None => Support::no_kernel("candle", self.function.name()),
        }
    }

    fn declares(&self, _dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library(Path::of(self.function).map_or("none", |path| path.name))
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        let x = operands.upload("x")?;
        let apply = function(self.function)?;
        Ok(Box::new(move || Ok(vec![apply(&x)?])))
    }

    fn unstated(&self, call: Unstated, operands: &Operands) -> Result<Option<Tensor>> {
        match call {
            Unstated::Gelu => operands.upload("x")?.gelu().map(Some),
            _ => Ok(None),
        }
    }
}

impl HasKernel for Glu {
    fn declares(&self, _dtype: crate::DType, _place: Place) -> Declaration {
        Declaration::library(glu_path(self))
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        prepare_glu(self, operands)
    }
}

type Function = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// How candle computes a function.
struct Path {
    name: &'static str,
    apply: Function,
}

impl Path {
    fn new(name: &'static str, apply: impl Fn(&Tensor) -> Result<Tensor> + 'static) -> Self {
        Path { name, apply: Box::new(apply) }
    }

    /// Candle's own operation, or else a composition.
    fn of(function: Unary) -> Option<Path> {
        fused(function).or_else(|| {
            let Path { name, apply } = composed(function)?;
            Some(Path::new(name, move |x| apply(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())))
        })
    }
}

/// Candle's own operation for a function, where it has one.
fn fused(function: Unary) -> Option<Path> {
    Some(match function {
        Unary::Relu => Path::new("Tensor::relu", Tensor::relu),
        Unary::LeakyRelu { slope } => {
            Path::new("ops::leaky_relu", move |x| ops::leaky_relu(x, f64::from(slope)))
        }
        Unary::Sigmoid => Path::new("ops::sigmoid", ops::sigmoid),
        Unary::Tanh => Path::new("Tensor::tanh", Tensor::tanh),
        Unary::Gelu => Path::new("Tensor::gelu_erf", Tensor::gelu_erf),
        Unary::GeluTanh => Path::new("Tensor::gelu", Tensor::gelu),
        Unary::Silu | Unary::Swish { beta: 1.0 } => Path::new("Tensor::silu", Tensor::silu),
        Unary::Elu { alpha } => Path::new("Tensor::elu", move |x| x.elu(f64::from(alpha))),
        Unary::HardSwish => Path::new("Activation::HardSwish", |x| x * ops::hard_sigmoid(x)?),
        Unary::Mish => Path::new("ops::mish", ops::mish),
        Unary::Erf => Path::new("Tensor::erf", Tensor::erf),
        Unary::Exp => Path::new("Tensor::exp", Tensor::exp),
        _ => return None,
    })
}

/// What is composed of candle's primitives; the argument is in f32.
fn composed(function: Unary) -> Option<Path> {
    Some(match function {
        Unary::Swish { beta } => {
            Path::new("composed in f32: x * ops::sigmoid(beta * x)", move |x| swish(x, beta))
        }
        Unary::Softplus => Path::new("composed in f32: relu(x) + log(1 + exp(-|x|))", softplus),
        _ => return None,
    })
}

/// Which operations run.
fn glu_path(spec: &Glu) -> &'static str {
    match spec.gate {
        _ if is_swiglu(spec) => "ops::swiglu",
        Unary::Relu => "composed in f32: relu(gate) * up",
        Unary::Gelu => "composed in f32: gelu_erf(gate) * up",
        Unary::GeluTanh => "composed in f32: gelu(gate) * up",
        Unary::Silu => "composed in f32: silu(gate) * up",
        _ => "composed in f32: sigmoid(gate) * up",
    }
}

/// Candle's only fused unit.
fn is_swiglu(spec: &Glu) -> bool {
    spec.gate == Unary::Silu && spec.layout == GluLayout::GateFirst
}

fn function(function: Unary) -> Result<Function> {
    match Path::of(function) {
        Some(path) => Ok(path.apply),
        None => candle_core::bail!("candle has no {}", function.name()),
    }
}

fn prepare_glu(spec: &Glu, operands: &Operands) -> Result<Compute> {
    let apply = function(spec.gate)?;
    let gated = move |gate: &Tensor, up: &Tensor| {
        let out = (apply(&gate.to_dtype(DType::F32)?)? * up.to_dtype(DType::F32)?)?;
        Ok(vec![out.to_dtype(gate.dtype())?])
    };
    Ok(match spec.layout {
        GluLayout::Split => {
            let (gate, up) = (operands.upload("gate")?, operands.upload("up")?);
            Box::new(move || gated(&gate, &up))
        }
        GluLayout::GateFirst if is_swiglu(spec) => {
            let x = operands.upload("x")?;
            Box::new(move || Ok(vec![ops::swiglu(&x)?]))
        }
        GluLayout::GateFirst | GluLayout::GateLast => {
            let x = operands.upload("x")?;
            let gate_index = (spec.layout == GluLayout::GateLast) as usize;
            Box::new(move || {
                let halves = x.chunk(2, D::Minus1)?;
                gated(&halves[gate_index], &halves[1 - gate_index])
            })
        }
    })
}

/// x·sigmoid(βx). On the side where the sigmoid vanishes, x is kept finite: the limit is 0.
fn swish(x: &Tensor, beta: f32) -> Result<Tensor> {
    if beta == 0.0 {
        return x * 0.5;
    }
    let gate = ops::sigmoid(&(x * beta as f64)?)?;
    if beta > 0.0 { x.maximum(f32::MIN)? * gate } else { x.minimum(f32::MAX)? * gate }
}

/// max(x, 0) + log(1 + e) with e = exp(−|x|). Candle has no log1p: the rounding of u = 1 + e is
/// made good by the factor e/(u − 1), and log(1 + e) is e where u = 1 (Kahan).
fn softplus(x: &Tensor) -> Result<Tensor> {
    let e = x.abs()?.neg()?.exp()?;
    let u = (&e + 1.0)?;
    let log1p = (u.log()? * (&e / (&u - 1.0)?)?)?;
    x.relu()? + u.eq(1f32)?.where_cond(&e, &log1p)?
}
