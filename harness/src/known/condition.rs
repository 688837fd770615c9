//! Conditions on problem and inputs under which a known issue may show.

use std::fmt;
use std::str::FromStr;

use touchstone_kernels::{Inputs, Problem};

use super::terms::{Group, groups, terms};
use crate::families;

/// One condition. Those of an entry have to hold together.
#[derive(Clone, Copy, Debug)]
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
    /// What a family defines.
    Named(&'static Predicate),
}

/// A condition that a family defines.
#[derive(Debug)]
pub struct Predicate {
    /// Its name in an entry's `when`.
    pub name: &'static str,
    /// What holds then.
    pub about: &'static str,
    /// Whether it holds.
    pub holds: fn(&Problem, &Inputs) -> bool,
    /// Whether it can hold for these inputs in any draw: what can be told without them.
    pub may_hold: fn(&Problem) -> bool,
}

/// Every form that a condition may have.
fn forms() -> String {
    let own = families::predicates().map(|predicate| predicate.name);
    let names: Vec<&str> = ["non_finite", "subnormal"].into_iter().chain(own).collect();
    format!("{}, largest > NUMBER, mean > NUMBER std or terms > NUMBER", names.join(", "))
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("condition '{text}': expected {}", forms());
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |text: &str| text.parse().ok().filter(|x: &f64| x.is_finite() && *x >= 0.0);
        match words[..] {
            ["non_finite"] => Ok(Condition::NonFinite),
            ["subnormal"] => Ok(Condition::Subnormal),
            ["largest", ">", x] => number(x).map(Condition::Largest).ok_or_else(wrong),
            ["mean", ">", x, "std"] => number(x).map(Condition::Mean).ok_or_else(wrong),
            ["terms", ">", n] => n.parse().map(Condition::Terms).map_err(|_| wrong()),
            [name] => {
                let predicate = families::predicates().find(|predicate| predicate.name == name);
                predicate.map(Condition::Named).ok_or_else(wrong)
            }
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
            Condition::Named(predicate) => f.write_str(predicate.name),
        }
    }
}

impl Condition {
    /// Whether it holds.
    pub(super) fn holds(self, problem: &Problem, inputs: &Inputs) -> bool {
        let inner = families::checks(&problem.op).inner(problem, inputs);
        let (problem, inputs) =
            inner.as_ref().map_or((problem, inputs), |(problem, inputs)| (problem, inputs));
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
            Condition::Mean(than) => {
                groups(problem, inputs).iter().any(|group| Group::new(group).mean_over_deviation() > than)
            }
            Condition::Terms(than) => terms(problem) > than,
            Condition::Named(predicate) => (predicate.holds)(problem, inputs),
        }
    }

    /// Whether it can hold for these inputs in any draw: what can be told without them.
    pub(super) fn may_hold(self, problem: &Problem) -> bool {
        match self {
            Condition::Terms(than) => terms(problem) > than,
            Condition::Named(predicate) => (predicate.may_hold)(problem),
            _ => true,
        }
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
        assert!(holds("variance_lost", "layer_norm f32 shape=4x64 fill=offset"));
        assert!(!holds("variance_lost", "layer_norm f32 shape=4x64 eps=1000 fill=offset"));
        assert!(!holds("variance_lost", "layer_norm f32 shape=4x64"));
        assert!(holds("scores_overflow", "attention f16 h=2 lq=20 d=128 fill=outlier"));
        assert!(!holds("scores_overflow", "attention f16 h=2 lq=20 d=128"));
        assert!(!holds("scores_overflow", "attention f32 h=2 lq=20 d=128 fill=outlier"));
    }

    #[test]
    fn conditions_look_at_masks() {
        let penalties =
            "attention f32 b=2 h=3 lq=4 d=14 causal=bottom_right mask=float:1hqk controls=penalties";
        assert!(holds("penalties_only", &format!("{penalties} seed=5")));
        assert!(!holds("penalties_only", "attention f32 h=3 lq=4 d=14 mask=float:1hqk"));
        assert!(!holds("penalties_only", "attention f32 h=3 lq=4 d=14"));
        assert!(holds("hidden_keys", "attention f32 h=1 lq=2 d=4 causal=top_left"));
        assert!(holds("hidden_keys", "attention f32 h=1 lq=2 d=4 window=-1,0"));
        assert!(!holds("hidden_keys", "attention f32 h=1 lq=1 lk=9 d=4 causal=bottom_right"));
        assert!(!holds("hidden_keys", "softmax f32 shape=2x3"));
    }

    #[test]
    fn a_condition_that_is_none_says_what_is_expected() {
        for text in ["", "large", "mean > 3", "largest > x", "terms > -1", "largest > inf"] {
            let message = text.parse::<Condition>().unwrap_err();
            assert!(message.contains("expected non_finite"), "{text}: {message}");
        }
        let words =
            ["non_finite", "subnormal", "variance_lost", "scores_overflow", "penalties_only", "hidden_keys"];
        for text in words.into_iter().chain(["mean > 30 std", "terms > 1000", "largest > 10000000000"]) {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
    }
}
