//! The strategy of softmax and log_softmax.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::SBoxedStrategy;
use touchstone_kernels::Op;
use touchstone_kernels::op::Softmax;

use crate::explore::sizes::{Numbers, tensor};

pub(super) fn softmax(log: bool, numbers: Numbers) -> SBoxedStrategy<Op> {
    let scale = numbers.real(&[1.0, 1.0, 1.0, 0.125, 2.0, 1.5, -1.0, 0.0, 1e4, 1e20, -1e30, 1e-20]);
    (tensor(1..=4), any::<Index>(), any::<bool>(), scale)
        .prop_map(move |(shape, axis, inner, scale)| {
            let axis = if inner { axis.index(shape.len()) } else { shape.len() - 1 };
            Op::from(Softmax { shape, axis, log, scale })
        })
        .sboxed()
}
