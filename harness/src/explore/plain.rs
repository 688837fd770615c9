//! The strategies of every operation but attention.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::SBoxedStrategy;
use touchstone_kernels::Op;
use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::rope::RopeTables;
use touchstone_kernels::op::{
    Activation, BatchNorm, BatchNormMode, Glu, GluLayout, GroupNorm, InstanceNorm, LayerNorm, RmsNorm, Rope,
    RopeScaling, RopeStyle, Softmax, Unary,
};

use super::sizes::{Numbers, budget, fit, positive_size, product, shape, size};

const EPS: &[f32] = &[1e-5, 1e-6, 1e-12, 1e-3, 1.0];

/// What a norm adds to the variance; 0 is allowed, and leaves rows of equal numbers without a result.
fn eps(numbers: Numbers) -> SBoxedStrategy<f32> {
    prop_oneof![9 => numbers.positive(EPS), 1 => Just(0.0)].sboxed()
}

/// Dimensions cut to a budget of elements.
fn tensor(axes: std::ops::RangeInclusive<usize>) -> SBoxedStrategy<Vec<usize>> {
    (shape(axes), budget())
        .prop_map(|(mut dims, budget)| {
            fit(&mut dims, budget, product);
            dims
        })
        .sboxed()
}

fn affine() -> impl Strategy<Value = Affine> + Send + Sync {
    // Both operands, as nearly always, are the simple case.
    any::<[bool; 2]>().prop_map(|[no_weight, no_bias]| Affine { weight: !no_weight, bias: !no_bias })
}

pub(super) fn softmax(log: bool, numbers: Numbers) -> SBoxedStrategy<Op> {
    let scale = numbers.real(&[1.0, 1.0, 1.0, 0.125, 2.0, 1.5, -1.0, 0.0, 1e4, 1e20, -1e30, 1e-20]);
    (tensor(1..=4), any::<Index>(), any::<bool>(), scale)
        .prop_map(move |(shape, axis, inner, scale)| {
            let axis = if inner { axis.index(shape.len()) } else { shape.len() - 1 };
            Op::Softmax(Softmax { shape, axis, log, scale })
        })
        .sboxed()
}

pub(super) fn layer_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    (tensor(1..=4), any::<Index>(), affine(), eps(numbers))
        .prop_map(|(shape, axes, affine, eps)| {
            let axes = 1 + axes.index(shape.len());
            Op::LayerNorm(LayerNorm { shape, axes, affine, eps })
        })
        .sboxed()
}

pub(super) fn rms_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    (tensor(1..=4), any::<[bool; 2]>(), numbers.real(&[0.0, 1.0, -0.5]), eps(numbers))
        .prop_map(|(shape, [no_weight, round_before_weight], weight_offset, eps)| {
            // An offset is added to a weight.
            let weight_offset = if no_weight { 0.0 } else { weight_offset };
            Op::RmsNorm(RmsNorm { shape, weight: !no_weight, weight_offset, eps, round_before_weight })
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
            Op::BatchNorm(BatchNorm { shape, mode, affine, eps, momentum })
        })
        .sboxed()
}

pub(super) fn group_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    let shape = (shape(2..=4), select(vec![1usize, 2, 3, 4, 8, 32]), budget());
    (shape, affine(), eps(numbers))
        .prop_map(|((mut shape, groups, budget), affine, eps)| {
            fit(&mut shape, budget.div_ceil(groups), product);
            shape[1] *= groups;
            Op::GroupNorm(GroupNorm { shape, groups, affine, eps })
        })
        .sboxed()
}

pub(super) fn instance_norm(numbers: Numbers) -> SBoxedStrategy<Op> {
    (tensor(2..=4), affine(), eps(numbers))
        .prop_map(|(shape, affine, eps)| Op::InstanceNorm(InstanceNorm { shape, affine, eps }))
        .sboxed()
}

