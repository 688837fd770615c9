//! Point-wise functions and gated linear units: one pass over memory.

mod functions;
mod map;

use std::sync::Arc;

use half::{bf16, f16};

pub(super) use self::functions::*;
use self::map::PackedRows;
pub(super) use self::map::{HalfRelu, Map};
use super::{Engine, Entry, HasKernel, of};
use crate::backend::Prepared;
use crate::dtype::{DType, Element};
use crate::error::BackendError;
use crate::host::HostPrepared;
use crate::op::{Activation, Glu, GluLayout, Unary};
use crate::operands::Inputs;
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<Activation>, of::<Glu>];

impl HasKernel for Activation {
    fn path(&self) -> &'static str {
        "one pass"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        with_element!(problem.dtype, T => Ok(prepare::<T>(engine, problem, self, inputs)))
    }
}

impl HasKernel for Glu {
    fn path(&self) -> &'static str {
        "one pass"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        with_element!(problem.dtype, T => prepare_glu::<T>(engine, problem, self, inputs))
    }
}

/// Elements between the starts of two bands: whole cache lines, whatever the storage type.
const GRAIN: usize = 64;

fn prepare<T: Element>(
    engine: &Arc<Engine>,
    problem: &Problem,
    spec: &Activation,
    inputs: &Inputs,
) -> Box<dyn Prepared> {
    let map = Pointwise { engine, problem, inputs };
    match spec.function {
        Unary::Relu => match T::DTYPE {
            DType::F32 => map.of::<T, _>(PlainRelu),
            DType::F16 => map.half_relu::<T>(f16::INFINITY.to_bits()),
            DType::BF16 => map.half_relu::<T>(bf16::INFINITY.to_bits()),
        },
        Unary::LeakyRelu { slope } => map.of::<T, _>(LeakyRelu(slope)),
        Unary::Sigmoid => map.of::<T, _>(Ungated(Sigmoid)),
        Unary::Tanh => map.of::<T, _>(Tanh),
        Unary::Gelu => map.of::<T, _>(Ungated(Gelu)),
        Unary::GeluTanh => map.of::<T, _>(Ungated(GeluTanh)),
        Unary::Silu | Unary::Swish { beta: 1.0 } => map.of::<T, _>(Ungated(Silu)),
        Unary::Swish { beta: 0.0 } => map.of::<T, _>(Half),
        Unary::Swish { beta } => map.of::<T, _>(Swish(beta)),
        Unary::Softplus => map.of::<T, _>(Softplus),
        Unary::Elu { alpha } => map.of::<T, _>(Elu(alpha)),
        Unary::HardSwish => map.of::<T, _>(HardSwish),
        Unary::Mish => map.of::<T, _>(Mish),
        Unary::Erf => map.of::<T, _>(Erf),
        Unary::Exp => map.of::<T, _>(Exp),
    }
}

struct Pointwise<'a> {
    engine: &'a Arc<Engine>,
    problem: &'a Problem,
    inputs: &'a Inputs,
}

impl Pointwise<'_> {
    fn of<T: Element, F: Function>(&self, function: F) -> Box<dyn Prepared> {
        let engine = Arc::clone(self.engine);
        Box::new(HostPrepared::new(self.problem, self.inputs, move |inputs, outputs| {
            let (x, out) = (inputs.slice::<T>("x")?, outputs.slice_mut::<T>("out")?);
            engine.threads.elements(out, GRAIN, |at, out| {
                engine.isa.run(Map { function, x: [&x[at..]], out });
            });
            Ok(())
        }))
    }

    fn half_relu<T: Element>(&self, infinity: u16) -> Box<dyn Prepared> {
        let engine = Arc::clone(self.engine);
        Box::new(HostPrepared::new(self.problem, self.inputs, move |inputs, outputs| {
            let x: &[u16] = bytemuck::cast_slice(inputs.slice::<T>("x")?);
            let out: &mut [u16] = bytemuck::cast_slice_mut(outputs.slice_mut::<T>("out")?);
            engine.threads.elements(out, GRAIN, |at, out| {
                engine.isa.run(HalfRelu { x: &x[at..], out, infinity });
            });
            Ok(())
        }))
    }

    fn gated_by<T: Element, G: Gate>(&self, spec: &Glu, gate: G) -> Box<dyn Prepared> {
        let engine = Arc::clone(self.engine);
        let (layout, (_, width)) = (spec.layout, spec.rows_and_width());
        Box::new(HostPrepared::new(self.problem, self.inputs, move |inputs, outputs| {
            let out = outputs.slice_mut::<T>("out")?;
            let gate_first = match layout {
                GluLayout::Split => {
                    let (x, up) = (inputs.slice::<T>("gate")?, inputs.slice::<T>("up")?);
                    engine.threads.elements(out, GRAIN, |at, out| {
                        engine.isa.run(Map { function: Gated(gate), x: [&x[at..], &up[at..]], out });
                    });
                    return Ok(());
                }
                GluLayout::GateFirst => true,
                GluLayout::GateLast => false,
            };
            let x = inputs.slice::<T>("x")?;
            engine.threads.elements(out, width, |at, out| {
                engine.isa.run(PackedRows { gate, x: &x[2 * at..], out, width, gate_first });
            });
            Ok(())
        }))
    }
}

fn prepare_glu<T: Element>(
    engine: &Arc<Engine>,
    problem: &Problem,
    spec: &Glu,
    inputs: &Inputs,
) -> Result<Box<dyn Prepared>, BackendError> {
    let map = Pointwise { engine, problem, inputs };
    Ok(match spec.gate {
        Unary::Sigmoid => map.gated_by::<T, _>(spec, Sigmoid),
        Unary::Relu => map.gated_by::<T, _>(spec, Relu),
        Unary::Gelu => map.gated_by::<T, _>(spec, Gelu),
        Unary::GeluTanh => map.gated_by::<T, _>(spec, GeluTanh),
        Unary::Silu => map.gated_by::<T, _>(spec, Silu),
        // `Glu` admits no other gate.
        _ => return Err(BackendError::Unsupported { reason: format!("a gate {}", spec.gate.name()) }),
    })
}
