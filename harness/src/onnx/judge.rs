//! Two judges: the oracle with its bounds, and what ONNX expects.

use std::fmt;

use touchstone_kernels::Backend;
use touchstone_reports::Status;

use super::{Mapped, Part, Wanted};
use crate::case::Case;
use crate::check;
use crate::known::KnownIssues;
use crate::oracle::{self, Expected};
use crate::outcome::Outcome;
use crate::recording::reason;

/// How far an output may be from ONNX's, relative to ONNX's: the tolerance of ONNX's own runner
/// (`onnx/backend/test/loader`).
pub const RTOL: f64 = 1e-3;

/// And absolutely, on top of that.
pub const ATOL: f64 = 1e-7;

/// An output that is not what ONNX expects.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The output's name in the model.
    pub output: String,
    /// How many elements differ.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// ONNX's value of the one that is farthest beyond the tolerance.
    pub expected: f64,
    /// What it is instead.
    pub got: f64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { output, count, of, expected, got } = self;
        write!(
            f,
            "{count} of {of} elements of {output} are not ONNX's: expected {expected:.9e}, got {got:.9e}"
        )
    }
}

/// Holds values against ONNX's: NaN is to be NaN, and an infinity the same infinity.
fn difference(wanted: &Wanted, got: &[f64]) -> Option<Difference> {
    let excess = |(expected, got): (&f64, &f64)| {
        if expected == got || expected.is_nan() && got.is_nan() {
            return None;
        }
        let tolerance = ATOL + RTOL * expected.abs();
        let error = (got - expected).abs();
        // An infinite tolerance would let anything pass for an infinity.
        let within = tolerance.is_finite() && error <= tolerance;
        (!within).then(|| if error.is_finite() { error / tolerance } else { f64::INFINITY })
    };
    let outside: Vec<(f64, usize)> = wanted
        .values
        .iter()
        .zip(got)
        .enumerate()
        .filter_map(|(i, pair)| excess(pair).map(|excess| (excess, i)))
        .collect();
    let &(_, worst) = outside.iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Difference {
        output: wanted.output.clone(),
        count: outside.len(),
        of: wanted.values.len(),
        expected: wanted.values[worst],
        got: got[worst],
    })
}

/// A node test with what the oracle says.
#[derive(Debug)]
pub struct Posed {
    /// The test.
    pub mapped: Mapped,
    /// What the oracle says of each part.
    pub expected: Vec<Expected>,
    /// Where the oracle is not what ONNX expects: one of the two is wrong.
    pub oracle: Option<Difference>,
}

impl Posed {
    /// Asks the oracle, and holds it to ONNX's outputs.
    pub fn new(mapped: Mapped) -> Self {
        let expected: Vec<Expected> =
            mapped.parts.iter().map(|part| oracle::expect(&part.problem, &part.inputs)).collect();
        let oracle = mapped.parts.iter().zip(&expected).find_map(|(part, expected)| {
            part.wanted.iter().find_map(|wanted| {
                let result = expected.results.iter().find(|result| result.name == wanted.result)?;
                let stored: Vec<f64> = result.value.iter().map(|&x| result.dtype.round(x)).collect();
                difference(wanted, &stored)
            })
        });
        Posed { mapped, expected, oracle }
    }

    /// Judges a backend: the worst of what becomes of the parts.
    pub fn judge(&self, backend: &dyn Backend, known: &KnownIssues) -> Judgement {
        let parts = self.mapped.parts.iter().zip(&self.expected);
        let judged = parts.map(|(part, expected)| judge_part(backend, part, expected, known));
        let worst = judged.reduce(|a, b| if b.severity() > a.severity() { b } else { a });
        worst.unwrap_or_else(|| Judgement {
            outcome: Outcome::Error { message: "the test has no parts".into() },
            difference: None,
        })
    }
}

impl Part {
    /// The case as which it stands where known issues are matched: it has no recipe of inputs.
    pub fn case(&self) -> Case {
        Case::plain(self.problem.clone(), 0)
    }
}

fn judge_part(backend: &dyn Backend, part: &Part, expected: &Expected, known: &KnownIssues) -> Judgement {
    let case = part.case();
    let outcome = check::check(backend, &case, &part.inputs, expected, known);
    let difference = check::outputs(backend, &case, &part.inputs).ok().and_then(|outputs| {
        let of = |wanted: &Wanted| difference(wanted, &outputs.get(wanted.result)?.to_f64());
        part.wanted.iter().find_map(of)
    });
    Judgement { outcome, difference }
}

/// What became of a node test on a backend.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// By the oracle and its bounds.
    pub outcome: Outcome,
    /// Where it is not what ONNX expects.
    pub difference: Option<Difference>,
}

impl Judgement {
    /// Both verdicts in one, and why: passed only if both judges are content. What ONNX objects
    /// to is explained by a known issue, too.
    pub fn verdict(&self) -> (Status, String) {
        match (self.outcome.status(), &self.difference) {
            (Status::Passed | Status::Suspect, Some(difference)) => (Status::Failed, difference.to_string()),
            (status, _) => (status, reason(&self.outcome)),
        }
    }

    fn severity(&self) -> u8 {
        match self.verdict().0 {
            Status::Passed => 0,
            Status::Unsupported => 1,
            Status::Suspect => 2,
            Status::Known => 3,
            Status::Timeout => 4,
            Status::Error => 5,
            Status::Failed => 6,
        }
    }
}
