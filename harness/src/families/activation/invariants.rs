//! Invariants of point-wise functions and gated units.

use touchstone_kernels::op::activation::FAMILY;
use touchstone_kernels::op::{Activation, Glu, GluLayout, Unary};
use touchstone_kernels::{Backend, Op};

use crate::invariants::Invariant;
use crate::invariants::answer::{Answer, Held, Stop, applies, doubled, ensure, negated};

pub(super) fn invariants() -> Vec<Invariant> {
    let family = Some(&FAMILY);
    vec![
        Invariant { name: "activation-odd", family, about: "tanh and erf: f(−x) = −f(x).", holds: odd },
        Invariant {
            name: "activation-reflection",
            family,
            about: "f(x) − f(−x) = x for silu, swish, the gelus, hard_swish, softplus and relu; sigmoid(x) + sigmoid(−x) = 1; exp(x)·exp(−x) = 1.",
            holds: reflection,
        },
        Invariant {
            name: "activation-homogeneous",
            family,
            about: "relu and leaky_relu: f(2x) = 2·f(x).",
            holds: homogeneous,
        },
        Invariant {
            name: "activation-monotone",
            family,
            about: "Functions that only rise do.",
            holds: monotone,
        },
        Invariant {
            name: "activation-identity-above-zero",
            family,
            about: "relu, leaky_relu and elu give a positive x back, bit for bit.",
            holds: identity,
        },
        Invariant {
            name: "glu-is-a-product",
            family,
            about: "A gated unit is its gate's function times the other half.",
            holds: product,
        },
        Invariant {
            name: "glu-is-linear",
            family,
            about: "Twice the other half gives twice the result.",
            holds: linear,
        },
    ]
}

fn function(answer: &Answer) -> Result<Unary, Stop> {
    answer.problem.get::<Activation>().map(|spec| spec.function).ok_or(Stop::NotApplicable)
}

fn odd(backend: &dyn Backend, answer: &Answer) -> Held {
    applies(matches!(function(answer)?, Unary::Tanh | Unary::Erf))?;
    let image = answer.with(backend, &[("x", negated(&answer.operand("x")?))])?;
    answer.equals(&image, -1.0)
}

fn reflection(backend: &dyn Backend, answer: &Answer) -> Held {
    let function = function(answer)?;
    let x = answer.operand("x")?;
    let even_part = |x: f64| match function {
        Unary::Silu | Unary::Swish { .. } | Unary::Gelu | Unary::GeluTanh => Some(x),
        Unary::HardSwish | Unary::Softplus | Unary::Relu => Some(x),
        Unary::LeakyRelu { slope } => Some((1.0 + f64::from(slope)) * x),
        _ => None,
    };
    let other = matches!(function, Unary::Sigmoid | Unary::Exp);
    applies(other || even_part(1.0).is_some())?;
    let image = answer.with(backend, &[("x", negated(&x))])?;
    let (a, b) = (answer.out(), image.out());
    for (i, &x) in x.iter().enumerate().filter(|(_, x)| x.is_finite()) {
        let (y, z, s, t) = (a.got[i], b.got[i], a.tolerance[i], b.tolerance[i]);
        let (left, right, tolerance) = match (function, even_part(x)) {
            (_, Some(right)) => (y - z, right, s + t),
            (Unary::Sigmoid, _) => (y + z, 1.0, s + t),
            // Where either is out of range their product says nothing.
            _ if y.is_infinite() || z.is_infinite() => continue,
            _ => (y * z, 1.0, y * t + z * s + s * t),
        };
        // One rounding of the left side in f64.
        let tolerance = tolerance + f64::EPSILON * (y.abs() + z.abs()).max(1.0);
        ensure((left - right).abs() <= tolerance || !y.is_finite() && y == x, || {
            format!("{}: f({x:e}) = {y:.9e} and f({:e}) = {z:.9e} do not belong together", a.place(i), -x)
        })?;
    }
    Ok(())
}

