//! Known issues: true defects of released libraries, with their evidence.
//!
//! A failure that an entry describes is reported as `known` and does not fail the run. An entry says on
//! which problems (a pattern over case texts) and inputs (conditions such as `mean > 30 std`) the defect
//! shows, of what kind the failure is (results outside their bounds, or NaN and infinities in the wrong
//! places), and how large the error was at most: in bounds, or by a limit that is computed from the inputs. A
//! failure of another kind, a larger one, memory that was written outside and inputs that were changed are
//! never excused.
//!
//! An entry cannot outlive its defect: each names at least one *witness*, and a witness that passes, or is
//! merely suspect, is a failure.

mod condition;
mod limit;
mod terms;

use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use touchstone_kernels::{BackendId, DType, Inputs};

use self::condition::Condition;
pub use self::condition::Predicate;
pub use self::limit::Limit;
use self::limit::limit_of;
pub(crate) use self::limit::{largest, one_rounding};
pub(crate) use self::terms::{F32, Group, groups, terms};
use crate::agreement::{Failure, Figures};
use crate::case::Case;
use crate::families;

/// The entries that come with the program.
const BUILT_IN: &str = include_str!("../known-issues.toml");

/// A defect of a library.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownIssue {
    /// Its name here.
    pub id: String,
    /// The backend, or the implementation with all its backends.
    pub backend: String,
    /// The first version seen to have it.
    pub since: String,
    /// What is wrong, and why it is the library that is wrong.
    pub cause: String,
    /// What was expected and what came.
    pub evidence: String,
    /// Where it is reported or can be read in the source.
    pub upstream: String,
    /// A regular expression over case texts: where it may show.
    cases: String,
    /// What has to hold of problem and inputs besides.
    #[serde(default)]
    when: Vec<String>,
    /// The largest error that was seen, in bounds. Without it results outside their bounds are not excused.
    up_to: Option<f64>,
    /// The largest |got − expected| of a failed element that the cause explains, computed from the inputs: the
    /// name of a limit.
    within: Option<String>,
    /// Whether elements that came as 0 are excused, however large they should be. The others are judged as
    /// the entry says otherwise.
    #[serde(default)]
    zero: bool,
    /// Whether NaN and infinities in the wrong places are excused.
    #[serde(default)]
    non_finite: bool,
    /// Cases that must fail as long as the defect exists.
    witness: Vec<String>,
    #[serde(skip)]
    pattern: Option<Regex>,
    #[serde(skip)]
    conditions: Vec<Condition>,
    #[serde(skip)]
    limit: Option<&'static Limit>,
    /// The operations of its witnesses.
    #[serde(skip)]
    operations: Vec<&'static str>,
}

/// All entries.
#[derive(Debug, Default)]
pub struct KnownIssues(Vec<KnownIssue>);

/// A file of known issues that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KnownIssuesError {
    /// The file cannot be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its form is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// An entry is wrong.
    #[error("{}: issue '{id}': {message}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        id: String,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issue: Vec<KnownIssue>,
}

impl KnownIssues {
    /// The entries that come with the program.
    ///
    /// # Errors
    /// [`KnownIssuesError`].
    pub fn built_in() -> Result<Self, KnownIssuesError> {
        KnownIssues::parse(Path::new("known-issues.toml"), BUILT_IN)
    }

