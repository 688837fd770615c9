//! Scaled dot-product attention.

mod defects;
mod draw;
mod faults;
mod inputs;
mod invariants;
mod model;
pub(super) mod onnx;
mod oracle;
mod scores;
mod variants;

use std::cmp::Ordering;

use touchstone_kernels::op::Attention;
use touchstone_kernels::op::attention::FAMILY;
use touchstone_kernels::{Inputs, Op, Operand, Problem, Tensor};

use super::{Checkable, Draw, FamilyChecks, of};
use crate::coverage::{Level, class, sign_and_size, width_class};
use crate::fill::{DataRole, Fill};
use crate::onnx::{Operator, operator};
use crate::oracle::ExpectedResult;

pub(super) static CHECKS: FamilyChecks = FamilyChecks::new(&FAMILY, &[of::<Attention>], DRAWS)
    .with_invariants(invariants::invariants)
    .with_test_kernels(faults::faults, variants::variants)
    .with_defects(defects::PREDICATES, defects::LIMITS)
    .with_onnx(OPERATORS);

const DRAWS: &[Draw] = &[Draw { name: "attention", weight: 40, strategy: draw::attention }];

const OPERATORS: &[Operator] = &[
    operator(
        "Attention",
        23,
        &[
            "is_causal",
            "kv_num_heads",
            "q_num_heads",
            "qk_matmul_output_mode",
            "scale",
            "softcap",
            "softmax_precision",
        ],
        onnx::attention,
    ),
    Operator {
        domain: "ai.onnx.preview",
        ..operator("FlexAttention", 1, &["scale", "softmax_precision"], onnx::attention)
    },
];

impl Checkable for Attention {
    fn expect(&self, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
        oracle::expect(self, problem, inputs)
    }

    fn levels(&self) -> Vec<Level> {
        let relation = match self.q_len.cmp(&self.kv_len) {
            Ordering::Less => "lq < lk",
            Ordering::Equal => "lq = lk",
            Ordering::Greater => "lq > lk",
        };
        let window = self.window.map_or("none", |window| match (window.left, window.right) {
            (Some(_), Some(_)) => "both",
            (Some(_), None) => "left",
            (None, Some(_)) => "right",
            (None, None) => "unbounded",
        });
        let group = match self.group() {
            n @ 1..=3 => n.to_string(),
            n if n.is_power_of_two() => "power of two".into(),
            _ => "other".into(),
        };
        let is_default = self.scale == Attention::default_scale(self.head_dim);
        let scale = if is_default { "default" } else { sign_and_size(self.scale) };
        vec![
            ("batch", class(self.batch)),
            ("kv heads", if self.kv_heads == 1 { "1" } else { "many" }.into()),
            ("group", group),
            ("queries", class(self.q_len)),
            ("keys", class(self.kv_len)),
            ("relation", relation.into()),
            ("head size", width_class(self.head_dim)),
            ("value size", if self.v_dim == self.head_dim { "same" } else { "other" }.into()),
            ("scale", scale.into()),
            ("causal", self.causal.to_string()),
            ("window", window.into()),
            ("softcap", self.softcap.is_some().to_string()),
            ("mask", self.mask.to_string()),
            ("alibi", self.alibi.to_string()),
            ("sinks", self.sinks.to_string()),
            ("lse", self.lse.to_string()),
            ("cache", self.cache.is_some().to_string()),
        ]
    }

    /// Masking: three choices at a time.
    fn triples(&self) -> &'static [&'static str] {
        &["mask", "controls", "causal", "window", "relation", "group", "batch", "alibi"]
    }

    fn role(&self, operand: &Operand) -> DataRole {
        match operand.name {
            "q" => DataRole::Queries,
            "k" => DataRole::Keys,
            _ => DataRole::Values,
        }
    }

    fn relate(&self, fill: Fill, tensors: &mut [(&'static str, Tensor)]) {
        if fill == Fill::Needle {
            inputs::plant_needles(self, tensors);
        }
        inputs::poison_unused_cache(self, tensors);
    }

    fn alone(&self) -> Option<Op> {
        (self.batch > 1).then(|| Attention { batch: 1, ..self.clone() }.into())
    }

    fn summed(&self) -> usize {
        self.kv_len
    }

    /// Of the first result the mean of each value channel over all keys.
    fn indifferent(&self, result: usize, inputs: &Inputs) -> Option<Vec<f64>> {
        if result != 0 || self.kv_len == 0 {
            return None;
        }
        Some(inputs::mean_of_values(self, &inputs.get("v")?.to_f64()))
    }
}
