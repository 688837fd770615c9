//! Batch normalization, and batches.

use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, Op};
use touchstone_kernels::{Outputs, Problem};

use super::{fault, group_len, reshaped};
use crate::selftest::planted::{Specimen, misread, mistaken, naive, naive_on, operand, unsupported};

fn batch_of(problem: &Problem) -> Option<&BatchNorm> {
    problem.get()
}

fn training(problem: &Problem) -> bool {
    batch_of(problem).is_some_and(|spec| spec.mode == BatchNormMode::Train)
}

pub(super) fn faults() -> Vec<Specimen> {
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
                naive_on(BatchNorm { momentum, ..spec }, problem.dtype, inputs)
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
                    op: Op::from(BatchNorm { mode: BatchNormMode::Infer, ..spec }),
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
                    op: Op::from(BatchNorm { mode: BatchNormMode::Train, ..spec }),
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
            |p| p.get::<InstanceNorm>().is_some_and(|spec| spec.shape[0] > 1),
            |problem, inputs| {
                let InstanceNorm { shape, eps, .. } = problem.get().ok_or_else(unsupported)?;
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
                let wrong = naive_on(whole, problem.dtype, &turned)?;
                mistaken(problem, &reshaped(problem, &wrong)?, |_, values| turn(values, (c, n)))
            },
        ),
    ]
}
