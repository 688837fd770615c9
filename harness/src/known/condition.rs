//! Conditions on problem and inputs under which a known issue may show.

use std::fmt;
use std::str::FromStr;

use touchstone_kernels::{Inputs, Op, Problem};

/// One condition. Those of an entry have to hold together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Condition {
    /// A data operand holds NaN or ±∞.
    NonFinite,
    /// A data operand holds a number below the smallest normal of its type.
    Subnormal,
    /// The largest finite |x| of the data is greater than this.
    Largest(f64),
    /// In a group that is normalized, |mean| is more than this many standard deviations.
    Mean(f64),
    /// More numbers than this are summed: those of a row, or of a group that is normalized.
    Terms(usize),
}

const EXPECTED: &str = "non_finite, subnormal, largest > NUMBER, mean > NUMBER std or terms > NUMBER";

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("condition '{text}': expected {EXPECTED}");
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |text: &str| text.parse().ok().filter(|x: &f64| x.is_finite() && *x >= 0.0);
        match words[..] {
            ["non_finite"] => Ok(Condition::NonFinite),
            ["subnormal"] => Ok(Condition::Subnormal),
            ["largest", ">", x] => number(x).map(Condition::Largest).ok_or_else(wrong),
            ["mean", ">", x, "std"] => number(x).map(Condition::Mean).ok_or_else(wrong),
            ["terms", ">", n] => n.parse().map(Condition::Terms).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::NonFinite => f.write_str("non_finite"),
            Condition::Subnormal => f.write_str("subnormal"),
            Condition::Largest(x) => write!(f, "largest > {x}"),
            Condition::Mean(x) => write!(f, "mean > {x} std"),
            Condition::Terms(n) => write!(f, "terms > {n}"),
        }
    }
}

impl Condition {
    /// Whether it holds.
    pub(super) fn holds(self, problem: &Problem, inputs: &Inputs) -> bool {
        let data = || inputs.data().flat_map(|(_, tensor)| tensor.to_f64());
        match self {
            Condition::NonFinite => data().any(|x| !x.is_finite()),
            Condition::Subnormal => {
                let smallest = problem.dtype.smallest_normal();
                data().any(|x| x != 0.0 && x.abs() < smallest)
            }
            Condition::Largest(than) => {
                data().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs())) > than
            }
            Condition::Mean(than) => groups(problem, inputs).iter().any(|group| ratio(group) > than),
            Condition::Terms(than) => terms(problem) > than,
        }
    }

    /// Whether it can hold for these inputs in any draw: what can be told without them.
    pub(super) fn may_hold(self, problem: &Problem) -> bool {
        match self {
            Condition::Terms(than) => terms(problem) > than,
            _ => true,
        }
    }
}

/// |mean| over standard deviation; infinite for equal numbers, unless they are 0.
fn ratio(group: &[f64]) -> f64 {
    let n = group.len() as f64;
    let mean = group.iter().sum::<f64>() / n;
    let variance = group.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    if mean == 0.0 { 0.0 } else { mean.abs() / variance.sqrt() }
}

/// How many numbers are summed.
fn terms(problem: &Problem) -> usize {
    match &problem.op {
        Op::Softmax(spec) => spec.dims().1,
        Op::Attention(spec) => spec.kv_len,
        Op::LayerNorm(spec) => spec.rows_and_width().1,
        Op::RmsNorm(spec) => spec.rows_and_width().1,
        Op::BatchNorm(spec) => {
            let (n, _, spatial) = spec.dims();
            n * spatial
        }
        Op::GroupNorm(spec) => {
            let (_, channels, spatial) = spec.dims();
            channels / spec.groups * spatial
        }
        Op::InstanceNorm(spec) => spec.dims().2,
        Op::Activation(_) | Op::Glu(_) | Op::Rope(_) => 1,
    }
}

/// The groups that a norm normalizes together; nothing for other operations.
fn groups(problem: &Problem, inputs: &Inputs) -> Vec<Vec<f64>> {
    let Some(x) = inputs.get("x").map(|x| x.to_f64()) else { return Vec::new() };
    match &problem.op {
        Op::LayerNorm(_) | Op::RmsNorm(_) | Op::GroupNorm(_) | Op::InstanceNorm(_) => {
            x.chunks(terms(problem).max(1)).map(<[f64]>::to_vec).collect()
        }
        Op::BatchNorm(spec) => {
            let (_, channels, spatial) = spec.dims();
            let mut groups = vec![Vec::new(); channels];
            for (run, x) in x.chunks(spatial.max(1)).enumerate() {
                groups[run % channels].extend_from_slice(x);
            }
            groups
        }
        Op::Attention(_) | Op::Softmax(_) | Op::Activation(_) | Op::Glu(_) | Op::Rope(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    fn holds(condition: &str, case: &str) -> bool {
        let case: Case = case.parse().unwrap();
        condition.parse::<Condition>().unwrap().holds(&case.problem, &case.inputs())
    }

    #[test]
    fn conditions_look_at_the_inputs() {
        assert!(holds("mean > 100 std", "layer_norm f32 shape=4x64 fill=offset"));
        assert!(holds("mean > 100 std", "batch_norm f32 shape=8x3x9 fill=offset"));
        assert!(!holds("mean > 100 std", "layer_norm f32 shape=4x64"));
        assert!(holds("non_finite", "gelu f32 shape=31x67 fill=special"));
        assert!(!holds("non_finite", "gelu f32 shape=31x67"));
        assert!(holds("subnormal", "tanh bf16 shape=31x67 fill=subnormal"));
        assert!(holds("largest > 1e19", "rms_norm f32 shape=4x64 fill=huge"));
        assert!(!holds("largest > 1e19", "rms_norm f32 shape=4x64"));
        assert!(holds("terms > 256", "softmax bf16 shape=2x257"));
        assert!(!holds("terms > 257", "softmax bf16 shape=2x257"));
    }

    #[test]
    fn a_condition_that_is_none_says_what_is_expected() {
        for text in ["", "large", "mean > 3", "largest > x", "terms > -1", "largest > inf"] {
            let message = text.parse::<Condition>().unwrap_err();
            assert!(message.contains("expected non_finite"), "{text}: {message}");
        }
        for text in ["non_finite", "mean > 30 std", "terms > 1000", "largest > 10000000000"] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
    }
}
