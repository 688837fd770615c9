//! Root-mean-square normalization.

use touchstone_kernels::op::RmsNorm;
use touchstone_kernels::{DType, Problem};

use super::fault;
use crate::families::norm::model::{corrected, rms, squares};
use crate::selftest::arithmetic::{Order, stored};
use crate::selftest::planted::{F32, SHORT, Specimen, WIDE, naive_on, unsupported};

fn rms_of(problem: &Problem) -> Option<&RmsNorm> {
    problem.get()
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
        let moment = |x: &[f32]| mean_square(problem.dtype, x);
        rms(problem, inputs, true, moment, rstd, |x, factor, w| x * factor * w)
    })
}

fn mean_square(_: DType, x: &[f32]) -> f32 {
    Order::Lanes(8).sum(&squares(x)) / x.len() as f32
}

fn rstd(mean_square: f32, eps: f32) -> f32 {
    1.0 / (mean_square + eps).sqrt()
}

pub(super) fn faults() -> Vec<Specimen> {
    vec![
        rms_fault("rms-eps-outside-root", "√mean + eps.", is_rms, mean_square, |m, eps| {
            1.0 / (m.sqrt() + eps)
        }),
        fault(
            "rms-squares-overflow",
            "x² in f32 is infinite where x and the result are not.",
            is_rms,
            |problem, inputs| {
                let moment = |x: &[f32]| mean_square(problem.dtype, x);
                rms(problem, inputs, false, moment, rstd, |x, factor, w| x * factor * w)
            },
        )
        .only(WIDE),
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
            |_, x| corrected(Order::Pairs, x).1,
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
                naive_on(RmsNorm { weight_offset: 0.0, ..spec }, problem.dtype, inputs)
            },
        ),
        fault(
            "rms-rounded-before-weight",
            "The normalized value is stored before the weight, unasked: two roundings.",
            |p| rms_of(p).is_some_and(|spec| spec.weight && !spec.round_before_weight),
            |problem, inputs| {
                let spec = rms_of(problem).ok_or_else(unsupported)?.clone();
                naive_on(RmsNorm { round_before_weight: true, ..spec }, problem.dtype, inputs)
            },
        )
        .only(SHORT),
        fault(
            "rms-not-rounded-before-weight",
            "The normalized value stays in f32, where the model was trained with it stored.",
            |p| rms_of(p).is_some_and(|spec| spec.weight && spec.round_before_weight),
            |problem, inputs| {
                let spec = rms_of(problem).ok_or_else(unsupported)?.clone();
                naive_on(RmsNorm { round_before_weight: false, ..spec }, problem.dtype, inputs)
            },
        )
        .only(SHORT),
    ]
}
