//! One query at a time in f64, touching only what it sees.
//!
//! The blocked kernels multiply the zero weight of a masked key with its value, which makes NaN
//! of an infinite or NaN one. They do so without looking, because the damage cannot hide: it is
//! NaN in their result. Rows with such a result come here.

use super::operands::{MaskRow, Operands};
use crate::dtype::Element;

/// (key, score) of every visible key of query i of head h.
fn visible<T: Element>(x: &Operands<T>, b: usize, h: usize, i: usize) -> Vec<(usize, f64)> {
    let spec = x.spec;
    let keys = x.key_range(b, i);
    let mask = x.mask_row(b, h, i, &keys);
    let q = x.query(b, h, i);
    let mut scores = Vec::with_capacity(keys.len());
    for (n, j) in keys.enumerate() {
        let mask = match &mask {
            None => 0.0,
            Some(MaskRow::Boolean(row)) if row[n] != 0 => 0.0,
            Some(MaskRow::Boolean(_)) => continue,
            Some(MaskRow::Additive(row)) => row[n].to_f32() as f64,
        };
        if mask == f64::NEG_INFINITY {
            continue;
        }
        let k = x.keys(b, h / spec.group(), &(j..j + 1));
        let product: f64 = q.iter().zip(k).map(|(q, k)| q.to_f32() as f64 * k.to_f32() as f64).sum();
        let mut score = spec.scale as f64 * product;
        if let Some(c) = spec.softcap {
            score = c as f64 * (score / c as f64).tanh();
        }
        if spec.alibi {
            score -= x.slope(h) as f64 * (x.position(i) - j as i64).abs() as f64;
        }
        score += mask;
        if score != f64::NEG_INFINITY {
            scores.push((j, score));
        }
    }
    scores
}

/// Whether query i of head h may see any key: position and mask decide, no score is computed.
pub(super) fn sees_a_key<T: Element>(x: &Operands<T>, b: usize, h: usize, i: usize) -> bool {
    let keys = x.key_range(b, i);
    match x.mask_row(b, h, i, &keys) {
        None => !keys.is_empty(),
        Some(MaskRow::Boolean(row)) => row.iter().any(|&may| may != 0),
        Some(MaskRow::Additive(row)) => row.iter().any(|bias| bias.to_f32() != f32::NEG_INFINITY),
    }
}

/// The result of query i of head h, and its log-sum-exp.
pub(super) fn attend<T: Element>(x: &Operands<T>, b: usize, h: usize, i: usize, out: &mut [T]) -> f32 {
    let spec = x.spec;
    let scores = visible(x, b, h, i);
    let sink = x.sink(h).map_or(f64::NEG_INFINITY, f64::from);
    let m = scores.iter().fold(sink, |m, &(_, s)| if s > m || s.is_nan() { s } else { m });
    if scores.is_empty() && m == f64::NEG_INFINITY {
        out.fill(T::from_f32(0.0));
        return f32::NEG_INFINITY;
    }
    let denominator = (sink - m).exp() + scores.iter().map(|&(_, s)| (s - m).exp()).sum::<f64>();
    let mut sums = vec![0.0; spec.v_dim];
    for (j, score) in scores {
        let p = (score - m).exp() / denominator;
        let v = x.values(b, h / spec.group(), &(j..j + 1));
        sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += p * v.to_f32() as f64);
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = T::from_f32(T::DTYPE.round(sum) as f32);
    }
    (m + denominator.ln()) as f32
}

/// Whether a number that query i of head h depends on is infinite or NaN.
pub(super) fn sees_non_finite<T: Element>(x: &Operands<T>, b: usize, h: usize, i: usize) -> bool {
    let finite = |x: &[T]| x.iter().all(|x| x.to_f32().is_finite());
    let kv_head = h / x.spec.group();
    let sink = x.sink(h).is_some_and(|sink| !sink.is_finite());
    sink || !finite(x.query(b, h, i))
        || visible(x, b, h, i).into_iter().any(|(j, score)| {
            let key = j..j + 1;
            !score.is_finite() || !finite(x.keys(b, kv_head, &key)) || !finite(x.values(b, kv_head, &key))
        })
}
