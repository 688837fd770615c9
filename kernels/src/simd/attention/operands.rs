//! The operands of one problem, and where their parts lie.

use std::ops::Range;

use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::attention::{Attention, Causal, Mask, MaskAxes};
use crate::operands::Inputs;

/// The operands. Rows of a cache beyond kv_len are never handed out.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a, T> {
    pub(super) spec: &'a Attention,
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    mask: MaskOperand<'a, T>,
    lengths: Option<&'a [i64]>,
    slopes: Option<&'a [f32]>,
    sinks: Option<&'a [f32]>,
}

/// The mask that is data for each pair; padding lengths are part of the key ranges.
#[derive(Clone, Copy)]
enum MaskOperand<'a, T> {
    None,
    Boolean(&'a [u8], MaskAxes),
    Additive(&'a [T], MaskAxes),
}

/// A run of one mask row.
pub(super) enum MaskRow<'a, T> {
    Boolean(&'a [u8]),
    Additive(&'a [T]),
}

impl<'a, T: Element> Operands<'a, T> {
    pub(super) fn new(spec: &'a Attention, inputs: &'a Inputs) -> Result<Self, BackendError> {
        Ok(Operands {
            spec,
            q: inputs.slice("q")?,
            k: inputs.slice("k")?,
            v: inputs.slice("v")?,
            mask: match spec.mask {
                Mask::None | Mask::Padding => MaskOperand::None,
                Mask::Boolean(axes) => MaskOperand::Boolean(inputs.slice("mask")?, axes),
                Mask::Additive(axes) => MaskOperand::Additive(inputs.slice("mask")?, axes),
            },
            lengths: inputs.optional("lengths")?,
            slopes: inputs.optional("slopes")?,
            sinks: inputs.optional("sinks")?,
        })
    }

    /// Query i of query head h.
    pub(super) fn query(&self, b: usize, h: usize, i: usize) -> &'a [T] {
        let Attention { q_heads, q_len, head_dim, .. } = *self.spec;
        &self.q[((b * q_heads + h) * q_len + i) * head_dim..][..head_dim]
    }

    /// A run of keys of a kv head.
    pub(super) fn keys(&self, b: usize, kv_head: usize, run: &Range<usize>) -> &'a [T] {
        self.cache_rows(self.k, self.spec.head_dim, b, kv_head, run)
    }

    /// A run of values of a kv head.
    pub(super) fn values(&self, b: usize, kv_head: usize, run: &Range<usize>) -> &'a [T] {
        self.cache_rows(self.v, self.spec.v_dim, b, kv_head, run)
    }

    fn cache_rows(&self, x: &'a [T], width: usize, b: usize, kv_head: usize, run: &Range<usize>) -> &'a [T] {
        assert!(run.end <= self.spec.kv_len, "keys {run:?} of {}", self.spec.kv_len);
        let head = (b * self.spec.kv_heads + kv_head) * self.spec.kv_rows();
        &x[(head + run.start) * width..(head + run.end) * width]
    }

    /// The keys that query i may see by position and padding.
    pub(super) fn key_range(&self, b: usize, i: usize) -> Range<usize> {
        let Range { start, end } = self.spec.key_range(i);
        let end = self.lengths.map_or(end, |lengths| end.min(lengths[b].max(0) as usize));
        start.min(end)..end
    }

    /// Whether nothing but a mask operand tells two queries of a batch entry apart.
    pub(super) fn queries_alike(&self) -> bool {
        let Attention { causal, window, .. } = *self.spec;
        causal == Causal::None && window.is_none() && self.slopes.is_none() && self.sinks.is_none()
    }

    pub(super) fn has_mask(&self) -> bool {
        !matches!(self.mask, MaskOperand::None)
    }

    /// The mask of query i of head h over a run of keys.
    pub(super) fn mask_row(
        &self,
        b: usize,
        h: usize,
        i: usize,
        run: &Range<usize>,
    ) -> Option<MaskRow<'a, T>> {
        match self.mask {
            MaskOperand::None => None,
            MaskOperand::Boolean(mask, axes) => {
                Some(MaskRow::Boolean(&mask[self.spec.mask_row(axes, b, h, i)..][run.clone()]))
            }
            MaskOperand::Additive(mask, axes) => {
                Some(MaskRow::Additive(&mask[self.spec.mask_row(axes, b, h, i)..][run.clone()]))
            }
        }
    }

    /// ALiBi's slope of head h, 0 when there is none.
    pub(super) fn slope(&self, h: usize) -> f32 {
        self.slopes.map_or(0.0, |slopes| slopes[h])
    }

    /// The sink of head h.
    pub(super) fn sink(&self, h: usize) -> Option<f32> {
        self.sinks.map(|sinks| sinks[h])
    }

    /// ALiBi's position of query i: the last query always sits at the last key.
    pub(super) fn position(&self, i: usize) -> i64 {
        i as i64 + self.spec.kv_len as i64 - self.spec.q_len as i64
    }
}
