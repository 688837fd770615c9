//! Rotary position embedding.
//!
//! Pairs (a, b) become (a·cos − b·sin, b·cos + a·sin), with the second product of each sum fused.
//! The tables hold one row for each position and are shared by all heads.

use std::ops::Range;
use std::sync::Arc;

use super::lanes::{AHEAD, Kernel, Lanes};
use super::{Engine, Entry, HasKernel, of};
use crate::backend::Prepared;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::host::HostPrepared;
use crate::op::rope::RopeTables;
use crate::op::{Rope, RopeStyle};
use crate::operands::Inputs;
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<Rope>];

impl HasKernel for Rope {
    fn path(&self) -> &'static str {
        "one pass"
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        with_element!(problem.dtype, T => prepare::<T>(engine, problem, self, inputs))
    }
}

/// Cosines and sines, one row of rotary_dim/2 for each position.
type Tables = (Vec<f32>, Vec<f32>);

fn prepare<T: Element>(
    engine: &Arc<Engine>,
    problem: &Problem,
    spec: &Rope,
    inputs: &Inputs,
) -> Result<Box<dyn Prepared>, BackendError> {
    let engine = Arc::clone(engine);
    let spec = spec.clone();
    let prepared = match spec.tables {
        RopeTables::Prepared => Some(engine.rope_tables(&spec, inputs)?),
        RopeTables::Timed => None,
    };
    Ok(Box::new(HostPrepared::new(problem, inputs, move |inputs, outputs| {
        let (x, out) = (inputs.slice::<T>("x")?, outputs.slice_mut::<T>("out")?);
        let built;
        let tables = match &prepared {
            Some(tables) => tables,
            None => {
                built = engine.rope_tables(&spec, inputs)?;
                &built
            }
        };
        engine.threads.elements(out, spec.head_dim, |start, out| {
            let first = start / spec.head_dim;
            let rows = first..first + out.len() / spec.head_dim;
            engine.isa.run(Rotate { spec: &spec, tables, rows, x: &x[start..start + out.len()], out });
        });
        Ok(())
    })))
}

impl Engine {
    /// The tables of all positions, built by all threads.
    fn rope_tables(&self, spec: &Rope, inputs: &Inputs) -> Result<Tables, BackendError> {
        let positions = inputs.slice::<i64>("positions")?;
        let factors = inputs.optional::<f32>("freq_factors")?;
        // A sine and a cosine in f64 take about as long as fifty elements of a kernel.
        let threads = self.threads.worth(positions.len() * spec.rotary_dim * 25);
        let share = positions.len().div_ceil(threads).max(1);
        let parts = self.threads.map(positions.chunks(share).collect(), |p| spec.tables(p, factors));
        let (cosines, sines): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Ok((cosines.concat(), sines.concat()))
    }
}

/// Rows `rows` of [batch·heads·len, head_dim].
struct Rotate<'a, T> {
    spec: &'a Rope,
    tables: &'a Tables,
    rows: Range<usize>,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Kernel for Rotate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Rope { heads, len, head_dim, rotary_dim, style, batched_positions, .. } = *self.spec;
        let half = rotary_dim / 2;
        let rows = self.x.chunks_exact(head_dim).zip(self.out.chunks_exact_mut(head_dim));
        for (row, (x, out)) in self.rows.zip(rows) {
            let batch = if batched_positions { row / (heads * len) } else { 0 };
            let position = (batch * len + row % len) * half;
            let cosines = &self.tables.0[position..position + half];
            let sines = &self.tables.1[position..position + half];
            let (x, kept) = x.split_at(rotary_dim);
            let (out, out_kept) = out.split_at_mut(rotary_dim);
            match style {
                RopeStyle::Half => rotate_half(lanes, cosines, sines, x, out),
                RopeStyle::Interleaved => rotate_interleaved(lanes, cosines, sines, x, out),
            }
            out_kept.copy_from_slice(kept);
        }
    }
}

