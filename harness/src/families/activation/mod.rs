//! Point-wise functions and gated linear units.

mod draw;
mod faults;
mod invariants;
mod onnx;
mod oracle;
pub(crate) mod sweep;
mod variants;

use touchstone_kernels::op::activation::FAMILY;
use touchstone_kernels::op::{Activation, Glu, Unary};
use touchstone_kernels::{Inputs, Op, Problem};

use super::{Checkable, Draw, FamilyChecks, of, one_of};
use crate::coverage::{Level, class};
use crate::onnx::{Operator, operator};
use crate::oracle::{ExpectedResult, required};

pub(super) static CHECKS: FamilyChecks = FamilyChecks::new(&FAMILY, &[of::<Activation>, of::<Glu>], DRAWS)
    .with_invariants(invariants::invariants)
    .with_test_kernels(faults::faults, variants::variants)
    .with_onnx(OPERATORS);

const DRAWS: &[Draw] = &[
    Draw { name: "relu", weight: 2, strategy: |_| draw::function(Unary::Relu) },
    Draw { name: "leaky_relu", weight: 2, strategy: draw::leaky_relu },
    Draw { name: "sigmoid", weight: 2, strategy: |_| draw::function(Unary::Sigmoid) },
    Draw { name: "tanh", weight: 2, strategy: |_| draw::function(Unary::Tanh) },
    Draw { name: "gelu", weight: 2, strategy: |_| draw::function(Unary::Gelu) },
    Draw { name: "gelu_tanh", weight: 2, strategy: |_| draw::function(Unary::GeluTanh) },
    Draw { name: "silu", weight: 2, strategy: |_| draw::function(Unary::Silu) },
    Draw { name: "swish", weight: 2, strategy: draw::swish },
    Draw { name: "softplus", weight: 2, strategy: |_| draw::function(Unary::Softplus) },
    Draw { name: "elu", weight: 2, strategy: draw::elu },
    Draw { name: "hard_swish", weight: 2, strategy: |_| draw::function(Unary::HardSwish) },
    Draw { name: "mish", weight: 2, strategy: |_| draw::function(Unary::Mish) },
    Draw { name: "erf", weight: 2, strategy: |_| draw::function(Unary::Erf) },
    Draw { name: "exp", weight: 2, strategy: |_| draw::function(Unary::Exp) },
    Draw { name: "glu", weight: 3, strategy: |_| draw::glu(Unary::Sigmoid) },
    Draw { name: "reglu", weight: 3, strategy: |_| draw::glu(Unary::Relu) },
    Draw { name: "geglu", weight: 3, strategy: |_| draw::glu(Unary::Gelu) },
    Draw { name: "geglu_tanh", weight: 3, strategy: |_| draw::glu(Unary::GeluTanh) },
    Draw { name: "swiglu", weight: 3, strategy: |_| draw::glu(Unary::Silu) },
];

const OPERATORS: &[Operator] = &[
    operator("Gelu", 20, &["approximate"], onnx::activation),
    operator("Swish", 24, &["alpha"], onnx::activation),
    operator("Sigmoid", 6, &[], onnx::activation),
    operator("Tanh", 6, &[], onnx::activation),
    operator("Relu", 6, &[], onnx::activation),
    operator("LeakyRelu", 6, &["alpha"], onnx::activation),
    operator("Elu", 6, &["alpha"], onnx::activation),
    operator("Softplus", 1, &[], onnx::activation),
    operator("Mish", 18, &[], onnx::activation),
    operator("HardSwish", 14, &[], onnx::activation),
    operator("Erf", 9, &[], onnx::activation),
    operator("Exp", 6, &[], onnx::activation),
];

impl Checkable for Activation {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::unary(self, problem, &required(inputs, "x"))
    }

    fn levels(&self) -> Vec<Level> {
        let elements = self.shape.iter().product();
        vec![("rank", self.shape.len().min(2).to_string()), ("elements", class(elements))]
    }

    fn alone(&self) -> Option<Op> {
        Some(Activation { shape: one_of(&self.shape)?, ..self.clone() }.into())
    }
}

impl Checkable for Glu {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::gated(self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let (rows, width) = self.rows_and_width();
        vec![("layout", self.layout.to_string()), ("rows", class(rows)), ("width", class(width))]
    }

    fn alone(&self) -> Option<Op> {
        let shape = one_of(&self.shape).filter(|shape| shape.len() > 1)?;
        Some(Glu { shape, ..self.clone() }.into())
    }

    /// Its gate alone.
    fn related(&self) -> Option<Op> {
        Some(Activation { shape: self.shape.clone(), function: self.gate }.into())
    }
}
