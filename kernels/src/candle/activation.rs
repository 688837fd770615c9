//! Point-wise functions and gated linear units.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops;

use super::{Compute, Operands};
use crate::op::{Activation, Glu, GluLayout, Unary};

/// Which operations run.
pub(super) fn path(function: Unary) -> &'static str {
    match function {
        Unary::Relu => "Tensor::relu",
        Unary::LeakyRelu { .. } => "ops::leaky_relu",
        Unary::Sigmoid => "ops::sigmoid",
        Unary::Tanh => "Tensor::tanh",
        Unary::Gelu => "Tensor::gelu_erf",
        Unary::GeluTanh => "Tensor::gelu",
        Unary::Silu | Unary::Swish { beta: 1.0 } => "Tensor::silu",
        Unary::Swish { .. } => "composed in f32: x * ops::sigmoid(beta * x)",
        Unary::Softplus => "composed in f32: relu(x) + log(1 + exp(-|x|))",
        Unary::Elu { .. } => "Tensor::elu",
        Unary::HardSwish => "Activation::HardSwish",
        Unary::Mish => "ops::mish",
        Unary::Erf => "Tensor::erf",
        Unary::Exp => "Tensor::exp",
    }
}

/// Which operations run.
pub(super) fn glu_path(spec: &Glu) -> &'static str {
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

pub(super) fn prepare(spec: &Activation, operands: &Operands) -> Result<Compute> {
    let x = operands.upload("x")?;
    let function = spec.function;
    Ok(Box::new(move || Ok(vec![apply(function, &x)?])))
}

pub(super) fn prepare_glu(spec: &Glu, operands: &Operands) -> Result<Compute> {
    let gated = |function, gate: &Tensor, up: &Tensor| {
        let out = (apply(function, &gate.to_dtype(DType::F32)?)? * up.to_dtype(DType::F32)?)?;
        Ok(vec![out.to_dtype(gate.dtype())?])
    };
    let function = spec.gate;
    Ok(match spec.layout {
        GluLayout::Split => {
            let (gate, up) = (operands.upload("gate")?, operands.upload("up")?);
            Box::new(move || gated(function, &gate, &up))
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
                gated(function, &halves[gate_index], &halves[1 - gate_index])
            })
        }
    })
}

fn apply(function: Unary, x: &Tensor) -> Result<Tensor> {
    match function {
        Unary::Relu => x.relu(),
        Unary::LeakyRelu { slope } => ops::leaky_relu(x, slope as f64),
        Unary::Sigmoid => ops::sigmoid(x),
        Unary::Tanh => x.tanh(),
        Unary::Gelu => x.gelu_erf(),
        Unary::GeluTanh => x.gelu(),
        Unary::Silu | Unary::Swish { beta: 1.0 } => x.silu(),
        Unary::Swish { beta } => swish(&x.to_dtype(DType::F32)?, beta)?.to_dtype(x.dtype()),
        Unary::Softplus => softplus(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype()),
        Unary::Elu { alpha } => x.elu(alpha as f64),
        Unary::HardSwish => x * ops::hard_sigmoid(x)?,
        Unary::Mish => ops::mish(x),
        Unary::Erf => x.erf(),
        Unary::Exp => x.exp(),
    }
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
