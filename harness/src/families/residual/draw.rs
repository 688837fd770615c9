//! The strategies.

use proptest::prelude::*;
use proptest::strategy::SBoxedStrategy;
use touchstone_kernels::Op;
use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::residual::{AddLayerNorm, AddRmsNorm, Residual};

use crate::explore::sizes::{Numbers, tensor};

const EPS: &[f32] = &[1e-5, 1e-6, 1e-12, 1e-3, 1.0];

fn residual() -> impl Strategy<Value = Residual> + Send + Sync {
    any::<[bool; 2]>().prop_map(|[exact, alone]| Residual { round_sum: !exact, sum: !alone })
}

pub(super) fn add_rms_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    let offset = numbers.real(&[0.0, 1.0, -0.5]);
    (tensor(1..=3), any::<bool>(), offset, numbers.positive(EPS), residual())
        .prop_map(|(shape, no_weight, weight_offset, eps, residual)| {
            // An offset is added to a weight.
            let weight_offset = if no_weight { 0.0 } else { weight_offset };
            Op::from(AddRmsNorm { shape, weight: !no_weight, weight_offset, eps, residual })
        })
        .sboxed()
}

pub(super) fn add_layer_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    (tensor(1..=3), any::<[bool; 2]>(), numbers.positive(EPS), residual())
        .prop_map(|(shape, [no_weight, no_bias], eps, residual)| {
            let affine = Affine { weight: !no_weight, bias: !no_bias };
            Op::from(AddLayerNorm { shape, affine, eps, residual })
        })
        .sboxed()
}
