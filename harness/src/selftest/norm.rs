//! Planted faults of the normalizations.

use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, Op, RmsNorm};
use touchstone_kernels::{BackendError, DType, Family, Inputs, Outputs, Problem};

use super::arithmetic::{Order, stored};
use super::normalise::{Groups, Way, normalise, rms, shifted, squares};
use super::planted::{
    Computed, F32, SHORT, Specimen, misread, mistaken, naive, naive_on, operand, unsupported,
};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = statistics();
    all.extend(roots());
    all.extend(affine());
    all.extend(rms_norms());
    all.extend(batches());
    all
}

fn fault(
    name: &'static str,
    about: &'static str,
    differs: fn(&Problem) -> bool,
    compute: impl Fn(&Problem, &Inputs) -> Computed + Send + Sync + 'static,
) -> Specimen {
    Specimen::new(Some(Family::Norm), name, about, differs, compute)
}

/// Another way to normalize, which is wrong.
fn way(name: &'static str, about: &'static str, differs: fn(&Problem) -> bool, way: Way) -> Specimen {
    fault(name, about, differs, move |problem, inputs| normalise(problem, inputs, &way))
}

/// Elements in each group; 0 where the statistics are not computed from them.
fn group_len(problem: &Problem) -> usize {
    match &problem.op {
        Op::BatchNorm(spec) if spec.mode == BatchNormMode::Infer => 0,
        Op::BatchNorm(spec) => spec.dims().0 * spec.dims().2,
        Op::LayerNorm(spec) => spec.rows_and_width().1,
        Op::GroupNorm(spec) => spec.dims().1 / spec.groups * spec.dims().2,
        Op::InstanceNorm(spec) => spec.dims().2,
        _ => 0,
    }
}

fn centred(problem: &Problem) -> bool {
    group_len(problem) > 1
}

fn statistics() -> Vec<Specimen> {
    vec![
        way(
            "norm-unbiased-variance",
            "The variance is divided by n − 1.",
            |p| (2..4096).contains(&group_len(p)),
            Way {
                moments: |_, x| {
                    let (mean, variance) = shifted(Order::Pairs, x);
                    (mean, variance * (x.len() as f32 / (x.len() as f32 - 1.0)))
                },
                ..Way::RIGHT
            },
        ),
        way(
            "norm-one-pass-variance",
            "E[x²] − mean² cancels where the mean is far from 0.",
            centred,
            Way {
                moments: |_, x| {
                    let n = x.len() as f32;
                    let mean = Order::Lanes(8).sum(x) / n;
                    (mean, (Order::Lanes(8).sum(&squares(x)) / n - mean * mean).max(0.0))
                },
                ..Way::RIGHT
            },
        ),
        way(
            "norm-sums-in-storage",
            "Mean and variance are added up in the storage type.",
            |p| group_len(p) > 8,
            Way {
                moments: |dtype, x| {
                    let n = x.len() as f32;
                    let sum = |terms: &[f32]| terms.iter().fold(0.0, |sum, x| stored(dtype, sum + x));
                    let mean = sum(x) / n;
                    (mean, sum(&x.iter().map(|x| (x - mean) * (x - mean)).collect::<Vec<_>>()) / n)
                },
                ..Way::RIGHT
            },
        )
        .only(SHORT),
        way(
            "norm-mean-in-storage",
            "The mean is stored between the passes.",
            centred,
            Way {
                moments: |dtype, x| {
                    let mean = stored(dtype, shifted(Order::Pairs, x).0);
                    let squares: Vec<f32> = x.iter().map(|x| (x - mean) * (x - mean)).collect();
                    (mean, Order::Pairs.sum(&squares) / x.len() as f32)
                },
                ..Way::RIGHT
            },
        )
        .only(SHORT),
        way(
            "norm-tail-not-counted",
            "Statistics leave out what is left over after vectors of 8.",
            |p| group_len(p) > 8 && group_len(p) % 8 != 0,
            Way { moments: |_, x| shifted(Order::Pairs, &x[..x.len() / 8 * 8]), ..Way::RIGHT },
        ),
        way(
            "norm-padding-counted",
            "Statistics divide by the length rounded up to vectors of 8.",
            |p| centred(p) && group_len(p) % 8 != 0 && group_len(p) < 4096,
            Way {
                moments: |_, x| {
                    let (mean, variance) = shifted(Order::Pairs, x);
                    let share = x.len() as f32 / x.len().next_multiple_of(8) as f32;
                    (mean * share, variance * share)
                },
                ..Way::RIGHT
            },
        ),
        way(
            "norm-mean-not-subtracted",
            "rms_norm in place of layer_norm: x is not centred.",
            centred,
            Way { moments: |_, x| (0.0, Order::Pairs.sum(&squares(x)) / x.len() as f32), ..Way::RIGHT },
        ),
        way(
            "norm-one-f32-accumulator",
            "A single f32 accumulator drifts over a million equal numbers.",
            |p| group_len(p) > 500_000,
            Way {
                moments: |_, x| {
                    let n = x.len() as f32;
                    let mean = x.iter().sum::<f32>() / n;
                    (mean, x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n)
                },
                ..Way::RIGHT
            },
        ),
        way(
            "norm-nan-skipped",
            "NaN is left out of the statistics.",
            centred,
            Way {
                moments: |_, x| {
                    let numbers: Vec<f32> = x.iter().copied().filter(|x| x.is_finite()).collect();
                    shifted(Order::Pairs, &numbers)
                },
                ..Way::RIGHT
            },
        ),
    ]
}

