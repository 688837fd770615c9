//! The strategies of the normalizations.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::SBoxedStrategy;
use touchstone_kernels::Op;
use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};

use crate::explore::sizes::{Numbers, budget, fit, product, shape, tensor};

const EPS: &[f32] = &[1e-5, 1e-6, 1e-12, 1e-3, 1.0];

/// What a norm adds to the variance; 0 is allowed, and leaves rows of equal numbers without a result.
fn eps(numbers: Numbers) -> SBoxedStrategy<f32> {
    prop_oneof![9 => numbers.positive(EPS), 1 => Just(0.0)].sboxed()
}

fn affine() -> impl Strategy<Value = Affine> + Send + Sync {
    // Both operands, as nearly always, are the simple case.
    any::<[bool; 2]>().prop_map(|[no_weight, no_bias]| Affine { weight: !no_weight, bias: !no_bias })
}

pub(super) fn layer_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    (tensor(1..=4), any::<Index>(), affine(), eps(numbers))
        .prop_map(|(mut shape, axes, affine, eps)| {
            let axes = 1 + axes.index(shape.len());
            // Beside a 0 the axes of weight and bias were as large as they liked.
            let normalized = shape.len() - axes;
            fit(&mut shape[normalized..], 1 << 20, product);
            Op::from(LayerNorm { shape, axes, affine, eps })
        })
        .sboxed()
}

pub(super) fn rms_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    (tensor(1..=4), any::<[bool; 2]>(), numbers.real(&[0.0, 1.0, -0.5]), eps(numbers))
        .prop_map(|(shape, [no_weight, round_before_weight], weight_offset, eps)| {
            // An offset is added to a weight.
            let weight_offset = if no_weight { 0.0 } else { weight_offset };
            Op::from(RmsNorm { shape, weight: !no_weight, weight_offset, eps, round_before_weight })
        })
        .sboxed()
}

pub(super) fn batch_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    let momentum = prop_oneof![4 => select(vec![0.1f32, 0.01, 0.0, 0.5, 0.9, 1.0]), 1 => (0u8..=100).prop_map(|percent| f32::from(percent) / 100.0),
    ];
    (tensor(2..=4), select(BatchNormMode::ALL), affine(), eps(numbers), momentum)
        .prop_map(|(mut shape, mode, affine, eps, momentum)| {
            // Training has statistics of two values at least.
            if mode == BatchNormMode::Train && product(&shape) / shape[1].max(1) < 2 {
                shape.iter_mut().for_each(|dim| *dim = (*dim).max(1));
                // Beside a 0 the other dimensions were as large as they liked.
                fit(&mut shape, 65_536, product);
                shape[0] = shape[0].max(2);
            }
            Op::from(BatchNorm { shape, mode, affine, eps, momentum })
        })
        .sboxed()
}

pub(super) fn group_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    let shape = (shape(2..=4), select(vec![1usize, 2, 3, 4, 8, 32]), budget());
    (shape, affine(), eps(numbers))
        .prop_map(|((mut shape, groups, budget), affine, eps)| {
            fit(&mut shape, budget.div_ceil(groups), product);
            shape[1] *= groups;
            Op::from(GroupNorm { shape, groups, affine, eps })
        })
        .sboxed()
}

pub(super) fn instance_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    (tensor(2..=4), affine(), eps(numbers))
        .prop_map(|(shape, affine, eps)| Op::from(InstanceNorm { shape, affine, eps }))
        .sboxed()
}
