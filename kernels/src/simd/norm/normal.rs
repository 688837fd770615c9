//! The element-wise step: `(x − mean)·rstd·weight + bias`.

use super::moments::Moments;
use crate::dtype::Element;
use crate::simd::lanes::Lanes;

/// Mean and 1/√(variance + eps) as the element-wise step uses them. The mean has two parts, so
/// that x − mean is accurate however large the mean is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Normal {
    pub(super) mean: f32,
    pub(super) mean_low: f32,
    pub(super) rstd: f32,
}

impl Normal {
    pub(super) fn new(moments: &Moments, eps: f32) -> Self {
        Normal {
            mean: moments.pivot,
            mean_low: moments.shift as f32,
            rstd: (1.0 / (moments.variance + eps as f64).sqrt()) as f32,
        }
    }
}

/// Weights and biases: one for each element, or one for all.
#[derive(Clone, Copy, Debug)]
pub(super) enum Affine<'a, T> {
    Each { weight: Option<&'a [T]>, bias: Option<&'a [T]> },
    One { weight: f32, bias: f32 },
}

/// out = element(i, x), a vector at a time, where i is the index of the vector's first element.
#[inline(always)]
pub(super) fn map<L: Lanes, T: Element>(
    lanes: L,
    x: &[T],
    out: &mut [T],
    past_caches: bool,
    element: impl Fn(usize, L::F) -> L::F,
) {
    let mut from = x.chunks_exact(L::N);
    let mut to = out.chunks_exact_mut(L::N);
    let mut i = 0;
    for (x, out) in from.by_ref().zip(to.by_ref()) {
        let y = element(i, lanes.load_as(x));
        if past_caches {
            lanes.stream_as(out, y);
        } else {
            lanes.store_as(out, y);
        }
        i += L::N;
    }
    let rest = from.remainder();
    if !rest.is_empty() {
        lanes.store_partial(to.into_remainder(), element(i, lanes.load_partial(rest, 0.0)));
    }
}

/// Elements i.. of a slice, as many as there are lanes or elements.
#[inline(always)]
pub(super) fn load_at<L: Lanes, T: Element>(lanes: L, x: &[T], i: usize) -> L::F {
    match x.get(i..i + L::N) {
        Some(x) => lanes.load_as(x),
        None => lanes.load_partial(&x[i..], 0.0),
    }
}

/// Normalizes a run of elements that share their statistics.
#[inline(always)]
pub(super) fn normalize<L: Lanes, T: Element>(
    lanes: L,
    normal: &Normal,
    affine: Affine<T>,
    x: &[T],
    out: &mut [T],
    past_caches: bool,
) {
    let (mean, low, rstd) =
        (lanes.splat(normal.mean), lanes.splat(normal.mean_low), lanes.splat(normal.rstd));
    let unit = |x| lanes.mul(lanes.sub(lanes.sub(x, mean), low), rstd);
    match affine {
        Affine::Each { weight: Some(weight), bias: Some(bias) } => {
            map(lanes, x, out, past_caches, |i, x| {
                lanes.mul_add(unit(x), load_at(lanes, weight, i), load_at(lanes, bias, i))
            });
        }
        Affine::Each { weight: Some(weight), bias: None } => {
            map(lanes, x, out, past_caches, |i, x| lanes.mul(unit(x), load_at(lanes, weight, i)));
        }
        Affine::Each { weight: None, bias: Some(bias) } => {
            map(lanes, x, out, past_caches, |i, x| lanes.add(unit(x), load_at(lanes, bias, i)));
        }
        Affine::Each { weight: None, bias: None } => map(lanes, x, out, past_caches, |_, x| unit(x)),
        Affine::One { weight, bias } => {
            let (weight, bias) = (lanes.splat(weight), lanes.splat(bias));
            map(lanes, x, out, past_caches, |_, x| lanes.mul_add(unit(x), weight, bias));
        }
    }
}