/// (a·cos − b·sin, b·cos + a·sin).
#[inline(always)]
fn rotate<L: Lanes>(lanes: L, (a, b): (L::F, L::F), cosine: L::F, sine: L::F) -> (L::F, L::F) {
    (lanes.neg_mul_add(b, sine, lanes.mul(a, cosine)), lanes.mul_add(a, sine, lanes.mul(b, cosine)))
}

/// The starts of whole vectors in a length of at least one: the last overlaps the one before,
/// and repeats its results.
#[inline(always)]
fn vector_starts<L: Lanes>(len: usize) -> impl Iterator<Item = usize> {
    (0..len.div_ceil(L::N)).map(move |i| (i * L::N).min(len - L::N))
}

/// Pairs (i, i + half).
#[inline(always)]
fn rotate_half<L: Lanes, T: Element>(lanes: L, cosines: &[f32], sines: &[f32], x: &[T], out: &mut [T]) {
    let half = cosines.len();
    let sines = &sines[..half];
    let (a, b) = x.split_at(half);
    let (out_a, out_b) = out.split_at_mut(half);
    let b = &b[..half];
    let out_b = &mut out_b[..half];
    if half < L::N {
        let pair = (lanes.load_partial(a, 0.0), lanes.load_partial(b, 0.0));
        let (cosine, sine) = (lanes.load_partial(cosines, 0.0), lanes.load_partial(sines, 0.0));
        let (a, b) = rotate(lanes, pair, cosine, sine);
        lanes.store_partial(out_a, a);
        lanes.store_partial(out_b, b);
        return;
    }
    for i in vector_starts::<L>(half) {
        let pair = (lanes.load_as(&a[i..]), lanes.load_as(&b[i..]));
        let (a, b) = rotate(lanes, pair, lanes.load(&cosines[i..]), lanes.load(&sines[i..]));
        for (x, out) in [(&x[i..], &out_a[i..]), (&x[half + i..], &out_b[i..])] {
            lanes.prefetch_ahead(x, AHEAD);
            lanes.prefetch_to_write(out, AHEAD);
        }
        lanes.store_as(&mut out_a[i..], a);
        lanes.store_as(&mut out_b[i..], b);
    }
}

/// Pairs (2i, 2i + 1).
#[inline(always)]
fn rotate_interleaved<L: Lanes, T: Element>(
    lanes: L,
    cosines: &[f32],
    sines: &[f32],
    x: &[T],
    out: &mut [T],
) {
    let half = cosines.len();
    let sines = &sines[..half];
    let (x, out) = (&x[..2 * half], &mut out[..2 * half]);
    if half < L::N {
        let (low, high) = x.split_at(x.len().min(L::N));
        let pair = lanes.deinterleave(lanes.load_partial(low, 0.0), lanes.load_partial(high, 0.0));
        let (cosine, sine) = (lanes.load_partial(cosines, 0.0), lanes.load_partial(sines, 0.0));
        let (a, b) = rotate(lanes, pair, cosine, sine);
        let (a, b) = lanes.interleave(a, b);
        let (low, high) = out.split_at_mut(low.len());
        lanes.store_partial(low, a);
        lanes.store_partial(high, b);
        return;
    }
    for i in vector_starts::<L>(half) {
        let (x, out) = (&x[2 * i..], &mut out[2 * i..]);
        for line in [0, L::N] {
            lanes.prefetch_ahead(&x[line..], AHEAD);
            lanes.prefetch_to_write(&out[line..], AHEAD);
        }
        let pair = lanes.deinterleave(lanes.load_as(x), lanes.load_as(&x[L::N..]));
        let (a, b) = rotate(lanes, pair, lanes.load(&cosines[i..]), lanes.load(&sines[i..]));
        let (a, b) = lanes.interleave(a, b);
        lanes.store_as(out, a);
        lanes.store_as(&mut out[L::N..], b);
    }
}
