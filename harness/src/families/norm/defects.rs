//! Conditions and limits of known issues of normalizations. u is the unit roundoff of the storage type, 2⁻²⁴
//! that of f32, N the number of terms.

use touchstone_kernels::op::{BatchNorm, LayerNorm};
use touchstone_kernels::{Inputs, Problem};

use super::common::norm;
use crate::known::{F32, Group, Limit, Predicate, groups, largest, one_rounding, terms};

pub(super) const PREDICATES: &[Predicate] = &[Predicate {
    name: "variance_lost",
    about: "in a group, E[x²] − μ² from sums in f32 may be off by more than variance and eps",
    holds: variance_lost,
    may_hold: |_| true,
}];

pub(super) const LIMITS: &[Limit] = &[
    Limit {
        name: "one_pass_variance",
        about: "layer norm whose variance is E[x²] − μ², from sums in f32 one by one",
        of: one_pass_variance,
    },
    Limit {
        name: "rounded_affine",
        about: "a norm that rounds its normalized value to the storage type and applies weight and bias in it",
        of: rounded_affine,
    },
    Limit {
        name: "flushed_affine",
        about: "the same where subnormal numbers are flushed as well",
        of: flushed_affine,
    },
    Limit {
        name: "flushed_inputs",
        about: "a norm, rounded so, of numbers of which the subnormal ones are taken for 0",
        of: flushed_inputs,
    },
];

fn variance_lost(problem: &Problem, inputs: &Inputs) -> bool {
    let Some(spec) = problem.get::<LayerNorm>() else { return false };
    let lost = |group: Group| group.one_pass_error() > group.variance + spec.eps as f64;
    groups(problem, inputs).iter().any(|group| lost(Group::new(group)))
}

/// See [`Group::one_pass_error`].
fn one_pass_variance(problem: &Problem, inputs: &Inputs) -> f64 {
    let Some(spec) = problem.get::<LayerNorm>() else { return 0.0 };
    let eps = spec.eps as f64;
    let weight = largest(inputs, "weight").unwrap_or(1.0);
    let bias = largest(inputs, "bias").unwrap_or(0.0);
    let of_group = |group: Vec<f64>| {
        let group = Group::new(&group);
        let error = group.one_pass_error();
        let exact = group.variance + eps;
        // A variance that is lost may come as anything; its sum with eps keeps no less than a rounding of eps.
        let least = (exact - error).max(F32 * eps);
        let rstd_error = (1.0 / least.sqrt() - 1.0 / exact.sqrt()).max(0.0);
        let centred_error = group.sum_error() / least.sqrt();
        let value = weight * group.deviation / exact.sqrt() + bias;
        weight * (group.deviation * rstd_error + centred_error) + 4.0 * one_rounding(problem.dtype, value)
    };
    groups(problem, inputs).into_iter().map(of_group).filter(|x| !x.is_nan()).fold(0.0, f64::max)
}

/// 4u·max|γx̂| + 2u·max|β|. The sum, of squares or for the mean, is one by one: N·2⁻²⁴·max|γx̂| more for RMS
/// norm, else the error of the mean over the deviation, which the rounding of x̂ is relative to as well. RMS
/// norm rounds its root too, which may be subnormal.
fn rounded_affine(problem: &Problem, inputs: &Inputs) -> f64 {
    // Batch norm's parameters are f32 in every library.
    let Some(norm) = norm(&problem.op).filter(|_| !problem.op.is::<BatchNorm>()) else { return 0.0 };
    let (eps, offset) = (norm.eps(), norm.weight_offset());
    // The largest normalized value, with the error that the mean's rounding makes of it.
    let normalized = |group: Vec<f64>| {
        let group = Group::new(&group);
        let rstd = |square: f64| 1.0 / (square + eps as f64).sqrt();
        let both = if !norm.is_centred() {
            // The root is rounded to the storage type as well, in which it may be subnormal.
            let rstd = rstd(group.mean_square);
            let unit = group.largest * rstd;
            (unit, unit * (terms(problem) as f64 * F32 + problem.dtype.smallest_subnormal() * rstd))
        } else {
            let (rstd, error) = (rstd(group.variance), group.sum_error());
            ((group.deviation + error) * rstd, error * rstd)
        };
        both.0.is_finite().then_some(both)
    };
    let groups = groups(problem, inputs).into_iter().filter_map(normalized);
    let (unit, drift) = groups.fold((0.0f64, 0.0f64), |(a, b), (x, y)| (a.max(x), b.max(y)));
    let weight = largest(inputs, "weight").map_or(1.0, |w| w + offset.abs() as f64);
    let scaled = unit * weight;
    let bias = largest(inputs, "bias").unwrap_or(0.0);
    // The normalized value may be subnormal; the weight multiplies the error of its rounding.
    let subnormal = weight * problem.dtype.smallest_subnormal();
    4.0 * one_rounding(problem.dtype, scaled) + 2.0 * one_rounding(problem.dtype, bias) + subnormal + drift
}

/// max(1, |γ|) times the smallest normal number more.
fn flushed_affine(problem: &Problem, inputs: &Inputs) -> f64 {
    match rounded_affine(problem, inputs) {
        0.0 => 0.0,
        rounded => {
            let weight = largest(inputs, "weight").unwrap_or(1.0).max(1.0);
            rounded + weight * problem.dtype.smallest_normal()
        }
    }
}

/// A number that is off by less than the smallest normal number moves its normalized value by as much over √eps,
/// others through mean and variance by no more together: 4·max(1, |γ|) times the smallest normal number over √eps
/// more than the roundings.
fn flushed_inputs(problem: &Problem, inputs: &Inputs) -> f64 {
    let Some(norm) = norm(&problem.op).filter(|norm| norm.eps() > 0.0) else { return 0.0 };
    let weight = largest(inputs, "weight").map_or(1.0, |w| w + norm.weight_offset().abs() as f64).max(1.0);
    let moved = 4.0 * weight * problem.dtype.smallest_normal() / (norm.eps() as f64).sqrt();
    moved + rounded_affine(problem, inputs)
}
