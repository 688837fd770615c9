//! What shows only where inputs or sizes are not the usual ones: scores far below 0, whole tiles hidden,
//! groups of three heads, rows of keys beyond a counter.

use touchstone_kernels::op::{Attention, Causal, Mask};

use super::{RIGHT, before, misreading, seeing, slipping, streaming};
use crate::families::attention::model::{Flow, Rules, Slip, right_score};
use crate::selftest::planted::Specimen;

pub(super) fn faults() -> Vec<Specimen> {
    let mut all = values();
    all.extend(sizes());
    all
}

fn values() -> Vec<Specimen> {
    let floor = |name, about, floor| streaming(name, about, |_| true, slipping(Slip::MaximumFrom(floor)));
    vec![
        floor("maximum-from-zero", "The running maximum starts at 0: all weights vanish below it.", 0),
        floor("maximum-from-minus-100", "The running maximum starts at −100.", -100),
        floor(
            "maximum-from-minus-10000",
            "The running maximum starts at −10⁴, like a finite penalty.",
            -10_000,
        ),
        streaming(
            "penalty-hides",
            "Whatever a mask lowers by 10⁴ or more is left out, also where nothing else is left.",
            |s| matches!(s.mask, Mask::Additive(_)),
            Flow {
                rules: Rules {
                    score: |s, pair| right_score(s, pair).filter(|_| pair.mask.is_some_and(|m| m > -9000.0)),
                    ..RIGHT.rules
                },
                ..RIGHT
            },
        ),
        streaming(
            "hidden-first-tile-nan",
            "−∞ − −∞ is NaN in a row whose first 16 keys are hidden.",
            |s| s.mask != Mask::None && s.kv_len > 16,
            slipping(Slip::HiddenFirstTile),
        ),
        misreading(
            "alibi-slopes-of-the-paper",
            "Slopes are made by the paper's formula, and those given are not read.",
            |s| s.alibi,
            "slopes",
            |s, slopes| {
                let heads = s.q_heads as f64;
                slopes.iter_mut().enumerate().for_each(|(h, x)| *x = (-8.0 * (h + 1) as f64 / heads).exp2());
            },
        ),
    ]
}

fn sizes() -> Vec<Specimen> {
    let head_counted_by =
        |kv_head: fn(&Attention, usize) -> usize| Flow { rules: Rules { kv_head, ..RIGHT.rules }, ..RIGHT };
    vec![
        streaming(
            "window-for-equal-lengths",
            "A window is placed as if there were as many keys as queries, where there are fewer.",
            |s| s.window.is_some() && s.q_len > s.kv_len && s.causal != Causal::TopLeft,
            seeing(|s, i| {
                let mut equal = s.clone();
                equal.kv_len = s.q_len;
                before(equal.key_range(i), s.kv_len)
            }),
        ),
        streaming(
            "group-by-shift",
            "The head of keys is found by a shift, which divides by powers of two only.",
            |s| !s.group().is_power_of_two(),
            head_counted_by(|s, h| (h >> s.group().ilog2()).min(s.kv_heads - 1)),
        ),
        streaming(
            "group-of-eight-at-most",
            "A group's ninth query head reads the next head of keys.",
            |s| s.group() > 8 && s.kv_heads > 1,
            head_counted_by(|s, h| (h / s.group() + usize::from(h % s.group() > 7)).min(s.kv_heads - 1)),
        ),
        streaming(
            "keys-beyond-4096",
            "A buffer for the scores of 4,096 keys: those after it are not looked at.",
            |s| s.kv_len > 4096,
            seeing(|s, i| before(s.key_range(i), 4096)),
        ),
        streaming(
            "keys-counted-in-16-bits",
            "Keys are counted in 16 bits: the 65,536th is the last.",
            |s| s.kv_len > 1 << 16,
            seeing(|s, i| before(s.key_range(i), 1 << 16)),
        ),
    ]
}
