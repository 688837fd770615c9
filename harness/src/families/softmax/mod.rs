//! softmax and log_softmax.

mod draw;
mod faults;
mod invariants;
mod onnx;
mod oracle;
mod variants;

use touchstone_kernels::op::Softmax;
use touchstone_kernels::op::softmax::FAMILY;
use touchstone_kernels::{Inputs, Op, Problem};

use super::{Checkable, Draw, FamilyChecks, of, one_of};
use crate::coverage::{Level, class, sign_and_size};
use crate::known::{Limit, largest, one_rounding};
use crate::onnx::{Operator, operator};
use crate::oracle::{ExpectedResult, required};

pub(super) static CHECKS: FamilyChecks = FamilyChecks::new(&FAMILY, &[of::<Softmax>], DRAWS)
    .with_invariants(invariants::invariants)
    .with_test_kernels(faults::faults, variants::variants)
    .with_defects(&[], LIMITS)
    .with_onnx(OPERATORS);

const DRAWS: &[Draw] = &[
    Draw { name: "softmax", weight: 10, strategy: |numbers| draw::softmax(false, numbers) },
    Draw { name: "log_softmax", weight: 10, strategy: |numbers| draw::softmax(true, numbers) },
];

const OPERATORS: &[Operator] = &[
    operator("Softmax", 13, &["axis"], onnx::softmax),
    operator("LogSoftmax", 13, &["axis"], onnx::log_softmax),
];

const LIMITS: &[Limit] = &[Limit {
    name: "rounded_logits",
    about: "log_softmax that rounds the maximum, the sum and its logarithm to the storage type: \
            2u·(max|x| + 2 ln N + 1)",
    of: rounded_logits,
}];

fn rounded_logits(problem: &Problem, inputs: &Inputs) -> f64 {
    let Some(spec) = problem.get::<Softmax>() else { return 0.0 };
    let largest = largest(inputs, "x").unwrap_or(0.0) * spec.scale.abs() as f64;
    let logarithm = (spec.dims().1.max(1) as f64).ln();
    2.0 * one_rounding(problem.dtype, largest + 2.0 * logarithm + 1.0)
}

impl Checkable for Softmax {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::expect(self, problem, &required(inputs, "x"))
    }

    fn levels(&self) -> Vec<Level> {
        let (outer, len, inner) = self.dims();
        vec![
            ("rank", self.shape.len().to_string()),
            ("axis", if inner == 1 { "last" } else { "inner" }.into()),
            ("length", class(len)),
            ("rows", class(outer * inner)),
            ("scale", if self.scale == 1.0 { "1" } else { sign_and_size(self.scale) }.into()),
        ]
    }

    fn alone(&self) -> Option<Op> {
        let shape = one_of(&self.shape).filter(|_| self.axis > 0)?;
        Some(Softmax { shape, ..self.clone() }.into())
    }

    fn summed(&self) -> usize {
        self.dims().1
    }
}
