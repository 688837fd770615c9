//! The three passes over a block of one row.

use std::marker::PhantomData;

use super::Variant;
use crate::dtype::{DType, Element};
use crate::simd::lanes::{AHEAD, Lanes};
use crate::simd::math;
use crate::simd::sum::Total;

/// The power of two by which exponentials are larger than they should be, so that one that
/// rounds to zero only in the quotient is a normal number until then.
const BIAS: f32 = 27.0;

/// How far below the maximum an element counts for nothing: e^-104 = 2^-150.04 is less than half the
/// smallest subnormal, and times 2^BIAS still a normal number, 2^-124 or more.
const NOTHING: f32 = 104.0;

/// Terms that are added in one lane before the sum is compensated.
pub(super) const DEPTH: usize = 8;

/// What the exponentials of a row are relative to. In a vector, one for each lane.
#[derive(Clone, Copy)]
pub(super) struct Pivot<F> {
    /// Subtracted from s·x: 0, or the maximum where that is large.
    pub(super) offset: F,
    /// The maximum less the offset.
    pub(super) max: F,
    /// The least s·x − offset that still counts.
    pub(super) floor: F,
    /// n of the maximum, less the bias.
    pub(super) n: F,
}

impl<F: Copy> Pivot<F> {
    /// For rows with these maxima of s·x. A maximum of ±∞ makes every exponential NaN.
    #[inline(always)]
    pub(super) fn new<L: Lanes<F = F>>(lanes: L, max: F) -> Self {
        // Within 110 of a maximum beyond ±1024 the difference x − m is exact; for smaller ones
        // the reduction by n·ln 2 is.
        let near = lanes.le(lanes.abs(max), lanes.splat(1024.0));
        let offset = lanes.select(near, lanes.splat(0.0), max);
        let max = lanes.sub(max, offset);
        let (_, n) = math::exp_split_short(lanes, max, None);
        let floor = lanes.sub(max, lanes.splat(NOTHING));
        Pivot { offset, max, floor, n: lanes.sub(n, lanes.splat(BIAS)) }
    }

    /// e^(d + low) relative to the pivot, times 2^BIAS.
    #[inline(always)]
    pub(super) fn exp<L: Lanes<F = F>>(&self, lanes: L, d: F, low: Option<F>) -> F {
        let (p, n) = math::exp_split_short(lanes, lanes.max(self.floor, d), low);
        lanes.shift(p, lanes.sub(n, self.n))
    }
}

/// The passes over vectors x, for one variant.
#[derive(Clone, Copy)]
pub(super) struct Passes<L, V> {
    pub(super) lanes: L,
    pub(super) scale: f32,
    pub(super) variant: PhantomData<V>,
}

impl<L: Lanes, V: Variant> Passes<L, V> {
    #[inline(always)]
    pub(super) fn new(lanes: L, scale: f32) -> Self {
        Passes { lanes, scale, variant: PhantomData }
    }

    /// s·x.
    #[inline(always)]
    pub(super) fn scaled(self, x: L::F) -> L::F {
        if V::SCALED { self.lanes.mul(self.lanes.splat(self.scale), x) } else { x }
    }

    /// The larger of s·x and `max`; a NaN of x is passed over, the sum will find it.
    #[inline(always)]
    pub(super) fn maximum(self, x: L::F, max: L::F) -> L::F {
        self.lanes.max(self.scaled(x), max)
    }

    /// The exponential of s·x relative to the pivot.
    #[inline(always)]
    pub(super) fn exponential(self, pivot: &Pivot<L::F>, x: L::F) -> L::F {
        let lanes = self.lanes;
        let product = self.scaled(x);
        let d = lanes.sub(product, pivot.offset);
        if !V::SCALED || V::LOG {
            return pivot.exp(lanes, d, None);
        }
        // What the product lost, unless the maximum is so large that this is no small part.
        let low = lanes.mul_sub(lanes.splat(self.scale), x, product);
        let small = lanes.lt(lanes.abs(low), lanes.splat(1.0 / 1024.0));
        pivot.exp(lanes, d, Some(lanes.select(small, low, lanes.splat(0.0))))
    }

