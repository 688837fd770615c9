//! A residual added, and the norm of the sum.

mod draw;
mod faults;
mod invariants;
mod oracle;
mod variants;

use touchstone_kernels::op::residual::{AddLayerNorm, AddRmsNorm, FAMILY, Residual};
use touchstone_kernels::op::{LayerNorm, RmsNorm};
use touchstone_kernels::{Inputs, Op, Operand, Operation, Problem};

use super::{Checkable, Draw, FamilyChecks, of, one_of};
use crate::coverage::{Level, class, eps_class, sign};
use crate::fill::DataRole;
use crate::oracle::ExpectedResult;

pub(super) static CHECKS: FamilyChecks =
    FamilyChecks::new(&FAMILY, &[of::<AddRmsNorm>, of::<AddLayerNorm>], DRAWS)
        .with_invariants(invariants::invariants)
        .with_test_kernels(faults::faults, variants::variants);

const DRAWS: &[Draw] = &[
    Draw { name: "add_rms_norm", weight: 10, strategy: draw::add_rms_norm },
    Draw { name: "add_layer_norm", weight: 10, strategy: draw::add_layer_norm },
];

/// What the two operations have in common.
trait AddNorm: Operation {
    fn residual(&self) -> Residual;

    /// Elements that are normalized together.
    fn width(&self) -> usize;

    /// The norm alone, which takes the sum as its `x`.
    fn norm(&self) -> Op;

    /// The same with the sum handled otherwise.
    fn with(&self, residual: Residual) -> Op;
}

impl AddNorm for AddRmsNorm {
    fn residual(&self) -> Residual {
        self.residual
    }

    fn width(&self) -> usize {
        self.rows_and_width().1
    }

    fn norm(&self) -> Op {
        let AddRmsNorm { shape, weight, weight_offset, eps, .. } = self.clone();
        RmsNorm { shape, weight, weight_offset, eps, round_before_weight: false }.into()
    }

    fn with(&self, residual: Residual) -> Op {
        AddRmsNorm { residual, ..self.clone() }.into()
    }
}

impl AddNorm for AddLayerNorm {
    fn residual(&self) -> Residual {
        self.residual
    }

    fn width(&self) -> usize {
        self.rows_and_width().1
    }

    fn norm(&self) -> Op {
        let AddLayerNorm { shape, affine, eps, .. } = self.clone();
        LayerNorm { shape, axes: 1, affine, eps }.into()
    }

    fn with(&self, residual: Residual) -> Op {
        AddLayerNorm { residual, ..self.clone() }.into()
    }
}

/// The operation of a problem, if it is one of the two.
fn add_norm(problem: &Problem) -> Option<&dyn AddNorm> {
    let rms = problem.get::<AddRmsNorm>().map(|spec| spec as &dyn AddNorm);
    rms.or_else(|| problem.get::<AddLayerNorm>().map(|spec| spec as &dyn AddNorm))
}

/// The levels that both have.
fn levels(shape: &[usize], width: usize, eps: f32, residual: Residual) -> Vec<Level> {
    let rows = shape.iter().product::<usize>() / width.max(1);
    vec![
        ("rows", class(rows)),
        ("width", class(width)),
        ("eps", eps_class(eps)),
        ("rounded", residual.round_sum.to_string()),
        ("sum", residual.sum.to_string()),
    ]
}

impl Checkable for AddRmsNorm {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::expect(self, self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let mut all = levels(&self.shape, self.width(), self.eps, self.residual);
        all.extend([("weight", self.weight.to_string()), ("offset", sign(self.weight_offset).into())]);
        all
    }

    fn role(&self, _operand: &Operand) -> DataRole {
        DataRole::Squared
    }

    fn alone(&self) -> Option<Op> {
        let shape = one_of(&self.shape).filter(|shape| shape.len() > 1)?;
        Some(AddRmsNorm { shape, ..self.clone() }.into())
    }

    fn summed(&self) -> usize {
        self.width()
    }

    fn related(&self) -> Option<Op> {
        Some(self.norm())
    }

    fn inner(&self, problem: &Problem, inputs: &Inputs) -> Option<(Problem, Inputs)> {
        oracle::norm_of_sums(self, problem, inputs)
    }

    fn rounds_within(&self) -> bool {
        self.residual.round_sum
    }
}

impl Checkable for AddLayerNorm {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::expect(self, self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let mut all = levels(&self.shape, self.width(), self.eps, self.residual);
        all.push(("affine", format!("{} {}", self.affine.weight, self.affine.bias)));
        all
    }

    fn role(&self, _operand: &Operand) -> DataRole {
        DataRole::Squared
    }

    fn alone(&self) -> Option<Op> {
        let shape = one_of(&self.shape).filter(|shape| shape.len() > 1)?;
        Some(AddLayerNorm { shape, ..self.clone() }.into())
    }

    fn summed(&self) -> usize {
        self.width()
    }

    fn related(&self) -> Option<Op> {
        Some(self.norm())
    }

    fn inner(&self, problem: &Problem, inputs: &Inputs) -> Option<(Problem, Inputs)> {
        oracle::norm_of_sums(self, problem, inputs)
    }

    fn rounds_within(&self) -> bool {
        self.residual.round_sum
    }
}