fn roots() -> Vec<Specimen> {
    let changed = |name, about, rstd| way(name, about, centred, Way { rstd, ..Way::RIGHT });
    vec![
        changed("norm-eps-outside-root", "√var + eps in place of √(var + eps).", |variance, eps| {
            1.0 / (variance.sqrt() + eps)
        }),
        changed("norm-eps-missing", "eps is left out.", |variance, _| 1.0 / variance.sqrt()),
        way(
            "norm-eps-built-in",
            "eps is 1e-5 whatever the problem says.",
            |p| centred(p) && Groups::of(&p.op).is_some_and(|groups| groups.eps > 1e-3),
            Way { rstd: |variance, _| 1.0 / (variance + 1e-5).sqrt(), ..Way::RIGHT },
        ),
        changed("norm-variance-not-rooted", "Divided by the variance, not by its root.", |variance, eps| {
            1.0 / (variance + eps)
        }),
        changed(
            "norm-rough-root",
            "The processor's 12-bit 1/√, without a Newton step.",
            |variance, eps| f32::from_bits((1.0 / (variance + eps).sqrt()).to_bits() & !0xfff),
        )
        .only(F32),
    ]
}

/// Layer, group and instance norm and batch norm, with a weight.
fn weighted(problem: &Problem) -> bool {
    problem.operands().iter().any(|o| o.name == "weight" && o.len() > 1)
}

fn with_bias(problem: &Problem) -> bool {
    problem.operands().iter().any(|o| o.name == "bias" && o.len() > 1)
}

fn misreading(
    name: &'static str,
    about: &'static str,
    differs: fn(&Problem) -> bool,
    operand: &'static str,
    change: fn(&mut Vec<f64>),
) -> Specimen {
    fault(name, about, differs, move |problem, inputs| {
        naive(problem, &misread(problem, inputs, operand, change)?)
    })
}

