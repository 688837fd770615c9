//! The element-wise step: `(x − mean)·rstd·weight + bias`.

use super::moments::Moments;
use crate::dtype::Element;
use crate::simd::lanes::Lanes;

/// Mean and 1/√(variance + eps) as the element-wise step uses them. The mean has two parts, so
/// that x − mean is accurate however large the mean is.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::simd) struct Normal {
    pub(in crate::simd) mean: f32,
    pub(in crate::simd) mean_low: f32,
    pub(in crate::simd) rstd: f32,
}

impl Normal {
    pub(in crate::simd) fn new(moments: &Moments, eps: f32) -> Self {
        Normal {
            mean: moments.pivot,
            mean_low: moments.shift as f32,
            rstd: (1.0 / (moments.variance + eps as f64).sqrt()) as f32,
        }
    }
}

/// Weights and biases: one for each element, or one for all.
#[derive(Clone, Copy, Debug)]
pub(in crate::simd) enum Affine<'a, T> {
    Each { weight: Option<&'a [T]>, bias: Option<&'a [T]> },
    One { weight: f32, bias: f32 },
}

/// Farthest place, in bytes, that is fetched while a run is worked on: what lies between stays in L2.
const FARTHEST: usize = 64 << 10;

/// How a run goes through the caches.
#[derive(Clone, Copy, Debug)]
pub(in crate::simd) struct Traffic {
    /// Bytes to the place that will be read in the same order when this run is done.
    pub(in crate::simd) ahead: usize,
    /// Whether the result is written past the caches.
    pub(in crate::simd) past_caches: bool,
}

impl Traffic {
    /// Of elements that are followed by as many others, such as a row by a row.
    pub(in crate::simd) fn of<T>(x: &[T], past_caches: bool) -> Self {
        Traffic { ahead: size_of_val(x), past_caches }
    }
}

/// What becomes of the elements of a run, a vector at a time.
///
/// A trait where a closure would do, because a closure cannot be `#[inline(always)]`.
pub(in crate::simd) trait Step<L: Lanes> {
    /// The result for x, the vector of elements i, i + 1, …
    fn apply(&self, lanes: L, i: usize, x: L::F) -> L::F;
}

/// Takes a step with every element of a run, while the run behind it comes nearer: its statistics are
/// what mostly follows.
#[inline(always)]
pub(in crate::simd) fn map<L: Lanes, X: Element, T: Element>(
    lanes: L,
    x: &[X],
    out: &mut [T],
    traffic: Traffic,
    step: &impl Step<L>,
) {
    let mut from = x.chunks_exact(L::N);
    let mut to = out.chunks_exact_mut(L::N);
    let mut i = 0;
    for (x, out) in from.by_ref().zip(to.by_ref()) {
        if traffic.ahead <= FARTHEST {
            lanes.prefetch_ahead(x, traffic.ahead);
        }
        let y = step.apply(lanes, i, lanes.load_as(x));
        if traffic.past_caches {
            lanes.stream_as(out, y);
        } else {
            lanes.store_as(out, y);
        }
        i += L::N;
    }
    let rest = from.remainder();
    if !rest.is_empty() {
        let y = step.apply(lanes, i, lanes.load_partial(rest, 0.0));
        lanes.store_partial(to.into_remainder(), y);
    }
}

/// Elements i.. of a slice, as many as there are lanes or elements.
#[inline(always)]
pub(in crate::simd) fn load_at<L: Lanes, T: Element>(lanes: L, x: &[T], i: usize) -> L::F {
    match x.get(i..i + L::N) {
        Some(x) => lanes.load_as(x),
        None => lanes.load_partial(&x[i..], 0.0),
    }
}

/// (x − mean)·rstd, with what is the same for the whole run in every lane.
struct Unit<L: Lanes> {
    mean: L::F,
    mean_low: L::F,
    rstd: L::F,
}

impl<L: Lanes> Unit<L> {
    #[inline(always)]
    fn new(lanes: L, normal: &Normal) -> Self {
        Unit {
            mean: lanes.splat(normal.mean),
            mean_low: lanes.splat(normal.mean_low),
            rstd: lanes.splat(normal.rstd),
        }
    }

    #[inline(always)]
    fn of(&self, lanes: L, x: L::F) -> L::F {
        lanes.mul(lanes.sub(lanes.sub(x, self.mean), self.mean_low), self.rstd)
    }
}

/// A weight and bias for each element of the run.
struct Each<'a, L: Lanes, T> {
    unit: Unit<L>,
    weight: Option<&'a [T]>,
    bias: Option<&'a [T]>,
}

impl<L: Lanes, T: Element> Step<L> for Each<'_, L, T> {
    #[inline(always)]
    fn apply(&self, lanes: L, i: usize, x: L::F) -> L::F {
        let unit = self.unit.of(lanes, x);
        match (self.weight, self.bias) {
            (Some(weight), Some(bias)) => {
                lanes.mul_add(unit, load_at(lanes, weight, i), load_at(lanes, bias, i))
            }
            (Some(weight), None) => lanes.mul(unit, load_at(lanes, weight, i)),
            (None, Some(bias)) => lanes.add(unit, load_at(lanes, bias, i)),
            (None, None) => unit,
        }
    }
}

/// One weight and bias for all elements of the run.
struct One<L: Lanes> {
    unit: Unit<L>,
    weight: L::F,
    bias: L::F,
}

impl<L: Lanes> Step<L> for One<L> {
    #[inline(always)]
    fn apply(&self, lanes: L, _i: usize, x: L::F) -> L::F {
        lanes.mul_add(self.unit.of(lanes, x), self.weight, self.bias)
    }
}

/// Normalizes a run of elements that share their statistics.
#[inline(always)]
pub(in crate::simd) fn normalize<L: Lanes, X: Element, T: Element>(
    lanes: L,
    normal: &Normal,
    affine: Affine<T>,
    x: &[X],
    out: &mut [T],
    traffic: Traffic,
) {
    let unit = Unit::new(lanes, normal);
    match affine {
        Affine::Each { weight, bias } => {
            map(lanes, x, out, traffic, &Each { unit, weight, bias });
        }
        Affine::One { weight, bias } => {
            let (weight, bias) = (lanes.splat(weight), lanes.splat(bias));
            map(lanes, x, out, traffic, &One { unit, weight, bias });
        }
    }
}
