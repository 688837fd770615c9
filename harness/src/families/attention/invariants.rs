//! Invariants of attention.

use touchstone_kernels::Backend;
use touchstone_kernels::op::attention::FAMILY;
use touchstone_kernels::op::attention::MaskAxes;
use touchstone_kernels::op::{Attention, Causal, Mask};

use crate::invariants::Invariant;
use crate::invariants::answer::{Answer, Held, Returned, Stop, applies, doubled, ensure, negated};

pub(super) fn invariants() -> Vec<Invariant> {
    let family = Some(&FAMILY);
    vec![
        Invariant {
            name: "attention-hull",
            family,
            about: "The output lies between the least and the largest visible value; where no key is visible it is 0.",
            holds: hull,
        },
        Invariant {
            name: "attention-future",
            family,
            about: "A hidden key and its value may change, and not a bit of the output does.",
            holds: future,
        },
        Invariant {
            name: "attention-permutation",
            family,
            about: "Keys in another order, with their values and masks, give the same.",
            holds: permutation,
        },
        Invariant { name: "attention-weights-sum-to-one", family, about: "Values of 1 give 1.", holds: ones },
        Invariant {
            name: "attention-is-linear",
            family,
            about: "Twice the values give twice the output.",
            holds: linear,
        },
        Invariant {
            name: "attention-scale",
            family,
            about: "Twice the queries at half the scale give the same.",
            holds: scale,
        },
        Invariant {
            name: "attention-groups",
            family,
            about: "Grouped heads give what copies of their keys and values do.",
            holds: grouped,
        },
        Invariant {
            name: "attention-mask-forms",
            family,
            about: "A boolean mask is an additive one of 0 and −∞.",
            holds: mask_forms,
        },
        Invariant {
            name: "attention-positions-as-mask",
            family,
            about: "Causal alignment and window are a boolean mask.",
            holds: positions_as_mask,
        },
        Invariant {
            name: "attention-cache",
            family,
            about: "A view of a cache gives what its rows alone do.",
            holds: cache,
        },
    ]
}

fn spec(answer: &Answer) -> Result<&Attention, Stop> {
    answer.problem.get().ok_or(Stop::NotApplicable)
}

/// Which keys a query sees, by position and by masks.
struct Sight<'a> {
    spec: &'a Attention,
    mask: Option<Vec<f64>>,
    lengths: Option<Vec<f64>>,
}

impl<'a> Sight<'a> {
    fn of(answer: &Answer, spec: &'a Attention) -> Self {
        let optional = |name| answer.inputs.get(name).map(|tensor| tensor.to_f64());
        Sight { spec, mask: optional("mask"), lengths: optional("lengths") }
    }

    fn sees(&self, [b, h, i]: [usize; 3], j: usize) -> bool {
        let by_data = match (self.spec.mask, &self.mask, &self.lengths) {
            (Mask::Boolean(axes), Some(mask), _) => mask[self.spec.mask_row(axes, b, h, i) + j] != 0.0,
            (Mask::Additive(axes), Some(mask), _) => {
                mask[self.spec.mask_row(axes, b, h, i) + j] != f64::NEG_INFINITY
            }
            (Mask::Padding, _, Some(lengths)) => (j as f64) < lengths[b],
            _ => true,
        };
        by_data && self.spec.key_range(i).contains(&j)
    }
}

/// Every query with the number of its row.
fn queries(spec: &Attention) -> impl Iterator<Item = ([usize; 3], usize)> {
    let (heads, len) = (spec.q_heads, spec.q_len);
    (0..spec.batch * heads * len).map(move |row| ([row / len / heads, row / len % heads, row % len], row))
}

/// The row of key j in `k` and `v` for a query.
fn key_row(spec: &Attention, [b, h, _]: [usize; 3], j: usize) -> usize {
    (b * spec.kv_heads + h / spec.group()) * spec.kv_rows() + j
}

fn all_finite(x: &[f64]) -> bool {
    x.iter().all(|x| x.is_finite())
}

