//! Invariants of the normalizations.

use touchstone_kernels::op::norm::FAMILY;
use touchstone_kernels::op::{GroupNorm, InstanceNorm, LayerNorm};
use touchstone_kernels::{Backend, Op};

use super::common::{Norm, norm};
use crate::invariants::Invariant;
use crate::invariants::answer::{Answer, Held, Stop, applies, doubled, ensure, shifted};

pub(super) fn invariants() -> Vec<Invariant> {
    let family = Some(&FAMILY);
    vec![
        Invariant {
            name: "norm-moments",
            family,
            about: "Without weight and bias the mean is 0 and the mean square v/(v + eps).",
            holds: moments,
        },
        Invariant {
            name: "norm-affine",
            family,
            about: "Weight and bias act on the result without them.",
            holds: affine,
        },
        Invariant {
            name: "norm-scale",
            family,
            about: "Twice x, with four times eps, gives the same.",
            holds: scale,
        },
        Invariant {
            name: "norm-shift",
            family,
            about: "A constant added to x changes nothing but a mean square.",
            holds: shift,
        },
        Invariant {
            name: "norm-groups",
            family,
            about: "Instance norm is group norm with as many groups as channels; layer norm, with one.",
            holds: groups_agree,
        },
    ]
}

/// The normalization, where it computes its statistics from x.
fn computing(answer: &Answer) -> Result<&dyn Norm, Stop> {
    norm(&answer.problem.op).filter(|norm| norm.computes_statistics()).ok_or(Stop::NotApplicable)
}

fn any(answer: &Answer) -> Result<&dyn Norm, Stop> {
    norm(&answer.problem.op).ok_or(Stop::NotApplicable)
}

fn moments(backend: &dyn Backend, answer: &Answer) -> Held {
    let norm = computing(answer)?;
    let (groups, centred, eps) = (norm.layout().members(), norm.is_centred(), f64::from(norm.eps()));
    let image = answer.image(backend, norm.bare(), &[])?;
    let (x, out) = (answer.operand("x")?, image.out());
    let mut applied = false;
    for group in groups.iter().filter(|group| group.iter().all(|&i| x[i].is_finite())) {
        let n = group.len() as f64;
        if n == 0.0 {
            continue;
        }
        applied = true;
        let mean_of = |of: &dyn Fn(usize) -> f64| group.iter().map(|&i| of(i)).sum::<f64>() / n;
        let (y, t) = (|i: usize| out.got[i], |i: usize| out.tolerance[i]);
        if centred {
            let (mean, slack) = (mean_of(&y), mean_of(&t) + n * f64::EPSILON * mean_of(&|i| y(i).abs()));
            ensure(mean.abs() <= slack, || {
                format!(
                    "the group of {} has mean {mean:.3e} and should have 0 ± {slack:.1e}",
                    out.place(group[0])
                )
            })?;
        }
        let mean = if centred { mean_of(&|i| x[i]) } else { 0.0 };
        let variance = mean_of(&|i| (x[i] - mean).powi(2));
        let (square, should) = (mean_of(&|i| y(i) * y(i)), variance / (variance + eps));
        // The two means in f64: of squares, and of x, whose error enters squared.
        let own = 4.0 * n * f64::EPSILON * (1.0 + mean * mean * n * f64::EPSILON / (variance + eps));
        let slack = mean_of(&|i| 2.0 * y(i).abs() * t(i) + t(i) * t(i)) + own * should;
        ensure((square - should).abs() <= slack, || {
            let place = out.place(group[0]);
            format!(
                "the group of {place} has mean square {square:.9} and should have {should:.9} ± {slack:.1e}"
            )
        })?;
    }
    applies(applied)
}

fn affine(backend: &dyn Backend, answer: &Answer) -> Held {
    let norm = any(answer)?;
    let (layout, offset) = (norm.layout(), f64::from(norm.weight_offset()));
    let optional = |name| answer.inputs.get(name).map(|tensor| tensor.to_f64());
    let (weight, bias) = (optional("weight"), optional("bias"));
    applies(weight.is_some() || bias.is_some())?;
    let image = answer.image(backend, norm.bare(), &[])?;
    let (out, unit) = (answer.out(), image.out());
    (0..out.got.len()).try_for_each(|i| {
        let w = weight.as_ref().map_or(1.0, |w| offset + w[layout.weight_of(i)]);
        let b = bias.as_ref().map_or(0.0, |b| b[layout.weight_of(i)]);
        out.holds(
            i,
            unit.got[i] * w + b,
            out.tolerance[i] + w.abs() * unit.tolerance[i] + f64::EPSILON * b.abs(),
        )
    })
}

fn scale(backend: &dyn Backend, answer: &Answer) -> Held {
    let norm = any(answer)?;
    let x = doubled(&answer.operand("x")?);
    let mut changes = vec![("x", x)];
    if !norm.computes_statistics() {
        changes.push(("running_mean", doubled(&answer.operand("running_mean")?)));
        changes.push(("running_var", doubled(&doubled(&answer.operand("running_var")?))));
    }
    let image = answer.image(backend, norm.with_eps(4.0 * norm.eps()), &changes)?;
    let out = answer.out();
    out.relates(image.out(), 1.0, (0..out.got.len()).map(|i| (i, i)))
}

fn shift(backend: &dyn Backend, answer: &Answer) -> Held {
    applies(computing(answer)?.is_centred())?;
    let (high, low) = shifted(&answer.operand("x")?, answer.problem.dtype)?;
    let (high, low) = (answer.with(backend, &[("x", high)])?, answer.with(backend, &[("x", low)])?);
    high.out().relates(low.out(), 1.0, (0..high.out().got.len()).map(|i| (i, i)))
}

fn groups_agree(backend: &dyn Backend, answer: &Answer) -> Held {
    let op = &answer.problem.op;
    let image = if let Some(InstanceNorm { shape, affine, eps }) = op.get() {
        Op::from(GroupNorm { shape: shape.clone(), groups: shape[1], affine: *affine, eps: *eps })
    } else if let Some(GroupNorm { shape, groups, affine, eps }) = op.get() {
        let (shape, affine, eps) = (shape.clone(), *affine, *eps);
        if *groups == shape[1] {
            Op::from(InstanceNorm { shape, affine, eps })
        } else {
            // Weights of group norm belong to channels, those of layer norm to elements.
            applies(*groups == 1 && !affine.weight && !affine.bias)?;
            Op::from(LayerNorm { axes: shape.len() - 1, shape, affine, eps })
        }
    } else {
        return Err(Stop::NotApplicable);
    };
    answer.equals(&answer.image(backend, image, &[])?, 1.0)
}
