//! Scaled dot-product attention.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::schema::{flag, number};
use super::{Family, Field, Kind, Operand, Operation, Schema, Unit, Work};
use crate::dtype::{DType, ElementType};
use crate::error::{ParseError, ShapeError};
use crate::fields::{FieldWriter, Fields};
use crate::operands::Inputs;

/// The family.
pub static FAMILY: Family = Family {
    name: "attention",
    title: "Attention",
    unit: Unit::Flop,
    operations: &[Schema {
        name: "attention",
        formula: "softmax(scale·q·kᵀ, capped, biased, masked)·v",
        fields: &[
            Field::size("b", "a batch size").or("1"),
            Field::size("h", "a number of query heads"),
            Field::size("hkv", "a number of key/value heads").or("h"),
            Field::size("lq", "a number of queries"),
            Field::size("lk", "a number of keys").or("lq"),
            Field::size("d", "the head size"),
            Field::size("dv", "the value head size").or("d"),
            number("scale").or("1/√d"),
            Field::choice("causal", "none, top_left or bottom_right").or("none"),
            Field::choice("window", "'left,right', -1 for unbounded").or("unbounded"),
            number("softcap").or("none"),
            Field::choice(
                "mask",
                "none, padding, or bool: or float: and the axes, such as bool:11qk or float:bhqk",
            )
            .or("none"),
            flag("alibi").or("false"),
            flag("sinks").or("false"),
            flag("lse").or("false"),
            Field::size("cache", "rows allocated per head").or("lk"),
        ],
        parse: |fields| Ok(Attention::parse(fields)?.into()),
    }],
};

/// Which keys a query may see by position.
///
/// The two causal alignments differ when q_len ≠ kv_len: PyTorch's `is_causal` is top-left,
/// flash-attention and decoding against a cache are bottom-right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Causal {
    /// All keys.
    None,
    /// Key j is visible to query i iff j ≤ i.
    TopLeft,
    /// Key j is visible to query i iff j ≤ i + kv_len − q_len.
    BottomRight,
}

crate::named_enum!(Causal, "causal", {
    Causal::None => "none",
    Causal::TopLeft => "top_left",
    Causal::BottomRight => "bottom_right",
});

/// A sliding window: with i' the query's position aligned as by [`Causal`] (bottom-right when
/// there is no causal mask), key j is visible iff i' − left ≤ j ≤ i' + right. `None` is
/// unbounded. Written `left,right` with −1 for unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many keys before i'.
    pub left: Option<usize>,
    /// How many keys after i'.
    pub right: Option<usize>,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |s: Option<usize>| s.map_or("-1".to_string(), |n| n.to_string());
        write!(f, "{},{}", side(self.left), side(self.right))
    }
}

impl FromStr for Window {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let side = |s: &str| match s {
            "-1" => Ok(None),
            n => n.parse().map(Some).map_err(|_| ()),
        };
        let (left, right) = text.split_once(',').ok_or(())?;
        Ok(Window { left: side(left)?, right: side(right)? })
    }
}

/// Which axes of a mask have their full length; the others have length 1 and are broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskAxes {
    /// Batch.
    pub batch: bool,
    /// Query heads.
    pub heads: bool,
    /// Queries.
    pub queries: bool,
}

impl MaskAxes {
    const ALL: [MaskAxes; 8] = {
        let mut all = [MaskAxes { batch: false, heads: false, queries: false }; 8];
        let mut n = 0;
        while n < 8 {
            all[n] = MaskAxes { batch: n & 4 != 0, heads: n & 2 != 0, queries: n & 1 != 0 };
            n += 1;
        }
        all
    };
}

impl fmt::Display for MaskAxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axis = |full: bool, letter| if full { letter } else { '1' };
        write!(f, "{}{}{}k", axis(self.batch, 'b'), axis(self.heads, 'h'), axis(self.queries, 'q'))
    }
}

/// A mask that is data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// None.
    None,
    /// Operand `mask` of truth values, true = may attend. Written `bool:11qk`, `bool:bhqk` …
    Boolean(MaskAxes),
    /// Operand `mask` in the storage type, added to the scores. Written `float:11qk` …
    Additive(MaskAxes),
    /// Operand `lengths [B]` (i64): keys from `lengths[b]` on are padding.
    Padding,
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mask::None => f.write_str("none"),
            Mask::Boolean(axes) => write!(f, "bool:{axes}"),
            Mask::Additive(axes) => write!(f, "float:{axes}"),
            Mask::Padding => f.write_str("padding"),
        }
    }
}

