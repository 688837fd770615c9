//! Gated linear units.

use touchstone_kernels::op::activation::FAMILY;
use touchstone_kernels::op::{Glu, GluLayout, Unary};
use touchstone_kernels::{BackendError, Inputs, Problem};

use crate::selftest::arithmetic::stored;
use crate::selftest::planted::{
    Computed, SHORT, Specimen, mistaken, naive, naive_on, operand, results, unsupported,
};

/// The gated unit of a problem.
fn glu_of(problem: &Problem) -> Option<&Glu> {
    problem.get()
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
    Specimen::new(Some(&FAMILY), name, about, applies, compute)
}

/// Gates and values, in the order of the result.
pub(in crate::families) fn halves(spec: &Glu, inputs: &Inputs) -> Result<(Vec<f32>, Vec<f32>), BackendError> {
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
pub(in crate::families) fn gate(function: Unary, x: f32) -> f32 {
    let x = x as f64;
    let sigmoid = |z: f64| if z < -700.0 { 0.0 } else { 1.0 / (1.0 + (-z).exp()) };
    let y = match function {
        // 0·∞ would be NaN.
        Unary::Gelu | Unary::GeluTanh | Unary::Silu if x == f64::NEG_INFINITY => -0.0,
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

pub(super) fn faults() -> Vec<Specimen> {
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
                naive_on(Glu { layout, ..spec.clone() }, problem.dtype, inputs)
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
                naive_on(spec, problem.dtype, inputs)
            },
        ),
        gated(
            "geglu-tanh-for-erf",
            "The tanh form gates.",
            |s| s.gate == Unary::Gelu,
            |problem, spec, inputs| {
                let spec = Glu { gate: Unary::GeluTanh, ..spec.clone() };
                naive_on(spec, problem.dtype, inputs)
            },
        ),
        gated(
            "glu-width-in-8-bits",
            "Columns of the packed operand are counted in 8 bits.",
            |s| s.layout != GluLayout::Split && s.rows_and_width().1 > 256,
            |problem, spec, inputs| {
                let width = spec.rows_and_width().1;
                mistaken(problem, &naive(problem, inputs)?, |_, y| {
                    y.chunks_mut(width).for_each(|row| (256..width).for_each(|i| row[i] = row[i - 256]));
                })
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
