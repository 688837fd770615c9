//! Attention as a stream over tiles of keys (Dao et al. 2022; split-KV as in flash-decoding): right
//! in every order, and wrong where a fault says so.

use std::ops::Range;

use touchstone_kernels::op::attention::MaskAxes;
use touchstone_kernels::op::{Attention, Mask};
use touchstone_kernels::{DType, Inputs, Problem};

use crate::selftest::arithmetic::{Order, Product, max, stored};
use crate::selftest::planted::{Computed, operand, optional, results, unsupported};

/// How a kernel goes through the keys of a query.
#[derive(Clone, Copy)]
pub(super) struct Flow {
    /// Keys that are taken together.
    pub(super) tile: usize,
    /// Parts of the keys that are computed apart and merged.
    pub(super) parts: usize,
    /// Whether the last key is taken first.
    pub(super) backwards: bool,
    /// Whether results are multiplied by 1/Σ rather than divided by Σ.
    pub(super) reciprocal: bool,
    /// How q·k is formed.
    pub(super) product: Product,
    /// e^x.
    pub(super) exp: fn(f32) -> f32,
    /// Which keys, which scores.
    pub(super) rules: Rules,
    /// What is kept in the storage type that should be in f32.
    pub(super) kept: Kept,
    /// What goes wrong on the way.
    pub(super) slip: Slip,
}

impl Flow {
    /// The right way, in tiles of 16 keys.
    pub(super) const RIGHT: Flow = Flow {
        tile: 16,
        parts: 1,
        backwards: false,
        reciprocal: false,
        product: Product::Rounded(Order::Lanes(8)),
        exp: f32::exp,
        rules: Rules { kv_head: |spec, h| h / spec.group(), keys: Attention::key_range, score: right_score },
        kept: Kept::Nothing,
        slip: Slip::None,
    };
}

/// What a kernel makes of the semantics.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// The key/value head of a query head.
    pub(super) kv_head: fn(&Attention, usize) -> usize,
    /// The keys that a query may see by position.
    pub(super) keys: fn(&Attention, usize) -> Range<usize>,
    /// The score of a pair; none when the key is hidden.
    pub(super) score: fn(&Attention, &Pair) -> Option<Score>,
}

/// A query and a key.
pub(super) struct Pair {
    /// q·k.
    pub(super) product: f32,
    /// What the mask adds; none when it hides the key.
    pub(super) mask: Option<f32>,
    /// The ALiBi slope of the head, 0 where there is none.
    pub(super) slope: f32,
    /// The query head.
    pub(super) h: usize,
    /// The query.
    pub(super) i: usize,
    /// The key.
    pub(super) j: usize,
}

/// What becomes of a pair.
pub(super) struct Score {
    value: f32,
    /// Whether the value row is left out although the denominator counts the key.
    weightless: bool,
}

impl Score {
    /// A key that counts; none where its score is −∞.
    pub(super) fn of(value: f32) -> Option<Self> {
        (value != f32::NEG_INFINITY).then_some(Score { value, weightless: false })
    }

    /// A key that only the denominator knows.
    pub(super) fn weightless(self) -> Self {
        Score { weightless: true, ..self }
    }
}

/// c·tanh(s/c).
pub(super) fn capped(spec: &Attention, score: f32) -> f32 {
    spec.softcap.map_or(score, |c| c * (score / c).tanh())
}

/// A capped score with its bias.
pub(super) fn biased(spec: &Attention, pair: &Pair, score: f32, mask: f32) -> f32 {
    let distance = (pair.i + spec.kv_len).abs_diff(spec.q_len + pair.j) as f32;
    score - pair.slope * distance + mask
}

/// scale, softcap, bias, mask, in that order.
pub(super) fn right_score(spec: &Attention, pair: &Pair) -> Option<Score> {
    let mask = pair.mask?;
    Score::of(biased(spec, pair, capped(spec, spec.scale * pair.product), mask))
}

/// What is rounded to the storage type on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Nothing: all is f32.
    Nothing,
    /// The dot products, term by term.
    Products,
    /// The scores.
    Scores,
    /// The probabilities that multiply V.
    Probabilities,
    /// The denominator.
    Sum,
    /// The sums over V.
    Output,
}

