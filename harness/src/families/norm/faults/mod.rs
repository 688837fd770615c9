//! Planted faults of the normalizations.

mod affine;
mod batch;
mod rms;

use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::norm::FAMILY;
use touchstone_kernels::{Inputs, Outputs, Problem};

use crate::families::norm::common::norm;
use crate::families::norm::model::{Groups, Way, corrected, normalise, squares};
use crate::selftest::arithmetic::{Order, stored};
use crate::selftest::planted::{Computed, F32, SHORT, Specimen, WIDE, tensor};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = statistics();
    all.extend(roots());
    all.extend(affine::faults());
    all.extend(rms::faults());
    all.extend(batch::faults());
    all
}

fn fault(
    name: &'static str,
    about: &'static str,
    differs: fn(&Problem) -> bool,
    compute: impl Fn(&Problem, &Inputs) -> Computed + Send + Sync + 'static,
) -> Specimen {
    Specimen::new(Some(&FAMILY), name, about, differs, compute)
}

/// Another way to normalize, which is wrong.
fn way(name: &'static str, about: &'static str, differs: fn(&Problem) -> bool, way: Way) -> Specimen {
    fault(name, about, differs, move |problem, inputs| normalise(problem, inputs, &way))
}

/// Elements in each group; 0 where the statistics are not computed from them.
fn group_len(problem: &Problem) -> usize {
    let norm = norm(&problem.op).filter(|norm| norm.is_centred() && norm.computes_statistics());
    norm.map_or(0, |norm| norm.layout().len)
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
                    let (mean, variance) = corrected(Order::Pairs, x);
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
                    let mean = stored(dtype, corrected(Order::Pairs, x).0);
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
            |p| group_len(p) > 8 && !group_len(p).is_multiple_of(8),
            Way { moments: |_, x| corrected(Order::Pairs, &x[..x.len() / 8 * 8]), ..Way::RIGHT },
        ),
        way(
            "norm-padding-counted",
            "Statistics divide by the length rounded up to vectors of 8.",
            |p| centred(p) && !group_len(p).is_multiple_of(8) && group_len(p) < 4096,
            Way {
                moments: |_, x| {
                    let (mean, variance) = corrected(Order::Pairs, x);
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
            "norm-squares-overflow",
            "Squares in f32 are infinite where x and the results are not.",
            centred,
            Way { scales: false, ..Way::RIGHT },
        )
        .only(WIDE),
        way(
            "norm-nan-skipped",
            "NaN is left out of the statistics.",
            centred,
            Way {
                moments: |_, x| {
                    let numbers: Vec<f32> = x.iter().copied().filter(|x| x.is_finite()).collect();
                    corrected(Order::Pairs, &numbers)
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

const BARE: Affine = Affine { weight: false, bias: false };

/// The same numbers in the shape of the problem's results.
fn reshaped(problem: &Problem, outputs: &Outputs) -> Computed {
    let tensors = problem
        .results()
        .into_iter()
        .zip(outputs.iter())
        .map(|(result, (_, old))| tensor(result.element, &result.shape, &old.to_f64()));
    Ok(Outputs::new(problem, tensors.collect::<Result<_, _>>()?)?)
}
