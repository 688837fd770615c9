//! Sums, means and variances that neither drift nor cancel.
//!
//! Lanes add up at most a few dozen terms in f32 before they go to f64, so that the error does
//! not grow with the length of a row. The variance is the corrected two-pass one (Chan, Golub &
//! LeVeque 1983): a first pass finds a *pivot*, the mean rounded to f32; a second one sums
//! d = x − pivot and d², from which mean = pivot + Σd/n and var = Σd²/n − (Σd/n)². The pivot is
//! so near the mean that the subtraction cancels nothing.
//!
//! In a row of equal numbers every d is the same small multiple of one spacing, their sums are
//! exact, and `pivot + shift` is exactly that number: such a row comes out as exactly its bias.

use crate::dtype::Element;
use crate::simd::lanes::Lanes;

/// Accumulators: enough to hide the latency of an addition.
const STREAMS: usize = 4;

/// Vectors summed in f32 before the sum goes to f64: 64 terms a lane.
const BLOCK: usize = 64 * STREAMS;

/// Mean and biased variance. The mean is `pivot + shift`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub(super) pivot: f32,
    pub(super) shift: f64,
    pub(super) variance: f64,
}

impl Moments {
    /// Moments that are known, not measured.
    pub(super) fn known(mean: f64, variance: f64) -> Self {
        let pivot = mean as f32;
        let shift = if pivot.is_finite() { mean - pivot as f64 } else { 0.0 };
        Moments { pivot, shift, variance }
    }

    pub(super) fn mean(&self) -> f64 {
        self.pivot as f64 + self.shift
    }

    /// The moments of all elements of some runs.
    #[inline(always)]
    pub(super) fn of<'a, L: Lanes, T: Element>(
        lanes: L,
        runs: impl Iterator<Item = &'a [T]> + Clone,
        n: usize,
    ) -> Self {
        let n = n as f64;
        let mut total = 0.0;
        for run in runs.clone() {
            total += sums(lanes, run, |x| [x])[0];
        }
        let pivot = (total / n) as f32;
        let at = lanes.splat(pivot);
        let mut totals = [0.0; 2];
        for run in runs.clone() {
            let [d, dd] = sums(lanes, run, |x| {
                let d = lanes.sub(x, at);
                [d, lanes.mul(d, d)]
            });
            totals[0] += d;
            totals[1] += dd;
        }
        let shift = totals[0] / n;
        let variance = (totals[1] / n - shift * shift).max(0.0);
        // `max` has dropped a NaN of the variance, but then Σd² is not finite.
        if totals[1].is_finite() && shift.is_finite() {
            Moments { pivot, shift, variance }
        } else {
            Moments::in_f64(runs, n)
        }
    }

    /// The same in f64 throughout, for numbers whose squares overflow f32, for ∞ and for NaN.
    #[cold]
    #[inline(never)]
    fn in_f64<'a, T: Element>(runs: impl Iterator<Item = &'a [T]> + Clone, n: f64) -> Self {
        let elements = || runs.clone().flatten().map(|x| x.to_f32() as f64);
        let mean = elements().sum::<f64>() / n;
        let variance = elements().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        Moments::known(mean, variance)
    }
}

/// Mean of squares.
#[inline(always)]
pub(super) fn mean_square<L: Lanes, T: Element>(lanes: L, x: &[T]) -> f64 {
    #[cold]
    #[inline(never)]
    fn in_f64<T: Element>(x: &[T]) -> f64 {
        x.iter().map(|x| (x.to_f32() as f64).powi(2)).sum()
    }
    let [total] = sums(lanes, x, |x| [lanes.mul(x, x)]);
    let total = if total.is_finite() { total } else { in_f64(x) };
    total / x.len() as f64
}

/// The sums of K terms of each element.
#[inline(always)]
fn sums<L: Lanes, T: Element, const K: usize>(
    lanes: L,
    x: &[T],
    terms: impl Fn(L::F) -> [L::F; K],
) -> [f64; K] {
    let mut totals = [0.0; K];
    for block in x.chunks(BLOCK * L::N) {
        let mut streams = [[lanes.splat(0.0); K]; STREAMS];
        let groups = block.chunks_exact(STREAMS * L::N);
        let rest = groups.remainder();
        for group in groups {
            for (i, stream) in streams.iter_mut().enumerate() {
                let terms = terms(lanes.load_as(&group[i * L::N..]));
                for (sum, term) in stream.iter_mut().zip(terms) {
                    *sum = lanes.add(*sum, term);
                }
            }
        }
        for (part, stream) in rest.chunks(L::N).zip(&mut streams) {
            let x = if part.len() == L::N { lanes.load_as(part) } else { lanes.load_partial(part, 0.0) };
            let valid = lanes.first(part.len());
            for (sum, term) in stream.iter_mut().zip(terms(x)) {
                *sum = lanes.add(*sum, lanes.select(valid, term, lanes.splat(0.0)));
            }
        }
        for (k, total) in totals.iter_mut().enumerate() {
            let pairs =
                lanes.add(lanes.add(streams[0][k], streams[1][k]), lanes.add(streams[2][k], streams[3][k]));
            *total += lanes.reduce_add_f64(pairs);
        }
    }
    totals
}