    /// The entries of a file.
    ///
    /// # Errors
    /// [`KnownIssuesError`] with file and line or entry.
    pub fn load(path: &Path) -> Result<Self, KnownIssuesError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KnownIssuesError::Read { path: path.into(), source })?;
        KnownIssues::parse(path, &text)
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, KnownIssuesError> {
        let mut file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            KnownIssuesError::Syntax {
                path: path.into(),
                line: text[..start].matches('\n').count() + 1,
                message: error.message().to_string(),
            }
        })?;
        for issue in &mut file.issue {
            let wrong = |message: String| KnownIssuesError::Entry {
                path: path.into(),
                id: issue.id.clone(),
                message,
            };
            let pattern = Regex::new(&issue.cases).map_err(|error| wrong(format!("cases: {error}")))?;
            if issue.witness.is_empty() {
                return Err(wrong("it names no witness".into()));
            }
            for witness in &mut issue.witness {
                let case: Case = witness.parse().map_err(|error| wrong(format!("witness: {error}")))?;
                *witness = case.to_string();
                issue.operations.push(case.problem.name());
                if !pattern.is_match(witness) {
                    return Err(wrong(format!("cases does not match its witness '{witness}'")));
                }
            }
            issue.conditions =
                issue.when.iter().map(|text| text.parse()).collect::<Result<_, String>>().map_err(&wrong)?;
            issue.limit = issue.within.as_deref().map(limit_of).transpose().map_err(&wrong)?;
            if issue.up_to.is_none() && issue.limit.is_none() && !issue.zero && !issue.non_finite {
                return Err(wrong("it excuses nothing: expected up_to, within, zero or non_finite".into()));
            }
            if let Some(up_to) = issue.up_to
                && !(up_to.is_finite() && up_to > 1.0)
            {
                return Err(wrong(format!("up_to is {up_to}, expected more than 1 bound")));
            }
            issue.pattern = Some(pattern);
        }
        Ok(KnownIssues(file.issue))
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = &KnownIssue> {
        self.0.iter()
    }

    /// The entry that explains this failure of this backend on this case.
    pub fn explaining(
        &self,
        backend: &BackendId,
        case: &Case,
        inputs: &Inputs,
        failure: &Failure,
        figures: &Figures,
    ) -> Option<&KnownIssue> {
        self.possible(backend, case).find(|issue| {
            issue.excuses(failure, figures)
                && issue.conditions.iter().all(|condition| condition.holds(&case.problem, inputs))
                && issue.is_within(case, inputs, figures)
        })
    }

    /// The entry that says that this backend may fail on this case.
    pub fn expecting(&self, backend: &BackendId, case: &Case, inputs: &Inputs) -> Option<&KnownIssue> {
        self.possible(backend, case)
            .find(|issue| issue.conditions.iter().all(|condition| condition.holds(&case.problem, inputs)))
    }

    /// Whether an entry says that this backend gives NaN and infinities in the wrong places of a point-wise
    /// function in a storage type, at ±∞ or at numbers of any size.
    pub fn excuses_non_finite(&self, backend: &BackendId, op: &str, dtype: DType) -> bool {
        let texts = ["special", "huge"].map(|fill| format!("{op} {dtype} shape=31x67 fill={fill} seed=1"));
        let is_meant = |pattern: &Regex| texts.iter().any(|text| pattern.is_match(text));
        self.concerning(backend).any(|issue| issue.non_finite && issue.pattern.as_ref().is_some_and(is_meant))
    }

    /// The entries whose pattern this case matches, as far as that can be told without its inputs.
    fn possible<'a, 'c>(
        &'a self,
        backend: &BackendId,
        case: &'c Case,
    ) -> impl Iterator<Item = &'a KnownIssue> + use<'a, 'c> {
        let text = case.to_string();
        self.concerning(backend)
            .filter(move |issue| issue.pattern.as_ref().is_some_and(|p| p.is_match(&text)))
            .filter(|issue| issue.conditions.iter().all(|condition| condition.may_hold(&case.problem)))
    }

    /// The entry whose witness this case is.
    pub fn witnessed(&self, backend: &BackendId, case: &Case) -> Option<&KnownIssue> {
        // A single kernel of a library need not have the defects of another.
        if backend.is_choice() {
            return None;
        }
        let text = case.to_string();
        self.concerning(backend).find(|issue| issue.witness.contains(&text))
    }

    /// Whether this backend has a known issue in the operation of this case, on whatever operands.
    pub fn concerns(&self, backend: &BackendId, case: &Case) -> bool {
        self.possible(backend, case).next().is_some()
            || self.concerning(backend).any(|issue| issue.operations.contains(&case.problem.name()))
    }

    fn concerning(&self, backend: &BackendId) -> impl Iterator<Item = &KnownIssue> + use<'_> {
        let implementation = backend.implementation().to_string();
        let place = format!("{implementation}/{}", backend.place());
        self.0.iter().filter(move |issue| issue.backend == implementation || issue.backend == place)
    }
}

