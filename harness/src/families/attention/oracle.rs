//! Scaled dot-product attention.
//!
//! Score s_ij is off by
//!
//! δ_ij = u·((g(D) + 2)·|scale|·Σ|q||k|, with a softcap c no more than 2c and (k_tanh + 2)·|s_ij| more,
//! with a bias 2|bias_ij| and |s_ij| more), its exponent by ε_ij = δ_ij + u·(2|s_ij − m_i| + k_exp).
//!
//! Exponentials that are off by factors e^η_j move o_c, the mean of v_jc under the weights p_j, by
//! exactly Σ p_j·(e^η_j − 1)·(v_jc − o_c) / Σ p_l·e^η_l: an error that all keys share cancels. With the
//! sums over p·v and over p the bound is
//!
//! Σ_j p_ij·(e^ε_ij − 1)·|v_jc − o_ic| / Σ_l p_il·e^−ε_il
//!   + u·((g(Lk) + 1)·Σ_j p_ij·|v_jc| + (g(Lk) + 2)·|o_ic|),
//!
//! with no more than max_j |v_jc − o_ic| for the first line: a mean lies among its values. Both hold for
//! any ε, and are computed from ln p_ij ([`exponents`](crate::oracle::exponents)): a key whose p underflows counts
//! where ε is large. The sum over p·v is conditioned by Σ p|v|, never by |o|, which may cancel.
//! The logarithm of the sum is off by ln Σ p_ij·e^ε_ij and its own roundings.
//!
//! Below f32's smallest normal number exponentials, weights and products lose up to a spacing, whatever
//! v they meet: 2⁻¹⁵⁰·(Σ|v_jc|·(k_exp/S + 1) + n + 1) more, with S the sum of exponentials. It shows
//! where the largest of them has no v, as a sink. A weight stored in f16 or bf16 loses u_s·p, or half
//! a spacing of that type's subnormal numbers.
//!
//! Blocks of queries go through f64 matrix products where all operands are finite; their error of
//! Lk·2⁻⁵³·Σ p|v| is far below the bound. Otherwise each visible pair is taken by itself, so that
//! what a masked key holds cannot leak.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, Slice, Zip};
use rayon::prelude::*;
use touchstone_kernels::op::{Attention, Causal, Mask};
use touchstone_kernels::{DType, Inputs, Problem};

use crate::oracle::exponents::{SumError, Weight, change};
use crate::oracle::rounding::{EXP, LOG, TANH, U, UNDERFLOW, growth};
use crate::oracle::{ExpectedResult, required, sum};

/// Queries that go through a matrix product together.
const BLOCK: usize = 64;

/// Queries that share a row of V while it is in the first cache.
const STRIP: usize = 8;

/// The largest response that is computed with: its products with values stay finite. From a sum of
/// responses of 1 on, the distances of the values decide.
const MAX_RESPONSE: f64 = 1e100;

pub(super) fn expect(spec: &Attention, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
    let results = problem.results();
    let mut out = ExpectedResult::new(&results[0], spec.v_dim);
    let mut storage = vec![0.0; out.value.len()];
    let mut lse = vec![(0.0, 0.0); spec.batch * spec.q_heads * spec.q_len];
    let operands = Operands::new(spec, inputs);

    let head_len = (spec.q_len * spec.v_dim).max(1);
    out.blocks(head_len)
        .zip(storage.par_chunks_mut(head_len))
        .zip(lse.par_chunks_mut(spec.q_len.max(1)))
        .enumerate()
        .for_each(|(index, ((block, storage), lse))| {
            let (batch, head) = (index / spec.q_heads, index % spec.q_heads);
            let head = Head::new(spec, problem.dtype, &operands, batch, head);
            let rows = BLOCK * spec.v_dim;
            block
                .value
                .par_chunks_mut(rows)
                .zip(block.error.par_chunks_mut(rows))
                .zip(storage.par_chunks_mut(rows))
                .zip(lse.par_chunks_mut(BLOCK))
                .enumerate()
                .for_each(|(n, (((value, error), storage), lse))| {
                    let first = n * BLOCK;
                    let attended = head.attend(first..first + lse.len());
                    value.iter_mut().zip(&attended.value).for_each(|(to, from)| *to = *from);
                    error.iter_mut().zip(&attended.error).for_each(|(to, from)| *to = *from);
                    storage.iter_mut().zip(&attended.storage).for_each(|(to, from)| *to = *from);
                    lse.copy_from_slice(&attended.lse);
                });
        });

    out.declared_error = Some(storage);
    let mut expected = vec![out];
    if spec.lse {
        let mut result = ExpectedResult::new(&results[1], 1);
        (result.value, result.error) = lse.into_iter().unzip();
        expected.push(result);
    }
    expected
}

