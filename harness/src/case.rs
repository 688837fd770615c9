//! A case: a problem together with the recipe of its inputs.

use std::fmt;
use std::str::FromStr;

use touchstone_kernels::{Inputs, Operand, ParseError, Problem};

use crate::fill::{Controls, Fill, Recipe};

/// One line of a suite, and what a repro line names: the same text gives bit-identical inputs on
/// every machine.
///
/// ```
/// use touchstone_harness::Case;
///
/// let case: Case = "softmax f32 shape=4x1024 fill=needle seed=7".parse()?;
/// assert_eq!(case.to_string().parse::<Case>()?, case);
/// assert_eq!(case.inputs(), case.inputs());
/// # Ok::<(), touchstone_kernels::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What is computed.
    pub problem: Problem,
    /// How the inputs are distributed.
    pub fill: Fill,
    /// How masks, lengths, positions, slopes and weights are.
    pub controls: Controls,
    /// Which draw of these distributions.
    pub seed: u64,
}

impl Case {
    /// The seed where none is given.
    pub const DEFAULT_SEED: u64 = 1;

    /// A problem with plain inputs of a seed.
    pub fn plain(problem: Problem, seed: u64) -> Self {
        Case { problem, fill: Fill::Normal, controls: Controls::Usual, seed }
    }

    /// Draws the inputs, each rounded once to its storage type.
    pub fn inputs(&self) -> Inputs {
        let Case { fill, controls, seed, .. } = *self;
        crate::fill::inputs(&self.problem, Recipe { fill, controls, seed })
    }

    /// How the inputs are drawn, but for the seed: `normal`, or `normal controls=runs`.
    pub fn recipe(&self) -> String {
        match self.controls {
            Controls::Usual => self.fill.to_string(),
            controls => format!("{} controls={controls}", self.fill),
        }
    }

    /// About how many bytes it takes to judge this case: operands, once more in f64 for the oracle,
    /// and results with an expected value and a bound for each element.
    pub fn memory(&self) -> f64 {
        let bytes = |operands: &[Operand], more: f64| {
            let of = |operand: &Operand| operand.bytes() as f64 + more * operand.len() as f64;
            operands.iter().map(of).sum::<f64>()
        };
        bytes(&self.problem.operands(), 8.0) + bytes(&self.problem.results(), 24.0)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fill={} seed={}", self.problem, self.recipe(), self.seed)
    }
}

impl FromStr for Case {
    type Err = ParseError;

    /// Reads a problem text in which `fill=`, `controls=` and `seed=` may stand anywhere.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut fill = None;
        let mut controls = None;
        let mut seed = None;
        let mut problem = Vec::new();
        for word in text.split_whitespace() {
            if let Some(name) = word.strip_prefix("fill=") {
                replace_once(&mut fill, "fill", name.parse()?)?;
            } else if let Some(name) = word.strip_prefix("controls=") {
                replace_once(&mut controls, "controls", name.parse()?)?;
            } else if let Some(number) = word.strip_prefix("seed=") {
                let value = number.parse().map_err(|_| ParseError::Value {
                    key: "seed".into(),
                    found: number.into(),
                    expected: "an unsigned integer".into(),
                })?;
                replace_once(&mut seed, "seed", value)?;
            } else {
                problem.push(word);
            }
        }
        Ok(Case {
            problem: problem.join(" ").parse()?,
            fill: fill.unwrap_or(Fill::Normal),
            controls: controls.unwrap_or_default(),
            seed: seed.unwrap_or(Case::DEFAULT_SEED),
        })
    }
}

fn replace_once<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), ParseError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ParseError::Twice { key: key.into() }),
    }
}
