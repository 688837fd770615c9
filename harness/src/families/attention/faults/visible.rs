//! Which keys a query sees.

use touchstone_kernels::op::attention::Window;
use touchstone_kernels::op::{Attention, Causal, Mask};

use super::{before, misreading, other, scoring, seeing, slipping, streaming};
use crate::families::attention::model::{Pair, Score, Slip, right_score};
use crate::selftest::planted::Specimen;

pub(super) fn faults() -> Vec<Specimen> {
    let mut all = positions();
    all.extend(masks());
    all
}

fn positions() -> Vec<Specimen> {
    vec![
        streaming(
            "first-key-dropped",
            "The loop over keys begins at the second.",
            |s| s.kv_len > 1,
            seeing(|s, i| {
                let keys = s.key_range(i);
                (keys.start + 1).min(keys.end)..keys.end
            }),
        ),
        streaming(
            "last-key-dropped",
            "The loop over keys ends one too early.",
            |s| s.kv_len > 1,
            seeing(|s, i| {
                let keys = s.key_range(i);
                before(keys.clone(), keys.end.saturating_sub(1))
            }),
        ),
        streaming(
            "causal-sees-next",
            "j ≤ i + 1 in place of j ≤ i.",
            |s| s.causal != Causal::None && s.kv_len > 1 && s.q_len > 1 && s.window.is_none(),
            seeing(|s, i| s.key_range(i).start..(s.key_range(i).end + 1).min(s.kv_len)),
        ),
        streaming(
            "causal-misses-own",
            "j < i in place of j ≤ i.",
            |s| s.causal != Causal::None && s.kv_len > 1,
            seeing(|s, i| before(s.key_range(i), s.aligned(i).max(0) as usize)),
        ),
        other(
            "top-left-for-bottom-right",
            "The causal mask is aligned with the first key.",
            |s| s.causal == Causal::BottomRight && s.q_len != s.kv_len,
            |s| s.causal = Causal::TopLeft,
        ),
        other(
            "bottom-right-for-top-left",
            "The causal mask is aligned with the last key.",
            |s| s.causal == Causal::TopLeft && s.q_len != s.kv_len,
            |s| s.causal = Causal::BottomRight,
        ),
        other(
            "causal-ignored",
            "Every query sees every key.",
            |s| s.causal != Causal::None && s.q_len > 1 && s.kv_len > 1 && s.window.is_none(),
            |s| s.causal = Causal::None,
        ),
        other(
            "window-one-wider",
            "The window keeps one key more on the left.",
            |s| s.window.and_then(|w| w.left).is_some_and(|left| left + 1 < s.kv_len),
            |s| {
                s.window = s.window.map(|mut w| {
                    w.left = w.left.map(|left| left + 1);
                    w
                })
            },
        ),
        other(
            "window-exclusive",
            "The window does not keep its last key on the left.",
            |s| s.window.and_then(|w| w.left).is_some_and(|left| left > 0 && left < s.kv_len),
            |s| {
                s.window = s.window.map(|mut w| {
                    w.left = w.left.map(|left| left - 1);
                    w
                })
            },
        ),
        other(
            "window-right-one-wider",
            "The window keeps one key more on the right.",
            |s| s.causal == Causal::None && s.window.and_then(|w| w.right).is_some_and(|r| r + 1 < s.kv_len),
            |s| {
                s.window = s.window.map(|mut w| {
                    w.right = w.right.map(|right| right + 1);
                    w
                })
            },
        ),
        other(
            "window-ignored",
            "The window is not looked at.",
            |s| s.window.and_then(|w| w.left).is_some_and(|left| left + 1 < s.kv_len),
            |s| s.window = None,
        ),
        streaming(
            "window-aligned-with-first-key",
            "The window moves with i and not with i + Lk − Lq.",
            |s| s.window.is_some() && s.causal != Causal::TopLeft && s.q_len != s.kv_len,
            seeing(|s, i| {
                let window = s.window.unwrap_or(Window { left: None, right: None });
                let right = if s.causal == Causal::None { window.right } else { Some(0) };
                let end = right.map_or(s.kv_len, |r| (i + r + 1).min(s.kv_len));
                window.left.map_or(0, |left| i.saturating_sub(left)).min(end)..end
            }),
        ),
    ]
}

