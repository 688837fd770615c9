//! layer, rms, batch, group and instance norm.

mod common;
mod defects;
mod draw;
mod faults;
mod invariants;
mod model;
mod onnx;
mod oracle;
mod variants;

use touchstone_kernels::op::norm::FAMILY;
use touchstone_kernels::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use touchstone_kernels::{Inputs, Op, Operand, Problem};

use self::common::Norm;
use super::{Checkable, Draw, FamilyChecks, of, one_of};
use crate::coverage::{Level, class, eps_class, sign};
use crate::fill::DataRole;
use crate::onnx::{Operator, operator};
use crate::oracle::ExpectedResult;

pub(super) static CHECKS: FamilyChecks = FamilyChecks::new(
    &FAMILY,
    &[of::<LayerNorm>, of::<RmsNorm>, of::<BatchNorm>, of::<GroupNorm>, of::<InstanceNorm>],
    DRAWS,
)
.with_invariants(invariants::invariants)
.with_test_kernels(faults::faults, variants::variants)
.with_defects(defects::PREDICATES, defects::LIMITS)
.with_onnx(OPERATORS);

const DRAWS: &[Draw] = &[
    Draw { name: "layer_norm", weight: 10, strategy: draw::layer_norm },
    Draw { name: "rms_norm", weight: 10, strategy: draw::rms_norm },
    Draw { name: "batch_norm", weight: 10, strategy: draw::batch_norm },
    Draw { name: "group_norm", weight: 10, strategy: draw::group_norm },
    Draw { name: "instance_norm", weight: 10, strategy: draw::instance_norm },
];

const OPERATORS: &[Operator] = &[
    operator("LayerNormalization", 17, &["axis", "epsilon", "stash_type"], onnx::layer_norm),
    operator("RMSNormalization", 23, &["axis", "epsilon", "stash_type"], onnx::rms_norm),
    operator("GroupNormalization", 21, &["epsilon", "num_groups", "stash_type"], onnx::group_norm),
    operator("InstanceNormalization", 6, &["epsilon"], onnx::instance_norm),
    operator("BatchNormalization", 14, &["epsilon", "momentum", "training_mode"], onnx::batch_norm),
];

impl Checkable for LayerNorm {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::layer_norm(self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let (rows, width) = self.rows_and_width();
        vec![
            ("axes", self.axes.to_string()),
            ("rows", class(rows)),
            ("width", class(width)),
            ("affine", format!("{} {}", self.affine.weight, self.affine.bias)),
            ("eps", eps_class(self.eps)),
        ]
    }

    fn role(&self, _operand: &Operand) -> DataRole {
        DataRole::Squared
    }

    fn alone(&self) -> Option<Op> {
        let shape = one_of(&self.shape).filter(|shape| self.axes < shape.len())?;
        Some(LayerNorm { shape, ..self.clone() }.into())
    }

    fn summed(&self) -> usize {
        self.layout().len
    }

    fn normalized(&self) -> Vec<Vec<usize>> {
        self.layout().members()
    }
}

impl Checkable for RmsNorm {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::rms_norm(self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let (rows, width) = self.rows_and_width();
        vec![
            ("rows", class(rows)),
            ("width", class(width)),
            ("weight", self.weight.to_string()),
            ("offset", sign(self.weight_offset).into()),
            ("eps", eps_class(self.eps)),
            ("rounded", self.round_before_weight.to_string()),
        ]
    }

    fn role(&self, _operand: &Operand) -> DataRole {
        DataRole::Squared
    }

    fn alone(&self) -> Option<Op> {
        let shape = one_of(&self.shape).filter(|shape| shape.len() > 1)?;
        Some(RmsNorm { shape, ..self.clone() }.into())
    }

    fn summed(&self) -> usize {
        self.layout().len
    }

    fn normalized(&self) -> Vec<Vec<usize>> {
        self.layout().members()
    }

    fn rounds_within(&self) -> bool {
        self.round_before_weight
    }
}

impl Checkable for BatchNorm {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::batch_norm(self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let (n, channels, spatial) = self.dims();
        let momentum = match self.momentum {
            0.0 => "0",
            1.0 => "1",
            _ => "between",
        };
        vec![
            ("samples", class(n)),
            ("channels", class(channels)),
            ("spatial", class(spatial)),
            ("mode", self.mode.to_string()),
            ("affine", format!("{} {}", self.affine.weight, self.affine.bias)),
            ("eps", eps_class(self.eps)),
            ("momentum", momentum.into()),
        ]
    }

    fn role(&self, _operand: &Operand) -> DataRole {
        DataRole::Squared
    }

    fn alone(&self) -> Option<Op> {
        let shape = one_of(&self.shape).filter(|_| self.mode == BatchNormMode::Infer)?;
        Some(BatchNorm { shape, ..self.clone() }.into())
    }

    fn summed(&self) -> usize {
        self.layout().len
    }

    fn normalized(&self) -> Vec<Vec<usize>> {
        self.layout().members()
    }
}

impl Checkable for GroupNorm {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::group_norm(self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let (n, channels, spatial) = self.dims();
        let groups = match self.groups {
            1 => "1",
            groups if groups == channels => "all",
            _ => "some",
        };
        vec![
            ("samples", class(n)),
            ("channels", class(channels)),
            ("spatial", class(spatial)),
            ("groups", groups.into()),
            ("affine", format!("{} {}", self.affine.weight, self.affine.bias)),
            ("eps", eps_class(self.eps)),
        ]
    }

    fn role(&self, _operand: &Operand) -> DataRole {
        DataRole::Squared
    }

    fn alone(&self) -> Option<Op> {
        Some(GroupNorm { shape: one_of(&self.shape)?, ..self.clone() }.into())
    }

    fn summed(&self) -> usize {
        self.layout().len
    }

    fn normalized(&self) -> Vec<Vec<usize>> {
        self.layout().members()
    }
}

impl Checkable for InstanceNorm {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::instance_norm(self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let (n, channels, spatial) = self.dims();
        vec![
            ("samples", class(n)),
            ("channels", class(channels)),
            ("spatial", class(spatial)),
            ("affine", format!("{} {}", self.affine.weight, self.affine.bias)),
            ("eps", eps_class(self.eps)),
        ]
    }

    fn role(&self, _operand: &Operand) -> DataRole {
        DataRole::Squared
    }

    fn alone(&self) -> Option<Op> {
        Some(InstanceNorm { shape: one_of(&self.shape)?, ..self.clone() }.into())
    }

    fn summed(&self) -> usize {
        self.layout().len
    }

    fn normalized(&self) -> Vec<Vec<usize>> {
        self.layout().members()
    }
}
