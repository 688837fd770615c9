//! Which convention an implementation follows, found by asking it.
//!
//! Libraries disagree on what a fused operation does at its edges: how a causal mask is aligned,
//! what a row without keys gives, where eps stands. Documentation says some of it. Here each
//! question is a small problem whose result tells the possible answers apart; the questions are
//! data, in `conventions.toml`, and the answers are plain [`Row`]s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use touchstone_kernels::{
    Backend, BackendError, ElementType, Habit, InputError, Inputs, Operand, Outputs, ParseError, Problem,
    Support, Tensor, Unstated,
};

const BUILT_IN: &str = include_str!("../conventions.toml");

/// How far a number may be from that of an answer, relatively.
const WITHIN: f64 = 0.01;

/// A question with the answers that are known.
#[derive(Debug)]
pub struct Probe {
    /// Its name here.
    pub name: String,
    /// The question, short enough for a table.
    pub question: String,
    /// What is computed.
    pub problem: Problem,
    /// Whether the implementation's function is called without the problem's choice.
    pub unstated: Option<Unstated>,
    inputs: Inputs,
    result: String,
    within: f64,
    answers: BTreeMap<String, Vec<f64>>,
    facts: BTreeMap<String, String>,
}

/// A probe as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    question: String,
    problem: String,
    unstated: Option<String>,
    operands: BTreeMap<String, Vec<f64>>,
    result: Option<String>,
    within: Option<f64>,
    answers: BTreeMap<String, Vec<f64>>,
    facts: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    probe: Vec<Written>,
}

/// What one implementation answers to one question: plain text, for tables and reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The probe.
    pub probe: String,
    /// The question.
    pub question: String,
    /// The answer that the semantics of this project are.
    pub exact: String,
    /// Who was asked.
    pub backend: String,
    /// One of the probe's answers; `as asked` where callers have to say what they want, `none` where
    /// there is no such function, `composed` where it is not the library's own, `unsupported`,
    /// `refuses`, or `other`.
    pub answer: String,
    /// Which path ran.
    pub path: String,
    /// The leading elements of the result, or why there is none.
    pub observed: String,
}

/// Probes that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The file's form is wrong.
    #[error("conventions.toml: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A problem or call is wrong.
    #[error("conventions.toml: probe '{probe}': {source}")]
    Problem {
        /// The probe.
        probe: String,
        /// What is wrong.
        source: ParseError,
    },
    /// The operands are not those of the problem.
    #[error("conventions.toml: probe '{probe}': {source}")]
    Operands {
        /// The probe.
        probe: String,
        /// What is wrong.
        source: InputError,
    },
}

/// The probes that come with the program.
///
/// # Errors
/// [`ProbeError`].
pub fn built_in() -> Result<Vec<Probe>, ProbeError> {
    toml::from_str::<File>(BUILT_IN)?.probe.into_iter().map(Probe::read).collect()
}

impl Probe {
    fn read(written: Written) -> Result<Self, ProbeError> {
        let wrong = |source| ProbeError::Problem { probe: written.name.clone(), source };
        let problem: Problem = written.problem.parse().map_err(wrong)?;
        let unstated = written.unstated.as_deref().map(str::parse).transpose().map_err(wrong)?;
        let wrong = |source| ProbeError::Operands { probe: written.name.clone(), source };
        let operands = problem.operands();
        let tensors = written.operands.iter().map(|(name, values)| {
            let unknown = || {
                let known = operands.iter().map(|operand| operand.name).collect::<Vec<_>>().join(", ");
                InputError::Unknown { name: name.clone(), known }
            };
            let operand = operands.iter().find(|operand| operand.name == name).ok_or_else(unknown)?;
            Ok((name.clone(), repeated(operand, values)?))
        });
        let tensors = tensors.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        let inputs = Inputs::new(&problem, tensors).map_err(wrong)?;
        Ok(Probe {
            name: written.name,
            question: written.question,
            problem,
            unstated,
            inputs,
            result: written.result.unwrap_or_else(|| "out".into()),
            within: written.within.unwrap_or(WITHIN),
            answers: written.answers,
            facts: written.facts,
        })
    }

    /// The answer that is on record for an implementation.
    pub fn fact(&self, implementation: &str) -> &str {
        self.facts.get(implementation).map_or(self.exact(), String::as_str)
    }

    /// The answer that the semantics of this project are: `either` where two are right, `as asked`
    /// where a problem states it.
    pub fn exact(&self) -> &str {
        self.facts.get("exact").map_or("", String::as_str)
    }

    /// Asks a backend.
    pub fn ask(&self, backend: &dyn Backend) -> Row {
        let path = backend.declares(&self.problem).path;
        let (answer, observed) = match self.results(backend, &path) {
            Ok(outputs) => self.recognise(&outputs),
            Err(Silence { answer, why }) => (answer.to_string(), why),
        };
        Row {
            probe: self.name.clone(),
            question: self.question.clone(),
            exact: self.exact().into(),
            backend: backend.id().to_string(),
            answer,
            path: self.unstated.map_or_else(|| path.into_owned(), |call| call.to_string()),
            observed,
        }
    }

