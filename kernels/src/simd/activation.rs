//! Point-wise functions and gated linear units: one pass over memory.
//!
//! Every element is computed by the same instructions whatever its place, so results do not
//! depend on lengths, alignment or the number of threads.

use std::sync::Arc;

use super::Engine;
use super::lanes::{Kernel, Lanes};
use super::math::{self, Scaled};
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::host::HostPrepared;
use crate::op::{Activation, Glu, GluLayout, Unary};
use crate::operands::Inputs;
use crate::problem::Problem;

/// A function of one variable on any instruction set.
pub(super) trait Function: Copy + Send + Sync + 'static {
    /// Its value in every lane. Implementations must be `#[inline(always)]`.
    fn at<L: Lanes>(self, lanes: L, x: L::F) -> L::F;
}

/// A function that can gate: its value as a product, so that a factor may follow before rounding.
pub(super) trait Gate: Copy + Send + Sync + 'static {
    /// Its value in every lane. Implementations must be `#[inline(always)]`.
    fn at<L: Lanes>(self, lanes: L, x: L::F) -> Scaled<L::F>;
}

/// Defines a type for each function, with its parameter if it has one.
macro_rules! implement {
    ($trait:ident -> $value:ty: $($name:ident $(($parameter:ident))? = |$lanes:ident, $x:ident| $body:expr;)+) => {$(
        #[derive(Clone, Copy)]
        pub(super) struct $name $((pub(super) implement!(@f32 $parameter)))?;

        impl $trait for $name {
            #[inline(always)]
            fn at<L: Lanes>(self, $lanes: L, $x: L::F) -> $value {
                $(let $name($parameter) = self;)?
                $body
            }
        }
    )+};
    (@f32 $parameter:ident) => { f32 };
}

implement! { Function -> L::F:
    LeakyRelu(slope) = |lanes, x| {
        let below = lanes.mul(lanes.splat(slope), x);
        lanes.select(lanes.lt(x, lanes.splat(0.0)), below, x)
    };
    Tanh = |lanes, x| math::tanh(lanes, x);
    Swish(beta) = |lanes, x| math::swish(lanes, x, beta);
    Half = |lanes, x| lanes.mul(lanes.splat(0.5), x);
    Softplus = |lanes, x| math::softplus(lanes, x);
    Elu(alpha) = |lanes, x| {
        let below = lanes.mul(lanes.splat(alpha), math::exp_m1_negative(lanes, x));
        lanes.select(lanes.gt(x, lanes.splat(0.0)), x, below)
    };
    HardSwish = |lanes, x| {
        // 1/6 and the rest, so that the factor of x is rounded once; −3 for what lies below gives
        // −0 at −∞.
        let (sixth, rest) = (lanes.splat(1.0 / 6.0), lanes.splat(-4.967_054e-9));
        let t = math::clamp(lanes, lanes.add(x, lanes.splat(3.0)), 0.0, 6.0);
        let factor = lanes.mul_add(t, sixth, lanes.mul(t, rest));
        lanes.mul(lanes.max(lanes.splat(-3.0), x), factor)
    };
    Mish = |lanes, x| math::mish(lanes, x);
    Erf = |lanes, x| math::erf(lanes, x);
    Exp = |lanes, x| math::exp(lanes, x);
}

implement! { Gate -> Scaled<L::F>:
    Relu = |lanes, x| Scaled::exact(lanes, lanes.max(lanes.splat(0.0), x));
    Sigmoid = |lanes, x| math::sigmoid(lanes, x);
    Silu = |lanes, x| math::silu(lanes, x);
    Gelu = |lanes, x| math::gelu(lanes, x);
    GeluTanh = |lanes, x| math::gelu_tanh(lanes, x);
}

/// A gate by itself.
#[derive(Clone, Copy)]
pub(super) struct Ungated<G>(pub(super) G);

impl<G: Gate> Function for Ungated<G> {
    #[inline(always)]
    fn at<L: Lanes>(self, lanes: L, x: L::F) -> L::F {
        self.0.at(lanes, x).value(lanes)
    }
}

/// max(x, 0) without a product.
#[derive(Clone, Copy)]
pub(super) struct PlainRelu;

impl Function for PlainRelu {
    #[inline(always)]
    fn at<L: Lanes>(self, lanes: L, x: L::F) -> L::F {
        lanes.max(lanes.splat(0.0), x)
    }
}

/// `out = f(x)`.
pub(super) struct Map<'a, T, F> {
    pub(super) function: F,
    pub(super) x: &'a [T],
    pub(super) out: &'a mut [T],
}

