//! The functions as types, so that a loop is compiled for each.

use crate::simd::lanes::Lanes;
use crate::simd::math::{self, Loaded, Pieces, Scaled};

/// A function of M variables on any instruction set.
pub(crate) trait Function<const M: usize = 1>: Copy + Send + Sync + 'static {
    /// Its value in every lane. Implementations must be `#[inline(always)]`.
    fn at<L: Lanes>(self, lanes: L, x: [L::F; M]) -> L::F;

    /// Whether the faster form needs a first variable that is zero or not tiny.
    const NEEDS_NORMAL: bool = false;

    /// What the faster form needs, if there is one.
    fn pieces(self) -> Option<&'static Pieces> {
        None
    }

    /// The value in every lane whose first variable has a magnitude up to the limit of the pieces;
    /// NaN stays NaN, and other lanes are unspecified. Implementations must be `#[inline(always)]`.
    #[inline(always)]
    fn near<L: Lanes>(self, lanes: L, _pieces: &Loaded<L>, x: [L::F; M]) -> L::F {
        self.at(lanes, x)
    }
}

/// A function that can gate: its value as a product, so that a factor may follow before rounding.
pub(crate) trait Gate: Copy + Send + Sync + 'static {
    /// Its value in every lane. Implementations must be `#[inline(always)]`.
    fn at<L: Lanes>(self, lanes: L, x: L::F) -> Scaled<L::F>;

    /// Like that of a [`Function`].
    fn pieces(self) -> Option<&'static Pieces> {
        None
    }

    /// Like that of a [`Function`], rounded.
    #[inline(always)]
    fn near<L: Lanes>(self, lanes: L, _pieces: &Loaded<L>, x: L::F) -> L::F {
        self.at(lanes, x).value(lanes)
    }
}

/// Defines a type for each function, with its parameter if it has one, and its form in pieces if it
/// has one.
macro_rules! implement {
    ($trait:ident, $argument:ty => $value:ty: $(
        $name:ident $(($parameter:ident))? = |$lanes:ident, $x:pat_param| $body:expr
        $(, near $pieces:path = |$near_lanes:ident, $near_pieces:ident, $near_x:pat_param| $near:expr)?;
    )+) => {$(
        #[derive(Clone, Copy)]
        pub(crate) struct $name $((pub(crate) implement!(@f32 $parameter)))?;

        impl $trait for $name {
            #[inline(always)]
            fn at<L: Lanes>(self, $lanes: L, $x: $argument) -> $value {
                $(let $name($parameter) = self;)?
                $body
            }
            $(
                fn pieces(self) -> Option<&'static Pieces> {
                    Some(&$pieces)
                }
                #[inline(always)]
                fn near<L: Lanes>(self, $near_lanes: L, $near_pieces: &Loaded<L>, $near_x: $argument) -> L::F {
                    $near
                }
            )?
        }
    )+};
    (@f32 $parameter:ident) => { f32 };
}

implement! { Function, [L::F; 1] => L::F:
    LeakyRelu(slope) = |lanes, [x]| {
        let below = lanes.mul(lanes.splat(slope), x);
        lanes.select(lanes.lt(x, lanes.splat(0.0)), below, x)
    };
    Tanh = |lanes, [x]| math::tanh(lanes, x),
        near math::TANH_PIECES = |lanes, pieces, [x]| math::tanh_near(lanes, pieces, x);
    Swish(beta) = |lanes, [x]| math::swish(lanes, x, beta);
    Half = |lanes, [x]| lanes.mul(lanes.splat(0.5), x);
    Softplus = |lanes, [x]| math::softplus(lanes, x),
        near math::SOFTPLUS = |lanes, pieces, [x]| math::softplus_near(lanes, pieces, x);
    Elu(alpha) = |lanes, [x]| {
        let below = lanes.mul(lanes.splat(alpha), math::exp_m1_negative(lanes, x));
        lanes.select(lanes.gt(x, lanes.splat(0.0)), x, below)
    };
    HardSwish = |lanes, [x]| {
        // 1/6 and the rest, so that the factor of x is rounded once; −3 for what lies below gives
        // −0 at −∞.
        let (sixth, rest) = (lanes.splat(1.0 / 6.0), lanes.splat(-4.967_054e-9));
        let t = math::clamp(lanes, lanes.add(x, lanes.splat(3.0)), 0.0, 6.0);
        let factor = lanes.mul_add(t, sixth, lanes.mul(t, rest));
        lanes.mul(lanes.max(lanes.splat(-3.0), x), factor)
    };
    Mish = |lanes, [x]| math::mish(lanes, x),
        near math::MISH = |lanes, pieces, [x]| math::mish_near(lanes, pieces, x);
    Erf = |lanes, [x]| math::erf(lanes, x),
        near math::ERF_PIECES = |lanes, pieces, [x]| math::erf_near(lanes, pieces, x);
    Exp = |lanes, [x]| math::exp(lanes, x);
}

implement! { Gate, L::F => Scaled<L::F>:
    Relu = |lanes, x| Scaled::exact(lanes, lanes.max(lanes.splat(0.0), x));
    Sigmoid = |lanes, x| math::sigmoid(lanes, x),
        near math::SIGMOID = |lanes, pieces, x| math::sigmoid_near(lanes, pieces, x);
    Silu = |lanes, x| math::silu(lanes, x),
        near math::SIGMOID = |lanes, pieces, x| math::silu_near(lanes, pieces, x);
    Gelu = |lanes, x| math::gelu(lanes, x),
        near math::NORMAL = |lanes, pieces, x| math::gelu_near(lanes, pieces, x);
    GeluTanh = |lanes, x| math::gelu_tanh(lanes, x),
        near math::GELU_TANH = |lanes, pieces, x| math::gelu_tanh_near(lanes, pieces, x);
}

/// A gate by itself.
#[derive(Clone, Copy)]
pub(crate) struct Ungated<G>(pub(crate) G);

impl<G: Gate> Function for Ungated<G> {
    #[inline(always)]
    fn at<L: Lanes>(self, lanes: L, [x]: [L::F; 1]) -> L::F {
        self.0.at(lanes, x).value(lanes)
    }
    fn pieces(self) -> Option<&'static Pieces> {
        self.0.pieces()
    }
    #[inline(always)]
    fn near<L: Lanes>(self, lanes: L, pieces: &Loaded<L>, [x]: [L::F; 1]) -> L::F {
        self.0.near(lanes, pieces, x)
    }
}

/// A gate and what it gates: `g(gate)·up`.
#[derive(Clone, Copy)]
pub(crate) struct Gated<G>(pub(crate) G);

impl<G: Gate> Function<2> for Gated<G> {
    /// A subnormal gate has lost what a large factor would bring to light.
    const NEEDS_NORMAL: bool = true;

    #[inline(always)]
    fn at<L: Lanes>(self, lanes: L, [gate, up]: [L::F; 2]) -> L::F {
        self.0.at(lanes, gate).times(lanes, gate, up)
    }
    fn pieces(self) -> Option<&'static Pieces> {
        self.0.pieces()
    }
    #[inline(always)]
    fn near<L: Lanes>(self, lanes: L, pieces: &Loaded<L>, [gate, up]: [L::F; 2]) -> L::F {
        lanes.mul(self.0.near(lanes, pieces, gate), up)
    }
}

/// max(x, 0) without a product.
#[derive(Clone, Copy)]
pub(crate) struct PlainRelu;

impl Function for PlainRelu {
    #[inline(always)]
    fn at<L: Lanes>(self, lanes: L, [x]: [L::F; 1]) -> L::F {
        lanes.max(lanes.splat(0.0), x)
    }
}
