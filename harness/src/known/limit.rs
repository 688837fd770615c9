//! How far off a defect can make a result, computed from problem and inputs.
//!
//! Bounds are no unit for some errors: where terms cancel, an error of one rounding of a term is thousands of
//! bounds of the result. The cause of such a defect still limits the absolute error. The families define the
//! limits by name.

use touchstone_kernels::{DType, Inputs, Problem};

use crate::families;

/// The largest |got − expected| that a cause explains.
#[derive(Debug)]
pub struct Limit {
    /// Its name in an entry's `within`.
    pub name: &'static str,
    /// The defect.
    pub about: &'static str,
    /// The limit for these inputs; 0 for an operation that does not have the defect.
    pub of: fn(&Problem, &Inputs) -> f64,
}

/// The limit of that name.
pub(super) fn limit_of(name: &str) -> Result<&'static Limit, String> {
    families::limits().find(|limit| limit.name == name).ok_or_else(|| {
        let names: Vec<&str> = families::limits().map(|limit| limit.name).collect();
        format!("within '{name}': expected {}", names.join(", "))
    })
}

/// The largest finite |x| of an operand, if there is one.
pub(crate) fn largest(inputs: &Inputs, name: &str) -> Option<f64> {
    let tensor = inputs.get(name)?;
    Some(tensor.to_f64().into_iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs())))
}

/// The error of one more rounding of a number of this size, subnormal ones included.
pub(crate) fn one_rounding(dtype: DType, size: f64) -> f64 {
    dtype.unit_roundoff() * size + dtype.smallest_subnormal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    fn limit(name: &str, case: &str) -> f64 {
        let case: Case = case.parse().unwrap();
        (limit_of(name).unwrap().of)(&case.problem, &case.inputs())
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
        }
        assert!(limit_of("a_guess").unwrap_err().contains("expected rounded_scores"));
    }
}
