//! Invariants of the normalizations.

use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use touchstone_kernels::{Backend, Family, Op};

use super::Invariant;
use super::answer::{Answer, Held, Stop, applies, doubled, ensure, shifted};

pub(super) fn invariants() -> Vec<Invariant> {
    let family = Some(Family::Norm);
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

/// The elements that are normalized together; none where the statistics are given.
fn groups(op: &Op) -> Result<Vec<Vec<usize>>, Stop> {
    let runs = |count: usize, len: usize| -> Vec<Vec<usize>> {
        (0..count).map(|group| (group * len..(group + 1) * len).collect()).collect()
    };
    Ok(match op {
        Op::LayerNorm(spec) => runs(spec.rows_and_width().0, spec.rows_and_width().1),
        Op::RmsNorm(spec) => runs(spec.rows_and_width().0, spec.rows_and_width().1),
        Op::GroupNorm(spec) => {
            let (n, c, spatial) = spec.dims();
            runs(n * spec.groups, c / spec.groups * spatial)
        }
        Op::InstanceNorm(spec) => {
            let (n, c, spatial) = spec.dims();
            runs(n * c, spatial)
        }
        Op::BatchNorm(spec) if spec.mode == BatchNormMode::Train => {
            let (n, channels, spatial) = spec.dims();
            let channel =
                |c| (0..n).flat_map(move |b| (0..spatial).map(move |s| (b * channels + c) * spatial + s));
            (0..channels).map(|c| channel(c).collect()).collect()
        }
        _ => return Err(Stop::NotApplicable),
    })
}

/// The same without weight and bias.
fn bare(op: &Op) -> Op {
    let affine = Affine { weight: false, bias: false };
    match op.clone() {
        Op::LayerNorm(spec) => Op::LayerNorm(LayerNorm { affine, ..spec }),
        Op::RmsNorm(spec) => Op::RmsNorm(RmsNorm { weight: false, ..spec }),
        Op::BatchNorm(spec) => Op::BatchNorm(BatchNorm { affine, ..spec }),
        Op::GroupNorm(spec) => Op::GroupNorm(GroupNorm { affine, ..spec }),
        Op::InstanceNorm(spec) => Op::InstanceNorm(InstanceNorm { affine, ..spec }),
        op => op,
    }
}

/// The same with eps times four.
fn with_eps_times_four(op: &Op) -> Op {
    match op.clone() {
        Op::LayerNorm(spec) => Op::LayerNorm(LayerNorm { eps: 4.0 * spec.eps, ..spec }),
        Op::RmsNorm(spec) => Op::RmsNorm(RmsNorm { eps: 4.0 * spec.eps, ..spec }),
        Op::BatchNorm(spec) => Op::BatchNorm(BatchNorm { eps: 4.0 * spec.eps, ..spec }),
        Op::GroupNorm(spec) => Op::GroupNorm(GroupNorm { eps: 4.0 * spec.eps, ..spec }),
        Op::InstanceNorm(spec) => Op::InstanceNorm(InstanceNorm { eps: 4.0 * spec.eps, ..spec }),
        op => op,
    }
}

fn eps(op: &Op) -> f64 {
    f64::from(match op {
        Op::LayerNorm(spec) => spec.eps,
        Op::RmsNorm(spec) => spec.eps,
        Op::BatchNorm(spec) => spec.eps,
        Op::GroupNorm(spec) => spec.eps,
        Op::InstanceNorm(spec) => spec.eps,
        _ => 0.0,
    })
}

fn moments(backend: &dyn Backend, answer: &Answer) -> Held {
    let groups = groups(&answer.problem.op)?;
    let centred = !matches!(answer.problem.op, Op::RmsNorm(_));
    let image = answer.image(backend, bare(&answer.problem.op), &[])?;
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
        let (square, should) = (mean_of(&|i| y(i) * y(i)), variance / (variance + eps(&answer.problem.op)));
        // The two means in f64: of squares, and of x, whose error enters squared.
        let own = 4.0
            * n
            * f64::EPSILON
            * (1.0 + mean * mean * n * f64::EPSILON / (variance + eps(&answer.problem.op)));
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
    let op = &answer.problem.op;
    let optional = |name| answer.inputs.get(name).map(|tensor| tensor.to_f64());
    let (weight, bias) = (optional("weight"), optional("bias"));
    applies(weight.is_some() || bias.is_some())?;
    let image = answer.image(backend, bare(op), &[])?;
    let (out, unit) = (answer.out(), image.out());
    let offset = match op {
        Op::RmsNorm(spec) => f64::from(spec.weight_offset),
        _ => 0.0,
    };
    // Which weight an element has.
    let of = |i: usize| match op {
        Op::LayerNorm(spec) => i % spec.rows_and_width().1,
        Op::RmsNorm(spec) => i % spec.rows_and_width().1,
        Op::BatchNorm(spec) => i / spec.dims().2 % spec.dims().1,
        Op::GroupNorm(spec) => i / spec.dims().2 % spec.dims().1,
        Op::InstanceNorm(spec) => i / spec.dims().2 % spec.dims().1,
        _ => 0,
    };
    (0..out.got.len()).try_for_each(|i| {
        let w = weight.as_ref().map_or(1.0, |w| offset + w[of(i)]);
        let b = bias.as_ref().map_or(0.0, |b| b[of(i)]);
        out.holds(
            i,
            unit.got[i] * w + b,
            out.tolerance[i] + w.abs() * unit.tolerance[i] + f64::EPSILON * b.abs(),
        )
    })
}

fn scale(backend: &dyn Backend, answer: &Answer) -> Held {
    let op = &answer.problem.op;
    let x = doubled(&answer.operand("x")?);
    let mut changes = vec![("x", x)];
    if let Op::BatchNorm(BatchNorm { mode: BatchNormMode::Infer, .. }) = op {
        changes.push(("running_mean", doubled(&answer.operand("running_mean")?)));
        changes.push(("running_var", doubled(&doubled(&answer.operand("running_var")?))));
    }
    let image = answer.image(backend, with_eps_times_four(op), &changes)?;
    let out = answer.out();
    out.relates(image.out(), 1.0, (0..out.got.len()).map(|i| (i, i)))
}

fn shift(backend: &dyn Backend, answer: &Answer) -> Held {
    groups(&answer.problem.op)?;
    applies(!matches!(answer.problem.op, Op::RmsNorm(_)))?;
    let (high, low) = shifted(&answer.operand("x")?, answer.problem.dtype)?;
    let (high, low) = (answer.with(backend, &[("x", high)])?, answer.with(backend, &[("x", low)])?);
    high.out().relates(low.out(), 1.0, (0..high.out().got.len()).map(|i| (i, i)))
}

fn groups_agree(backend: &dyn Backend, answer: &Answer) -> Held {
    let image = match &answer.problem.op {
        Op::InstanceNorm(InstanceNorm { shape, affine, eps }) => {
            Op::GroupNorm(GroupNorm { shape: shape.clone(), groups: shape[1], affine: *affine, eps: *eps })
        }
        Op::GroupNorm(spec) if spec.groups == spec.shape[1] => {
            Op::InstanceNorm(InstanceNorm { shape: spec.shape.clone(), affine: spec.affine, eps: spec.eps })
        }
        // Weights of group norm belong to channels, those of layer norm to elements.
        Op::GroupNorm(spec) if spec.groups == 1 && !spec.affine.weight && !spec.affine.bias => {
            Op::LayerNorm(LayerNorm {
                shape: spec.shape.clone(),
                axes: spec.shape.len() - 1,
                affine: spec.affine,
                eps: spec.eps,
            })
        }
        _ => return Err(Stop::NotApplicable),
    };
    answer.equals(&answer.image(backend, image, &[])?, 1.0)
}
