//! The loops: a function over slices of any storage type, any length and any alignment.
//!
//! Every element is computed by the same instructions whatever its place and its neighbours. A
//! function with a faster form for arguments up to a limit goes over a block in that form alone,
//! and only if it met an argument beyond does it go over the block again, for those lanes.

use super::functions::{Function, Gate, Gated};
use crate::dtype::{DType, Element};
use crate::simd::lanes::{AHEAD, Kernel, Lanes};
use crate::simd::math::{Loaded, Pieces};

/// `out = f(x)` of M variables.
pub(crate) struct Map<'a, T, F, const M: usize = 1> {
    pub(crate) function: F,
    pub(crate) x: [&'a [T]; M],
    pub(crate) out: &'a mut [T],
}

impl<T: Element, F: Function<M>, const M: usize> Kernel for Map<'_, T, F, M> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Map { function, mut x, out } = self;
        for x in &mut x {
            *x = &x[..out.len()];
        }
        match function.pieces() {
            Some(pieces) if L::LOOKS_UP => InPieces::new(lanes, function, pieces, T::DTYPE).map(x, out),
            _ => {
                whole_vectors(
                    lanes,
                    x,
                    out,
                    #[inline(always)]
                    |x| function.at(lanes, x),
                );
                remainder(
                    lanes,
                    x,
                    out,
                    #[inline(always)]
                    |x| function.at(lanes, x),
                );
            }
        }
    }
}

/// The vectors that start at an index.
#[inline(always)]
fn load<L: Lanes, T: Element, const M: usize>(lanes: L, x: [&[T]; M], start: usize) -> [L::F; M] {
    let mut vectors = [lanes.splat(0.0); M];
    for (vector, x) in vectors.iter_mut().zip(x) {
        *vector = lanes.load_as(&x[start..start + L::N]);
    }
    vectors
}

/// `out = f(x)` as far as whole vectors go.
#[inline(always)]
fn whole_vectors<L: Lanes, T: Element, const M: usize>(
    lanes: L,
    x: [&[T]; M],
    out: &mut [T],
    mut f: impl FnMut([L::F; M]) -> L::F,
) {
    let mut pairs = out.chunks_exact_mut(2 * L::N);
    let mut start = 0;
    for out in &mut pairs {
        let [mut first, mut second] = [[lanes.splat(0.0); M]; 2];
        for ((x, first), second) in x.iter().zip(&mut first).zip(&mut second) {
            let x = &x[start..start + 2 * L::N];
            cache_lines::<T>(2 * L::N).for_each(
                #[inline(always)]
                |line| lanes.prefetch_ahead(x, AHEAD + line),
            );
            (*first, *second) = lanes.load_two(x);
        }
        cache_lines::<T>(2 * L::N).for_each(
            #[inline(always)]
            |line| lanes.prefetch_to_write(out, AHEAD + line),
        );
        lanes.store_two(out, (f(first), f(second)));
        start += 2 * L::N;
    }
    let rest = pairs.into_remainder();
    if rest.len() >= L::N {
        lanes.store_as(rest, f(load(lanes, x, start)));
    }
}

/// The places, in bytes, of the cache lines of so many numbers.
#[inline(always)]
fn cache_lines<T>(numbers: usize) -> impl Iterator<Item = usize> {
    (0..numbers * size_of::<T>()).step_by(64)
}

/// `out = f(x)` where whole vectors do not reach.
#[inline(always)]
fn remainder<L: Lanes, T: Element, const M: usize>(
    lanes: L,
    x: [&[T]; M],
    out: &mut [T],
    f: impl Fn([L::F; M]) -> L::F,
) {
    let len = out.len();
    if len < L::N {
        let mut vectors = [lanes.splat(0.0); M];
        for (vector, x) in vectors.iter_mut().zip(x) {
            *vector = lanes.load_partial(x, 0.0);
        }
        lanes.store_partial(out, f(vectors));
    } else if !len.is_multiple_of(L::N) {
        // The last whole vector overlaps the one before and repeats its results.
        let last = len - L::N;
        lanes.store_as(&mut out[last..], f(load(lanes, x, last)));
    }
}

/// Vectors between two looks at how far their arguments went.
const BLOCK: usize = 64;

/// The least magnitude for which a function that [needs](Function::NEEDS_NORMAL) it is near.
const TINY: f32 = 1.0e-30;

/// A function that has a faster form.
#[derive(Clone, Copy)]
struct InPieces<L: Lanes, F> {
    lanes: L,
    function: F,
    loaded: Loaded<L>,
    limit: L::F,
}

impl<L: Lanes, F> InPieces<L, F> {
    #[inline(always)]
    fn new(lanes: L, function: F, pieces: &'static Pieces, dtype: DType) -> Self {
        InPieces { lanes, function, loaded: pieces.load(lanes, dtype), limit: lanes.splat(pieces.limit()) }
    }