/// The operands in f64.
struct Operands {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    mask: Option<Vec<f64>>,
    lengths: Option<Vec<f64>>,
    slopes: Option<Vec<f64>>,
    sinks: Option<Vec<f64>>,
}

impl Operands {
    fn new(spec: &Attention, inputs: &Inputs) -> Self {
        let optional = |name: &str| inputs.get(name).map(|tensor| tensor.to_f64());
        // Of a cache, only the rows in use.
        let used = |name: &str, width: usize| -> Vec<f64> {
            let all = required(inputs, name);
            all.chunks((spec.kv_rows() * width).max(1))
                .flat_map(|head| head[..spec.kv_len * width].iter().copied())
                .collect()
        };
        Operands {
            q: required(inputs, "q"),
            k: used("k", spec.head_dim),
            v: used("v", spec.v_dim),
            mask: optional("mask"),
            lengths: optional("lengths"),
            slopes: optional("slopes"),
            sinks: optional("sinks"),
        }
    }
}

/// One query head with the keys and values that it reads.
struct Head<'a> {
    spec: &'a Attention,
    dtype: DType,
    operands: &'a Operands,
    batch: usize,
    head: usize,
    q: ArrayView2<'a, f64>,
    k: ArrayView2<'a, f64>,
    v: ArrayView2<'a, f64>,
    k_magnitude: Array2<f64>,
    v_magnitude: Array2<f64>,
    finite: bool,
}

/// What a block of queries comes to: rows of Dv, and a pair per query.
struct Attended {
    value: Array2<f64>,
    error: Array2<f64>,
    /// What rounding the weights to the storage type adds.
    storage: Array2<f64>,
    lse: Vec<(f64, f64)>,
}

