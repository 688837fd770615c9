//! What the acceptance tests share.
//!
//! | test file | promise |
//! |---|---|
//! | `conformance` | every backend is right on every smoke case, ours without exception |
//! | `threads` | results do not depend on the number of threads beyond their bounds |
//! | `guard_pages` | our kernels touch no byte beside their operands, results and scratch |
//! | `conventions` | conventions are those of the semantics, and those of libraries are on record |
//! | `captures` | every backend is right on tensors of real models |
//! | `onnx` | the oracle and every backend give what the ONNX project expects of its operators |
//! | `oracle` | the oracle agrees with facts that owe nothing to it |
//! | `verdict` | the bounds pass what is right, and fail small and realistic mistakes |
//! | `selftest` | planted faults are caught, variants are not failed, no safeguard or bound is idle |
//! | `explore` | backends are right on random problems; a failure is shrunk to a small one |
//! | `invariants` | properties that need no oracle hold, and planted faults break them |
//! | `problems` | texts of problems and cases go around unchanged, and garbage is refused |
//! | `devices` | what is absent says why; the CUDA launcher starts nothing that does not fit |
//! | `gate`, `gate_statistics` | the regression gate names what is slower, and nothing else |
//! | `baseline` | accuracy is what the committed baseline says; what is worse is named |
//! | `criterion` | what `cargo bench` left is a report too |
//! | `damage` | a damaged run is refused with the place, and nothing is written |
//! | `golden` | texts, inputs, expected values and our verdicts stay what they were |
//! | `formats` | what `--format json` prints is what the schema says |
//! | `recorded` | the README's tables and pictures are those of the recorded run |
//! | `scale_out` | shards make the same report as one run; the worked examples work |
//! | `command_line`, `usage` | the commands do what their help says; bad input is one clear line |
//!
//! A test that executed nothing fails: [`Tally::finish`] sees to it.

use touchstone_harness::check::check;
use touchstone_harness::known::KnownIssues;
use touchstone_harness::oracle::{self, Expected};
use touchstone_harness::{Case, Outcome};
use touchstone_kernels::{Backend, Inputs, Problem};

/// A case with its operands and the results it must have.
#[derive(Debug)]
pub struct Posed {
    /// The case.
    pub case: Case,
    /// Its operands.
    pub inputs: Inputs,
    /// What the oracle says.
    pub expected: Expected,
}

impl Posed {
    /// A case with the inputs it describes.
    pub fn new(case: Case) -> Self {
        let inputs = case.inputs();
        Posed::with_inputs(case, inputs)
    }

    /// A case with inputs from elsewhere.
    pub fn with_inputs(case: Case, inputs: Inputs) -> Self {
        let expected = oracle::expect(&case.problem, &inputs);
        Posed { case, inputs, expected }
    }

    /// The problem.
    pub fn problem(&self) -> &Problem {
        &self.case.problem
    }

    /// Judges a backend.
    pub fn judge(&self, backend: &dyn Backend, known: &KnownIssues) -> Outcome {
        check(backend, &self.case, &self.inputs, &self.expected, known)
    }
}

/// What became of many cases.
#[derive(Debug, Default)]
pub struct Tally {
    /// Right.
    pub passed: usize,
    /// Wrong as a known issue says.
    pub known: usize,
    /// Outside what the backend can do.
    pub unsupported: usize,
    /// Right, but zeros or the like would have been so too.
    pub suspect: usize,
    /// Everything else, a line each.
    pub wrong: Vec<String>,
}

impl Tally {
    /// Counts an outcome.
    pub fn add(&mut self, backend: &dyn Backend, case: &Case, outcome: &Outcome) {
        let why = match outcome {
            Outcome::Passed(_) | Outcome::Measured(..) => {
                self.passed += 1;
                return;
            }
            Outcome::Known { .. } => {
                self.known += 1;
                return;
            }
            Outcome::Unsupported { reason } if !reason.is_empty() => {
                self.unsupported += 1;
                return;
            }
            Outcome::Suspect { .. } => {
                self.suspect += 1;
                return;
            }
            Outcome::Unsupported { .. } => "unsupported without a reason".to_string(),
            Outcome::Failed { why, figures } => match &figures.worst {
                Some(worst) => format!("{why}; worst {worst}"),
                None => why.to_string(),
            },
            Outcome::NoLongerFails { issue, .. } => format!("{issue} no longer fails"),
            Outcome::Error { message } | Outcome::Timeout { message } => message.clone(),
        };
        self.wrong.push(format!("touchstone repro '{case}' --backend {}: {why}", backend.id()));
    }

    /// The cases that came to a verdict.
    pub fn executed(&self) -> usize {
        self.passed + self.known + self.suspect + self.wrong.len()
    }

    /// Prints the counts, and fails when something is wrong or nothing was executed.
    ///
    /// # Panics
    /// Then.
    pub fn finish(&self, what: &str) {
        let Tally { passed, known, unsupported, suspect, .. } = self;
        println!("{what}: {passed} passed, {known} known, {unsupported} unsupported, {suspect} suspect");
        let shown = self.wrong.iter().take(10).map(|line| format!("\n  {line}")).collect::<String>();
        assert!(self.wrong.is_empty(), "{what}: {} of {} wrong{shown}", self.wrong.len(), self.executed());
        assert!(self.executed() > 0, "{what}: nothing was executed");
    }
}