fn affine() -> Vec<Specimen> {
    vec![
        misreading("norm-weight-ignored", "The weight is not applied.", weighted, "weight", |w| w.fill(1.0)),
        misreading("norm-bias-ignored", "The bias is not added.", with_bias, "bias", |b| b.fill(0.0)),
        misreading("norm-weight-off-by-one", "Weights are shifted by one.", weighted, "weight", |w| {
            w.rotate_left(1);
        }),
        misreading("norm-bias-off-by-one", "Biases are shifted by one.", with_bias, "bias", |b| {
            b.rotate_left(1)
        }),
        misreading(
            "norm-one-plus-weight",
            "1 + w in place of w.",
            |p| {
                let gemma = matches!(&p.op, Op::RmsNorm(spec) if spec.weight_offset != 0.0);
                weighted(p) && !gemma
            },
            "weight",
            |w| w.iter_mut().for_each(|w| *w += 1.0),
        ),
        fault(
            "norm-weight-by-group",
            "Every channel takes the weight of its group's first.",
            |p| matches!(&p.op, Op::GroupNorm(s) if s.affine.weight && s.groups < s.shape[1]),
            |problem, inputs| {
                let Op::GroupNorm(spec) = &problem.op else { return Err(unsupported()) };
                let size = spec.shape[1] / spec.groups;
                let misled = misread(problem, inputs, "weight", |w| {
                    w.chunks_mut(size).for_each(|group| group.fill(group[0]));
                })?;
                naive(problem, &misled)
            },
        ),
        way(
            "norm-rounded-before-weight",
            "The normalized value is stored before the weight, unasked: two roundings.",
            |p| weighted(p) && !matches!(p.op, Op::RmsNorm(_)),
            Way {
                apply: |dtype, x, (mean, rstd), (weight, bias)| {
                    stored(dtype, (x - mean) * rstd) * weight + bias
                },
                ..Way::RIGHT
            },
        )
        .only(SHORT),
        fault(
            "norm-last-axis-only",
            "Of two normalized axes only the last one is.",
            |p| matches!(&p.op, Op::LayerNorm(s) if s.axes > 1 && s.affine.weight && s.affine.bias),
            |problem, inputs| {
                let Op::LayerNorm(spec) = &problem.op else { return Err(unsupported()) };
                let width = spec.shape.last().copied().unwrap_or(1);
                let channels = spec.rows_and_width().1 / width;
                let rows = spec.rows_and_width().0 * channels;
                let unit = InstanceNorm { shape: vec![rows, 1, width], affine: BARE, eps: spec.eps };
                let normalized = naive_on(Op::InstanceNorm(unit), problem.dtype, &only_x(problem, inputs)?)?;
                let (weight, bias) = (operand(inputs, "weight")?, operand(inputs, "bias")?);
                mistaken(problem, &reshaped(problem, &normalized)?, |_, values| {
                    for (i, y) in values.iter_mut().enumerate() {
                        let at = i % (channels * width);
                        *y = *y * weight[at] as f64 + bias[at] as f64;
                    }
                })
            },
        ),
        fault(
            "norm-groups-interleaved",
            "Channel c belongs to group c mod G.",
            |p| matches!(&p.op, Op::GroupNorm(s) if s.groups > 1 && s.groups < s.shape[1]),
            interleaved,
        ),
    ]
}

const BARE: Affine = Affine { weight: false, bias: false };

/// The operands without weight and bias.
fn only_x(problem: &Problem, inputs: &Inputs) -> Result<Inputs, BackendError> {
    let Op::LayerNorm(spec) = &problem.op else { return Err(unsupported()) };
    let bare = LayerNorm { affine: BARE, ..spec.clone() };
    let bare = Problem { op: Op::LayerNorm(bare), dtype: problem.dtype };
    Ok(Inputs::new(&bare, inputs.iter().filter(|(n, _)| *n == "x").map(|(n, t)| (n, t.clone())))?)
}

/// The same numbers in the shape of the problem's results.
fn reshaped(problem: &Problem, outputs: &Outputs) -> Computed {
    let tensors =
        problem.results().into_iter().zip(outputs.iter()).map(|(result, (_, tensor))| {
            super::planted::tensor(result.element, &result.shape, &tensor.to_f64())
        });
    Ok(Outputs::new(problem, tensors.collect::<Result<_, _>>()?)?)
}

fn interleaved(problem: &Problem, inputs: &Inputs) -> Computed {
    let Op::GroupNorm(spec) = &problem.op else { return Err(unsupported()) };
    let (_, channels, spatial) = spec.dims();
    let size = channels / spec.groups;
    // Channel c of the tensor is channel (c mod G)·size + ⌊c/G⌋ of the one that is normalized.
    let place = |c: usize| c % spec.groups * size + c / spec.groups;
    let moved = |values: &mut Vec<f64>, run: usize, back: bool| {
        let old = values.clone();
        for (n, to) in values.chunks_mut(run).enumerate() {
            let (sample, c) = (n / channels, n % channels);
            let from = if back { place(c) } else { (0..channels).position(|o| place(o) == c).unwrap_or(c) };
            to.copy_from_slice(&old[(sample * channels + from) * run..][..run]);
        }
    };
    let mut misled = misread(problem, inputs, "x", |x| moved(x, spatial, false))?;
    for name in ["weight", "bias"] {
        misled = misread(problem, &misled, name, |w| moved(w, 1, false))?;
    }
    mistaken(problem, &naive(problem, &misled)?, |_, values| moved(values, spatial, true))
}

