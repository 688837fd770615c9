//! The strategy of attention.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::SBoxedStrategy;
use touchstone_kernels::Op;
use touchstone_kernels::op::attention::{MaskAxes, Window};
use touchstone_kernels::op::{Attention, Causal, Mask};

use crate::explore::sizes::{Numbers, fit, positive_size, product, size};

/// Most products of a query with a key, times channels: some milliseconds in plain code.
const MOST_PRODUCTS: usize = 1 << 21;

pub(super) fn attention(numbers: Numbers) -> SBoxedStrategy<Op> {
    let shape = (
        (
            select(vec![1usize, 2, 3]),
            select(vec![1usize, 2, 3, 4, 5, 8, 11]),
            select(vec![1usize, 2, 3, 4, 5, 6, 7, 8, 9, 12, 17]),
        ),
        (len(513), prop_oneof![15 => len(2049), 1 => len(8193)]),
        (positive_size(257), prop::option::weighted(0.25, positive_size(257))),
        select(vec![1usize << 14, 1 << 17, 1 << 19, MOST_PRODUCTS]),
    );
    let square = any::<bool>();
    // The scale of the text's default first; small ones for fills with large products.
    let scale = prop_oneof![
        4 => Just(None),
        4 => numbers.real(&[1.0, 0.125, 1e-3, 1e-5, 1e-7, -0.1, 0.0, 30.0, 1e10, -1e4]).prop_map(Some),
    ];
    let scores = (
        scale,
        select(Causal::ALL),
        prop::option::weighted(0.3, window()),
        prop::option::weighted(0.25, numbers.positive(&[50.0, 30.0, 15.0, 2.0, 0.5])),
    );
    let extras = (
        mask(),
        weighted_bools([0.2, 0.2, 0.3]),
        prop::option::weighted(0.2, select(vec![0usize, 1, 3, 16, 51])),
    );
    (shape, square, scores, extras)
        .prop_map(|(shape, square, scores, (mask, [alibi, sinks, lse], spare))| {
            let ((batch, kv_heads, group), (q_len, kv_len), (head_dim, v_dim), most) = shape;
            let kv_len = if square { q_len } else { kv_len };
            let mut dims = [batch, kv_heads, group, q_len, kv_len, head_dim, v_dim.unwrap_or(head_dim)];
            fit(&mut dims, most, |dims| {
                let [scores @ .., head_dim, v_dim] = dims else { return 0 };
                product(scores).saturating_mul(head_dim + v_dim)
            });
            let [batch, kv_heads, group, q_len, kv_len, head_dim, own_v_dim] = dims;
            let (scale, causal, window, softcap) = scores;
            let plain = Attention::new(batch, kv_heads * group, q_len, head_dim);
            Op::from(Attention {
                kv_heads,
                kv_len: if square { q_len } else { kv_len },
                v_dim: if v_dim.is_some() { own_v_dim } else { head_dim },
                scale: scale.unwrap_or(plain.scale),
                causal,
                window,
                softcap,
                mask,
                alibi,
                sinks,
                lse,
                cache: spare.map(|spare| if square { q_len } else { kv_len } + spare),
                ..plain
            })
        })
        .sboxed()
}

/// How many queries or keys: few as often as many.
fn len(most: usize) -> impl Strategy<Value = usize> + Send + Sync {
    prop_oneof![1 => size(9), 2 => size(most)]
}

fn weighted_bools(probabilities: [f64; 3]) -> impl Strategy<Value = [bool; 3]> + Send + Sync {
    let [a, b, c] = probabilities.map(prop::bool::weighted);
    (a, b, c).prop_map(|(a, b, c)| [a, b, c])
}

/// Both sides, each perhaps unbounded, mostly about as wide as there are keys.
fn window() -> impl Strategy<Value = Window> + Send + Sync {
    let side = || prop::option::weighted(0.8, size(129));
    (side(), side()).prop_map(|(left, right)| Window { left, right })
}

fn mask() -> impl Strategy<Value = Mask> + Send + Sync {
    let axes = || any::<[bool; 3]>().prop_map(|[batch, heads, queries]| MaskAxes { batch, heads, queries });
    prop_oneof![
        5 => Just(Mask::None),
        1 => Just(Mask::Padding),
        2 => axes().prop_map(Mask::Boolean),
        2 => axes().prop_map(Mask::Additive),
    ]
}