impl KnownIssue {
    /// Whether a failure is of the kind and size that was recorded.
    fn excuses(&self, failure: &Failure, figures: &Figures) -> bool {
        let error = if self.zero { figures.nonzero_error_over_bound } else { figures.error_over_bound };
        // Without another limit the elements are judged by their bounds.
        let up_to = match (self.up_to, self.limit) {
            (Some(up_to), _) => up_to,
            (None, Some(_)) => f64::INFINITY,
            (None, None) => 1.0,
        };
        // No comparison with NaN holds.
        let small = error <= up_to;
        match failure {
            // Elements that are finite may still be too far off.
            Failure::NonFinite { .. } => self.non_finite && small,
            Failure::Outside { .. } => small && (self.up_to.is_some() || self.limit.is_some() || self.zero),
            Failure::Form { .. }
            | Failure::GuardOverwritten { .. }
            | Failure::InputChanged
            | Failure::Stale { .. }
            | Failure::NotRepeatable { .. }
            | Failure::Unaligned { .. } => false,
        }
    }

    /// Whether the error is no larger than the cause explains for these inputs.
    fn is_within(&self, case: &Case, inputs: &Inputs, figures: &Figures) -> bool {
        let Some(limit) = self.limit else { return true };
        let inner = families::checks(&case.problem.op).inner(&case.problem, inputs);
        let (problem, inputs) = inner.as_ref().map_or((&case.problem, inputs), |(p, inputs)| (p, inputs));
        figures.outside_abs <= (limit.of)(problem, inputs)
    }