/// What goes wrong on the way through the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slip {
    /// Nothing.
    None,
    /// A new maximum does not rescale the sums over V.
    OutputNotRescaled,
    /// A new maximum does not rescale the denominator.
    SumNotRescaled,
    /// No maximum is subtracted.
    MaximumForgotten,
    /// The running maximum starts at this number.
    MaximumFrom(i32),
    /// A row is NaN whose first 16 keys are hidden, and others not.
    HiddenFirstTile,
    /// Parts are added as they are.
    PartsAdded,
    /// Parts are averaged, each normalised by itself.
    PartsAveraged,
    /// A tile that is not full is left out.
    LastTileSkipped,
    /// A tile that is not full is filled up with keys of score 0.
    TileFilledUp,
    /// A row without keys is divided by its empty sum.
    EmptyRowDivided,
    /// A row without keys gets every key with the same weight.
    EmptyRowAveraged,
    /// log Σ without the maximum that was subtracted.
    LseWithoutMaximum,
}

/// Sums over some of the keys, relative to the largest score among them.
struct Part {
    max: f32,
    sum: f32,
    out: Vec<f32>,
}

struct Key<'a> {
    score: Score,
    value: &'a [f32],
}

impl Flow {
    /// The results of a problem.
    pub(super) fn attend(&self, problem: &Problem, inputs: &Inputs) -> Computed {
        let spec = problem.get::<Attention>().ok_or_else(unsupported)?;
        let (d, dv, rows) = (spec.head_dim, spec.v_dim, spec.kv_rows());
        let (q, k, v) = (operand(inputs, "q")?, operand(inputs, "k")?, operand(inputs, "v")?);
        let mask = Masks::new(spec, inputs);
        let slopes = optional(inputs, "slopes");
        let sinks = optional(inputs, "sinks");
        let product = if self.kept == Kept::Products { Product::Stored(problem.dtype) } else { self.product };
        let (mut out, mut lse) = (Vec::with_capacity(spec.q_len * dv), Vec::new());
        for row in 0..spec.batch * spec.q_heads * spec.q_len {
            let (i, h, b) =
                (row % spec.q_len, row / spec.q_len % spec.q_heads, row / spec.q_len / spec.q_heads);
            let head = b * spec.kv_heads + (self.rules.kv_head)(spec, h);
            let slope = slopes.as_ref().map_or(0.0, |slopes| slopes[h]);
            let key = |j: usize| -> Option<Key> {
                let product = product.of(&q[row * d..][..d], &k[(head * rows + j) * d..][..d]);
                let pair = Pair { product, mask: mask.of(b, h, i, j), slope, h, i, j };
                let mut score = (self.rules.score)(spec, &pair)?;
                if self.kept == Kept::Scores {
                    score.value = stored(problem.dtype, score.value);
                }
                Some(Key { score, value: &v[(head * rows + j) * dv..][..dv] })
            };
            let seen = (self.rules.keys)(spec, i);
            let first = seen.start;
            let mut keys: Vec<Key> = seen.filter_map(key).collect();
            let is_hidden = |j: usize| j >= spec.kv_len || key(j).is_none();
            if self.slip == Slip::HiddenFirstTile && !keys.is_empty() && (first..first + 16).all(is_hidden) {
                keys[0].score.value = f32::NAN;
            }
            if self.backwards {
                keys.reverse();
            }
            if keys.is_empty() && self.slip == Slip::EmptyRowAveraged {
                let value = |j: usize| &v[(head * rows + j) * dv..][..dv];
                let same = |j| Key { score: Score { value: 0.0, weightless: false }, value: value(j) };
                keys = (0..spec.kv_len).map(same).collect();
            }
            let (row, log) = self.row(problem.dtype, &keys, sinks.as_ref().map(|sinks| sinks[h]), dv);
            out.extend(row);
            lse.push(log);
        }
        results(problem, &[out, lse])
    }