fn rms_of(problem: &Problem) -> Option<&RmsNorm> {
    match &problem.op {
        Op::RmsNorm(spec) => Some(spec),
        _ => None,
    }
}

fn is_rms(problem: &Problem) -> bool {
    rms_of(problem).is_some_and(|spec| spec.rows_and_width().1 > 1)
}

/// An rms_norm with a wrong mean square or root.
fn rms_fault(
    name: &'static str,
    about: &'static str,
    differs: fn(&Problem) -> bool,
    mean_square: fn(DType, &[f32]) -> f32,
    rstd: fn(f32, f32) -> f32,
) -> Specimen {
    fault(name, about, differs, move |problem, inputs| {
        rms(problem, inputs, |x| mean_square(problem.dtype, x), rstd, |x, factor, w| x * factor * w)
    })
}

fn mean_square(_: DType, x: &[f32]) -> f32 {
    Order::Lanes(8).sum(&squares(x)) / x.len() as f32
}

fn rstd(mean_square: f32, eps: f32) -> f32 {
    1.0 / (mean_square + eps).sqrt()
}

fn rms_norms() -> Vec<Specimen> {
    vec![
        rms_fault("rms-eps-outside-root", "√mean + eps.", is_rms, mean_square, |m, eps| {
            1.0 / (m.sqrt() + eps)
        }),
        rms_fault("rms-eps-missing", "eps is left out.", is_rms, mean_square, |m, _| 1.0 / m.sqrt()),
        rms_fault(
            "rms-sum-for-mean",
            "Σx² is not divided by N.",
            is_rms,
            |_, x| Order::Lanes(8).sum(&squares(x)),
            rstd,
        ),
        rms_fault(
            "rms-mean-subtracted",
            "layer_norm in place of rms_norm.",
            is_rms,
            |_, x| shifted(Order::Pairs, x).1,
            rstd,
        ),
        rms_fault(
            "rms-sum-in-storage",
            "Σx² is kept in the storage type.",
            |p| rms_of(p).is_some_and(|spec| spec.rows_and_width().1 > 8),
            |dtype, x| {
                squares(x).iter().fold(0.0, |sum, x| stored(dtype, sum + stored(dtype, *x))) / x.len() as f32
            },
            rstd,
        )
        .only(SHORT),
        rms_fault(
            "rms-one-f32-accumulator",
            "A single f32 accumulator drifts over a million equal squares.",
            |p| rms_of(p).is_some_and(|spec| spec.rows_and_width().1 > 500_000),
            |_, x| squares(x).iter().sum::<f32>() / x.len() as f32,
            rstd,
        )
        .only(F32),
        fault(
            "rms-offset-ignored",
            "w in place of 1 + w.",
            |p| rms_of(p).is_some_and(|spec| spec.weight && spec.weight_offset != 0.0),
            |problem, inputs| {
                let spec = rms_of(problem).ok_or_else(unsupported)?.clone();
                naive_on(Op::RmsNorm(RmsNorm { weight_offset: 0.0, ..spec }), problem.dtype, inputs)
            },
        ),
        fault(
            "rms-rounded-before-weight",
            "The normalized value is stored before the weight, unasked: two roundings.",
            |p| rms_of(p).is_some_and(|spec| spec.weight && !spec.round_before_weight),
            |problem, inputs| {
                let spec = rms_of(problem).ok_or_else(unsupported)?.clone();
                naive_on(Op::RmsNorm(RmsNorm { round_before_weight: true, ..spec }), problem.dtype, inputs)
            },
        )
        .only(SHORT),
    ]
}

fn batch_of(problem: &Problem) -> Option<&BatchNorm> {
    match &problem.op {
        Op::BatchNorm(spec) => Some(spec),
        _ => None,
    }
}

fn training(problem: &Problem) -> bool {
    batch_of(problem).is_some_and(|spec| spec.mode == BatchNormMode::Train)
}