impl<T: Element, F: Function> Kernel for Map<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Map { function, x, out } = self;
        let len = out.len();
        let x = &x[..len];
        if len < L::N {
            let y = function.at(lanes, lanes.load_partial(x, 0.0));
            return lanes.store_partial(out, y);
        }
        for (x, out) in x.chunks_exact(L::N).zip(out.chunks_exact_mut(L::N)) {
            lanes.store_as(out, function.at(lanes, lanes.load_as(x)));
        }
        if !len.is_multiple_of(L::N) {
            // The last whole vector overlaps the one before and repeats its results.
            let last = len - L::N;
            lanes.store_as(&mut out[last..], function.at(lanes, lanes.load_as(&x[last..])));
        }
    }
}

/// `out = g(gate)·up`.
struct GatedMap<'a, T, G> {
    function: G,
    gate: &'a [T],
    up: &'a [T],
    out: &'a mut [T],
}

impl<T: Element, G: Gate> Kernel for GatedMap<'_, T, G> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let GatedMap { function, gate, up, out } = self;
        let len = out.len();
        let (gate, up) = (&gate[..len], &up[..len]);
        if len < L::N {
            let x = lanes.load_partial(gate, 0.0);
            let y = function.at(lanes, x).times(lanes, x, lanes.load_partial(up, 0.0));
            return lanes.store_partial(out, y);
        }
        let vectors = gate.chunks_exact(L::N).zip(up.chunks_exact(L::N)).zip(out.chunks_exact_mut(L::N));
        for ((gate, up), out) in vectors {
            let x = lanes.load_as(gate);
            lanes.store_as(out, function.at(lanes, x).times(lanes, x, lanes.load_as(up)));
        }
        if !len.is_multiple_of(L::N) {
            let last = len - L::N;
            let x = lanes.load_as(&gate[last..]);
            let y = function.at(lanes, x).times(lanes, x, lanes.load_as(&up[last..]));
            lanes.store_as(&mut out[last..], y);
        }
    }
}

/// The rows of a packed gated unit, each with gate and value side by side.
struct PackedRows<'a, T, G> {
    function: G,
    x: &'a [T],
    out: &'a mut [T],
    width: usize,
    gate_first: bool,
}

impl<T: Element, G: Gate> Kernel for PackedRows<'_, T, G> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        // No element, no row; a chunk must have a length all the same.
        let width = self.width.max(1);
        let rows = self.x.chunks_exact(2 * width).zip(self.out.chunks_exact_mut(width));
        for (x, out) in rows {
            let (first, second) = x.split_at(width);
            let (gate, up) = if self.gate_first { (first, second) } else { (second, first) };
            GatedMap { function: self.function, gate, up, out }.run(lanes);
        }
    }
}

/// Elements between the starts of two bands: whole cache lines, whatever the storage type.
const GRAIN: usize = 64;

pub(super) fn prepare<T: Element>(
    engine: &Arc<Engine>,
    problem: &Problem,
    spec: &Activation,
    inputs: &Inputs,
) -> Box<dyn Prepared> {
    let map = Pointwise { engine, problem, inputs };
    match spec.function {
        Unary::Relu => map.of::<T, _>(PlainRelu),
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
                engine.isa.run(Map { function, x: &x[at..], out });
            });
            Ok(())
        }))
    }

    fn gated_by<T: Element, G: Gate>(&self, spec: &Glu, function: G) -> Box<dyn Prepared> {
        let engine = Arc::clone(self.engine);
        let (layout, (_, width)) = (spec.layout, spec.rows_and_width());
        Box::new(HostPrepared::new(self.problem, self.inputs, move |inputs, outputs| {
            let out = outputs.slice_mut::<T>("out")?;
            let gate_first = match layout {
                GluLayout::Split => {
                    let (gate, up) = (inputs.slice::<T>("gate")?, inputs.slice::<T>("up")?);
                    engine.threads.elements(out, GRAIN, |at, out| {
                        engine.isa.run(GatedMap { function, gate: &gate[at..], up: &up[at..], out });
                    });
                    return Ok(());
                }
                GluLayout::GateFirst => true,
                GluLayout::GateLast => false,
            };
            let x = inputs.slice::<T>("x")?;
            engine.threads.elements(out, width, |at, out| {
                engine.isa.run(PackedRows { function, x: &x[2 * at..], out, width, gate_first });
            });
            Ok(())
        }))
    }
}

pub(super) fn prepare_glu<T: Element>(
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