impl<'a> Head<'a> {
    fn new(spec: &'a Attention, dtype: DType, operands: &'a Operands, batch: usize, head: usize) -> Self {
        let view = |data: &'a [f64], index: usize, rows: usize, width: usize| {
            #[expect(clippy::expect_used, reason = "the slice is cut to the shape")]
            ArrayView2::from_shape((rows, width), &data[index * rows * width..][..rows * width])
                .expect("rows·width elements")
        };
        let kv = batch * spec.kv_heads + head / (spec.q_heads / spec.kv_heads);
        let q = view(&operands.q, batch * spec.q_heads + head, spec.q_len, spec.head_dim);
        let k = view(&operands.k, kv, spec.kv_len, spec.head_dim);
        let v = view(&operands.v, kv, spec.kv_len, spec.v_dim);
        let finite = [q, k, v].iter().all(|m| m.iter().all(|x| x.is_finite()));
        Head {
            spec,
            dtype,
            operands,
            batch,
            head,
            q,
            k,
            v,
            k_magnitude: k.mapv(f64::abs),
            v_magnitude: v.mapv(f64::abs),
            finite,
        }
    }

    /// Whether query i may see key j. An additive −∞ hides it like a boolean mask: what the key
    /// holds does not matter.
    fn visible(&self, i: usize, j: usize) -> bool {
        let spec = self.spec;
        let (row, column) = (i as i64, j as i64);
        let shift = spec.kv_len as i64 - spec.q_len as i64;
        let position = if spec.causal == Causal::TopLeft { row } else { row + shift };
        if spec.causal != Causal::None && column > position {
            return false;
        }
        if let Some(window) = spec.window {
            // The distance is not negative where it is compared, and fits.
            let too_old =
                window.left.is_some_and(|left| position > column && (position - column) as u64 > left as u64);
            let too_new = window
                .right
                .is_some_and(|right| column > position && (column - position) as u64 > right as u64);
            if too_old || too_new {
                return false;
            }
        }
        match (spec.mask, &self.operands.mask, &self.operands.lengths) {
            (Mask::Boolean(_), Some(mask), _) => mask[self.mask_index(i, j)] != 0.0,
            (Mask::Additive(_), Some(mask), _) => mask[self.mask_index(i, j)] != f64::NEG_INFINITY,
            (Mask::Padding, _, Some(lengths)) => (j as f64) < lengths[self.batch],
            _ => true,
        }
    }

    /// Where the mask entry of (i, j) lies: axes of length 1 are broadcast.
    fn mask_index(&self, i: usize, j: usize) -> usize {
        let (Mask::Boolean(axes) | Mask::Additive(axes)) = self.spec.mask else { return 0 };
        let [_, heads, queries, keys] = self.spec.mask_shape(axes);
        let b = if axes.batch { self.batch } else { 0 };
        let h = if axes.heads { self.head } else { 0 };
        let i = if axes.queries { i } else { 0 };
        ((b * heads + h) * queries + i) * keys + j
    }

    /// ALiBi and the additive mask: their sum, and the sum of their magnitudes.
    fn bias(&self, i: usize, j: usize) -> (f64, f64) {
        let mut terms = [0.0; 2];
        if let Some(slopes) = &self.operands.slopes {
            let distance = i as f64 + self.spec.kv_len as f64 - self.spec.q_len as f64 - j as f64;
            terms[0] = -slopes[self.head] * distance.abs();
        }
        if let (Mask::Additive(_), Some(mask)) = (self.spec.mask, &self.operands.mask) {
            terms[1] = mask[self.mask_index(i, j)];
        }
        (terms[0] + terms[1], terms[0].abs() + terms[1].abs())
    }

    fn attend(&self, rows: Range<usize>) -> Attended {
        let span = self.span(&rows);
        let keys = Slice::from(span.clone());
        let queries = self.q.slice_axis(Axis(0), Slice::from(rows.clone()));
        let (scores, magnitudes) = if self.finite {
            let magnitudes = queries.mapv(f64::abs).dot(&self.k_magnitude.slice_axis(Axis(0), keys).t());
            (queries.dot(&self.k.slice_axis(Axis(0), keys).t()), magnitudes)
        } else {
            self.scores_one_by_one(&rows, &span)
        };
        let mut p = Array2::zeros(scores.raw_dim());
        let mut response = Array2::zeros(scores.raw_dim());
        let mut rounded = Array2::zeros(scores.raw_dim());
        let mut stored = Array2::zeros(scores.raw_dim());
        let mut seen = Array2::from_elem(scores.raw_dim(), false);
        let mut lse = Vec::with_capacity(rows.len());
        let mut rounding = Vec::with_capacity(rows.len());
        for (r, i) in rows.clone().enumerate() {
            let row = Row {
                scores: scores.row(r).to_vec(),
                magnitudes: magnitudes.row(r).to_vec(),
                first: span.start,
            };
            let weights = self.weights(i, row);
            // An exponential that is subnormal is divided by their sum; a weight may be so itself.
            let lost = UNDERFLOW * (EXP / weights.denominator + 1.0);
            // A kernel may round its weights after they are divided by the sum.
            let coarsest = self.dtype.smallest_subnormal() / 2.0;
            for key in &weights.keys {
                let at = [r, key.index - span.start];
                p[at] = key.probability;
                response[at] = key.response;
                rounded[at] = weights.rounding.terms * key.probability + lost;
                stored[at] = (self.dtype.unit_roundoff() * key.probability).max(coarsest);
                seen[at] = true;
            }
            lse.push((weights.lse, weights.lse_error));
            rounding.push(weights.rounding);
        }
        let (v, v_magnitude) = (self.v.slice_axis(Axis(0), keys), self.v_magnitude.slice_axis(Axis(0), keys));
        let product = |weights: &Array2<f64>, values: ArrayView2<f64>| {
            if self.finite { weights.dot(&values) } else { visible_product(weights, values, &seen) }
        };
        let (value, rounded) = (product(&p, v), product(&rounded, v_magnitude));
        let mut error = spread(&response, v, &value);
        for (r, rounding) in rounding.into_iter().enumerate() {
            // The value of a sink is 0, and so its distance from o is |o|.
            let response = response.row(r).sum() + rounding.sink;
            for (c, error) in error.row_mut(r).iter_mut().enumerate() {
                let out = value[[r, c]].abs();
                *error += rounding.sink * out;
                if response > 1.0 {
                    // Whatever the weights are, their mean lies among the values.
                    let distances =
                        (0..span.len()).filter(|&j| seen[[r, j]]).map(|j| v[[j, c]] - value[[r, c]]);
                    let sink = if rounding.sink > 0.0 { out } else { 0.0 };
                    *error = error.min(distances.fold(sink, |most, distance| most.max(distance.abs())));
                }
                *error += rounded[[r, c]] + rounding.whole * out + rounding.underflow;
            }
        }
        Attended { value, error, storage: product(&stored, v_magnitude), lse }
    }

    /// The keys that any of the queries sees.
    fn span(&self, rows: &Range<usize>) -> Range<usize> {
        let seen = |j: &usize| rows.clone().any(|i| self.visible(i, *j));
        let first = (0..self.spec.kv_len).find(seen).unwrap_or(0);
        let last = (first..self.spec.kv_len).rev().find(seen).map_or(first, |j| j + 1);
        first..last
    }

    fn scores_one_by_one(&self, rows: &Range<usize>, span: &Range<usize>) -> (Array2<f64>, Array2<f64>) {
        let mut scores = Array2::zeros((rows.len(), span.len()));
        let mut magnitudes = scores.clone();
        for (r, i) in rows.clone().enumerate() {
            for (c, j) in span.clone().enumerate().filter(|&(_, j)| self.visible(i, j)) {
                let products = || self.q.row(i).into_iter().zip(self.k.row(j)).map(|(q, k)| q * k);
                scores[[r, c]] = sum(products());
                magnitudes[[r, c]] = sum(products().map(f64::abs));
            }
        }
        (scores, magnitudes)
    }

    /// The probabilities of one query's visible keys, each with what its error does.
    fn weights(&self, i: usize, row: Row) -> Weights {
        let spec = self.spec;
        let scale = spec.scale as f64;
        let has_mask = matches!(spec.mask, Mask::Additive(_));
        let has_bias = spec.alibi || has_mask;
        // Each is added by itself.
        let biases = f64::from(u8::from(spec.alibi) + u8::from(has_mask));
        // (key, score, error of the score); a score of −∞ masks its key.
        let keys: Vec<(usize, f64, f64)> = (0..row.scores.len())
            .map(|c| (c, c + row.first))
            .filter(|&(_, j)| self.visible(i, j))
            .filter_map(|(c, j)| {
                let mut score = scale * row.scores[c];
                let mut error = (growth(spec.head_dim) + 2.0) * scale.abs() * row.magnitudes[c];
                if let Some(cap) = spec.softcap {
                    let cap = cap as f64;
                    score = cap * (score / cap).tanh();
                    error = error.min(2.0 * cap / U) + (TANH + 2.0) * score.abs();
                }
                if has_bias {
                    let (bias, magnitude) = self.bias(i, j);
                    score += bias;
                    error += 2.0 * magnitude + biases * score.abs();
                }
                (score != f64::NEG_INFINITY).then_some((j, score, U * error))
            })
            .collect();
        let sink = self.operands.sinks.as_ref().map(|sinks| sinks[self.head]);
        let max = keys
            .iter()
            .map(|&(_, score, _)| score)
            .chain(sink)
            .fold(f64::NEG_INFINITY, |m, s| if s > m || s.is_nan() { s } else { m });
        let exponentials = keys.iter().map(|&(_, score, _)| score).chain(sink).map(|s| (s - max).exp());
        let denominator = sum(exponentials);
        let log_sum = denominator.ln();
        let weight = |score: f64, error: f64| Weight {
            log: (score - max) - log_sum,
            error: error + U * (2.0 * (score - max).abs() + EXP),
        };
        let of_keys: Vec<Weight> = keys.iter().map(|&(_, score, error)| weight(score, error)).collect();
        let of_sink = sink.filter(|&sink| sink != f64::NEG_INFINITY).map(|sink| weight(sink, 0.0));
        let sum_error = SumError::of(of_keys.iter().copied().chain(of_sink));
        let response = |w: Weight| change(w.log + sum_error.below, w.error).min(MAX_RESPONSE);
        let growth = growth(keys.len());
        // Nothing to attend to, not even a sink: the sum of no exponentials.
        let lse = if max == f64::NEG_INFINITY { max } else { max + log_sum };
        Weights {
            keys: keys
                .iter()
                .zip(&of_keys)
                .map(|(&(index, ..), &own)| Key {
                    index,
                    probability: own.log.exp(),
                    response: response(own),
                })
                .collect(),
            rounding: Rounding {
                terms: (growth + 1.0) * U,
                whole: (growth + 2.0) * U,
                sink: of_sink.map_or(0.0, response),
                underflow: UNDERFLOW * (keys.len() + 1) as f64,
            },
            denominator,
            lse,
            lse_error: sum_error.above + U * (growth + LOG * log_sum.abs() + 2.0 * lse.abs()),
        }
    }
}