/// The function of that name.
pub(super) fn activation(name: &'static str, numbers: Numbers) -> SBoxedStrategy<Op> {
    let function = match name {
        "leaky_relu" => numbers
            .real(&[0.01, 0.2, 0.0, 1.0, -0.5, 2.0])
            .prop_map(|slope| Unary::LeakyRelu { slope })
            .sboxed(),
        "swish" => {
            numbers.real(&[1.0, 1.702, 0.0, -1.0, 8.0]).prop_map(|beta| Unary::Swish { beta }).sboxed()
        }
        "elu" => numbers.real(&[1.0, 0.5, 0.0, -1.0, 1.67]).prop_map(|alpha| Unary::Elu { alpha }).sboxed(),
        "relu" => Just(Unary::Relu).sboxed(),
        "sigmoid" => Just(Unary::Sigmoid).sboxed(),
        "tanh" => Just(Unary::Tanh).sboxed(),
        "gelu" => Just(Unary::Gelu).sboxed(),
        "gelu_tanh" => Just(Unary::GeluTanh).sboxed(),
        "silu" => Just(Unary::Silu).sboxed(),
        "softplus" => Just(Unary::Softplus).sboxed(),
        "hard_swish" => Just(Unary::HardSwish).sboxed(),
        "mish" => Just(Unary::Mish).sboxed(),
        "erf" => Just(Unary::Erf).sboxed(),
        _ => Just(Unary::Exp).sboxed(),
    };
    (tensor(0..=4), function)
        .prop_map(|(shape, function)| Op::Activation(Activation { shape, function }))
        .sboxed()
}

pub(super) fn glu(gate: Unary) -> SBoxedStrategy<Op> {
    (tensor(1..=4), select(GluLayout::ALL))
        .prop_map(move |(shape, layout)| Op::Glu(Glu { shape, gate, layout }))
        .sboxed()
}

pub(super) fn rope(numbers: Numbers) -> SBoxedStrategy<Op> {
    let base = match numbers {
        Numbers::Moderate => select(vec![10_000.0f32, 500_000.0, 1e6, 100.0, 2.0]).sboxed(),
        Numbers::Any => (1.5f32..1e7).sboxed(),
    };
    let shape = (
        (select(vec![1usize, 2, 3]), size(33), size(257)),
        (positive_size(129), prop::option::weighted(0.3, size(129))),
        budget(),
    );
    let switches = (any::<[bool; 2]>(), select(RopeTables::ALL));
    (shape, select(RopeStyle::ALL), base, scaling(numbers), switches)
        .prop_map(|(shape, style, base, scaling, ([batched_positions, freq_factors], tables))| {
            let ((batch, heads, len), (pairs, rest), budget) = shape;
            let mut dims = [batch, heads, len, pairs, rest.unwrap_or(0)];
            fit(&mut dims, budget, |dims| match dims {
                [outer @ .., pairs, rest] => product(outer).saturating_mul(2 * pairs + rest),
                [] | [_] => 0,
            });
            let [batch, heads, len, pairs, rest] = dims;
            // NTK's exponent r/(r − 2) needs more than one pair.
            let pairs = if matches!(scaling, RopeScaling::Ntk { .. }) { pairs.max(2) } else { pairs };
            let (rotary_dim, head_dim) = (2 * pairs, 2 * pairs + rest);
            let shape = Rope { batch, heads, len, head_dim, rotary_dim, ..unscaled(style, base) };
            Op::Rope(Rope { scaling, batched_positions, freq_factors, tables, ..shape })
        })
        .sboxed()
}

/// A rope of no size and without choices.
fn unscaled(style: RopeStyle, base: f32) -> Rope {
    Rope {
        batch: 0,
        heads: 0,
        len: 0,
        head_dim: 0,
        rotary_dim: 0,
        style,
        base,
        scaling: RopeScaling::None,
        batched_positions: false,
        freq_factors: false,
        tables: RopeTables::Prepared,
    }
}

fn scaling(numbers: Numbers) -> SBoxedStrategy<RopeScaling> {
    let factor = || numbers.positive(&[2.0, 4.0, 8.0, 1.0, 0.5, 40.0]);
    let original = || numbers.positive(&[8192.0, 4096.0, 2048.0, 512.0]);
    let turns = || numbers.positive(&[32.0, 1.0, 4.0]);
    prop_oneof![
        4 => Just(RopeScaling::None),
        1 => factor().prop_map(|factor| RopeScaling::Linear { factor }),
        1 => factor().prop_map(|factor| RopeScaling::Ntk { factor }),
        1 => (factor(), original(), turns(), turns()).prop_map(|(factor, original, beta_fast, beta_slow)| {
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow }
        }),
        1 => (factor(), select(vec![1.0f32, 0.5, 2.0]), select(vec![3.0f32, 0.5, 15.0]), original()).prop_map(
            |(factor, low, width, original)| {
                RopeScaling::Llama3 { factor, low, high: low + width, original }
            }
        ),
    ]
    .sboxed()
}
