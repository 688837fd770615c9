//! Errors in units of the last place, over a sample of all f32 arguments.
//!
//! The sample: a stride through all bit patterns, every power of two, and 64 neighbours on either
//! side of it and of every breakpoint. `exhaustive` takes every argument
//! (`cargo test --release exhaustive::gelu -- --ignored --nocapture`).

use std::f32::consts::{LN_2, SQRT_2};

use half::{bf16, f16};

use crate::simd::activation::{
    Elu, Erf, Exp, Function, Gelu, GeluTanh, HardSwish, LeakyRelu, Map, Mish, PlainRelu, Sigmoid, Silu,
    Softplus, Swish, Tanh, Ungated,
};
use crate::simd::isa::Isa;
use crate::simd::lanes::Lanes;
use crate::simd::tests::reference;
use crate::{DType, Element};

#[derive(Clone, Copy)]
struct Ln;

impl Function for Ln {
    #[inline(always)]
    fn at<L: Lanes>(self, lanes: L, [x]: [L::F; 1]) -> L::F {
        super::ln(lanes, x)
    }
}

/// Arguments at which some function changes its branch, saturates, overflows or underflows.
const BREAKPOINTS: [f32; 34] = [
    0.0,
    LN_2 / 2.0,
    0.5,
    0.625,
    LN_2,
    0.921875,
    1.0,
    1.5 * LN_2,
    SQRT_2,
    1.702,
    2.0,
    2.699,
    3.0,
    3.9193,
    4.0,
    5.54,
    6.0,
    8.66,
    9.010913,
    10.0,
    10.2,
    12.0,
    13.2,
    14.3561,
    15.0,
    17.3287,
    20.0,
    87.33654,
    88.72284,
    91.9,
    103.97208,
    104.0,
    108.66,
    120.0,
];

const BLOCK: usize = 1 << 16;

fn sample(stride: u32) -> impl Iterator<Item = f32> {
    let strided = (0..=u32::MAX / stride).map(move |i| f32::from_bits(i * stride));
    let neighbours =
        |bits: u32| (0..129u32).map(move |i| f32::from_bits(bits.wrapping_add(i).wrapping_sub(64)));
    let binades = (0..512u32).flat_map(move |i| neighbours(i << 23));
    let breaks = BREAKPOINTS.into_iter().flat_map(|x| [x, -x]).flat_map(move |x| neighbours(x.to_bits()));
    strided.chain(binades).chain(breaks)
}

/// The largest error of `function` in ULP and its argument.
fn worst(
    isa: Isa,
    function: impl Function,
    exact: impl Fn(f64) -> f64,
    mut arguments: impl Iterator<Item = f32>,
) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let (mut x, mut y) = (Vec::with_capacity(BLOCK), vec![0.0; BLOCK]);
    loop {
        x.clear();
        x.extend(arguments.by_ref().take(BLOCK));
        if x.is_empty() {
            return worst;
        }
        let y = &mut y[..x.len()];
        isa.run(Map { function, x: [&x], out: y });
        for (&x, &y) in x.iter().zip(&*y) {
            let error = ulps(DType::F32, y as f64, exact(x as f64));
            // A NaN error is the worst.
            if error.is_nan() || error > worst.0 {
                worst = (error, x);
            }
        }
    }
}

/// |got − exact| in units of the last place of a number of this type around `exact`.
fn ulps(dtype: DType, got: f64, exact: f64) -> f64 {
    if exact.is_nan() || got.is_nan() {
        return if exact.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let rounded = dtype.round(exact);
    if rounded.is_infinite() || got.is_infinite() {
        return if got == rounded { 0.0 } else { f64::INFINITY };
    }
    (got - exact).abs() / dtype.ulp(exact)
}

fn check(isas: &[Isa], stride: u32, limit: f64, function: impl Function, exact: impl Fn(f64) -> f64) {
    for &isa in isas {
        let (ulp, x) = worst(isa, function, &exact, sample(stride));
        println!("{isa}: {ulp:.3} ULP at {x:e} ({:#010x})", x.to_bits());
        assert!(ulp <= limit, "{isa}: {ulp} ULP at {x:e}, allowed {limit}");
    }
}

/// Checks that every number of a half type has a result that is as good as correctly rounded.
fn check_half<T: Element>(function: impl Function, exact: impl Fn(f64) -> f64) {
    const LIMIT: f64 = 0.51;
    let x: Vec<T> = (0..=u16::MAX).map(|bits| bytemuck::cast(bits)).collect();
    let mut y = vec![T::zeroed(); x.len()];
    for isa in Isa::present() {
        isa.run(Map { function, x: [&x], out: &mut y });
        let mut worst = (0.0, 0.0);
        for (x, y) in x.iter().zip(&y) {
            let error = ulps(T::DTYPE, y.to_f32() as f64, exact(x.to_f32() as f64));
            if error > worst.0 {
                worst = (error, x.to_f32());
            }
        }
        let (ulp, x) = worst;
        println!("{isa} {}: {ulp:.4} ULP at {x:e}", T::DTYPE);
        assert!(ulp <= LIMIT, "{isa} {}: {ulp} ULP at {x:e}, allowed {LIMIT}", T::DTYPE);
    }
}

/// For each function its value in f64 and the largest error allowed in ULP.
macro_rules! functions {
    ($($name:ident: $function:expr, $exact:expr, $limit:expr;)+) => {
        /// Every instruction set, a sample of the arguments.
        mod sampled {
            use super::*;
            $(#[test]
            fn $name() {
                check(&Isa::present(), 257, $limit, $function, $exact);
            })+
        }
        /// Every instruction set, every argument of the half types.
        mod halves {
            use super::*;
            $(#[test]
            fn $name() {
                check_half::<f16>($function, $exact);
                check_half::<bf16>($function, $exact);
            })+
        }
        /// The best instruction set, every argument.
        mod exhaustive {
            use super::*;
            $(#[test]
            #[ignore = "a minute or more"]
            fn $name() {
                check(&Isa::present()[..1], 1, $limit, $function, $exact);
            })+
        }
    };
}

functions! {
    exp: Exp, libm::exp, 1.0;
    ln: Ln, f64::ln, 1.0;
    sigmoid: Ungated(Sigmoid), reference::sigmoid, 2.5;
    tanh: Tanh, libm::tanh, 1.5;
    erf: Erf, libm::erf, 1.5;
    gelu: Ungated(Gelu), reference::gelu, 4.0;
    gelu_tanh: Ungated(GeluTanh), reference::gelu_tanh, 4.0;
    silu: Ungated(Silu), reference::silu, 3.5;
    swish: Swish(1.702), reference::swish(1.702), 3.5;
    swish_negative: Swish(-0.5), reference::swish(-0.5), 3.5;
    swish_gentle: Swish(1e-20), reference::swish(1e-20), 3.5;
    swish_steep: Swish(300.0), reference::swish(300.0), 3.5;
    mish: Mish, reference::mish, 4.0;
    softplus: Softplus, reference::softplus, 3.0;
    elu: Elu(1.0), reference::elu(1.0), 1.0;
    elu_scaled: Elu(1.67), reference::elu(1.67), 2.0;
    hard_swish: HardSwish, reference::hard_swish, 2.0;
    relu: PlainRelu, reference::relu, 0.0;
    leaky_relu: LeakyRelu(0.01), reference::leaky_relu(0.01), 0.5;
}
