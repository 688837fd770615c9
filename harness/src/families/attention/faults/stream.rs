//! What becomes of scores, and the way through the keys.

use touchstone_kernels::op::Causal;
use touchstone_kernels::op::attention::FAMILY;

use super::{RIGHT, misreading, other, scoring, slipping, spec_of, streaming};
use crate::families::attention::model::{Flow, Kept, Rules, Score, Slip, biased, capped, right_score};
use crate::selftest::planted::{SHORT, Specimen, mistaken, naive};

pub(super) fn faults() -> Vec<Specimen> {
    let mut all = biases();
    all.extend(streams());
    all
}

fn biases() -> Vec<Specimen> {
    vec![
        streaming(
            "softcap-before-scale",
            "q·k is capped first, and scaled then.",
            |s| s.softcap.is_some(),
            scoring(|s, pair| Score::of(biased(s, pair, s.scale * capped(s, pair.product), pair.mask?))),
        ),
        streaming(
            "softcap-after-mask",
            "The cap turns the −∞ of a masked key into −c, which is visible.",
            |s| s.softcap.is_some() && s.causal != Causal::None && s.kv_len > 1,
            Flow {
                rules: Rules {
                    keys: |s, _| 0..s.kv_len,
                    score: |s, pair| {
                        if s.key_range(pair.i).contains(&pair.j) {
                            right_score(s, pair)
                        } else {
                            Score::of(-s.softcap?)
                        }
                    },
                    ..RIGHT.rules
                },
                ..RIGHT
            },
        ),
        other("softcap-missing", "Scores are not capped.", |s| s.softcap.is_some(), |s| s.softcap = None),
        streaming(
            "softcap-clamped",
            "Scores are cut off at ±c instead of bent by tanh.",
            |s| s.softcap.is_some(),
            scoring(|s, pair| {
                let c = s.softcap.unwrap_or(f32::INFINITY);
                Score::of(biased(s, pair, (s.scale * pair.product).clamp(-c, c), pair.mask?))
            }),
        ),
        misreading(
            "alibi-sign",
            "Distant keys are favoured.",
            |s| s.alibi,
            "slopes",
            |_, slopes| slopes.iter_mut().for_each(|x| *x = -*x),
        ),
        misreading(
            "alibi-ignored",
            "Slopes are not used.",
            |s| s.alibi,
            "slopes",
            |_, slopes| slopes.fill(0.0),
        ),
        misreading(
            "alibi-of-next-head",
            "Slopes are counted from 1 where heads are from 0.",
            |s| s.alibi && s.q_heads > 1,
            "slopes",
            |_, slopes| slopes.rotate_left(1),
        ),
        misreading(
            "sink-ignored",
            "The sink is left out of the denominator.",
            |s| s.sinks,
            "sinks",
            |_, sinks| sinks.fill(-1e30),
        ),
        misreading(
            "sink-scaled",
            "The sink is multiplied by the scale of the scores.",
            |s| s.sinks && s.scale != 1.0,
            "sinks",
            |s, sinks| sinks.iter_mut().for_each(|x| *x *= s.scale as f64),
        ),
        Specimen::new(
            Some(&FAMILY),
            "lse-in-base-2",
            "The log-sum-exp is handed out as the base-2 kernel has it.",
            |p| spec_of(p).is_some_and(|s| s.lse),
            |problem, inputs| {
                mistaken(problem, &naive(problem, inputs)?, |name, values| {
                    let factor = if name == "lse" { std::f64::consts::LOG2_E } else { 1.0 };
                    values.iter_mut().for_each(|x| *x *= factor);
                })
            },
        ),
        streaming(
            "lse-without-maximum",
            "log Σ, and m forgotten.",
            |s| s.lse,
            slipping(Slip::LseWithoutMaximum),
        ),
    ]
}

fn streams() -> Vec<Specimen> {
    let stored =
        |name, about, kept| streaming(name, about, |s| s.kv_len > 8, Flow { kept, ..RIGHT }).only(SHORT);
    vec![
        streaming(
            "maximum-forgotten",
            "exp(s) without a maximum subtracted overflows.",
            |_| true,
            slipping(Slip::MaximumForgotten),
        ),
        streaming(
            "output-not-rescaled",
            "Online softmax: a new maximum does not rescale the sums over V.",
            |s| s.kv_len > 16,
            slipping(Slip::OutputNotRescaled),
        ),
        streaming(
            "sum-not-rescaled",
            "Online softmax: a new maximum does not rescale the denominator.",
            |s| s.kv_len > 16,
            slipping(Slip::SumNotRescaled),
        ),
        streaming(
            "split-added",
            "Split-KV: parts are added without regard to their maxima.",
            |s| s.kv_len > 1,
            Flow { parts: 4, ..slipping(Slip::PartsAdded) },
        ),
        streaming(
            "split-averaged",
            "Split-KV: parts are normalised and averaged.",
            |s| s.kv_len > 1,
            Flow { parts: 4, ..slipping(Slip::PartsAveraged) },
        ),
        streaming(
            "last-tile-skipped",
            "Only full tiles of keys are computed.",
            |s| !s.kv_len.is_multiple_of(16),
            slipping(Slip::LastTileSkipped),
        ),
        streaming(
            "tile-filled-up",
            "The zero keys that fill up the last tile are counted.",
            |s| !s.kv_len.is_multiple_of(16),
            slipping(Slip::TileFilledUp),
        ),
        stored("products-in-storage", "q·k is accumulated in the storage type.", Kept::Products),
        stored("scores-in-storage", "Scores are written out in the storage type.", Kept::Scores),
        stored("probabilities-in-storage", "P is rounded before P·V, undeclared.", Kept::Probabilities),
        stored("denominator-in-storage", "Σ exp is kept in the storage type.", Kept::Sum),
        stored("output-in-storage", "The sums over V are kept in the storage type.", Kept::Output),
    ]
}
