//! Planted faults of the point-wise functions and gated linear units.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

use touchstone_kernels::op::{Activation, Glu, GluLayout, Op, Unary};
use touchstone_kernels::{DType, Family, Inputs, Problem};

use super::arithmetic::stored;
use super::planted::{Computed, SHORT, Specimen, naive_on, operand, results, unsupported};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = substitutes();
    all.extend(parameters());
    all.extend(extremes());
    all.extend(cancellations());
    all.extend(gates());
    all
}

/// The function of a point-wise problem.
pub(super) fn function_of(problem: &Problem) -> Option<Unary> {
    match &problem.op {
        Op::Activation(spec) => Some(spec.function),
        _ => None,
    }
}

/// Applies a function to every element.
pub(super) fn pointwise(problem: &Problem, inputs: &Inputs, f: impl Fn(Unary, f32) -> f32) -> Computed {
    let function = function_of(problem).ok_or_else(unsupported)?;
    results(problem, &[operand(inputs, "x")?.into_iter().map(|x| f(function, x)).collect()])
}

fn on(
    name: &'static str,
    about: &'static str,
    differs: fn(Unary) -> bool,
    f: fn(Unary, f32) -> f32,
) -> Specimen {
    let applies = move |p: &Problem| function_of(p).is_some_and(differs);
    let compute = move |problem: &Problem, inputs: &Inputs| pointwise(problem, inputs, f);
    Specimen::new(Some(Family::Activation), name, about, applies, compute)
}

/// One function in place of another.
fn instead(
    name: &'static str,
    about: &'static str,
    differs: fn(Unary) -> bool,
    change: fn(Unary) -> Unary,
) -> Specimen {
    let applies = move |p: &Problem| function_of(p).is_some_and(differs);
    let compute = move |problem: &Problem, inputs: &Inputs| {
        let Op::Activation(spec) = &problem.op else { return Err(unsupported()) };
        let function = change(spec.function);
        naive_on(Op::Activation(Activation { function, ..spec.clone() }), problem.dtype, inputs)
    };
    Specimen::new(Some(Family::Activation), name, about, applies, compute)
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn substitutes() -> Vec<Specimen> {
    let gelu = |f| f == Unary::Gelu;
    vec![
        instead("gelu-tanh-for-erf", "The tanh form passes for GELU.", gelu, |_| Unary::GeluTanh),
        instead(
            "gelu-erf-for-tanh",
            "GELU passes for its tanh form.",
            |f| f == Unary::GeluTanh,
            |_| Unary::Gelu,
        ),
        instead("gelu-quick", "x·σ(1.702·x).", gelu, |_| Unary::Swish { beta: 1.702 }),
        instead("relu-for-gelu", "max(x, 0).", gelu, |_| Unary::Relu),
        on(
            "gelu-coefficient",
            "0.44715 in place of 0.044715.",
            |f| f == Unary::GeluTanh,
            |_, x| x * sigmoid(2.0 * (2.0 / PI).sqrt() * (x + 0.44715 * x * x * x)),
        ),
        instead("silu-for-hard-swish", "The smooth one.", |f| f == Unary::HardSwish, |_| Unary::Silu),
        on(
            "hard-sigmoid-for-hard-swish",
            "The factor x is left out.",
            |f| f == Unary::HardSwish,
            |_, x| (x + 3.0).clamp(0.0, 6.0) / 6.0,
        ),
        on(
            "relu6-for-relu",
            "Cut off at 6.",
            |f| f == Unary::Relu,
            |_, x| if x > 6.0 { 6.0 } else { x.max(0.0) },
        ),
        on("exp-base-2", "2^x.", |f| f == Unary::Exp, |_, x| x.exp2()),
        on(
            "sigmoid-mirrored",
            "The sign of the exponent is lost.",
            |f| f == Unary::Sigmoid,
            |_, x| sigmoid(-x),
        ),
        on(
            "mish-of-sigmoid",
            "x·tanh(σ(x)): sigmoid for softplus.",
            |f| f == Unary::Mish,
            |_, x| x * sigmoid(x).tanh(),
        ),
    ]
}

fn parameters() -> Vec<Specimen> {
    vec![
        instead(
            "swish-beta-ignored",
            "β = 1.",
            |f| matches!(f, Unary::Swish { beta } if beta != 1.0),
            |_| Unary::Silu,
        ),
        instead(
            "elu-alpha-ignored",
            "α = 1.",
            |f| matches!(f, Unary::Elu { alpha } if alpha != 1.0),
            |_| Unary::Elu { alpha: 1.0 },
        ),
        instead(
            "leaky-slope-squared",
            "The slope is applied twice.",
            |f| matches!(f, Unary::LeakyRelu { .. }),
            |f| match f {
                Unary::LeakyRelu { slope } => Unary::LeakyRelu { slope: slope * slope },
                f => f,
            },
        ),
        instead(
            "leaky-slope-ignored",
            "The slope is 0.01 whatever the problem says.",
            |f| matches!(f, Unary::LeakyRelu { slope } if slope != 0.01),
            |_| Unary::LeakyRelu { slope: 0.01 },
        ),
    ]
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
        ),
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

/// The gated unit of a problem.
fn glu_of(problem: &Problem) -> Option<&Glu> {
    match &problem.op {
        Op::Glu(spec) => Some(spec),
        _ => None,
    }
}

fn gated(
    name: &'static str,
    about: &'static str,
    differs: fn(&Glu) -> bool,
    compute: impl Fn(&Problem, &Glu, &Inputs) -> Computed + Send + Sync + 'static,
) -> Specimen {
    let applies = move |p: &Problem| glu_of(p).is_some_and(differs);
    let compute = move |problem: &Problem, inputs: &Inputs| {
        compute(problem, glu_of(problem).ok_or_else(unsupported)?, inputs)
    };
    Specimen::new(Some(Family::Activation), name, about, applies, compute)
}

/// Gates and values, in the order of the result.
pub(super) fn halves(
    spec: &Glu,
    inputs: &Inputs,
) -> Result<(Vec<f32>, Vec<f32>), touchstone_kernels::BackendError> {
    if spec.layout == GluLayout::Split {
        return Ok((operand(inputs, "gate")?, operand(inputs, "up")?));
    }
    let (_, width) = spec.rows_and_width();
    let x = operand(inputs, "x")?;
    let half = |first: usize| -> Vec<f32> {
        x.chunks(2 * width.max(1)).flat_map(|row| row[first..first + width].iter().copied()).collect()
    };
    let (first, second) = (half(0), half(width));
    Ok(if spec.layout == GluLayout::GateFirst { (first, second) } else { (second, first) })
}

/// A gate function in f64.
pub(super) fn gate(function: Unary, x: f32) -> f32 {
    let x = x as f64;
    let sigmoid = |z: f64| if z < -700.0 { 0.0 } else { 1.0 / (1.0 + (-z).exp()) };
    let y = match function {
        Unary::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Unary::Gelu => 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        Unary::GeluTanh => {
            x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x))
        }
        Unary::Silu => x * sigmoid(x),
        _ => sigmoid(x),
    };
    y as f32
}

