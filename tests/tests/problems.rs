//! Texts of problems and cases: they go around unchanged for any spec, and no text panics.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use proptest::sample::select;
use touchstone_harness::{Case, Fill};
use touchstone_kernels::op::attention::{MaskAxes, Window};
use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::rope::RopeTables;
use touchstone_kernels::op::*;
use touchstone_kernels::{DType, Op, Problem};

fn number() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("finite", |x| x.is_finite())
}

fn positive() -> impl Strategy<Value = f32> {
    number().prop_map(f32::abs).prop_filter("positive", |&x| x > 0.0)
}

fn dims(rank: std::ops::Range<usize>) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..40, rank)
}

fn affine() -> impl Strategy<Value = Affine> {
    any::<(bool, bool)>().prop_map(|(weight, bias)| Affine { weight, bias })
}

fn attention() -> impl Strategy<Value = Op> {
    let shape = (1usize..4, 1usize..5, 1usize..5, 1usize..40, 1usize..40, 1usize..99, 1usize..99);
    let axes = any::<[bool; 3]>().prop_map(|[batch, heads, queries]| MaskAxes { batch, heads, queries });
    let mask = prop_oneof![
        Just(Mask::None),
        Just(Mask::Padding),
        axes.clone().prop_map(Mask::Boolean),
        axes.prop_map(Mask::Additive),
    ];
    let window = any::<[Option<u16>; 2]>()
        .prop_map(|[left, right]| Window { left: left.map(usize::from), right: right.map(usize::from) });
    let scores = (number(), select(Causal::ALL), prop::option::of(window), prop::option::of(positive()));
    let extras = (mask, any::<[bool; 3]>(), prop::option::of(0usize..9));
    (shape, scores, extras).prop_map(|(shape, scores, (mask, [alibi, sinks, lse], spare))| {
        let (batch, kv_heads, group, q_len, kv_len, head_dim, v_dim) = shape;
        let (scale, causal, window, softcap) = scores;
        let cache = spare.map(|spare| kv_len + spare);
        let plain = Attention::new(batch, kv_heads * group, q_len, head_dim);
        let masks = Attention { causal, window, mask, ..plain };
        Op::Attention(Attention {
            kv_heads,
            kv_len,
            v_dim,
            scale,
            softcap,
            alibi,
            sinks,
            lse,
            cache,
            ..masks
        })
    })
}

fn softmax() -> impl Strategy<Value = Op> {
    (dims(1..5), any::<prop::sample::Index>(), any::<bool>(), number()).prop_map(
        |(shape, axis, log, scale)| {
            let axis = axis.index(shape.len());
            Op::Softmax(Softmax { shape, axis, log, scale })
        },
    )
}

fn norm() -> impl Strategy<Value = Op> {
    prop_oneof![
        (dims(1..5), any::<prop::sample::Index>(), affine(), positive()).prop_map(
            |(shape, axes, affine, eps)| {
                let axes = 1 + axes.index(shape.len());
                Op::LayerNorm(LayerNorm { shape, axes, affine, eps })
            }
        ),
        (dims(1..5), any::<[bool; 2]>(), number(), positive()).prop_map(
            |(shape, [weight, round_before_weight], weight_offset, eps)| {
                Op::RmsNorm(RmsNorm { shape, weight, weight_offset, eps, round_before_weight })
            }
        ),
        (dims(2..5), select(BatchNormMode::ALL), affine(), positive(), 0f32..=1.0)
            .prop_filter("more than one value per channel", |(shape, ..)| shape.len() < 3 || shape[0] > 1)
            .prop_map(|(mut shape, mode, affine, eps, momentum)| {
                shape[0] += 1;
                Op::BatchNorm(BatchNorm { shape, mode, affine, eps, momentum })
            }),
        (dims(2..5), 1usize..5, affine(), positive()).prop_map(|(mut shape, groups, affine, eps)| {
            shape[1] *= groups;
            Op::GroupNorm(GroupNorm { shape, groups, affine, eps })
        }),
        (dims(2..5), affine(), positive()).prop_map(|(shape, affine, eps)| Op::InstanceNorm(InstanceNorm {
            shape,
            affine,
            eps
        })),
    ]
}

fn activation() -> impl Strategy<Value = Op> {
    let plain = select(vec![
        Unary::Relu,
        Unary::Sigmoid,
        Unary::Tanh,
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::Silu,
        Unary::Softplus,
        Unary::HardSwish,
        Unary::Mish,
        Unary::Erf,
        Unary::Exp,
    ]);
    let function = prop_oneof![
        plain,
        number().prop_map(|slope| Unary::LeakyRelu { slope }),
        number().prop_map(|beta| Unary::Swish { beta }),
        number().prop_map(|alpha| Unary::Elu { alpha }),
    ];
    let gates = [Unary::Sigmoid, Unary::Relu, Unary::Gelu, Unary::GeluTanh, Unary::Silu];
    prop_oneof![
        (dims(0..5), function).prop_map(|(shape, function)| Op::Activation(Activation { shape, function })),
        (dims(1..5), select(gates.to_vec()), select(GluLayout::ALL))
            .prop_map(|(shape, gate, layout)| Op::Glu(Glu { shape, gate, layout })),
    ]
}

