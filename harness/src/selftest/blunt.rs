//! What is at fault although every kernel is right: cases that cannot tell, and lists out of date.
//!
//! A case cannot tell when its bounds are so wide that an answer passes which owes nothing to the
//! kernel. Each case here is blind to one such impostor only, by an expectation made for it, and is
//! posed with a kernel that answers exactly that expectation.

use std::path::Path;

use touchstone_kernels::{Inputs, Outputs};

use super::needs::Escape;
use super::planted::{Specimen, naive, tensor};
use crate::case::Case;
use crate::check::check_by;
use crate::known::KnownIssues;
use crate::oracle::{self, Expected};
use crate::outcome::Outcome;
use crate::safeguard::Safeguards;

/// A case with an expectation that is blind.
struct Blunt {
    name: &'static str,
    about: &'static str,
    case: &'static str,
    blind: fn(&Inputs, &mut Expected),
}

const BLUNT: [Blunt; 6] = [
    Blunt {
        name: "case-without-a-bound",
        about: "One element has no finite bound, so that any number passes for it.",
        case: "softmax f32 shape=3x5",
        blind: |_, expected| expected.results[0].error[7] = f64::INFINITY,
    },
    Blunt {
        name: "case-of-nan",
        about: "Every result must be NaN, which is what a buffer holds before its kernel runs.",
        case: "softmax f32 shape=3x5",
        blind: |_, expected| expected.results[0].value.fill(f64::NAN),
    },
    Blunt {
        name: "case-of-small-numbers",
        about: "One constant is right, and the bounds are wider than it is large.",
        case: "softmax f32 shape=3x5",
        blind: |_, expected| {
            expected.results[0].value.fill(0.2);
            expected.results[0].error.fill(0.3);
        },
    },
    Blunt {
        name: "case-of-a-constant",
        about: "All values of the one row lie within their bounds of 1.",
        case: "softmax f32 shape=1x5",
        blind: |_, expected| {
            let result = &mut expected.results[0];
            result.value.iter_mut().enumerate().for_each(|(i, y)| *y = 1.0 + 0.01 * i as f64);
            result.error.fill(0.2);
        },
    },
    Blunt {
        name: "case-of-like-rows",
        about: "Rows differ from their neighbours by less than their bounds.",
        case: "softmax f32 shape=3x5",
        blind: |_, expected| {
            let result = &mut expected.results[0];
            let at = |i: usize| 10.0 * (i % 5) as f64 + 0.1 * (i / 5) as f64;
            result.value.iter_mut().enumerate().for_each(|(i, y)| *y = at(i));
            result.error.fill(0.3);
        },
    },
    Blunt {
        name: "case-of-the-mean",
        about: "Attention is off the mean of V by less than its bounds, to one side and to the other.",
        case: "attention f32 h=1 lq=4 lk=8 d=4",
        blind: |inputs, expected| {
            let v = inputs.get("v").map(|v| v.to_f64()).unwrap_or_default();
            let result = &mut expected.results[0];
            for (i, y) in result.value.iter_mut().enumerate() {
                let mean = v[i % 4..].iter().step_by(4).sum::<f64>() / 8.0;
                *y = mean + if i / 4 % 2 == 0 { 0.009 } else { -0.009 };
            }
            result.error.fill(0.01);
        },
    },
];

/// A list of known issues whose one entry describes nothing any more.
const OUT_OF_DATE: &str = r#"
[[issue]]
id = "repaired"
backend = "answers"
since = "1.0"
cases = "^relu "
witness = ["relu f32 shape=4"]
cause = "there is none any more"
evidence = "there is none any more"
upstream = "none"
up_to = 2.0
"#;

/// What passes under these safeguards, and not under all.
pub(super) fn escapes(safeguards: Safeguards) -> Vec<Escape> {
    let mut escapes = Vec::new();
    let mut escape = |what, about, outcome: &dyn Fn(Safeguards) -> Option<Outcome>| {
        let right = |safeguards| outcome(safeguards).is_some_and(|outcome| outcome.is_right());
        if right(safeguards) && !right(Safeguards::ALL) {
            escapes.push(Escape { what, about, dtype: None });
        }
    };
    for blunt in &BLUNT {
        escape(blunt.name, blunt.about, &|safeguards| posed(blunt, safeguards));
    }
    escape("issue-out-of-date", "A known issue stays in the list after its library was repaired.", &repaired);
    escapes
}

fn posed(blunt: &Blunt, safeguards: Safeguards) -> Option<Outcome> {
    let case: Case = blunt.case.parse().ok()?;
    let inputs = case.inputs();
    let mut expected = oracle::expect(&case.problem, &inputs);
    (blunt.blind)(&inputs, &mut expected);
    let answer: Vec<f64> = expected.results[0].value.clone();
    let kernel = Specimen::new(
        None,
        "answers",
        "What is expected.",
        |_| true,
        move |problem, _| {
            let result = &problem.results()[0];
            Ok(Outputs::new(problem, vec![tensor(result.element, &result.shape, &answer)?])?)
        },
    );
    let backend = kernel.backend_under(safeguards);
    Some(check_by(safeguards, backend.as_ref(), &case, &inputs, &expected, &KnownIssues::default()))
}

fn repaired(safeguards: Safeguards) -> Option<Outcome> {
    let known = KnownIssues::parse(Path::new("known-issues.toml"), OUT_OF_DATE).ok()?;
    let case: Case = known.iter().next()?.witnesses().next()?.parse().ok()?;
    let inputs = case.inputs();
    let expected = oracle::expect(&case.problem, &inputs);
    let backend =
        Specimen::new(None, "answers", "The right results.", |_| true, naive).backend_under(safeguards);
    Some(check_by(safeguards, backend.as_ref(), &case, &inputs, &expected, &known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::safeguard::Safeguard;

    #[test]
    fn each_is_seen_by_one_safeguard_only() {
        let seen_by = |what: &str| -> Vec<Safeguard> {
            let all = Safeguard::ALL.iter().copied();
            all.filter(|&s| escapes(Safeguards::without(s)).iter().any(|e| e.what == what)).collect()
        };
        assert_eq!(escapes(Safeguards::ALL), []);
        assert_eq!(seen_by("case-without-a-bound"), [Safeguard::Refused]);
        assert_eq!(seen_by("case-of-nan"), [Safeguard::SuspectNan]);
        assert_eq!(seen_by("case-of-small-numbers"), [Safeguard::SuspectZeros]);
        assert_eq!(seen_by("case-of-a-constant"), [Safeguard::SuspectConstant]);
        assert_eq!(seen_by("case-of-like-rows"), [Safeguard::SuspectNeighbour]);
        assert_eq!(seen_by("case-of-the-mean"), [Safeguard::SuspectMean]);
        assert_eq!(seen_by("issue-out-of-date"), [Safeguard::Witness]);
    }
}
