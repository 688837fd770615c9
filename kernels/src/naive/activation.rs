//! Point-wise functions and gated linear units.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use ndarray::{Zip, s};

use super::{Entry, HasKernel, hosted, of, view, view_mut};
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::{Activation, Glu, GluLayout, Unary};
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<Activation>, of::<Glu>];

impl HasKernel for Activation {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| activation::<T>(&spec, i, o)))
    }
}

impl HasKernel for Glu {
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let spec = self.clone();
        with_element!(problem.dtype, T => hosted(problem, inputs, move |i, o| glu::<T>(&spec, i, o)))
    }
}

fn activation<T: Element>(
    spec: &Activation,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let x = inputs.slice::<T>("x")?;
    for (out, x) in outputs.slice_mut::<T>("out")?.iter_mut().zip(x) {
        *out = T::from_f32(apply(spec.function, x.to_f32()));
    }
    Ok(())
}

/// g(gate)·up.
fn glu<T: Element>(spec: &Glu, inputs: &Inputs, outputs: &mut Outputs) -> Result<(), BackendError> {
    let (rows, n) = spec.rows_and_width();
    let packed = |inputs| view::<T, _>(inputs, "x", (rows, 2 * n));
    let (gate, up) = match spec.layout {
        GluLayout::Split => (view(inputs, "gate", (rows, n))?, view(inputs, "up", (rows, n))?),
        GluLayout::GateFirst => {
            (packed(inputs)?.slice_move(s![.., ..n]), packed(inputs)?.slice_move(s![.., n..]))
        }
        GluLayout::GateLast => {
            (packed(inputs)?.slice_move(s![.., n..]), packed(inputs)?.slice_move(s![.., ..n]))
        }
    };
    let out = view_mut::<T, _>(outputs, "out", (rows, n))?;
    Zip::from(out).and(gate).and(up).for_each(|out, gate, up| {
        *out = T::from_f32(apply(spec.gate, gate.to_f32()) * up.to_f32());
    });
    Ok(())
}

/// The function at x.
fn apply(function: Unary, x: f32) -> f32 {
    match function {
        // In this form NaN stays.
        Unary::Relu if x <= 0.0 => 0.0,
        Unary::Relu => x,
        Unary::LeakyRelu { .. } if x >= 0.0 => x,
        Unary::LeakyRelu { slope } => slope * x,
        Unary::Sigmoid => {
            let e = (-x.abs()).exp();
            if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
        }
        Unary::Tanh => x.tanh(),
        Unary::Gelu => vanishing(x, libm::erfcf(-x * FRAC_1_SQRT_2) / 2.0),
        // (1 + tanh z)/2 = sigmoid(2z), without the cancellation for z < 0.
        Unary::GeluTanh => times_sigmoid(x, 2.0 * (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)),
        Unary::Silu => times_sigmoid(x, x),
        Unary::Swish { beta: 0.0 } => x / 2.0,
        Unary::Swish { beta } => times_sigmoid(x, beta * x),
        Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Elu { .. } if x > 0.0 => x,
        Unary::Elu { alpha } => alpha * x.exp_m1(),
        Unary::HardSwish => vanishing(x, (x + 3.0).clamp(0.0, 6.0) / 6.0),
        Unary::Mish => mish(x),
        Unary::Erf => libm::erff(x),
        Unary::Exp => x.exp(),
    }
}

/// x·g for a factor g that vanishes at −∞ faster than x grows: the limit there is 0, not ∞·0.
fn vanishing(x: f32, g: f32) -> f32 {
    if g == 0.0 { 0f32.copysign(x) } else { x * g }
}

/// x·sigmoid(s). With h = e^(−|s|/2) taken twice the factor x is in before the tail becomes
/// subnormal and loses digits.
fn times_sigmoid(x: f32, s: f32) -> f32 {
    let h = (-s.abs() / 2.0).exp();
    if s < 0.0 { vanishing(x, h) * (h / (1.0 + h * h)) } else { x / (1.0 + h * h) }
}

/// x·tanh(log(1 + e^x)) = x·((1 + e^x)² − 1)/((1 + e^x)² + 1), with powers of e^(−|x|) only.
fn mish(x: f32) -> f32 {
    let h = (-x.abs() / 2.0).exp();
    let e = h * h;
    if x < 0.0 {
        vanishing(x, h) * (h * (e + 2.0) / (e * (e + 2.0) + 2.0))
    } else {
        x * ((1.0 + 2.0 * e) / (1.0 + 2.0 * e + 2.0 * e * e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        const VANISHING: [Unary; 6] = [
            Unary::Gelu,
            Unary::GeluTanh,
            Unary::Silu,
            Unary::Swish { beta: 1.5 },
            Unary::HardSwish,
            Unary::Mish,
        ];
        for function in VANISHING {
            for x in [f32::NEG_INFINITY, f32::MIN] {
                assert_eq!(apply(function, x).to_bits(), (-0f32).to_bits(), "{function:?} at {x}");
            }
            for x in [f32::INFINITY, f32::MAX] {
                assert_eq!(apply(function, x), x, "{function:?} at {x}");
            }
        }
        assert_eq!(apply(Unary::Sigmoid, f32::NEG_INFINITY), 0.0);
        assert_eq!(apply(Unary::Sigmoid, f32::INFINITY), 1.0);
        assert_eq!(apply(Unary::Softplus, f32::INFINITY), f32::INFINITY);
        assert_eq!(apply(Unary::Elu { alpha: 2.0 }, f32::NEG_INFINITY), -2.0);
        assert_eq!(apply(Unary::Swish { beta: 0.0 }, f32::INFINITY), f32::INFINITY);
    }

    /// Deep in the negative tail the result is subnormal before its last factor is in.
    #[test]
    fn tails_keep_their_digits() {
        for (function, expected) in
            [(Unary::Silu, -100.0 * (-100f64).exp()), (Unary::Mish, -100.0 * (-100f64).exp())]
        {
            let error = (apply(function, -100.0) as f64 - expected).abs();
            assert!(error <= 2f64.powi(-149), "{function:?}: {error:e}");
        }
    }
}
