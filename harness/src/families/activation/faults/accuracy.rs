//! Where a formula overflows or cancels.

use std::f32::consts::FRAC_1_SQRT_2;

use touchstone_kernels::DType;
use touchstone_kernels::op::Unary;

use super::{on, sigmoid};
use crate::selftest::planted::Specimen;

pub(super) fn faults() -> Vec<Specimen> {
    let mut all = extremes();
    all.extend(cancellations());
    all
}

fn extremes() -> Vec<Specimen> {
    vec![
        on(
            "relu-swallows-nan",
            "max(0, x) with its operands the wrong way round gives 0 for NaN.",
            |f| f == Unary::Relu,
            |_, x| x.max(0.0),
        ),
        on(
            "sign-by-division",
            "The sign of an odd function is taken as x/|x|: NaN at ±0.",
            |f| matches!(f, Unary::Tanh | Unary::Erf),
            |f, x| {
                let of_magnitude = if f == Unary::Tanh { x.abs().tanh() } else { libm::erff(x.abs()) };
                x / x.abs() * of_magnitude
            },
        ),
        on(
            "silu-at-minus-infinity",
            "−∞·0 = NaN in place of the limit −0.",
            |f| matches!(f, Unary::Silu),
            |_, x| x * sigmoid(x),
        ),
        on(
            "gelu-at-minus-infinity",
            "−∞·0 = NaN in place of the limit −0.",
            |f| f == Unary::Gelu,
            |_, x| x * (libm::erfcf(-x * FRAC_1_SQRT_2) / 2.0),
        ),
        on(
            "sigmoid-overflows",
            "e^x/(1 + e^x) is ∞/∞ for large x.",
            |f| f == Unary::Sigmoid,
            |_, x| x.exp() / (1.0 + x.exp()),
        ),
        on(
            "softplus-overflows",
            "log(1 + e^x) is ∞ for large x.",
            |f| f == Unary::Softplus,
            |_, x| x.exp().ln_1p(),
        ),
        on(
            "tanh-overflows",
            "(e^2x − 1)/(e^2x + 1) is ∞/∞ for large x.",
            |f| f == Unary::Tanh,
            |_, x| (2.0 * x).exp_m1() / ((2.0 * x).exp() + 1.0),
        ),
        on(
            "exp-clamped",
            "Arguments are cut off at ±87: neither subnormals nor ∞.",
            |f| f == Unary::Exp,
            |_, x| if x.is_nan() { x } else { x.clamp(-87.0, 87.0).exp() },
        )
        .only(&[DType::F32, DType::BF16]),
    ]
}

fn cancellations() -> Vec<Specimen> {
    vec![
        on(
            "gelu-tail-cancels",
            "1 + erf has no digits left in the lower tail.",
            |f| f == Unary::Gelu,
            |_, x| {
                if x == f32::NEG_INFINITY { -0.0 } else { 0.5 * x * (1.0 + libm::erff(x * FRAC_1_SQRT_2)) }
            },
        ),
        on(
            "softplus-tail-lost",
            "log(1 + e) with e below the spacing at 1 is 0.",
            |f| f == Unary::Softplus,
            |_, x| if x.is_nan() { x } else { x.max(0.0) + (1.0 + (-x.abs()).exp()).ln() },
        ),
        on(
            "mish-tail-lost",
            "log(1 + e) with e below the spacing at 1 is 0.",
            |f| f == Unary::Mish,
            |_, x| match x {
                f32::NEG_INFINITY => -0.0,
                x if x > 20.0 => x,
                x => x * (1.0 + x.exp()).ln().tanh(),
            },
        ),
        on(
            "elu-cancels",
            "e^x − 1 has no digits left near 0.",
            |f| matches!(f, Unary::Elu { .. }),
            |f, x| match f {
                Unary::Elu { alpha } if x <= 0.0 => alpha * (x.exp() - 1.0),
                _ => x,
            },
        )
        // What cancels in f32 lies below the spacing of f16.
        .only(&[DType::F32, DType::BF16]),
        on(
            "tanh-cancels",
            "1 − 2/(e^2x + 1) has no digits left near 0.",
            |f| f == Unary::Tanh,
            |_, x| 1.0 - 2.0 / ((2.0 * x).exp() + 1.0),
        ),
        on(
            "erf-absolute-fit",
            "Abramowitz & Stegun 7.1.26: right to 1.5e-7, which is nothing near 0.",
            |f| f == Unary::Erf,
            |_, x| {
                let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
                let series = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
                let p = series.iter().fold(0.0, |sum, c: &f32| sum * t + c) * t;
                (1.0 - p * (-x * x).exp()).copysign(x)
            },
        ),
        on(
            "tanh-series-too-short",
            "x − x³/3 is used up to 1/2.",
            |f| f == Unary::Tanh,
            |_, x| if x.abs() < 0.5 { x - x * x * x / 3.0 } else { x.tanh() },
        ),
    ]
}
