//! Planted faults of the point-wise functions and gated linear units.

mod accuracy;
pub(super) mod glu;

use std::f32::consts::PI;

use touchstone_kernels::op::activation::FAMILY;
use touchstone_kernels::op::{Activation, Unary};
use touchstone_kernels::{Inputs, Problem};

use crate::selftest::planted::{Computed, Specimen, WIDE, naive_on, operand, results, unsupported};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = substitutes();
    all.extend(parameters());
    all.extend(accuracy::faults());
    all.extend(glu::faults());
    all
}

/// The function of a point-wise problem.
pub(super) fn function_of(problem: &Problem) -> Option<Unary> {
    problem.get::<Activation>().map(|spec| spec.function)
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
    Specimen::new(Some(&FAMILY), name, about, applies, compute)
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
        let spec = problem.get::<Activation>().ok_or_else(unsupported)?;
        let function = change(spec.function);
        naive_on(Activation { function, ..spec.clone() }, problem.dtype, inputs)
    };
    Specimen::new(Some(&FAMILY), name, about, applies, compute)
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
            "hard-swish-product-first",
            "x·relu6(x + 3) leaves the range before it is divided by 6.",
            |f| f == Unary::HardSwish,
            |_, x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        )
        .only(WIDE),
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
