//! Normalizations of contiguous rows: layer and rms norm.

use super::moments::{Moments, mean_square};
use super::normal::{Affine, Normal, Step, Traffic, load_at, map, normalize};
use crate::dtype::{DType, Element};
use crate::error::BackendError;
use crate::op::{LayerNorm, RmsNorm};
use crate::operands::{Inputs, Outputs};
use crate::simd::Engine;
use crate::simd::lanes::{Kernel, Lanes, MAX_LANES};

/// Bytes of a result from which it is written past the caches, with non-temporal stores.
///
/// A choice. A store in the usual way reads the line first, which is a third of the traffic of a norm in
/// memory; a store past the caches costs the next reader a miss where the line would have stayed. An input
/// and a result of 32 MiB each are more than most last-level caches hold, but not those of large servers,
/// which are not asked. Half of it was tried on Zen 5: results of 16 MB took 0.75 to 1.13 of the time, and 0.86
/// to 1.30 at two threads (`kernels/TUNING.md`, "Norms"). Twice was not tried: results from 32 to 64 MiB would
/// be written as smaller ones are.
pub(in crate::simd) const PAST_CACHES: usize = 32 << 20;

/// Layer norm of some rows.
struct LayerRows<'a, T> {
    x: &'a [T],
    out: &'a mut [T],
    width: usize,
    eps: f32,
    affine: Affine<'a, T>,
    past_caches: bool,
}

impl<T: Element> Kernel for LayerRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for (x, out) in self.x.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width)) {
            let moments = Moments::of(lanes, std::iter::once(x), self.width);
            normalize(
                lanes,
                &Normal::new(&moments, self.eps),
                self.affine,
                x,
                out,
                Traffic::of(x, self.past_caches),
            );
        }
        lanes.fence();
    }
}

pub(super) fn layer_norm<T: Element>(
    engine: &Engine,
    spec: &LayerNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let (_, width) = spec.rows_and_width();
    let x = inputs.slice::<T>("x")?;
    if x.is_empty() {
        return Ok(());
    }
    let affine = Affine::Each { weight: inputs.optional("weight")?, bias: inputs.optional("bias")? };
    let past_caches = size_of_val(x) >= PAST_CACHES;
    engine.threads.elements(outputs.slice_mut::<T>("out")?, width, |start, out| {
        let x = &x[start..start + out.len()];
        engine.isa.run(LayerRows { x, out, width, eps: spec.eps, affine, past_caches });
    });
    Ok(())
}

/// `x·rstd·(offset + weight)`, with what is the same for the whole row in every lane.
struct RmsStep<'a, L: Lanes, T> {
    rstd: L::F,
    offset: L::F,
    weight: Option<&'a [T]>,
    /// Whether x·rstd is rounded to storage before the weight comes to it.
    rounded: bool,
}

impl<L: Lanes, T: Element> Step<L> for RmsStep<'_, L, T> {
    #[inline(always)]
    fn apply(&self, lanes: L, i: usize, x: L::F) -> L::F {
        let mut unit = lanes.mul(x, self.rstd);
        let Some(weight) = self.weight else { return unit };
        if self.rounded {
            let mut storage = [T::zeroed(); MAX_LANES];
            lanes.store_as(&mut storage, unit);
            unit = lanes.load_as(&storage);
        }
        lanes.mul(unit, lanes.add(self.offset, load_at(lanes, weight, i)))
    }
}

/// RMS norm of some rows.
struct RmsRows<'a, T> {
    x: &'a [T],
    out: &'a mut [T],
    width: usize,
    weight: Option<&'a [T]>,
    spec: &'a RmsNorm,
    past_caches: bool,
}

impl<T: Element> Kernel for RmsRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let RmsRows { spec, weight, past_caches, .. } = self;
        let offset = lanes.splat(spec.weight_offset);
        let rounded = spec.round_before_weight && T::DTYPE != DType::F32;
        for (x, out) in self.x.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width)) {
            let rstd = 1.0 / (mean_square(lanes, x) + spec.eps as f64).sqrt();
            let step = RmsStep { rstd: lanes.splat(rstd as f32), offset, weight, rounded };
            map(lanes, x, out, Traffic::of(x, past_caches), &step);
        }
        lanes.fence();
    }
}

pub(super) fn rms_norm<T: Element>(
    engine: &Engine,
    spec: &RmsNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let (_, width) = spec.rows_and_width();
    let x = inputs.slice::<T>("x")?;
    if x.is_empty() {
        return Ok(());
    }
    let weight = inputs.optional::<T>("weight")?;
    let past_caches = size_of_val(x) >= PAST_CACHES;
    engine.threads.elements(outputs.slice_mut::<T>("out")?, width, |start, out| {
        let x = &x[start..start + out.len()];
        engine.isa.run(RmsRows { x, out, width, weight, spec, past_caches });
    });
    Ok(())
}