impl FromStr for Mask {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let axes = |text: &str| MaskAxes::ALL.into_iter().find(|axes| axes.to_string() == text).ok_or(());
        match text.split_once(':') {
            None if text == "none" => Ok(Mask::None),
            None if text == "padding" => Ok(Mask::Padding),
            Some(("bool", text)) => Ok(Mask::Boolean(axes(text)?)),
            Some(("float", text)) => Ok(Mask::Additive(axes(text)?)),
            _ => Err(()),
        }
    }
}

/// Scaled dot-product attention (Vaswani et al. 2017) with everything that grew around it.
///
/// For each batch b, query head h and query i, with kv head g = ⌊h / (q_heads/kv_heads)⌋:
///
/// 1. s_j = scale · Σ_d q\[b,h,i,d\]·k\[b,g,j,d\];
/// 2. softcap: s_j ← c·tanh(s_j/c);
/// 3. bias: s_j ← s_j − slope\[h\]·|i + kv_len − q_len − j| (ALiBi), s_j ← s_j + mask (additive);
/// 4. masking: only visible keys (causal, window, boolean mask, padding, and an additive mask that
///    is not −∞) remain;
/// 5. p = softmax over the visible keys; with sinks, exp(sink\[h\]) joins the denominator;
/// 6. out\[b,h,i,c\] = Σ_j p_j·v\[b,g,j,c\]; `lse` = log of the denominator (+∞-free, −∞ for none).
///
/// A query that sees no key gives exactly 0. A key that is masked contributes nothing, even
/// when it holds NaN or ∞.
///
/// Operands: `q [B,Hq,Lq,D]`, `k [B,Hkv,Lk,D]`, `v [B,Hkv,Lk,Dv]` (with a cache, Lk is its
/// capacity and only the first `kv_len` rows count), `mask`, `lengths`, `slopes [Hq]` (f32),
/// `sinks [Hq]` (f32). Results: `out [B,Hq,Lq,Dv]`, `lse [B,Hq,Lq]` (f32).
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// B.
    pub batch: usize,
    /// Hq.
    pub q_heads: usize,
    /// Hkv; divides Hq. Hkv < Hq is grouped-query attention, 1 multi-query.
    pub kv_heads: usize,
    /// Lq.
    pub q_len: usize,
    /// Lk: how many keys there are.
    pub kv_len: usize,
    /// D.
    pub head_dim: usize,
    /// Dv.
    pub v_dim: usize,
    /// Factor of the scores; 1/√D when the text does not say.
    pub scale: f32,
    /// Positional masking.
    pub causal: Causal,
    /// Sliding window.
    pub window: Option<Window>,
    /// Bound c of the scores.
    pub softcap: Option<f32>,
    /// Mask operand.
    pub mask: Mask,
    /// Whether there are ALiBi slopes (Press et al. 2021).
    pub alibi: bool,
    /// Whether there are attention sinks: an extra logit per head.
    pub sinks: bool,
    /// Whether the log-sum-exp is a second result.
    pub lse: bool,
    /// Rows allocated per head when keys and values are a view of a larger cache.
    pub cache: Option<usize>,
}

impl Attention {
    /// Plain multi-head attention.
    pub fn new(batch: usize, heads: usize, len: usize, head_dim: usize) -> Self {
        Attention {
            batch,
            q_heads: heads,
            kv_heads: heads,
            q_len: len,
            kv_len: len,
            head_dim,
            v_dim: head_dim,
            scale: Attention::default_scale(head_dim),
            causal: Causal::None,
            window: None,
            softcap: None,
            mask: Mask::None,
            alibi: false,
            sinks: false,
            lse: false,
            cache: None,
        }
    }

