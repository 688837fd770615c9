//! Planted faults of attention: which keys, which scores, which way through them.

use touchstone_kernels::op::{Attention, Causal, Mask, Op};
use touchstone_kernels::{BackendError, Family, Inputs, Problem};

use super::flow::{Flow, Kept, Pair, Rules, Score, Slip, biased, capped, right_score};
use super::planted::{SHORT, Specimen, misread, mistaken, naive, naive_on, unsupported};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = scales();
    all.extend(positions());
    all.extend(masks());
    all.extend(biases());
    all.extend(streams());
    all.extend(layouts());
    all
}

fn spec_of(problem: &Problem) -> Option<&Attention> {
    match &problem.op {
        Op::Attention(spec) => Some(spec),
        _ => None,
    }
}

/// The right answer to another problem.
fn other(
    name: &'static str,
    about: &'static str,
    differs: fn(&Attention) -> bool,
    change: fn(&mut Attention),
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        let mut spec = spec_of(problem).ok_or_else(unsupported)?.clone();
        change(&mut spec);
        naive_on(Op::Attention(spec), problem.dtype, inputs)
    };
    Specimen::new(Some(Family::Attention), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

/// The right answer to an operand misread.
fn misreading(
    name: &'static str,
    about: &'static str,
    differs: fn(&Attention) -> bool,
    operand: &'static str,
    change: fn(&Attention, &mut Vec<f64>),
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        let spec = spec_of(problem).ok_or_else(unsupported)?;
        naive(problem, &misread(problem, inputs, operand, |values| change(spec, values))?)
    };
    Specimen::new(Some(Family::Attention), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

/// A stream that goes wrong.
fn stream(name: &'static str, about: &'static str, differs: fn(&Attention) -> bool, flow: Flow) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| flow.attend(problem, inputs);
    Specimen::new(Some(Family::Attention), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

const RIGHT: Flow = Flow::RIGHT;

fn slipping(slip: Slip) -> Flow {
    Flow { slip, ..RIGHT }
}

fn seeing(keys: fn(&Attention, usize) -> std::ops::Range<usize>) -> Flow {
    Flow { rules: Rules { keys, ..RIGHT.rules }, ..RIGHT }
}

fn scoring(score: fn(&Attention, &Pair) -> Option<Score>) -> Flow {
    Flow { rules: Rules { score, ..RIGHT.rules }, ..RIGHT }
}

fn usual_scale(spec: &Attention) -> bool {
    spec.scale == Attention::default_scale(spec.head_dim)
}

fn scales() -> Vec<Specimen> {
    vec![
        other("scale-missing", "Scores are q·k, without 1/√D.", |s| s.scale != 1.0, |s| s.scale = 1.0),
        other("scale-twice", "Both q and the scores are scaled.", |s| s.scale != 1.0, |s| s.scale *= s.scale),
        other(
            "scale-of-model-dim",
            "1/√ of heads·D instead of D.",
            |s| usual_scale(s) && s.q_heads > 1,
            |s| s.scale = Attention::default_scale(s.q_heads * s.head_dim),
        ),
        other(
            "scale-of-value-dim",
            "1/√Dv instead of 1/√D.",
            |s| usual_scale(s) && s.v_dim != s.head_dim,
            |s| s.scale = Attention::default_scale(s.v_dim),
        ),
    ]
}

fn positions() -> Vec<Specimen> {
    vec![
        stream(
            "first-key-dropped",
            "The loop over keys begins at the second.",
            |s| s.kv_len > 1,
            seeing(|s, i| {
                let keys = s.key_range(i);
                (keys.start + 1).min(keys.end)..keys.end
            }),
        ),
        stream(
            "last-key-dropped",
            "The loop over keys ends one too early.",
            |s| s.kv_len > 1,
            seeing(|s, i| {
                let keys = s.key_range(i);
                keys.start..keys.end.saturating_sub(1).max(keys.start)
            }),
        ),
        stream(
            "causal-sees-next",
            "j ≤ i + 1 in place of j ≤ i.",
            |s| s.causal != Causal::None && s.kv_len > 1 && s.q_len > 1 && s.window.is_none(),
            seeing(|s, i| s.key_range(i).start..(s.key_range(i).end + 1).min(s.kv_len)),
        ),
        stream(
            "causal-misses-own",
            "j < i in place of j ≤ i.",
            |s| s.causal != Causal::None && s.kv_len > 1,
            seeing(|s, i| {
                let keys = s.key_range(i);
                keys.start..keys.end.min(s.aligned(i).max(0) as usize).max(keys.start)
            }),
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
        stream(
            "window-aligned-with-first-key",
            "The window moves with i and not with i + Lk − Lq.",
            |s| s.window.is_some() && s.causal != Causal::TopLeft && s.q_len != s.kv_len,
            seeing(|s, i| {
                let window =
                    s.window.unwrap_or(touchstone_kernels::op::attention::Window { left: None, right: None });
                let right = if s.causal == Causal::None { window.right } else { Some(0) };
                let end = right.map_or(s.kv_len, |r| (i + r + 1).min(s.kv_len));
                window.left.map_or(0, |left| i.saturating_sub(left)).min(end)..end
            }),
        ),
    ]
}

fn masks() -> Vec<Specimen> {
    vec![
        stream(
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
        stream(
            "mask-after-softmax",
            "Probabilities are masked, and no longer add up to 1.",
            |s| matches!(s.mask, Mask::Boolean(_) | Mask::Padding),
            scoring(|s, pair| match pair.mask {
                Some(_) => right_score(s, pair),
                None => right_score(s, &Pair { mask: Some(0.0), ..*pair }).map(Score::weightless),
            }),
        ),
        stream(
            "mask-before-scale",
            "The additive mask joins q·k and is scaled with it.",
            |s| matches!(s.mask, Mask::Additive(_)) && s.scale != 1.0 && s.softcap.is_none() && !s.alibi,
            scoring(|s, pair| Score::of(s.scale * (pair.product + pair.mask?))),
        ),
        stream(
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
        stream("masked-row-nan", "0/0 where a query sees no key.", empties, slipping(Slip::EmptyRowDivided)),
        stream(
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

fn biases() -> Vec<Specimen> {
    vec![
        stream(
            "softcap-before-scale",
            "q·k is capped first, and scaled then.",
            |s| s.softcap.is_some(),
            scoring(|s, pair| Score::of(biased(s, pair, s.scale * capped(s, pair.product), pair.mask?))),
        ),
        stream(
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
        stream(
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
            Some(Family::Attention),
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
        stream(
            "lse-without-maximum",
            "log Σ, and m forgotten.",
            |s| s.lse,
            slipping(Slip::LseWithoutMaximum),
        ),
    ]
}

fn streams() -> Vec<Specimen> {
    let stored =
        |name, about, kept| stream(name, about, |s| s.kv_len > 8, Flow { kept, ..RIGHT }).only(SHORT);
    vec![
        stream(
            "maximum-forgotten",
            "exp(s) without a maximum subtracted overflows.",
            |_| true,
            slipping(Slip::MaximumForgotten),
        ),
        stream(
            "output-not-rescaled",
            "Online softmax: a new maximum does not rescale the sums over V.",
            |s| s.kv_len > 16,
            slipping(Slip::OutputNotRescaled),
        ),
        stream(
            "sum-not-rescaled",
            "Online softmax: a new maximum does not rescale the denominator.",
            |s| s.kv_len > 16,
            slipping(Slip::SumNotRescaled),
        ),
        stream(
            "split-added",
            "Split-KV: parts are added without regard to their maxima.",
            |s| s.kv_len > 1,
            Flow { parts: 4, ..slipping(Slip::PartsAdded) },
        ),
        stream(
            "split-averaged",
            "Split-KV: parts are normalised and averaged.",
            |s| s.kv_len > 1,
            Flow { parts: 4, ..slipping(Slip::PartsAveraged) },
        ),
        stream(
            "last-tile-skipped",
            "Only full tiles of keys are computed.",
            |s| s.kv_len % 16 != 0,
            slipping(Slip::LastTileSkipped),
        ),
        stream(
            "tile-filled-up",
            "The zero keys that fill up the last tile are counted.",
            |s| s.kv_len % 16 != 0,
            slipping(Slip::TileFilledUp),
        ),
        stored("products-in-storage", "q·k is accumulated in the storage type.", Kept::Products),
        stored("scores-in-storage", "Scores are written out in the storage type.", Kept::Scores),
        stored("probabilities-in-storage", "P is rounded before P·V, undeclared.", Kept::Probabilities),
        stored("denominator-in-storage", "Σ exp is kept in the storage type.", Kept::Sum),
        stored("output-in-storage", "The sums over V are kept in the storage type.", Kept::Output),
    ]
}

fn layouts() -> Vec<Specimen> {
    vec![
        stream(
            "gqa-modulo",
            "Query head h reads key/value head h mod Hkv.",
            |s| s.kv_heads > 1 && s.kv_heads < s.q_heads,
            Flow { rules: Rules { kv_head: |s, h| h % s.kv_heads, ..RIGHT.rules }, ..RIGHT },
        ),
        stream(
            "gqa-first-head",
            "Every query head reads the first key/value head.",
            |s| s.kv_heads > 1,
            Flow { rules: Rules { kv_head: |_, _| 0, ..RIGHT.rules }, ..RIGHT },
        ),
        misreading(
            "k-transposed-when-square",
            "K is read as Kᵀ, which the shape hides when Lk = D.",
            |s| s.kv_rows() == s.head_dim && s.head_dim > 1,
            "k",
            |s, k| transpose(k, s.head_dim),
        ),
        misreading(
            "v-transposed-when-square",
            "V is read as Vᵀ, which the shape hides when Lk = Dv.",
            |s| s.kv_rows() == s.v_dim && s.v_dim > 1,
            "v",
            |s, v| transpose(v, s.v_dim),
        ),
        misreading(
            "heads-and-queries-exchanged",
            "q [B,H,L,D] is read as [B,L,H,D].",
            |s| s.q_heads > 1 && s.q_len > 1,
            "q",
            |s, q| {
                let old = q.clone();
                let (heads, len, d) = (s.q_heads, s.q_len, s.head_dim);
                for (row, q) in q.chunks_mut(d).enumerate() {
                    let (b, h, i) = (row / (heads * len), row / len % heads, row % len);
                    q.copy_from_slice(&old[((b * len + i) * heads + h) * d..][..d]);
                }
            },
        ),
        misreading(
            "head-tail-dropped",
            "Channels beyond the last multiple of 16 are left out of q·k.",
            |s| s.head_dim % 16 != 0,
            "q",
            |s, q| q.chunks_mut(s.head_dim).for_each(|row| row[s.head_dim / 16 * 16..].fill(0.0)),
        ),
        Specimen::new(
            Some(Family::Attention),
            "value-tail-dropped",
            "Channels of V beyond the last multiple of 16 are left zero.",
            |p| spec_of(p).is_some_and(|s| s.v_dim % 16 != 0),
            |problem, inputs| {
                let v_dim = spec_of(problem).ok_or_else(unsupported)?.v_dim;
                mistaken(problem, &naive(problem, inputs)?, |name, values| {
                    if name == "out" {
                        values.chunks_mut(v_dim).for_each(|row| row[v_dim / 16 * 16..].fill(0.0));
                    }
                })
            },
        ),
        Specimen::new(
            Some(Family::Attention),
            "cache-stride-ignored",
            "A cache is read as if it were only as long as it is full.",
            |p| spec_of(p).is_some_and(|s| s.kv_rows() > s.kv_len && s.batch * s.kv_heads > 1),
            packed,
        ),
        other(
            "cache-read-to-its-end",
            "The rows of a cache that are not yet written are attended to.",
            |s| s.kv_rows() > s.kv_len && s.mask == Mask::None,
            |s| s.kv_len = s.kv_rows(),
        ),
    ]
}

fn transpose(values: &mut [f64], n: usize) {
    for square in values.chunks_mut(n * n) {
        for i in 0..n {
            for j in 0..i {
                square.swap(i * n + j, j * n + i);
            }
        }
    }
}

/// Keys and values as they lie in memory, without the gaps between heads.
fn packed(problem: &Problem, inputs: &Inputs) -> super::planted::Computed {
    let spec = spec_of(problem).ok_or_else(unsupported)?;
    let op = Op::Attention(Attention { cache: None, ..spec.clone() });
    let whole = Problem { op, dtype: problem.dtype };
    let rows = spec.batch * spec.kv_heads * spec.kv_len;
    let cut = |name: &str, width: usize| -> Result<_, BackendError> {
        let operand = whole.operands().into_iter().find(|o| o.name == name).ok_or_else(unsupported)?;
        let values = inputs.get(name).ok_or_else(unsupported)?.to_f64();
        super::planted::tensor(operand.element, &operand.shape, &values[..rows * width])
    };
    let mut tensors = vec![("k", cut("k", spec.head_dim)?), ("v", cut("v", spec.v_dim)?)];
    let others = inputs.iter().filter(|(name, _)| !matches!(*name, "k" | "v"));
    tensors.extend(others.map(|(name, tensor)| (name, tensor.clone())));
    naive(&whole, &Inputs::new(&whole, tensors)?)
}
