//! Rotary position embedding.

mod draw;
mod faults;
mod invariants;
mod onnx;
mod oracle;
mod variants;

use touchstone_kernels::op::rope::FAMILY;
use touchstone_kernels::op::{Rope, RopeScaling};
use touchstone_kernels::{Inputs, Op, Operand, Problem};

use super::{Checkable, Draw, FamilyChecks, of};
use crate::coverage::{Level, class};
use crate::fill::DataRole;
use crate::onnx::{Operator, operator};
use crate::oracle::{ExpectedResult, required};

pub(super) static CHECKS: FamilyChecks = FamilyChecks::new(&FAMILY, &[of::<Rope>], DRAWS)
    .with_invariants(invariants::invariants)
    .with_test_kernels(faults::faults, variants::variants)
    .with_onnx(OPERATORS);

const DRAWS: &[Draw] = &[Draw { name: "rope", weight: 16, strategy: draw::rope }];

const OPERATORS: &[Operator] = &[operator(
    "RotaryEmbedding",
    23,
    &["interleaved", "num_heads", "rotary_embedding_dim"],
    onnx::rotary_embedding,
)];

impl Checkable for Rope {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        let factors = inputs.get("freq_factors").map(|tensor| tensor.to_f64());
        oracle::expect(self, problem, &required(inputs, "x"), factors, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let scaling = match self.scaling {
            RopeScaling::None => "none",
            RopeScaling::Linear { .. } => "linear",
            RopeScaling::Ntk { .. } => "ntk",
            RopeScaling::Yarn { .. } => "yarn",
            RopeScaling::Llama3 { .. } => "llama3",
        };
        vec![
            ("batch", class(self.batch)),
            ("heads", class(self.heads)),
            ("length", class(self.len)),
            ("pairs", class(self.rotary_dim / 2)),
            ("rest", if self.rotary_dim == self.head_dim { "none" } else { "some" }.into()),
            ("style", self.style.to_string()),
            ("base", if self.base == 10_000.0 { "10000" } else { "other" }.into()),
            ("scaling", scaling.into()),
            ("positions", if self.batched_positions { "by batch" } else { "shared" }.into()),
            ("factors", self.freq_factors.to_string()),
            ("tables", self.tables.to_string()),
        ]
    }

    fn role(&self, _operand: &Operand) -> DataRole {
        DataRole::Rotated
    }

    fn alone(&self) -> Option<Op> {
        (self.batch > 1).then(|| Rope { batch: 1, ..self.clone() }.into())
    }
}