    /// One row of the output, and its log-sum-exp.
    fn row(&self, dtype: DType, keys: &[Key], sink: Option<f32>, dv: usize) -> (Vec<f32>, f32) {
        let size = keys.len().div_ceil(self.parts).max(1);
        let mut parts: Vec<Part> = keys.chunks(size).map(|keys| self.part(dtype, keys, dv)).collect();
        parts.extend(sink.map(|sink| Part { max: sink, sum: 1.0, out: vec![0.0; dv] }));
        let m = parts.iter().map(|part| part.max).fold(f32::NEG_INFINITY, max);
        if m == f32::NEG_INFINITY && self.slip != Slip::EmptyRowDivided {
            return (vec![0.0; dv], m);
        }
        let count = parts.len() as f32;
        let mut whole = Part { max: m, sum: 0.0, out: vec![0.0; dv] };
        for part in parts {
            let factor = match self.slip {
                Slip::PartsAdded => 1.0,
                Slip::PartsAveraged => 1.0 / (part.sum * count),
                _ => (self.exp)(part.max - m),
            };
            whole.sum += factor * part.sum;
            whole.out.iter_mut().zip(part.out).for_each(|(sum, x)| *sum += factor * x);
        }
        let log = if self.slip == Slip::LseWithoutMaximum { whole.sum.ln() } else { m + whole.sum.ln() };
        let inverse = 1.0 / whole.sum;
        let divide = |x: f32| if self.reciprocal { x * inverse } else { x / whole.sum };
        (whole.out.into_iter().map(divide).collect(), log)
    }

    /// The sums over a part of the keys, tile by tile.
    fn part(&self, dtype: DType, keys: &[Key], dv: usize) -> Part {
        let keep = |what: Kept, x: f32| if self.kept == what { stored(dtype, x) } else { x };
        let floor = match self.slip {
            Slip::MaximumFrom(floor) => floor as f32,
            _ => f32::NEG_INFINITY,
        };
        let mut part = Part { max: floor, sum: 0.0, out: vec![0.0; dv] };
        for tile in keys.chunks(self.tile) {
            if tile.len() < self.tile && self.slip == Slip::LastTileSkipped {
                break;
            }
            let m = match self.slip {
                Slip::MaximumForgotten => 0.0,
                _ => tile.iter().map(|key| key.score.value).fold(part.max, max),
            };
            let factor = (self.exp)(part.max - m);
            part.max = m;
            part.sum *= if self.slip == Slip::SumNotRescaled { 1.0 } else { factor };
            if self.slip != Slip::OutputNotRescaled {
                part.out.iter_mut().for_each(|x| *x *= factor);
            }
            for key in tile {
                let p = (self.exp)(key.score.value - m);
                part.sum = keep(Kept::Sum, part.sum + p);
                if key.score.weightless {
                    continue;
                }
                let p = keep(Kept::Probabilities, p);
                for (sum, v) in part.out.iter_mut().zip(key.value) {
                    *sum = keep(Kept::Output, *sum + p * v);
                }
            }
            if self.slip == Slip::TileFilledUp {
                part.sum += (self.tile - tile.len()) as f32 * (self.exp)(-m);
            }
        }
        part
    }
}

/// The mask that is data.
struct Masks<'a> {
    spec: &'a Attention,
    axes: Option<MaskAxes>,
    mask: Option<Vec<f32>>,
    lengths: Option<Vec<f32>>,
}

impl<'a> Masks<'a> {
    fn new(spec: &'a Attention, inputs: &Inputs) -> Self {
        let axes = match spec.mask {
            Mask::Boolean(axes) | Mask::Additive(axes) => Some(axes),
            Mask::None | Mask::Padding => None,
        };
        Masks { spec, axes, mask: optional(inputs, "mask"), lengths: optional(inputs, "lengths") }
    }

    fn of(&self, b: usize, h: usize, i: usize, j: usize) -> Option<f32> {
        if let Some(lengths) = &self.lengths {
            return ((j as f32) < lengths[b]).then_some(0.0);
        }
        let (Some(axes), Some(mask)) = (self.axes, &self.mask) else { return Some(0.0) };
        let x = mask[self.spec.mask_row(axes, b, h, i) + j];
        match self.spec.mask {
            Mask::Boolean(_) => (x != 0.0).then_some(0.0),
            _ => (x != f32::NEG_INFINITY).then_some(x),
        }
    }
}
