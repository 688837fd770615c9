//! Invariants of a residual and its norm.

use touchstone_kernels::Backend;
use touchstone_kernels::op::residual::FAMILY;

use super::add_norm;
use crate::invariants::Invariant;
use crate::invariants::answer::{Answer, Held, Stop, applies};

pub(super) fn invariants() -> Vec<Invariant> {
    let family = Some(&FAMILY);
    vec![
        Invariant {
            name: "residual-either-way",
            family,
            about: "x and the residual may be exchanged.",
            holds: exchanged,
        },
        Invariant {
            name: "residual-of-nothing",
            family,
            about: "With a residual of 0 the sum is x, bit for bit, and the result its norm.",
            holds: of_nothing,
        },
        Invariant {
            name: "residual-then-norm",
            family,
            about: "Where the sum is rounded, the result is the norm of the sum that comes with it.",
            holds: then_norm,
        },
    ]
}

fn exchanged(backend: &dyn Backend, answer: &Answer) -> Held {
    let changes = [("x", answer.operand("residual")?), ("residual", answer.operand("x")?)];
    answer.equals(&answer.with(backend, &changes)?, 1.0)
}

fn of_nothing(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = add_norm(&answer.problem).ok_or(Stop::NotApplicable)?;
    let x = answer.operand("x")?;
    let image = answer.with(backend, &[("residual", vec![0.0; x.len()])])?;
    if let Some(sum) = image.results.get(1) {
        (0..x.len()).try_for_each(|i| sum.holds(i, x[i], 0.0))?;
    }
    let normed = answer.image(backend, spec.norm(), &[])?;
    image.out().relates(normed.out(), 1.0, (0..x.len()).map(|i| (i, i)))
}

fn then_norm(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = add_norm(&answer.problem).ok_or(Stop::NotApplicable)?;
    applies(spec.residual().round_sum)?;
    let sum = answer.results.get(1).ok_or(Stop::NotApplicable)?;
    let normed = answer.image(backend, spec.norm(), &[("x", sum.got.clone())])?;
    answer.out().relates(normed.out(), 1.0, (0..sum.got.len()).map(|i| (i, i)))
}