/// `k` and `v` in use, where q, k and v are all finite.
fn finite_operands(answer: &Answer, spec: &Attention) -> Result<[Vec<f64>; 2], Stop> {
    let (q, k, v) = (answer.operand("q")?, answer.operand("k")?, answer.operand("v")?);
    let used = |x: &[f64], width: usize| {
        x.chunks((spec.kv_rows() * width).max(1)).all(|head| all_finite(&head[..spec.kv_len * width]))
    };
    applies(all_finite(&q) && used(&k, spec.head_dim) && used(&v, spec.v_dim))?;
    Ok([k, v])
}

fn hull(_: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let [_, v] = finite_operands(answer, spec)?;
    let (sight, out, dv) = (Sight::of(answer, spec), answer.out(), spec.v_dim);
    for (query, row) in queries(spec) {
        let visible: Vec<usize> = (0..spec.kv_len).filter(|&j| sight.sees(query, j)).collect();
        for c in 0..dv {
            let values = visible.iter().map(|&j| v[key_row(spec, query, j) * dv + c]);
            // A sink has a value of 0, and so has nothing at all.
            let zero = (spec.sinks || visible.is_empty()).then_some(0.0);
            let (low, high) = values
                .chain(zero)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
            let at = row * dv + c;
            let slack = if visible.is_empty() { 0.0 } else { out.tolerance[at] };
            ensure(out.got[at] >= low - slack && out.got[at] <= high + slack, || {
                let (place, got) = (out.place(at), out.got[at]);
                format!(
                    "{place} is {got:.9e}, and the values it sees lie in {low:.9e} … {high:.9e} ± {slack:.1e}"
                )
            })?;
        }
    }
    Ok(())
}

fn future(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let operands = finite_operands(answer, spec)?;
    let sight = Sight::of(answer, spec);
    let mut applied = false;
    // The last key, and one in the middle, for as many queries as do not see it.
    for j in [spec.kv_len.saturating_sub(1), spec.kv_len / 2] {
        let hidden: Vec<usize> = queries(spec)
            .filter(|&(query, _)| j < spec.kv_len && !sight.sees(query, j))
            .map(|(_, row)| row)
            .collect();
        if hidden.is_empty() {
            continue;
        }
        applied = true;
        let [k, v] = [(0, spec.head_dim), (1, spec.v_dim)].map(|(which, width)| {
            let mut x = operands[which].clone();
            for head in x.chunks_mut(spec.kv_rows() * width) {
                head[j * width..][..width].iter_mut().for_each(|x| *x = -*x);
            }
            x
        });
        let image = answer.with(backend, &[("k", k), ("v", v)])?;
        for (mine, theirs) in answer.results.iter().zip(&image.results) {
            unchanged(mine, theirs, &hidden, j)?;
        }
    }
    applies(applied)
}

/// Holds the rows of queries that do not see key j against an answer with another key j, to the bit.
fn unchanged(mine: &Returned, theirs: &Returned, rows: &[usize], j: usize) -> Held {
    let width = if mine.name == "lse" { 1 } else { mine.shape[3] };
    for at in rows.iter().flat_map(|row| row * width..(row + 1) * width) {
        let (a, b) = (mine.got[at], theirs.got[at]);
        ensure(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), || {
            format!("{} does not see key {j}, and changes with it from {a:.9e} to {b:.9e}", mine.place(at))
        })?;
    }
    Ok(())
}

fn permutation(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let positional = spec.causal != Causal::None || spec.window.is_some() || spec.alibi;
    applies(!positional && spec.mask != Mask::Padding && spec.kv_len > 1)?;
    // The keys in use from the last to the first.
    let turned = |x: Vec<f64>, width: usize| {
        let mut turned = x.clone();
        for (to, from) in turned.chunks_mut(spec.kv_rows() * width).zip(x.chunks(spec.kv_rows() * width)) {
            for j in 0..spec.kv_len {
                let other = spec.kv_len - 1 - j;
                to[j * width..][..width].copy_from_slice(&from[other * width..][..width]);
            }
        }
        turned
    };
    let mut changes = vec![
        ("k", turned(answer.operand("k")?, spec.head_dim)),
        ("v", turned(answer.operand("v")?, spec.v_dim)),
    ];
    if matches!(spec.mask, Mask::Boolean(_) | Mask::Additive(_)) {
        let mut mask = answer.operand("mask")?;
        mask.chunks_mut(spec.kv_len).for_each(<[f64]>::reverse);
        changes.push(("mask", mask));
    }
    answer.equals(&answer.with(backend, &changes)?, 1.0)
}