/// Plain scores of one query against a run of keys.
struct Row {
    scores: Vec<f64>,
    magnitudes: Vec<f64>,
    first: usize,
}

/// A visible key.
struct Key {
    index: usize,
    probability: f64,
    /// By how much of its distance from the output the key's value may move the output.
    response: f64,
}

/// What the sums of a row and a sink add to the error of its output.
struct Rounding {
    /// Relative to Σ p|v|.
    terms: f64,
    /// Relative to |o|.
    whole: f64,
    /// The response of the sink.
    sink: f64,
    /// Of products and the result.
    underflow: f64,
}

struct Weights {
    keys: Vec<Key>,
    rounding: Rounding,
    /// The sum of exp(score − maximum), a sink's included.
    denominator: f64,
    lse: f64,
    lse_error: f64,
}

/// Σ_j response_ij·|v_jc − o_ic|.
fn spread(response: &Array2<f64>, v: ArrayView2<f64>, out: &Array2<f64>) -> Array2<f64> {
    let mut spread = Array2::zeros(out.raw_dim());
    let strips = spread.axis_chunks_iter_mut(Axis(0), STRIP).zip(out.axis_chunks_iter(Axis(0), STRIP));
    for (n, (mut spread, out)) in strips.enumerate() {
        for (j, v) in v.outer_iter().enumerate() {
            for r in 0..out.nrows() {
                let response = response[[n * STRIP + r, j]];
                // So that 0·NaN of a hidden key cannot arise.
                if response != 0.0 {
                    Zip::from(spread.row_mut(r))
                        .and(out.row(r))
                        .and(v)
                        .for_each(|spread, o, v| *spread += response * (v - o).abs());
                }
            }
        }
    }
    spread
}

/// Σ_j w_ij·v_jc over the pairs that are seen, so that 0·NaN of an unseen one cannot arise.
fn visible_product(weights: &Array2<f64>, values: ArrayView2<f64>, seen: &Array2<bool>) -> Array2<f64> {
    Array2::from_shape_fn((weights.nrows(), values.ncols()), |(r, c)| {
        sum((0..weights.ncols()).filter(|&j| seen[[r, j]]).map(|j| weights[[r, j]] * values[[j, c]]))
    })
}

#[cfg(test)]
mod tests;
