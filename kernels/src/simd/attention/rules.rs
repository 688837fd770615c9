//! What becomes of a plain score: softcap, ALiBi, mask, range.
//!
//! Scores are in units of log₂ e, so that weights are powers of two: the factor is part of the
//! scale of q, or of the cap where there is one.

use std::f32::consts::LOG2_E;

use crate::op::Attention;
use crate::simd::lanes::Lanes;
use crate::simd::math::tanh;

/// The rules that hold for every pair of a problem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Factor of q.
    pub(super) scale: f32,
    /// Bound of the scores.
    cap: Option<f32>,
    alibi: bool,
    /// Whether there is a mask of values to be added, −∞ for what is masked.
    mask: bool,
}

/// What the rules need to know of a query: one for each lane, or the same in all.
#[derive(Clone, Copy)]
pub(super) struct QueryLanes<F> {
    /// First visible key.
    pub(super) start: F,
    /// One past the last visible key.
    pub(super) end: F,
    /// Position for ALiBi.
    pub(super) position: F,
    /// ALiBi's slope, in units of log₂ e.
    pub(super) slope: F,
}

impl Rules {
    pub(super) fn new(spec: &Attention, mask: bool) -> Self {
        let log2_e = std::f64::consts::LOG2_E;
        let (scale, cap) = match spec.softcap {
            None => (spec.scale as f64 * log2_e, None),
            Some(c) => (spec.scale as f64 / c as f64, Some((c as f64 * log2_e) as f32)),
        };
        Rules { scale: scale as f32, cap, alibi: spec.alibi, mask }
    }

    /// Whether a plain score is final as long as its key is in range.
    pub(super) fn is_empty(&self) -> bool {
        self.cap.is_none() && !self.alibi && !self.mask
    }

    /// The final scores of some pairs. `mask` is read only where there is one.
    #[inline(always)]
    pub(super) fn apply<L: Lanes>(
        &self,
        lanes: L,
        score: L::F,
        query: &QueryLanes<L::F>,
        key: L::F,
        mask: impl FnOnce() -> L::F,
    ) -> L::F {
        let masked = lanes.splat(f32::NEG_INFINITY);
        let mut s = score;
        if let Some(cap) = self.cap {
            s = lanes.mul(lanes.splat(cap), tanh(lanes, s));
        }
        if self.alibi {
            s = lanes.neg_mul_add(query.slope, lanes.abs(lanes.sub(query.position, key)), s);
        }
        if self.mask {
            let mask = mask();
            let biased = lanes.mul_add(mask, lanes.splat(LOG2_E), s);
            s = lanes.select(lanes.eq(mask, masked), masked, biased);
        }
        let visible = lanes.and(lanes.ge(key, query.start), lanes.lt(key, query.end));
        lanes.select(visible, s, masked)
    }
}
