//! Sums, means and variances that neither drift nor cancel.
//!
//! Lanes add up at most a few dozen terms in f32 before they go to f64, so that the error does
//! not grow with the length of a row. With any *pivot*, d = x − pivot, mean = pivot + Σd/n and
//! var = Σd²/n − (Σd/n)² (Chan, Golub & LeVeque 1983). That subtraction multiplies the relative error of
//! Σd² by 1 + (Σd/n)²/var. One pass is enough where the mean of a few elements is a pivot with which
//! this is 2 at most; otherwise a first pass finds the mean and a second one has it for its pivot, so
//! that the subtraction cancels nothing.
//!
//! In a row of equal numbers every d is the same small multiple of one spacing. If that is not 0, it is
//! larger than the spread of the row, and after two passes their sums are exact, and `pivot + shift` is
//! exactly that number: such a row comes out as exactly its bias.

use crate::dtype::Element;
use crate::simd::lanes::Lanes;

/// Accumulators: enough to hide the latency of an addition.
const STREAMS: usize = 4;

/// Vectors summed in f32 before the sum goes to f64: 64 terms a lane.
const BLOCK: usize = 64 * STREAMS;

/// Mean and biased variance. The mean is `pivot + shift`.
#[derive(Clone, Copy, Debug)]
pub(in crate::simd) struct Moments {
    pub(in crate::simd) pivot: f32,
    pub(in crate::simd) shift: f64,
    pub(in crate::simd) variance: f64,
}

impl Moments {
    /// Moments that are known, not measured.
    pub(in crate::simd) fn known(mean: f64, variance: f64) -> Self {
        let pivot = mean as f32;
        let shift = if pivot.is_finite() { mean - pivot as f64 } else { 0.0 };
        Moments { pivot, shift, variance }
    }

    pub(in crate::simd) fn mean(&self) -> f64 {
        self.pivot as f64 + self.shift
    }

    /// The moments of all elements of some runs.
    #[inline(always)]
    pub(in crate::simd) fn of<'a, L: Lanes, T: Element>(
        lanes: L,
        runs: impl Iterator<Item = &'a [T]> + Clone,
        n: usize,
    ) -> Self {
        let n = n as f64;
        let Some(first) = runs.clone().next() else { return Moments::known(0.0, 0.0) };
        let guess = guess(lanes, first);
        let (shift, variance) = Moments::about(lanes, guess, runs.clone(), n);
        // Neither where one of them is NaN.
        if shift * shift <= variance && variance.is_finite() {
            return Moments::known(guess as f64 + shift, variance);
        }
        let mut total = 0.0;
        for run in runs.clone() {
            total += sums(lanes, run, &Itself)[0];
        }
        let pivot = (total / n) as f32;
        let (shift, variance) = Moments::about(lanes, pivot, runs.clone(), n);
        if variance.is_finite() && shift.is_finite() {
            Moments { pivot, shift, variance: variance.max(0.0) }
        } else {
            Moments::in_f64(runs, n)
        }
    }

    /// Mean and biased variance, the mean less a pivot.
    #[inline(always)]
    fn about<'a, L: Lanes, T: Element>(
        lanes: L,
        pivot: f32,
        runs: impl Iterator<Item = &'a [T]>,
        n: f64,
    ) -> (f64, f64) {
        let from_pivot = Deviation { pivot: lanes.splat(pivot) };
        let mut totals = [0.0; 2];
        for run in runs {
            let [d, dd] = sums(lanes, run, &from_pivot);
            totals[0] += d;
            totals[1] += dd;
        }
        let shift = totals[0] / n;
        (shift, totals[1] / n - shift * shift)
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

/// The mean of a few elements, of all parts of a run.
#[inline(always)]
fn guess<L: Lanes, T: Element>(lanes: L, x: &[T]) -> f32 {
    let quarter = x.len() / 4;
    if quarter >= L::N {
        let mut sum = lanes.load_as(x);
        for part in 1..4 {
            sum = lanes.add(sum, lanes.load_as(&x[part * quarter..]));
        }
        lanes.reduce_add(sum) / (4 * L::N) as f32
    } else {
        let some = &x[..x.len().min(L::N)];
        lanes.reduce_add(lanes.load_partial(some, 0.0)) / some.len() as f32
    }
}

/// Mean of squares.
#[inline(always)]
pub(in crate::simd) fn mean_square<L: Lanes, T: Element>(lanes: L, x: &[T]) -> f64 {
    #[cold]
    #[inline(never)]
    fn in_f64<T: Element>(x: &[T]) -> f64 {
        x.iter().map(|x| (x.to_f32() as f64).powi(2)).sum()
    }
    let [total] = sums(lanes, x, &Square);
    let total = if total.is_finite() { total } else { in_f64(x) };
    total / x.len() as f64
}

/// The terms that an element adds to K sums. A trait where a closure would do, because a closure
/// cannot be `#[inline(always)]`.
trait Terms<L: Lanes, const K: usize> {
    fn of(&self, lanes: L, x: L::F) -> [L::F; K];
}

/// x
struct Itself;

impl<L: Lanes> Terms<L, 1> for Itself {
    #[inline(always)]
    fn of(&self, _lanes: L, x: L::F) -> [L::F; 1] {
        [x]
    }
}

/// x²
struct Square;

impl<L: Lanes> Terms<L, 1> for Square {
    #[inline(always)]
    fn of(&self, lanes: L, x: L::F) -> [L::F; 1] {
        [lanes.mul(x, x)]
    }
}

/// d and d², where d = x − pivot
struct Deviation<L: Lanes> {
    pivot: L::F,
}

impl<L: Lanes> Terms<L, 2> for Deviation<L> {
    #[inline(always)]
    fn of(&self, lanes: L, x: L::F) -> [L::F; 2] {
        let d = lanes.sub(x, self.pivot);
        [d, lanes.mul(d, d)]
    }
}

/// The sums of K terms of each element.
#[inline(always)]
fn sums<L: Lanes, T: Element, const K: usize>(lanes: L, x: &[T], terms: &impl Terms<L, K>) -> [f64; K] {
    let mut totals = [0.0; K];
    for block in x.chunks(BLOCK * L::N) {
        let mut streams = [[lanes.splat(0.0); K]; STREAMS];
        let groups = block.chunks_exact(STREAMS * L::N);
        let rest = groups.remainder();
        for group in groups {
            for (i, stream) in streams.iter_mut().enumerate() {
                let terms = terms.of(lanes, lanes.load_as(&group[i * L::N..]));
                for (sum, term) in stream.iter_mut().zip(terms) {
                    *sum = lanes.add(*sum, term);
                }
            }
        }
        for (part, stream) in rest.chunks(L::N).zip(&mut streams) {
            let x = if part.len() == L::N { lanes.load_as(part) } else { lanes.load_partial(part, 0.0) };
            let valid = lanes.first(part.len());
            for (sum, term) in stream.iter_mut().zip(terms.of(lanes, x)) {
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
