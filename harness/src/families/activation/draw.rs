//! The strategies of point-wise functions and gated units.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::SBoxedStrategy;
use touchstone_kernels::Op;
use touchstone_kernels::op::{Activation, Glu, GluLayout, Unary};

use crate::explore::sizes::{Numbers, tensor};

/// Functions without a parameter.
pub(super) fn function(function: Unary) -> SBoxedStrategy<Op> {
    activation(Just(function).sboxed())
}

pub(super) fn leaky_relu(numbers: Numbers) -> SBoxedStrategy<Op> {
    let slope = numbers.real(&[0.01, 0.2, 0.0, 1.0, -0.5, 2.0]);
    activation(slope.prop_map(|slope| Unary::LeakyRelu { slope }).sboxed())
}

pub(super) fn swish(numbers: Numbers) -> SBoxedStrategy<Op> {
    let beta = numbers.real(&[1.0, 1.702, 0.0, -1.0, 8.0]);
    activation(beta.prop_map(|beta| Unary::Swish { beta }).sboxed())
}

pub(super) fn elu(numbers: Numbers) -> SBoxedStrategy<Op> {
    let alpha = numbers.real(&[1.0, 0.5, 0.0, -1.0, 1.67]);
    activation(alpha.prop_map(|alpha| Unary::Elu { alpha }).sboxed())
}

fn activation(function: SBoxedStrategy<Unary>) -> SBoxedStrategy<Op> {
    (tensor(0..=4), function).prop_map(|(shape, function)| Op::from(Activation { shape, function })).sboxed()
}

pub(super) fn glu(gate: Unary) -> SBoxedStrategy<Op> {
    (tensor(1..=4), select(GluLayout::ALL))
        .prop_map(move |(shape, layout)| Op::from(Glu { shape, gate, layout }))
        .sboxed()
}