    /// 1/√D.
    pub fn default_scale(head_dim: usize) -> f32 {
        (1.0 / (head_dim as f64).sqrt()) as f32
    }

    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let q_heads = fields.required("h")?;
        let q_len = fields.required("lq")?;
        let head_dim = fields.required("d")?;
        Ok(Attention {
            batch: fields.default("b", 1)?,
            q_heads,
            kv_heads: fields.default("hkv", q_heads)?,
            q_len,
            kv_len: fields.default("lk", q_len)?,
            head_dim,
            v_dim: fields.default("dv", head_dim)?,
            scale: fields.default("scale", Attention::default_scale(head_dim))?,
            causal: fields.default("causal", Causal::None)?,
            window: fields.optional("window")?,
            softcap: fields.optional("softcap")?,
            mask: fields.default("mask", Mask::None)?,
            alibi: fields.default("alibi", false)?,
            sinks: fields.default("sinks", false)?,
            lse: fields.default("lse", false)?,
            cache: fields.optional("cache")?,
        })
    }

    /// How many query heads share a key/value head.
    pub fn group(&self) -> usize {
        self.q_heads / self.kv_heads
    }

    /// Rows of `k` and `v` per head in memory: the cache's capacity, or kv_len.
    pub fn kv_rows(&self) -> usize {
        self.cache.unwrap_or(self.kv_len)
    }

    /// Query i's position among the keys: i, or i + kv_len − q_len when aligned bottom-right.
    pub fn aligned(&self, i: usize) -> i64 {
        match self.causal {
            Causal::TopLeft => i as i64,
            Causal::None | Causal::BottomRight => i as i64 + self.kv_len as i64 - self.q_len as i64,
        }
    }

    /// The keys that query i may see by position (causal and window): one range, perhaps empty.
    pub fn key_range(&self, i: usize) -> Range<usize> {
        // A window wider than any position sees everything on its side.
        let distance = |keys: usize| i64::try_from(keys).unwrap_or(i64::MAX);
        let position = self.aligned(i);
        let mut start = 0;
        let mut end = self.kv_len as i64;
        if self.causal != Causal::None {
            end = end.min(position + 1);
        }
        if let Some(window) = self.window {
            if let Some(left) = window.left {
                start = start.max(position.saturating_sub(distance(left)));
            }
            if let Some(right) = window.right {
                end = end.min(position.saturating_add(distance(right)).saturating_add(1));
            }
        }
        let start = start.clamp(0, self.kv_len as i64);
        start as usize..end.clamp(start, self.kv_len as i64) as usize
    }

    /// Dimensions of the mask operand.
    pub fn mask_shape(&self, axes: MaskAxes) -> [usize; 4] {
        let full = |full: bool, n: usize| if full { n } else { 1 };
        [
            full(axes.batch, self.batch),
            full(axes.heads, self.q_heads),
            full(axes.queries, self.q_len),
            self.kv_len,
        ]
    }

    /// Where the mask row of (batch, query head, query) begins in the mask operand.
    pub fn mask_row(&self, axes: MaskAxes, b: usize, h: usize, i: usize) -> usize {
        let [_, heads, queries, keys] = self.mask_shape(axes);
        let pick = |full: bool, index: usize| if full { index } else { 0 };
        ((pick(axes.batch, b) * heads + pick(axes.heads, h)) * queries + pick(axes.queries, i)) * keys
    }
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        if self.kv_heads == 0 || !self.q_heads.is_multiple_of(self.kv_heads) {
            return Err(self.error(format!("hkv={} does not divide h={}", self.kv_heads, self.q_heads)));
        }
        if self.head_dim == 0 || self.v_dim == 0 {
            return Err(self.error(format!("d={} and dv={} must not be 0", self.head_dim, self.v_dim)));
        }
        if !self.scale.is_finite() {
            return Err(self.error(format!("scale={} must be finite", self.scale)));
        }
        if let Some(capacity) = self.cache
            && capacity < self.kv_len
        {
            return Err(self.error(format!("cache={capacity} is smaller than lk={}", self.kv_len)));
        }
        self.softcap.map_or(Ok(()), |c| self.check_positive("softcap", c))
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        let (b, hkv, rows) = (self.batch, self.kv_heads, self.kv_rows());
        let mut operands = vec![
            Operand::float("q", dtype, [b, self.q_heads, self.q_len, self.head_dim]),
            Operand::float("k", dtype, [b, hkv, rows, self.head_dim]),
            Operand::float("v", dtype, [b, hkv, rows, self.v_dim]),
        ];
        match self.mask {
            Mask::None => {}
            Mask::Boolean(axes) => {
                let shape = self.mask_shape(axes);
                operands.push(Operand::new("mask", Kind::Mask, ElementType::Bool, shape));
            }
            Mask::Additive(axes) => {
                operands.push(Operand::float("mask", dtype, self.mask_shape(axes)).of(Kind::Mask));
            }
            Mask::Padding => {
                let lengths = Operand::new("lengths", Kind::Lengths, ElementType::I64, [b]);
                operands.push(lengths.at_most(self.kv_len as i64));
            }
        }
        if self.alibi {
            operands.push(Operand::float("slopes", DType::F32, [self.q_heads]).of(Kind::Slopes));
        }
        if self.sinks {
            operands.push(Operand::float("sinks", DType::F32, [self.q_heads]).of(Kind::Bias));
        }
        operands
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        let (b, h, lq) = (self.batch, self.q_heads, self.q_len);
        let mut results = vec![Operand::float("out", dtype, [b, h, lq, self.v_dim])];
        if self.lse {
            results.push(Operand::float("lse", DType::F32, [b, h, lq]));
        }
        results
    }

    /// 2·B·Hq·(D + Dv)·(number of (i, j) pairs visible by position). Masks that are data do not
    /// lower the count: they are not known before the kernel runs.
    fn flops(&self) -> u64 {
        let pairs: u64 = (0..self.q_len).map(|i| self.key_range(i).len() as u64).sum();
        2 * (self.batch * self.q_heads * (self.head_dim + self.v_dim)) as u64 * pairs
    }

    /// Each operand and result once; of a cache only the rows in use.
    fn bytes(&self, dtype: DType) -> u64 {
        let all: u64 = self.operands(dtype).iter().chain(&self.results(dtype)).map(Operand::bytes).sum();
        let unused_rows = self.batch * self.kv_heads * (self.kv_rows() - self.kv_len);
        all - (unused_rows * (self.head_dim + self.v_dim) * dtype.size()) as u64
    }

    /// The work for these inputs: FLOPs of the pairs that position, mask and lengths leave visible, and
    /// bytes of the rows of K and V that at least one query sees, each once.
    fn work_on(&self, dtype: DType, inputs: &Inputs) -> Work {
        let mask = inputs.get("mask").filter(|mask| !mask.is_empty()).map(|mask| mask.to_f64());
        let lengths = inputs.get("lengths").map(|lengths| lengths.to_f64());
        let axes = match self.mask {
            Mask::Boolean(axes) | Mask::Additive(axes) => axes,
            Mask::None | Mask::Padding => MaskAxes { batch: false, heads: false, queries: false },
        };
        let hidden = if matches!(self.mask, Mask::Boolean(_)) { 0.0 } else { f64::NEG_INFINITY };
        // Batches and heads that share a mask see the same.
        let by_batch = self.mask == Mask::Padding || axes.batch;
        let batches = if by_batch { self.batch } else { self.batch.min(1) };
        let heads = if axes.heads { self.q_heads } else { self.q_heads.min(1) };
        let (mut pairs, mut rows) = (0u64, 0u64);
        for b in 0..batches {
            let mut seen = vec![vec![false; self.kv_len]; if axes.heads { self.kv_heads } else { 1 }];
            for h in 0..heads {
                let seen = &mut seen[if axes.heads { h / self.group() } else { 0 }];
                for i in 0..self.q_len {
                    let mut range = self.key_range(i);
                    if let Some(lengths) = &lengths {
                        range.end = range.end.min(lengths[b].max(0.0) as usize).max(range.start);
                    }
                    if mask.is_none() {
                        pairs += range.len() as u64;
                        seen[range].fill(true);
                        continue;
                    }
                    let row = mask.as_ref().map(|mask| &mask[self.mask_row(axes, b, h, i)..][..self.kv_len]);
                    for j in range {
                        if row.is_none_or(|row| row[j] != hidden) {
                            pairs += 1;
                            seen[j] = true;
                        }
                    }
                }
            }
            rows += seen.iter().flatten().map(|&seen| u64::from(seen)).sum::<u64>();
        }
        let repeats = |shared: bool, all: usize| if shared { all as u64 } else { 1 };
        let batch_repeats = repeats(!by_batch, self.batch);
        pairs *= batch_repeats * repeats(!axes.heads, self.q_heads);
        rows *= batch_repeats * repeats(!axes.heads, self.kv_heads);
        let columns = (self.head_dim + self.v_dim) as u64;
        let all = self.bytes(dtype);
        let unseen = (self.batch * self.kv_heads * self.kv_len) as u64 - rows;
        Work { flops: 2 * columns * pairs, bytes: all - unseen * columns * dtype.size() as u64 }
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields
            .unless("b", self.batch, 1)
            .field("h", self.q_heads)
            .unless("hkv", self.kv_heads, self.q_heads)
            .field("lq", self.q_len)
            .unless("lk", self.kv_len, self.q_len)
            .field("d", self.head_dim)
            .unless("dv", self.v_dim, self.head_dim)
            .unless("scale", self.scale, Attention::default_scale(self.head_dim))
            .unless("causal", self.causal, Causal::None)
            .some("window", self.window)
            .some("softcap", self.softcap)
            .unless("mask", self.mask, Mask::None)
            .unless("alibi", self.alibi, false)
            .unless("sinks", self.sinks, false)
            .unless("lse", self.lse, false)
            .some("cache", self.cache);
    }
}