fn ones(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    applies(!spec.sinks)?;
    let [_, v] = finite_operands(answer, spec)?;
    let image = answer.with(backend, &[("v", vec![1.0; v.len()])])?;
    let (sight, out, dv) = (Sight::of(answer, spec), image.out(), spec.v_dim);
    for (query, row) in queries(spec) {
        let any = (0..spec.kv_len).any(|j| sight.sees(query, j));
        let should_be = if any { 1.0 } else { 0.0 };
        (row * dv..(row + 1) * dv).try_for_each(|at| out.holds(at, should_be, out.tolerance[at]))?;
    }
    Ok(())
}

fn linear(backend: &dyn Backend, answer: &Answer) -> Held {
    let image = answer.with(backend, &[("v", doubled(&answer.operand("v")?))])?;
    for (mine, theirs) in answer.results.iter().zip(&image.results) {
        let factor = if mine.name == "lse" { 1.0 } else { 2.0 };
        mine.relates(theirs, factor, (0..mine.got.len()).map(|i| (i, i)))?;
    }
    // And the other sign the other sign.
    let image = answer.with(backend, &[("v", negated(&answer.operand("v")?))])?;
    answer.out().relates(image.out(), -1.0, (0..answer.out().got.len()).map(|i| (i, i)))
}

fn scale(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let halved = Attention { scale: spec.scale / 2.0, ..spec.clone() };
    let changes = [("q", doubled(&answer.operand("q")?))];
    answer.equals(&answer.image(backend, halved, &changes)?, 1.0)
}

fn grouped(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    applies(spec.group() > 1)?;
    let copied = |x: Vec<f64>, width: usize| -> Vec<f64> {
        let heads = x.chunks((spec.kv_rows() * width).max(1));
        heads.flat_map(|head| head.repeat(spec.group())).collect()
    };
    let changes =
        [("k", copied(answer.operand("k")?, spec.head_dim)), ("v", copied(answer.operand("v")?, spec.v_dim))];
    let ungrouped = Attention { kv_heads: spec.q_heads, ..spec.clone() };
    answer.equals(&answer.image(backend, ungrouped, &changes)?, 1.0)
}

fn mask_forms(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let Mask::Boolean(axes) = spec.mask else { return Err(Stop::NotApplicable) };
    let mask = answer.operand("mask")?;
    let additive = mask.iter().map(|&may| if may != 0.0 { 0.0 } else { f64::NEG_INFINITY }).collect();
    let image = Attention { mask: Mask::Additive(axes), ..spec.clone() };
    answer.equals(&answer.image(backend, image, &[("mask", additive)])?, 1.0)
}

fn positions_as_mask(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let positional = spec.causal != Causal::None || spec.window.is_some();
    applies(positional && spec.mask == Mask::None)?;
    let axes = MaskAxes { batch: false, heads: false, queries: true };
    let sees = |i| (0..spec.kv_len).map(move |j| f64::from(u8::from(spec.key_range(i).contains(&j))));
    let mask = (0..spec.q_len).flat_map(sees).collect();
    let image = Attention { causal: Causal::None, window: None, mask: Mask::Boolean(axes), ..spec.clone() };
    answer.equals(&answer.image(backend, image, &[("mask", mask)])?, 1.0)
}

fn cache(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let capacity = spec.cache.ok_or(Stop::NotApplicable)?;
    let used = |x: Vec<f64>, width: usize| -> Vec<f64> {
        let heads = x.chunks((capacity * width).max(1));
        heads.flat_map(|head| head[..spec.kv_len * width].to_vec()).collect()
    };
    let changes =
        [("k", used(answer.operand("k")?, spec.head_dim)), ("v", used(answer.operand("v")?, spec.v_dim))];
    let image = Attention { cache: None, ..spec.clone() };
    answer.equals(&answer.image(backend, image, &changes)?, 1.0)
}