fn batches() -> Vec<Specimen> {
    vec![
        fault(
            "batch-running-variance-biased",
            "The running variance takes the biased one.",
            |p| training(p) && group_len(p) < 1000,
            |problem, inputs| {
                let spec = batch_of(problem).ok_or_else(unsupported)?;
                let n = (spec.dims().0 * spec.dims().2) as f64;
                let (kept, old) = (1.0 - spec.momentum as f64, operand(inputs, "running_var")?);
                mistaken(problem, &naive(problem, inputs)?, |name, values| {
                    if name == "running_var" {
                        for (new, &old) in values.iter_mut().zip(&old) {
                            let kept = kept * old as f64;
                            *new = kept + (*new - kept) * (n - 1.0) / n;
                        }
                    }
                })
            },
        ),
        fault(
            "batch-momentum-swapped",
            "m·running + (1 − m)·batch.",
            |p| training(p) && batch_of(p).is_some_and(|spec| spec.momentum != 0.5),
            |problem, inputs| {
                let spec = batch_of(problem).ok_or_else(unsupported)?.clone();
                let momentum = 1.0 - spec.momentum;
                naive_on(Op::BatchNorm(BatchNorm { momentum, ..spec }), problem.dtype, inputs)
            },
        ),
        fault("batch-running-not-updated", "Running statistics are handed back as they came.", training, {
            |problem, inputs| {
                let (mean, variance) = (operand(inputs, "running_mean")?, operand(inputs, "running_var")?);
                mistaken(problem, &naive(problem, inputs)?, |name, values| {
                    let old = match name {
                        "running_mean" => &mean,
                        "running_var" => &variance,
                        _ => return,
                    };
                    *values = old.iter().map(|&x| x as f64).collect();
                })
            }
        }),
        fault("batch-infers-in-training", "Training normalizes by the running statistics.", training, {
            |problem, inputs| {
                let spec = batch_of(problem).ok_or_else(unsupported)?.clone();
                let right = naive(problem, inputs)?;
                let infer = Problem {
                    op: Op::BatchNorm(BatchNorm { mode: BatchNormMode::Infer, ..spec }),
                    dtype: problem.dtype,
                };
                let wrong = naive(&infer, inputs)?;
                let out = wrong.get("out").ok_or_else(unsupported)?.to_f64();
                mistaken(problem, &right, |name, values| {
                    if name == "out" {
                        values.clone_from(&out);
                    }
                })
            }
        }),
        fault(
            "batch-trains-in-inference",
            "Inference normalizes by the statistics of the batch.",
            |p| batch_of(p).is_some_and(|s| s.mode == BatchNormMode::Infer && s.dims().0 * s.dims().2 > 1),
            |problem, inputs| {
                let spec = batch_of(problem).ok_or_else(unsupported)?.clone();
                let train = Problem {
                    op: Op::BatchNorm(BatchNorm { mode: BatchNormMode::Train, ..spec }),
                    dtype: problem.dtype,
                };
                let wrong = naive(&train, inputs)?;
                let out = wrong.get("out").ok_or_else(unsupported)?.clone();
                Ok(Outputs::new(problem, vec![out])?)
            },
        ),
        fault(
            "batch-norm-for-instance-norm",
            "Statistics go over the batch as well.",
            |p| matches!(&p.op, Op::InstanceNorm(spec) if spec.shape[0] > 1),
            |problem, inputs| {
                let Op::InstanceNorm(InstanceNorm { shape, eps, .. }) = &problem.op else {
                    return Err(unsupported());
                };
                // One sample with the batch among its spatial axes.
                let (n, c, spatial) = (shape[0], shape[1], shape[2..].iter().product::<usize>());
                let turn = |values: &mut Vec<f64>, (n, c): (usize, usize)| {
                    let old = values.clone();
                    for (at, to) in values.chunks_mut(spatial).enumerate() {
                        let (first, second) = (at / n, at % n);
                        to.copy_from_slice(&old[(second * c + first) * spatial..][..spatial]);
                    }
                };
                let turned = misread(problem, inputs, "x", |x| turn(x, (n, c)))?;
                let affine =
                    Affine { weight: inputs.get("weight").is_some(), bias: inputs.get("bias").is_some() };
                let whole = GroupNorm { shape: vec![1, c, n, spatial], groups: c, affine, eps: *eps };
                let wrong = naive_on(Op::GroupNorm(whole), problem.dtype, &turned)?;
                mistaken(problem, &reshaped(problem, &wrong)?, |_, values| turn(values, (c, n)))
            },
        ),
    ]
}