fn rope() -> impl Strategy<Value = Op> {
    let scaling = prop_oneof![
        Just(RopeScaling::None),
        positive().prop_map(|factor| RopeScaling::Linear { factor }),
        positive().prop_map(|factor| RopeScaling::Ntk { factor }),
        (positive(), positive(), positive(), positive()).prop_map(
            |(factor, original, beta_fast, beta_slow)| RopeScaling::Yarn {
                factor,
                original,
                beta_fast,
                beta_slow
            }
        ),
        (positive(), 0.1f32..2.0, 2.5f32..9.0, positive())
            .prop_map(|(factor, low, high, original)| RopeScaling::Llama3 { factor, low, high, original }),
    ];
    let shape = (1usize..4, 1usize..9, 1usize..40, 2usize..40, 0usize..9);
    let tables = select(RopeTables::ALL);
    (shape, select(RopeStyle::ALL), 1.5f32..1e7, scaling, any::<[bool; 2]>(), tables).prop_map(
        |(
            (batch, heads, len, pairs, rest),
            style,
            base,
            scaling,
            [batched_positions, freq_factors],
            tables,
        )| {
            let (rotary_dim, head_dim) = (2 * pairs, 2 * pairs + rest);
            let plain = Rope { batch, heads, len, head_dim, rotary_dim, style, base, scaling, ..unturned() };
            Op::Rope(Rope { batched_positions, freq_factors, tables, ..plain })
        },
    )
}

/// Any valid rope, for its last fields.
fn unturned() -> Rope {
    match "rope f32 h=1 l=1 d=2".parse::<Problem>().unwrap().op {
        Op::Rope(rope) => rope,
        _ => unreachable!(),
    }
}

fn case() -> impl Strategy<Value = Case> {
    let op = prop_oneof![attention(), softmax(), norm(), activation(), rope()];
    (op, select(DType::ALL), select(Fill::ALL), any::<u64>()).prop_map(|(op, dtype, fill, seed)| Case {
        problem: Problem::new(op, dtype).unwrap(),
        fill,
        seed,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts_go_around(case in case()) {
        let text = case.problem.to_string();
        prop_assert_eq!(&text.parse::<Problem>().unwrap(), &case.problem, "{}", text);
        prop_assert_eq!(text.parse::<Problem>().unwrap().to_string(), text);
        let text = case.to_string();
        prop_assert_eq!(&text.parse::<Case>().unwrap(), &case, "{}", text);
    }

    #[test]
    fn work_is_sane(case in case()) {
        let problem = &case.problem;
        let work = problem.work();
        let operands: u64 = problem.operands().iter().map(|operand| operand.bytes()).sum();
        let results: u64 = problem.results().iter().map(|result| result.bytes()).sum();
        prop_assert!(work.bytes >= results && work.bytes <= operands + results, "{problem}: {work:?}");
        let sees_nothing = matches!(&problem.op, Op::Attention(spec) if spec.causal != Causal::None || spec.window.is_some());
        prop_assert!(work.flops > 0 || sees_nothing, "{problem}: {work:?}");
        // The most expensive element is one score: a product and a sum for each of 2·99 channels.
        prop_assert!(work.flops < 1 << 40, "{problem}: {work:?}");
    }

    #[test]
    fn garbage_is_refused_in_good_order(text in "\\PC{0,80}") {
        prop_assert!(text.parse::<Case>().is_err(), "{text}");
    }

    /// Texts that are nearly right, and numbers that are nearly too large.
    #[test]
    fn damaged_texts_do_not_panic(
        case in case(),
        at in any::<prop::sample::Index>(),
        with in select(vec!["", " ", "=", "x", "-", "0", "9999999999", "18446744073709551615", "e9", ",", "NaN", "inf", "é"]),
        len in 0usize..3,
    ) {
        let mut text: Vec<char> = case.to_string().chars().collect();
        let start = at.index(text.len());
        let end = (start + len).min(text.len());
        text.splice(start..end, with.chars());
        let text: String = text.into_iter().collect();
        if let Ok(case) = text.parse::<Case>() {
            // Whatever was understood can be said again.
            prop_assert_eq!(case.to_string().parse::<Case>().unwrap(), case, "{}", text);
        }
    }
}
