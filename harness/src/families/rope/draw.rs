//! The strategy of rotary position embedding.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::SBoxedStrategy;
use touchstone_kernels::Op;
use touchstone_kernels::op::rope::RopeTables;
use touchstone_kernels::op::{Rope, RopeScaling, RopeStyle};

use crate::explore::sizes::{Numbers, budget, fit, positive_size, product, size};

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
            Op::from(Rope { scaling, batched_positions, freq_factors, tables, ..shape })
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