fn gates() -> Vec<Specimen> {
    vec![
        gated(
            "glu-halves-swapped",
            "The gate is taken from the other half.",
            |s| s.layout != GluLayout::Split,
            |problem, spec, inputs| {
                let layout = match spec.layout {
                    GluLayout::GateFirst => GluLayout::GateLast,
                    _ => GluLayout::GateFirst,
                };
                naive_on(Op::Glu(Glu { layout, ..spec.clone() }), problem.dtype, inputs)
            },
        ),
        gated(
            "glu-operands-swapped",
            "g(up)·gate.",
            |s| s.layout == GluLayout::Split,
            |problem, spec, inputs| {
                let (gates, ups) = halves(spec, inputs)?;
                let out = gates.iter().zip(&ups).map(|(g, u)| gate(spec.gate, *u) * g).collect();
                results(problem, &[out])
            },
        ),
        gated(
            "glu-not-gated",
            "gate·up without the function.",
            |_| true,
            |problem, spec, inputs| {
                let (gates, ups) = halves(spec, inputs)?;
                results(problem, &[gates.iter().zip(&ups).map(|(g, u)| g * u).collect()])
            },
        ),
        gated(
            "glu-another-gate",
            "σ for SiLU: the factor x of the gate is left out.",
            |s| s.gate == Unary::Silu,
            |problem, spec, inputs| {
                let spec = Glu { gate: Unary::Sigmoid, ..spec.clone() };
                naive_on(Op::Glu(spec), problem.dtype, inputs)
            },
        ),
        gated(
            "geglu-tanh-for-erf",
            "The tanh form gates.",
            |s| s.gate == Unary::Gelu,
            |problem, spec, inputs| {
                let spec = Glu { gate: Unary::GeluTanh, ..spec.clone() };
                naive_on(Op::Glu(spec), problem.dtype, inputs)
            },
        ),
        gated(
            "glu-interleaved",
            "Gate and value are taken from neighbouring channels, not from halves.",
            |s| s.layout != GluLayout::Split && s.rows_and_width().1 > 1,
            |problem, spec, inputs| {
                let first = spec.layout == GluLayout::GateFirst;
                let pair = |pair: &[f32]| if first { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
                let x = operand(inputs, "x")?;
                let out = x.chunks_exact(2).map(pair).map(|(g, u)| gate(spec.gate, g) * u).collect();
                results(problem, &[out])
            },
        ),
        gated(
            "glu-gate-rounded",
            "The gate's value is stored before the product: two roundings.",
            |s| s.gate != Unary::Relu,
            |problem, spec, inputs| {
                let (gates, ups) = halves(spec, inputs)?;
                let gate = |g: f32| stored(problem.dtype, gate(spec.gate, g));
                results(problem, &[gates.iter().zip(&ups).map(|(g, u)| gate(*g) * u).collect()])
            },
        )
        .only(SHORT),
    ]
}