    #[inline(always)]
    fn map<T: Element, const M: usize>(&self, mut x: [&[T]; M], out: &mut [T])
    where
        F: Function<M>,
    {
        let lanes = self.lanes;
        remainder(
            lanes,
            x,
            out,
            #[inline(always)]
            |x| self.at(x),
        );
        let body = out.len() - out.len() % L::N;
        for out in out[..body].chunks_mut(BLOCK * L::N) {
            let mut block = x;
            for (block, x) in block.iter_mut().zip(&mut x) {
                (*block, *x) = x.split_at(out.len());
            }
            self.block(block, out);
        }
    }

    /// A block of whole vectors.
    #[inline(always)]
    fn block<T: Element, const M: usize>(&self, x: [&[T]; M], out: &mut [T])
    where
        F: Function<M>,
    {
        let lanes = self.lanes;
        let (mut highest, mut lowest) = (lanes.splat(0.0), self.limit);
        whole_vectors(
            lanes,
            x,
            out,
            #[inline(always)]
            |x| {
                let a = lanes.abs(x[0]);
                highest = lanes.max(a, highest);
                if F::NEEDS_NORMAL {
                    lowest = lanes.min(a, lowest);
                }
                self.function.near(lanes, &self.loaded, x)
            },
        );
        let too_low = lanes.lt(lowest, lanes.splat(TINY));
        if lanes.any(lanes.or(lanes.gt(highest, self.limit), too_low)) {
            self.repair(x, out);
        }
    }

    /// The lanes beyond the limits again.
    #[inline(always)]
    fn repair<T: Element, const M: usize>(&self, x: [&[T]; M], out: &mut [T])
    where
        F: Function<M>,
    {
        for (i, out) in out.chunks_exact_mut(L::N).enumerate() {
            let x = load(self.lanes, x, i * L::N);
            if self.lanes.any(self.is_far(x[0])) {
                self.lanes.store_as(out, self.at(x));
            }
        }
    }

    #[inline(always)]
    fn is_far<const M: usize>(&self, x: L::F) -> L::M
    where
        F: Function<M>,
    {
        let lanes = self.lanes;
        let a = lanes.abs(x);
        let far = lanes.gt(a, self.limit);
        if !F::NEEDS_NORMAL {
            return far;
        }
        let tiny = lanes.and(lanes.lt(a, lanes.splat(TINY)), lanes.gt(a, lanes.splat(0.0)));
        lanes.or(far, tiny)
    }

    /// The value for any argument.
    #[inline(always)]
    fn at<const M: usize>(&self, x: [L::F; M]) -> L::F
    where
        F: Function<M>,
    {
        let near = self.function.near(self.lanes, &self.loaded, x);
        self.lanes.select(self.is_far(x[0]), self.function.at(self.lanes, x), near)
    }
}

/// `out = max(x, 0)` of the bits of 16-bit numbers: nothing is converted, and a vector holds twice as
/// many.
pub(crate) struct HalfRelu<'a> {
    pub(crate) x: &'a [u16],
    pub(crate) out: &'a mut [u16],
    /// The bits of ∞.
    pub(crate) infinity: u16,
}

impl Kernel for HalfRelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let HalfRelu { x, out, infinity } = self;
        for (out, x) in out.chunks_mut(HALF_BLOCK).zip(x.chunks(HALF_BLOCK)) {
            for line in cache_lines::<u16>(HALF_BLOCK) {
                lanes.prefetch_ahead(x, AHEAD + line);
                lanes.prefetch_to_write(out, AHEAD + line);
            }
            // A loop of such a length and without prefetching the compiler makes one of vectors.
            for (out, &x) in out.iter_mut().zip(x) {
                // From −0 and NaN, which stay, one comparison tells the bits of what is below zero.
                *out = if x.wrapping_sub(0x8001) < infinity { 0 } else { x };
            }
        }
    }
}

/// 16-bit numbers whose cache lines are fetched together.
const HALF_BLOCK: usize = 256;

/// The rows of a packed gated unit, each with gate and value side by side.
pub(crate) struct PackedRows<'a, T, G> {
    pub(crate) gate: G,
    pub(crate) x: &'a [T],
    pub(crate) out: &'a mut [T],
    pub(crate) width: usize,
    pub(crate) gate_first: bool,
}

impl<T: Element, G: Gate> Kernel for PackedRows<'_, T, G> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        // No element, no row; a chunk must have a length all the same.
        let width = self.width.max(1);
        let rows = self.x.chunks_exact(2 * width).zip(self.out.chunks_exact_mut(width));
        for (x, out) in rows {
            let (first, second) = x.split_at(width);
            let x = if self.gate_first { [first, second] } else { [second, first] };
            Map { function: Gated(self.gate), x, out }.run(lanes);
        }
    }
}