    /// e/Σ with the reciprocal of Σ in two parts.
    #[inline(always)]
    pub(super) fn quotient(self, reciprocal: Parts<L::F>, e: L::F) -> L::F {
        let lanes = self.lanes;
        lanes.mul_add(e, reciprocal.high, lanes.mul(e, reciprocal.low))
    }

    /// s·x − offset − log Σ with the logarithm in two parts.
    #[inline(always)]
    pub(super) fn difference(self, pivot: &Pivot<L::F>, log: Parts<L::F>, x: L::F) -> L::F {
        let lanes = self.lanes;
        let d = lanes.sub(self.scaled(x), pivot.offset);
        lanes.sub(lanes.sub(d, log.high), log.low)
    }

    /// The maximum of a block.
    #[inline(always)]
    pub(super) fn block_max<T: Element>(self, x: &[T]) -> f32 {
        let lanes = self.lanes;
        let mut max = [lanes.splat(f32::NEG_INFINITY); 4];
        let groups = x.chunks_exact(4 * L::N);
        let vectors = groups.remainder().chunks_exact(L::N);
        let tail = vectors.remainder();
        for group in groups {
            for (i, max) in max.iter_mut().enumerate() {
                lanes.prefetch_ahead(&group[i * L::N..], AHEAD);
                *max = self.maximum(lanes.load_as(&group[i * L::N..]), *max);
            }
        }
        for vector in vectors {
            max[0] = self.maximum(lanes.load_as(vector), max[0]);
        }
        if !tail.is_empty() {
            let scaled = self.scaled(lanes.load_partial(tail, 0.0));
            let lowest = lanes.splat(f32::NEG_INFINITY);
            max[1] = lanes.max(lanes.select(lanes.first(tail.len()), scaled, lowest), max[1]);
        }
        lanes.reduce_max(lanes.max(lanes.max(max[0], max[1]), lanes.max(max[2], max[3])))
    }

    /// The sum of a block's exponentials, which are also written to `kept` unless that is empty. What is
    /// read next, as much as this or nothing, is fetched meanwhile.
    #[inline(always)]
    pub(super) fn block_sum<T: Element>(
        self,
        pivot: &Pivot<L::F>,
        x: &[T],
        kept: &mut [f32],
        next: &[T],
    ) -> f64 {
        let lanes = self.lanes;
        let keep = !kept.is_empty();
        let fetch = !next.is_empty();
        self.block_sum_with(
            pivot,
            x,
            #[inline(always)]
            |start, len, e| {
                if fetch {
                    lanes.prefetch(&next[start..]);
                }
                if keep {
                    lanes.prefetch_to_write(&kept[start..], AHEAD);
                    write(lanes, &mut kept[start..], len, e);
                }
            },
        )
    }