fn masks() -> Vec<Specimen> {
    vec![
        streaming(
            "mask-ignored-for-last-head",
            "The last head reads past the mask's heads and goes without.",
            |s| s.mask != Mask::None && s.q_heads > 1,
            scoring(|s, pair| {
                let mask = if pair.h + 1 == s.q_heads { Some(0.0) } else { pair.mask };
                right_score(s, &Pair { mask, ..*pair })
            }),
        ),
        misreading(
            "mask-of-first-batch",
            "Every batch entry is masked like the first.",
            |s| s.batch > 1 && matches!(s.mask, Mask::Boolean(a) | Mask::Additive(a) if a.batch),
            "mask",
            |s, mask| repeat_first(mask, s.batch),
        ),
        misreading(
            "mask-of-first-query",
            "A mask of [Lq, Lk] is broadcast like one of [1, Lk].",
            |s| s.q_len > 1 && matches!(s.mask, Mask::Boolean(a) | Mask::Additive(a) if a.queries),
            "mask",
            |s, mask| {
                for rows in mask.chunks_mut(s.q_len * s.kv_len) {
                    repeat_first(rows, s.q_len);
                }
            },
        ),
        misreading(
            "mask-inverted",
            "true is taken for masked.",
            |s| matches!(s.mask, Mask::Boolean(_)),
            "mask",
            |_, mask| mask.iter_mut().for_each(|x| *x = 1.0 - *x),
        ),
        streaming(
            "mask-after-softmax",
            "Probabilities are masked, and no longer add up to 1.",
            |s| matches!(s.mask, Mask::Boolean(_) | Mask::Padding),
            scoring(|s, pair| match pair.mask {
                Some(_) => right_score(s, pair),
                None => right_score(s, &Pair { mask: Some(0.0), ..*pair }).map(Score::weightless),
            }),
        ),
        streaming(
            "mask-before-scale",
            "The additive mask joins q·k and is scaled with it.",
            |s| matches!(s.mask, Mask::Additive(_)) && s.scale != 1.0 && s.softcap.is_none() && !s.alibi,
            scoring(|s, pair| Score::of(s.scale * (pair.product + pair.mask?))),
        ),
        streaming(
            "mask-by-finite-penalty",
            "Masked keys get −10000 added: NaN leaks, and a row without keys is a mean.",
            |s| matches!(s.mask, Mask::Boolean(_) | Mask::Padding),
            scoring(|s, pair| right_score(s, &Pair { mask: Some(pair.mask.unwrap_or(-10_000.0)), ..*pair })),
        ),
        misreading(
            "padding-one-too-many",
            "The first padding key is attended to.",
            |s| s.mask == Mask::Padding && s.batch > 1,
            "lengths",
            |s, lengths| lengths.iter_mut().for_each(|n| *n = (*n + 1.0).min(s.kv_len as f64)),
        ),
        misreading(
            "padding-ignored",
            "Every batch entry is taken for full.",
            |s| s.mask == Mask::Padding && s.batch > 1,
            "lengths",
            |s, lengths| lengths.fill(s.kv_len as f64),
        ),
        streaming(
            "masked-row-nan",
            "0/0 where a query sees no key.",
            empties,
            slipping(Slip::EmptyRowDivided),
        ),
        streaming(
            "masked-row-mean-of-v",
            "A query that sees no key gets the mean of V.",
            empties,
            slipping(Slip::EmptyRowAveraged),
        ),
    ]
}

/// Whether some query may see no key.
fn empties(spec: &Attention) -> bool {
    let by_position = spec.causal == Causal::BottomRight && spec.q_len > spec.kv_len;
    (by_position || spec.mask == Mask::Padding && spec.batch > 1) && !spec.sinks
}

/// Overwrites each of `n` equal parts by the first.
fn repeat_first(values: &mut [f64], n: usize) {
    let len = values.len() / n;
    for part in 1..n {
        values.copy_within(..len, part * len);
    }
}