    /// The cases that must fail as long as the defect exists.
    pub fn witnesses(&self) -> impl Iterator<Item = &str> {
        self.witness.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::Element;

    #[test]
    fn built_in_entries_parse() {
        for issue in KnownIssues::built_in().unwrap().iter() {
            assert!(issue.evidence.len() > 20 && issue.cause.len() > 20, "{}", issue.id);
        }
    }

    /// An entry for softmax of `naive`, which excuses what `fields` say.
    fn entry(fields: &str) -> KnownIssues {
        let text = format!(
            "[[issue]]\nid = 'own'\nbackend = 'naive'\nsince = '1'\ncause = 'a cause'\nevidence = 'seen'\n\
             upstream = 'none'\ncases = '^softmax f32 '\n{fields}\n\
             witness = ['softmax f32 shape=2x3 fill=normal seed=1']\n"
        );
        KnownIssues::parse(Path::new("own.toml"), &text).unwrap()
    }

    fn figures(error_over_bound: f64) -> Figures {
        Figures {
            max_abs: 0.0,
            outside_abs: 0.0,
            max_rel: 0.0,
            rmse: 0.0,
            ulp_p99: 0.0,
            ulp_max: 0.0,
            error_over_bound,
            nonzero_error_over_bound: error_over_bound,
            cosine: 1.0,
            worst: None,
            elements: 6,
        }
    }

    #[test]
    fn an_entry_excuses_a_kind_up_to_a_size_and_nothing_else() {
        let element = Element { result: "out", index: vec![0], expected: 1.0, got: 2.0, tolerance: 0.5 };
        let first = || element.clone();
        let outside = Failure::Outside { count: 1, of: 6, worst: first() };
        let non_finite = Failure::NonFinite { count: 1, of: 6, first: first() };
        let (case, id) =
            ("softmax f32 shape=2x3 fill=normal seed=1".parse::<Case>().unwrap(), "naive".parse().unwrap());
        let inputs = case.inputs();
        let excuses = |issues: &KnownIssues, case: &Case, failure: &Failure, size: f64| {
            issues.explaining(&id, case, &inputs, failure, &figures(size)).is_some()
        };
        let sized = entry("up_to = 2.0");
        assert!(excuses(&sized, &case, &outside, 1.9) && !excuses(&sized, &case, &outside, 2.1));
        assert!(!excuses(&sized, &case, &outside, f64::NAN) && !excuses(&sized, &case, &non_finite, 0.5));
        let kind = entry("non_finite = true");
        assert!(excuses(&kind, &case, &non_finite, 0.5) && !excuses(&kind, &case, &outside, 1.5));
        assert!(!excuses(&kind, &case, &non_finite, 1.5), "the finite elements are held to their bounds");
        for never in [
            Failure::GuardOverwritten { what: "outputs" },
            Failure::InputChanged,
            Failure::Form { expected: "a".into(), found: "b".into() },
            Failure::Stale { first: first() },
            Failure::NotRepeatable { first: first() },
            Failure::Unaligned { first: first() },
        ] {
            for issues in [&sized, &kind] {
                assert!(!excuses(issues, &case, &never, 0.5), "{never}");
            }
        }
        // Another operation, and inputs for which the condition does not hold.
        let other = "log_softmax f32 shape=2x3 fill=normal seed=1".parse::<Case>().unwrap();
        assert!(!excuses(&sized, &other, &outside, 1.9));
        let conditional = entry("up_to = 2.0\nwhen = ['terms > 2']");
        assert!(excuses(&conditional, &case, &outside, 1.9));
        assert!(!excuses(&entry("up_to = 2.0\nwhen = ['terms > 3']"), &case, &outside, 1.9));
    }

    /// Failures that their cause explains, each with a larger one of the same case: what a wrong kernel
    /// of that library might make.
    #[test]
    fn built_in_entries_excuse_no_more_than_their_cause_explains() {
        let issues = KnownIssues::built_in().unwrap();
        let element = Element { result: "out", index: vec![0], expected: 1.0, got: 2.0, tolerance: 0.5 };
        let outside = Failure::Outside { count: 1, of: 6, worst: element };
        let explaining = |backend: &str, case: &str, outside_abs: f64, error: f64| {
            let (case, id) = (case.parse::<Case>().unwrap(), backend.parse().unwrap());
            let figures = Figures { outside_abs, ..figures(error) };
            issues.explaining(&id, &case, &case.inputs(), &outside, &figures).map(|issue| issue.id.clone())
        };
        for (id, backend, case, seen, never) in [
            (
                "libtorch-log-softmax-half-sum",
                "libtorch/cpu",
                "log_softmax f16 shape=3x1025 fill=normal seed=1",
                (0.005, 1.4),
                (0.5, 140.0),
            ),
            (
                "candle-layer-norm-one-pass",
                "candle/cpu",
                "layer_norm f32 shape=65539x3 eps=0.1 fill=normal seed=1",
                (1e-6, 14.0),
                (1.0, 1e6),
            ),
            (
                "candle-norm-half-arithmetic",
                "candle/cpu",
                "instance_norm f16 shape=2x4x5x6 fill=normal seed=1",
                (0.001, 20.0),
                (1.0, 5000.0),
            ),
            (
                "onnxruntime-attention-half-scores",
                "onnxruntime/cpu",
                "attention f16 b=2 h=4 hkv=2 lq=33 lk=65 d=40 fill=normal seed=1",
                (0.001, 1.2),
                (1.0, 1000.0),
            ),
            (
                "onnxruntime-rms-norm-sum-drifts",
                "onnxruntime/cpu",
                "rms_norm f32 shape=1x1000003 fill=constant seed=1",
                (0.001, 1.5),
                (0.01, 9.0),
            ),
        ] {
            assert_eq!(explaining(backend, case, seen.0, seen.1).as_deref(), Some(id), "{case}");
            assert_eq!(explaining(backend, case, never.0, never.1), None, "{case}");
        }
        // Conditions that do not hold: no hidden key, no row of penalties, too few terms.
        for (backend, case) in [
            ("libtorch/cpu", "attention f32 h=1 lq=1 lk=9 d=1 scale=-0.1 causal=bottom_right fill=normal"),
            ("onnxruntime/cpu", "attention f32 h=3 lq=4 d=14 mask=float:1hqk fill=wide controls=penalties"),
            ("onnxruntime/cpu", "rms_norm f32 shape=1x2048 fill=constant"),
        ] {
            assert_eq!(explaining(backend, case, 1e-3, 1.5), None, "{case}");
        }
    }

    #[test]
    fn an_entry_for_zeros_excuses_no_other_number() {
        let zeros = entry("zero = true");
        let (case, id) =
            ("softmax f32 shape=2x3 fill=normal seed=1".parse::<Case>().unwrap(), "naive".parse().unwrap());
        let element = Element { result: "out", index: vec![0], expected: 1.0, got: 0.0, tolerance: 0.5 };
        let outside = Failure::Outside { count: 1, of: 6, worst: element };
        let excuses = |nonzero_error_over_bound| {
            let figures = Figures { nonzero_error_over_bound, ..figures(1e6) };
            zeros.explaining(&id, &case, &case.inputs(), &outside, &figures).is_some()
        };
        assert!(excuses(0.5) && !excuses(1.5) && !excuses(f64::NAN));
    }
}