    /// The results of the implementation's own function.
    fn results(&self, backend: &dyn Backend, path: &str) -> Result<Outputs, Silence> {
        if let Some(call) = self.unstated {
            return match backend.unstated(call, &self.problem, &self.inputs)? {
                Habit::Asks => Err(Silence::new("as asked", "callers say what they want")),
                Habit::Absent => Err(Silence::new("none", "there is no such function")),
                Habit::Results(outputs) => Ok(outputs),
            };
        }
        if let Support::No(reason) = backend.supports(&self.problem) {
            return Err(Silence::new("unsupported", reason));
        }
        if path.starts_with("composed") {
            return Err(Silence::new("composed", "not a function of the library's own"));
        }
        let mut prepared = backend.ready(&self.problem, &self.inputs)?;
        prepared.run()?;
        prepared.sync()?;
        Ok(prepared.outputs()?)
    }

    /// The answer that results are, and their leading elements.
    fn recognise(&self, outputs: &Outputs) -> (String, String) {
        let got = outputs.get(&self.result).map(Tensor::to_f64).unwrap_or_default();
        let answer = self.answers.iter().find(|(_, expected)| self.is(&got, expected));
        let shown = self.answers.values().map(Vec::len).max().unwrap_or(1).min(got.len());
        let observed = got[..shown].iter().map(|x| format!("{x:.4e}")).collect::<Vec<_>>().join(" ");
        (answer.map_or("other", |(name, _)| name).to_string(), observed)
    }

    fn is(&self, got: &[f64], expected: &[f64]) -> bool {
        let same = |(&got, &expected): (&f64, &f64)| match expected {
            0.0 => got == 0.0 && got.is_sign_negative() == expected.is_sign_negative(),
            _ if !expected.is_finite() => got == expected || got.is_nan() && expected.is_nan(),
            _ => (got - expected).abs() <= self.within * expected.abs(),
        };
        got.len() >= expected.len() && got.iter().zip(expected).all(same)
    }
}

/// Why there are no results.
struct Silence {
    answer: &'static str,
    why: String,
}

impl Silence {
    fn new(answer: &'static str, why: impl Into<String>) -> Self {
        Silence { answer, why: why.into() }
    }
}

impl From<BackendError> for Silence {
    fn from(error: BackendError) -> Self {
        Silence::new("refuses", error.to_string())
    }
}

/// A tensor for an operand that repeats the given values.
fn repeated(operand: &Operand, values: &[f64]) -> Result<Tensor, InputError> {
    let values: Vec<f64> = values.iter().copied().cycle().take(operand.len()).collect();
    match operand.element {
        ElementType::Float(dtype) => Tensor::from_f64(dtype, &operand.shape, &values),
        ElementType::I64 => {
            Tensor::from_slice(&operand.shape, &values.iter().map(|&x| x as i64).collect::<Vec<_>>())
        }
        ElementType::Bool => Tensor::from_slice(
            &operand.shape,
            &values.iter().map(|&x| u8::from(x != 0.0)).collect::<Vec<_>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A result must not be two answers at once, and each fact must be one that can be given.
    #[test]
    fn probes_discriminate() {
        let probes = built_in().unwrap();
        let names: BTreeSet<&str> = probes.iter().map(|probe| probe.name.as_str()).collect();
        assert_eq!(names.len(), probes.len(), "a name stands twice");
        for probe in &probes {
            assert!(probe.answers.len() > 1, "{}: one answer tells nothing apart", probe.name);
            for (name, values) in &probe.answers {
                let met: Vec<_> =
                    probe.answers.keys().filter(|n| probe.is(values, &probe.answers[*n])).collect();
                assert_eq!(met, [name], "{}", probe.name);
            }
            let given = ["as asked", "either", "none", "composed", "unsupported", "refuses"];
            for (of, fact) in &probe.facts {
                let who = ["exact", "naive", "simd", "candle", "libtorch", "onnxruntime"];
                assert!(who.contains(&of.as_str()), "{}: {of}", probe.name);
                let known = probe.answers.contains_key(fact) || given.contains(&fact.as_str());
                assert!(known, "{}: {of} = {fact}", probe.name);
            }
            assert!(!probe.exact().is_empty(), "{}: no exact answer", probe.name);
        }
    }

    #[test]
    fn signs_of_zero_and_nan_are_told_apart() {
        let probes = built_in().unwrap();
        let probe = probes.iter().find(|probe| probe.name == "relu-nan").unwrap();
        assert!(probe.is(&[f64::NAN], &[f64::NAN]) && !probe.is(&[0.0], &[f64::NAN]));
        assert!(probe.is(&[-0.0], &[-0.0]) && !probe.is(&[0.0], &[-0.0]) && !probe.is(&[1e-45], &[0.0]));
        assert!(!probe.is(&[f64::NAN], &[1.0]) && !probe.is(&[], &[1.0]) && probe.is(&[1.001], &[1.0]));
    }
}
