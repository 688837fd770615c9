//! Other right ways: summation orders, blockings, exponentials, merges. None of them may be failed.

use touchstone_kernels::op::RmsNorm;
use touchstone_kernels::op::norm::FAMILY;
use touchstone_kernels::{DType, Problem};

use super::model::{Groups, Way, corrected, double, merged, normalise, rms, squares, welford};
use crate::selftest::arithmetic::Order;
use crate::selftest::planted::Specimen;

/// All of them.
pub(super) fn variants() -> Vec<Specimen> {
    let way = |name, about, way: Way| {
        let applies = |p: &Problem| Groups::of(&p.op).is_some();
        Specimen::new(Some(&FAMILY), name, about, applies, move |problem, inputs| {
            normalise(problem, inputs, &way)
        })
    };
    let by = |name, about, moments: fn(DType, &[f32]) -> (f32, f32)| {
        way(name, about, Way { moments, ..Way::RIGHT })
    };
    let rms_by = |name, about, order: Order| {
        let applies = |p: &Problem| p.get::<RmsNorm>().is_some_and(|spec| !spec.round_before_weight);
        Specimen::new(Some(&FAMILY), name, about, applies, move |problem, inputs| {
            let mean_square = |x: &[f32]| order.sum(&squares(x)) / x.len() as f32;
            rms(
                problem,
                inputs,
                true,
                mean_square,
                |m, eps| 1.0 / (m + eps).sqrt(),
                |x, rstd, w| x * rstd * w,
            )
        })
    };
    vec![
        by("norm-two-pass-8-lanes", "Two passes, eight accumulators.", |_, x| corrected(Order::Lanes(8), x)),
        by("norm-two-pass-pairwise", "Two passes, halves of halves.", |_, x| corrected(Order::Pairs, x)),
        by("norm-two-pass-backwards", "Two passes from the end.", |_, x| corrected(Order::Backwards(32), x)),
        by("norm-two-pass-f64", "Two passes in f64.", |_, x| double(x)),
        by("norm-welford", "Welford's running mean and squares, declared.", |_, x| welford(x)).running(),
        by("norm-merged-blocks", "Blocks of 128 merged in pairs.", |_, x| merged(128, x)),
        way(
            "norm-fused",
            "The affine step with fused multiply-add.",
            Way {
                apply: |_, x, (mean, rstd), (weight, bias)| ((x - mean) * rstd).mul_add(weight, bias),
                ..Way::RIGHT
            },
        ),
        rms_by("rms-8-lanes", "Eight accumulators.", Order::Lanes(8)),
        rms_by("rms-pairwise", "Halves of halves.", Order::Pairs),
        rms_by("rms-compensated", "Neumaier's sum.", Order::Compensated),
        rms_by("rms-f64", "The sum of squares in f64.", Order::Double),
    ]
}