    /// The sum of a block's exponentials, handing each vector to `keep(start, len, e)`.
    #[inline(always)]
    pub(super) fn block_sum_with<T: Element>(
        self,
        pivot: &Pivot<L::F>,
        x: &[T],
        mut keep: impl FnMut(usize, usize, L::F),
    ) -> f64 {
        let lanes = self.lanes;
        let zero = lanes.splat(0.0);
        let mut sum = Total::zero(lanes);
        let mut start = 0;
        for group in x.chunks(4 * DEPTH * L::N) {
            let mut sums = [zero; 4];
            let fours = group.chunks_exact(4 * L::N);
            let rest = fours.remainder();
            for four in fours {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let e = self.exponential(pivot, lanes.load_as(&four[i * L::N..]));
                    keep(start + i * L::N, L::N, e);
                    *sum = lanes.add(*sum, e);
                }
                start += 4 * L::N;
            }
            let vectors = rest.chunks_exact(L::N);
            let tail = vectors.remainder();
            for (vector, sum) in vectors.zip(&mut sums) {
                let e = self.exponential(pivot, lanes.load_as(vector));
                keep(start, L::N, e);
                *sum = lanes.add(*sum, e);
                start += L::N;
            }
            if !tail.is_empty() {
                let e = self.exponential(pivot, lanes.load_partial(tail, 0.0));
                keep(start, tail.len(), e);
                sums[3] = lanes.add(sums[3], lanes.select(lanes.first(tail.len()), e, zero));
            }
            sum.add(lanes, lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3])));
        }
        sum.of_lanes(lanes)
    }

    /// What finishes a row with this sum of exponentials.
    #[inline(always)]
    pub(super) fn finish(self, pivot: &Pivot<L::F>, sum: f64) -> Parts<L::F> {
        let lanes = self.lanes;
        let parts = if V::LOG {
            // Relative to e^m: a row with one element that counts gives exactly log 1.
            let first = |a| lanes.reduce_max(a) as f64;
            first(pivot.max) + (sum / first(pivot.exp(lanes, pivot.max, None))).ln()
        } else {
            sum.recip()
        };
        Parts::splat(lanes, parts)
    }

    /// The last pass over a block whose exponentials were kept in `out` itself.
    #[inline(always)]
    pub(super) fn block_scale(self, parts: Parts<L::F>, out: &mut [f32]) {
        let lanes = self.lanes;
        let mut vectors = out.chunks_exact_mut(L::N);
        for vector in vectors.by_ref() {
            let y = self.quotient(parts, lanes.load(vector));
            lanes.store(vector, y);
        }
        let tail = vectors.into_remainder();
        if !tail.is_empty() {
            let y = self.quotient(parts, lanes.load_partial(tail, 0.0));
            lanes.store_partial(tail, y);
        }
    }

    /// The last pass over a block from x to `out`, by `y(vector of x)`.
    #[inline(always)]
    pub(super) fn block_map<T: Element, U: Element>(self, x: &[T], out: &mut [U], y: impl Fn(L::F) -> L::F) {
        let lanes = self.lanes;
        let vectors = x.chunks_exact(L::N);
        let tail = vectors.remainder();
        let mut outs = out.chunks_exact_mut(L::N);
        for (x, out) in vectors.zip(outs.by_ref()) {
            lanes.store_as(out, y(lanes.load_as(x)));
        }
        if !tail.is_empty() {
            lanes.store_partial(outs.into_remainder(), y(lanes.load_partial(tail, 0.0)));
        }
    }

    /// The last pass over a block. `kept` holds the exponentials; if it is empty, those of f32 are in
    /// `out` and those of other types are computed again.
    #[inline(always)]
    pub(super) fn block_finish<T: Element>(
        self,
        pivot: &Pivot<L::F>,
        parts: Parts<L::F>,
        x: &[T],
        kept: &[f32],
        out: &mut [T],
    ) {
        if V::LOG {
            self.block_map(
                x,
                out,
                #[inline(always)]
                |x| self.difference(pivot, parts, x),
            );
        } else if T::DTYPE == DType::F32 && kept.is_empty() {
            self.block_scale(parts, bytemuck::cast_slice_mut(out));
        } else if kept.is_empty() {
            self.block_map(
                x,
                out,
                #[inline(always)]
                |x| self.quotient(parts, self.exponential(pivot, x)),
            );
        } else {
            self.block_map(
                kept,
                out,
                #[inline(always)]
                |e| self.quotient(parts, e),
            );
        }
    }
}

/// The first `count` elements, at most a vector of them, and zeros.
#[inline(always)]
pub(super) fn read<L: Lanes, T: Element>(lanes: L, x: &[T], count: usize) -> L::F {
    if count == L::N { lanes.load_as(x) } else { lanes.load_partial(&x[..count], 0.0) }
}

/// Writes the first `count` elements, at most a vector of them.
#[inline(always)]
pub(super) fn write<L: Lanes, T: Element>(lanes: L, out: &mut [T], count: usize, y: L::F) {
    if count == L::N {
        lanes.store_as(out, y);
    } else {
        lanes.store_partial(&mut out[..count], y);
    }
}

/// A number in two parts.
#[derive(Clone, Copy)]
pub(super) struct Parts<F> {
    pub(super) high: F,
    pub(super) low: F,
}

impl<F: Copy> Parts<F> {
    #[inline(always)]
    pub(super) fn splat<L: Lanes<F = F>>(lanes: L, value: f64) -> Self {
        let high = value as f32;
        Parts { high: lanes.splat(high), low: lanes.splat((value - high as f64) as f32) }
    }
}