fn homogeneous(backend: &dyn Backend, answer: &Answer) -> Held {
    applies(matches!(function(answer)?, Unary::Relu | Unary::LeakyRelu { .. }))?;
    answer.equals(&answer.with(backend, &[("x", doubled(&answer.operand("x")?))])?, 2.0)
}

fn monotone(_: &dyn Backend, answer: &Answer) -> Held {
    applies(match function(answer)? {
        Unary::Sigmoid | Unary::Tanh | Unary::Erf | Unary::Exp | Unary::Relu | Unary::Softplus => true,
        Unary::LeakyRelu { slope: p } | Unary::Elu { alpha: p } => p >= 0.0,
        _ => false,
    })?;
    let (x, out) = (answer.operand("x")?, answer.out());
    let mut order: Vec<usize> = (0..x.len()).filter(|&i| !x[i].is_nan()).collect();
    order.sort_by(|&i, &j| x[i].total_cmp(&x[j]));
    order.array_windows().try_for_each(|&[i, j]| {
        let slack = out.tolerance[i] + out.tolerance[j];
        ensure(out.got[i] <= out.got[j] + slack, || {
            let (a, b) = (out.got[i], out.got[j]);
            format!("{}: f falls from {a:.9e} at {:e} to {b:.9e} at {:e}", out.place(j), x[i], x[j])
        })
    })
}

fn identity(_: &dyn Backend, answer: &Answer) -> Held {
    applies(matches!(function(answer)?, Unary::Relu | Unary::LeakyRelu { .. } | Unary::Elu { .. }))?;
    let x = answer.operand("x")?;
    let positive = x.iter().enumerate().filter(|&(_, &x)| x > 0.0);
    positive.into_iter().try_for_each(|(i, &x)| answer.out().holds(i, x, 0.0))
}

/// Gate and other half of a gated unit, in the order of the result.
fn halves(answer: &Answer) -> Result<(&Glu, Vec<f64>, Vec<f64>), Stop> {
    let spec = answer.problem.get::<Glu>().ok_or(Stop::NotApplicable)?;
    if spec.layout == GluLayout::Split {
        return Ok((spec, answer.operand("gate")?, answer.operand("up")?));
    }
    let (_, width) = spec.rows_and_width();
    applies(width > 0)?;
    let x = answer.operand("x")?;
    let half = |second: usize| -> Vec<f64> {
        x.chunks(2 * width).flat_map(|row| row[second * width..][..width].iter().copied()).collect()
    };
    let gate_is_second = usize::from(spec.layout == GluLayout::GateLast);
    Ok((spec, half(gate_is_second), half(1 - gate_is_second)))
}

fn product(backend: &dyn Backend, answer: &Answer) -> Held {
    let (spec, gate, up) = halves(answer)?;
    let alone = Op::from(Activation { shape: spec.shape.clone(), function: spec.gate });
    let gate = answer.image(backend, alone, &[("x", gate)])?;
    let (out, gate) = (answer.out(), gate.out());
    (0..out.got.len()).try_for_each(|i| {
        let slack = if gate.tolerance[i] == 0.0 { 0.0 } else { up[i].abs() * gate.tolerance[i] };
        out.holds(i, gate.got[i] * up[i], out.tolerance[i] + slack)
    })
}

fn linear(backend: &dyn Backend, answer: &Answer) -> Held {
    let (spec, _, up) = halves(answer)?;
    let image = if spec.layout == GluLayout::Split {
        answer.with(backend, &[("up", doubled(&up))])?
    } else {
        let (_, width) = spec.rows_and_width();
        let other = usize::from(spec.layout == GluLayout::GateFirst);
        let mut x = answer.operand("x")?;
        for row in x.chunks_mut(2 * width) {
            row[other * width..][..width].iter_mut().for_each(|x| *x *= 2.0);
        }
        answer.with(backend, &[("x", x)])?
    };
    answer.equals(&image, 2.0)
}
