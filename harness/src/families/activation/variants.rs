//! Other right ways: summation orders, blockings, exponentials, merges. None of them may be failed.

use touchstone_kernels::op::activation::FAMILY;
use touchstone_kernels::op::{Glu, Unary};
use touchstone_kernels::{Inputs, Problem};

use super::faults::glu::{gate, halves};
use super::faults::{function_of, pointwise};
use crate::selftest::arithmetic::{exp_above, exp_below, exp_reduced};
use crate::selftest::planted::{Computed, Specimen, results, unsupported};

/// All of them.
pub(super) fn variants() -> Vec<Specimen> {
    let on = |name, about, applies: fn(Unary) -> bool, f: fn(Unary, f32) -> f32| {
        let applies = move |p: &Problem| function_of(p).is_some_and(applies);
        let compute = move |problem: &Problem, inputs: &Inputs| pointwise(problem, inputs, f);
        Specimen::new(Some(&FAMILY), name, about, applies, compute)
    };
    vec![
        on("exp-above", "One ULP too large.", |f| f == Unary::Exp, |_, x| exp_above(x)),
        on("exp-below", "One ULP too small.", |f| f == Unary::Exp, |_, x| exp_below(x)),
        on("exp-reduced", "Reduction and polynomial.", |f| f == Unary::Exp, |_, x| exp_reduced(x)),
        on(
            "sigmoid-by-tanh",
            "(1 + tanh(x/2))/2 above, and e^x/(1 + e^x) below 0.",
            |f| f == Unary::Sigmoid,
            |_, x| if x > 0.0 { 0.5 + 0.5 * (0.5 * x).tanh() } else { x.exp() / (1.0 + x.exp()) },
        ),
        on(
            "tanh-by-expm1",
            "expm1(2|x|)/(expm1(2|x|) + 2), with the sign of x.",
            |f| f == Unary::Tanh,
            |_, x| {
                if x.is_nan() {
                    return x;
                }
                let e = (2.0 * x.abs().min(20.0)).exp_m1();
                (e / (e + 2.0)).copysign(x)
            },
        ),
        on(
            "functions-in-f64",
            "The formula in f64, rounded at the end.",
            |f| matches!(f, Unary::Silu | Unary::Gelu | Unary::GeluTanh),
            |f, x| if x == f32::NEG_INFINITY { -0.0 } else { gate(f, x) },
        ),
        Specimen::new(
            Some(&FAMILY),
            "glu-in-f64",
            "The gate in f64, one product in f32.",
            |p| p.op.is::<Glu>(),
            gated,
        ),
    ]
}

fn gated(problem: &Problem, inputs: &Inputs) -> Computed {
    let spec = problem.get::<Glu>().ok_or_else(unsupported)?;
    let (gates, ups) = halves(spec, inputs)?;
    results(problem, &[gates.iter().zip(&ups).map(|(g, u)| gate(spec.gate, *g) * u).collect()])
}
