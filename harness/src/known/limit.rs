//! How far off a defect can make a result, computed from problem and inputs.
//!
//! Bounds are no unit for some errors: where terms cancel, an error of one rounding of a term is thousands of
//! bounds of the result. The cause of such a defect still limits the absolute error. u is the unit roundoff of
//! the storage type, 2⁻²⁴ that of f32, N the number of terms.

use std::fmt;
use std::str::FromStr;

use touchstone_kernels::{DType, Inputs, Op, Problem};

use super::scores;
use super::terms::{F32, Group, groups, terms};

/// The largest |got − expected| that a cause explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Of layer norm whose variance is E\[x²\] − μ², from sums in f32 one by one. See [`Group::one_pass_error`].
    OnePassVariance,
    /// Of a norm that rounds its normalized value to the storage type and applies weight and bias in it:
    /// 4u·max|γx̂| + 2u·max|β|. The sum, of squares or for the mean, is one by one: N·2⁻²⁴·max|γx̂| more for
    /// RMS norm, else the error of the mean over the deviation, which the rounding of x̂ is relative to as well.
    /// RMS norm rounds its root too, which may be subnormal.
    RoundedAffine,
    /// The same where subnormal numbers are flushed as well: max(1, |γ|) times the smallest normal number more.
    FlushedAffine,
    /// Of log_softmax that rounds the maximum, the sum and its logarithm to the storage type:
    /// 2u·(max|x| + 2 ln N + 1).
    RoundedLogits,
    /// Of attention that rounds its scores to the storage type. See [`scores::rounding_error`].
    RoundedScores,
}

const NAMES: [(&str, Limit); 5] = [
    ("one_pass_variance", Limit::OnePassVariance),
    ("rounded_affine", Limit::RoundedAffine),
    ("flushed_affine", Limit::FlushedAffine),
    ("rounded_logits", Limit::RoundedLogits),
    ("rounded_scores", Limit::RoundedScores),
];

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, limit)| *limit).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("within '{text}': expected {}", names.join(", "))
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        NAMES.iter().filter(|(_, limit)| limit == self).try_for_each(|(name, _)| f.write_str(name))
    }
}

impl Limit {
    /// The limit for these inputs; 0 for an operation that does not have the defect.
    pub(super) fn of(self, problem: &Problem, inputs: &Inputs) -> f64 {
        match self {
            Limit::OnePassVariance => one_pass_variance(problem, inputs),
            Limit::RoundedAffine => rounded_affine(problem, inputs),
            Limit::FlushedAffine => match rounded_affine(problem, inputs) {
                0.0 => 0.0,
                rounded => {
                    let weight = largest(inputs, "weight").unwrap_or(1.0).max(1.0);
                    rounded + weight * problem.dtype.smallest_normal()
                }
            },
            Limit::RoundedLogits => rounded_logits(problem, inputs),
            Limit::RoundedScores => match &problem.op {
                Op::Attention(spec) => scores::rounding_error(spec, problem.dtype, inputs),
                _ => 0.0,
            },
        }
    }
}

/// The largest finite |x| of an operand, if there is one.
fn largest(inputs: &Inputs, name: &str) -> Option<f64> {
    let tensor = inputs.get(name)?;
    Some(tensor.to_f64().into_iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs())))
}

/// The error of one more rounding of a number of this size, subnormal ones included.
fn one_rounding(dtype: DType, size: f64) -> f64 {
    dtype.unit_roundoff() * size + dtype.smallest_subnormal()
}

fn one_pass_variance(problem: &Problem, inputs: &Inputs) -> f64 {
    let Op::LayerNorm(spec) = &problem.op else { return 0.0 };
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

fn rounded_affine(problem: &Problem, inputs: &Inputs) -> f64 {
    let (eps, offset, is_rms) = match &problem.op {
        Op::LayerNorm(spec) => (spec.eps, 0.0, false),
        Op::RmsNorm(spec) => (spec.eps, spec.weight_offset, true),
        Op::GroupNorm(spec) => (spec.eps, 0.0, false),
        Op::InstanceNorm(spec) => (spec.eps, 0.0, false),
        _ => return 0.0,
    };
    // The largest normalized value, with the error that the mean's rounding makes of it.
    let normalized = |group: Vec<f64>| {
        let group = Group::new(&group);
        let rstd = |square: f64| 1.0 / (square + eps as f64).sqrt();
        let both = if is_rms {
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

fn rounded_logits(problem: &Problem, inputs: &Inputs) -> f64 {
    let Op::Softmax(spec) = &problem.op else { return 0.0 };
    let largest = largest(inputs, "x").unwrap_or(0.0) * spec.scale.abs() as f64;
    let logarithm = (spec.dims().1.max(1) as f64).ln();
    2.0 * one_rounding(problem.dtype, largest + 2.0 * logarithm + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    fn limit(name: &str, case: &str) -> f64 {
        let case: Case = case.parse().unwrap();
        name.parse::<Limit>().unwrap().of(&case.problem, &case.inputs())
    }

    #[test]
    fn limits_follow_the_inputs() {
        // A variance that cancels a little, more, and altogether.
        let one_pass = |rest: &str| limit("one_pass_variance", &format!("layer_norm f32 shape=4x64 {rest}"));
        assert!(one_pass("fill=normal") < 1e-3);
        assert!(one_pass("eps=1000 fill=offset") < 10.0 && one_pass("eps=1000 fill=offset") > 1e-3);
        assert!(one_pass("fill=offset") > 100.0);
        // Roundings of the largest logit: about 4 and about 600.
        let logits = |fill| limit("rounded_logits", &format!("log_softmax f16 shape=4x64 fill={fill}"));
        assert!((5e-3..2e-2).contains(&logits("normal")) && (0.4..0.8).contains(&logits("opposed")));
        // Eight times fewer bits, eight times the limit.
        let affine = |dtype| limit("rounded_affine", &format!("group_norm {dtype} shape=2x8x16 groups=2"));
        assert!((6.0..10.0).contains(&(affine("bf16") / affine("f16"))));
        // Scores of about 3, and of more than f16 holds: never more than the range of the values.
        let scores = |fill| limit("rounded_scores", &format!("attention f16 h=2 lq=20 d=64 fill={fill}"));
        let (normal, outlier) = (scores("normal"), scores("outlier"));
        assert!(normal < 0.2 && (1_000.0..20_000.0).contains(&outlier), "{normal} {outlier}");
    }

    #[test]
    fn other_operations_have_no_limit() {
        for name in
            ["one_pass_variance", "rounded_affine", "flushed_affine", "rounded_logits", "rounded_scores"]
        {
            assert_eq!(limit(name, "gelu f16 shape=31x67"), 0.0, "{name}");
            assert_eq!(name.parse::<Limit>().unwrap().to_string(), name);
        }
        assert!("a_guess".parse::<Limit>().unwrap_err().contains("expected one_pass_variance"));
    }
}
