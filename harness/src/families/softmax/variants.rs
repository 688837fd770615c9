//! Other right ways: summation orders, blockings, exponentials, merges. None of them may be failed.

use touchstone_kernels::op::Softmax;
use touchstone_kernels::op::softmax::FAMILY;

use super::faults::{rows, scaled};
use crate::selftest::arithmetic::{Order, exp_above, exp_below, exp_reduced, exp_rounded, largest, max};
use crate::selftest::planted::Specimen;

/// All of them.
pub(super) fn variants() -> Vec<Specimen> {
    let by = |name, about, exp: fn(f32) -> f32, order: Order| {
        Specimen::new(
            Some(&FAMILY),
            name,
            about,
            |_| true,
            move |problem, inputs| {
                rows(problem, inputs, |s, x| softmax_row(s.log, &scaled(s, x), exp, |p| order.sum(p)))
            },
        )
    };
    vec![
        by("softmax-runs-of-32", "Sums of 32, then in pairs.", f32::exp, Order::Runs(32)),
        by("softmax-backwards", "From the end of the row.", f32::exp, Order::Backwards(64)),
        by("softmax-8-lanes", "Eight accumulators.", f32::exp, Order::Lanes(8)),
        by("softmax-16-lanes", "Sixteen accumulators.", exp_rounded, Order::Lanes(16)),
        by("softmax-pairwise", "Halves of halves.", f32::exp, Order::Pairs),
        by("softmax-compensated", "Neumaier's sum.", f32::exp, Order::Compensated),
        by("softmax-exp-above", "exp one ULP too large.", exp_above, Order::Lanes(4)),
        by("softmax-exp-below", "exp one ULP too small.", exp_below, Order::Pairs),
        by("softmax-exp-reduced", "exp by reduction and polynomial.", exp_reduced, Order::Lanes(8)),
        Specimen::new(
            Some(&FAMILY),
            "softmax-online",
            "Maximum and sum in one pass over blocks of 64.",
            |_| true,
            |problem, inputs| rows(problem, inputs, |spec, x| online(spec.log, &scaled(spec, x))),
        ),
        Specimen::new(
            Some(&FAMILY),
            "softmax-by-logarithm",
            "exp(x − (m + log Σ)), as a backward pass wants it.",
            |p| p.get::<Softmax>().is_some_and(|spec| spec.log),
            |problem, inputs| {
                rows(problem, inputs, |spec, x| {
                    let t = scaled(spec, x);
                    let m = largest(&t);
                    let log = (t.iter().map(|t| ((t - m) as f64).exp()).sum::<f64>()).ln();
                    t.iter().map(|t| ((t - m) as f64 - log) as f32).collect()
                })
            },
        ),
    ]
}

/// A row of softmax: exponentials by one function, summed in one order.
fn softmax_row(log: bool, t: &[f32], exp: fn(f32) -> f32, sum: impl Fn(&[f32]) -> f32) -> Vec<f32> {
    let m = largest(t);
    let powers: Vec<f32> = t.iter().map(|t| exp(t - m)).collect();
    let sum = sum(&powers);
    match log {
        true => t.iter().map(|t| (t - m) - sum.ln()).collect(),
        false => powers.into_iter().map(|p| p / sum).collect(),
    }
}

/// Blocks with a running maximum; each block's sum is merged like a part of a split.
fn online(log: bool, t: &[f32]) -> Vec<f32> {
    let part = |block: &[f32]| {
        let m = largest(block);
        // A block of −∞ alone has nothing to add.
        let sum = if m == f32::NEG_INFINITY { 0.0 } else { block.iter().map(|t| (t - m).exp()).sum::<f32>() };
        (m, sum)
    };
    let parts: Vec<(f32, f32)> = t.chunks(64).map(part).collect();
    let m = parts.iter().map(|part| part.0).fold(f32::NEG_INFINITY, max);
    let weighted: Vec<f32> = parts.iter().map(|(own, sum)| (own - m).exp() * sum).collect();
    let sum = Order::Pairs.sum(&weighted);
    let results = t.iter().map(|t| if log { (t - m) - sum.ln() } else { (t - m).exp() / sum });
    results.collect()
}
