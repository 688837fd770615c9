//! softmax and log_softmax over any axis.
//!
//! Three passes: the maximum; the exponentials and their sum; the quotient (or the difference
//! from the logarithm). Short rows are in flight together, each in another pass. Along the last axis a vector holds neighbours of one row, along another
//! axis the same place of neighbouring rows, so nothing is ever copied or transposed.
//!
//! Two things keep the error of an element near 3 ULP whatever the row:
//!
//! - **No rounded difference x − m.** In e^(x − m) an error of the exponent is an error of the
//!   result, and the difference alone would cost up to |x − m|/2 ULP. Instead e^x = p·2ⁿ is taken
//!   relative to 2^(n of the maximum), which is exact. Where m is too large for that, x − m is
//!   exact by Sterbenz's lemma for every x that matters.
//! - **Sums in two parts.** Eight terms are added in f32, the rest compensated (Knuth), so a million
//!   equal terms are no worse than eight.

mod columns;
mod passes;
mod rows;

use std::sync::Arc;

use self::columns::Columns;
use self::passes::{Passes, Pivot};
use self::rows::Rows;
use super::lanes::{Kernel, Lanes};
use super::{Engine, Entry, HasKernel, of};
use crate::backend::Prepared;
use crate::dtype::{DType, Element};
use crate::error::BackendError;
use crate::host::HostPrepared;
use crate::op::Softmax;
use crate::operands::Inputs;
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<Softmax>];

impl HasKernel for Softmax {
    fn path(&self) -> &'static str {
        if self.dims().2 == 1 {
            "three passes, a row in all lanes"
        } else {
            "three passes, a row in each lane"
        }
    }

    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError> {
        with_element!(problem.dtype, T => Ok(prepare::<T>(engine, problem, self, inputs)))
    }
}

/// Elements of a row that are summed into one number before the next are begun. Fixed, because
/// long rows are shared out in blocks, and the result must not depend on how.
const BLOCK: usize = 16 * 1024;

/// The compile-time variants of the passes.
trait Variant: Copy + Send + Sync {
    const SCALED: bool;
    const LOG: bool;
}

#[derive(Clone, Copy)]
struct Is<const SCALED: bool, const LOG: bool>;

impl<const SCALED: bool, const LOG: bool> Variant for Is<SCALED, LOG> {
    const SCALED: bool = SCALED;
    const LOG: bool = LOG;
}

/// A computation with the passes of one variant.
trait Pass {
    type Output;

    /// Implementations must be `#[inline(always)]`.
    fn run<L: Lanes, V: Variant>(self, passes: Passes<L, V>) -> Self::Output;
}

/// What is the same for every row, as values.
#[derive(Clone, Copy)]
struct Form {
    scale: f32,
    log: bool,
}

impl Form {
    fn of<P: Pass>(self, pass: P) -> WithForm<P> {
        WithForm { form: self, pass }
    }
}

struct WithForm<P> {
    form: Form,
    pass: P,
}

impl<P: Pass> Kernel for WithForm<P> {
    type Output = P::Output;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> P::Output {
        let WithForm { form: Form { scale, log }, pass } = self;
        match (scale != 1.0, log) {
            (false, false) => pass.run(Passes::<L, Is<false, false>>::new(lanes, scale)),
            (false, true) => pass.run(Passes::<L, Is<false, true>>::new(lanes, scale)),
            (true, false) => pass.run(Passes::<L, Is<true, false>>::new(lanes, scale)),
            (true, true) => pass.run(Passes::<L, Is<true, true>>::new(lanes, scale)),
        }
    }
}

/// Where the exponentials of a block wait for the last pass, if they are not computed twice.
#[inline(always)]
fn kept_in<V: Variant, T: Element>(out: &mut [T]) -> &mut [f32] {
    if !V::LOG && T::DTYPE == DType::F32 { bytemuck::cast_slice_mut(out) } else { &mut [] }
}

/// The larger of two maxima, neither of them NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The first pass over a block of a long row.
struct BlockMax<'a, T>(&'a [T]);

impl<T: Element> Pass for BlockMax<'_, T> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes, V: Variant>(self, passes: Passes<L, V>) -> f32 {
        passes.block_max(self.0)
    }
}

/// The second pass over a block of a long row.
struct BlockSum<'a, T> {
    max: f32,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Pass for BlockSum<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes, V: Variant>(self, passes: Passes<L, V>) -> f64 {
        let pivot = Pivot::new(passes.lanes, passes.lanes.splat(self.max));
        passes.block_sum(&pivot, self.x, kept_in::<V, T>(self.out), &[])
    }
}

/// The last pass over a block of a long row.
struct BlockFinish<'a, T> {
    max: f32,
    sum: f64,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Pass for BlockFinish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes, V: Variant>(self, passes: Passes<L, V>) {
        let pivot = Pivot::new(passes.lanes, passes.lanes.splat(self.max));
        let parts = passes.finish(&pivot, self.sum);
        passes.block_finish(&pivot, parts, self.x, &[], self.out);
    }
}

fn prepare<T: Element>(
    engine: &Arc<Engine>,
    problem: &Problem,
    spec: &Softmax,
    inputs: &Inputs,
) -> Box<dyn Prepared> {
    let engine = Arc::clone(engine);
    let form = Form { scale: spec.scale, log: spec.log };
    let dims = spec.dims();
    Box::new(HostPrepared::new(problem, inputs, move |inputs, outputs| {
        let (x, out) = (inputs.slice::<T>("x")?, outputs.slice_mut::<T>("out")?);
        if !out.is_empty() {
            engine.softmax(form, dims, x, out);
            if form.scale.abs() > 1.0 {
                beyond_range(form, dims, x, out);
            }
        }
        Ok(())
    }))
}

/// Computes again, in f64, the rows whose s·x left the range of f32. Where their maximum was ±∞, every
/// element is NaN, so one tells; rows that hold a NaN are found too, and come out the same. Where another
/// s·x was −∞, its exponential is zero by rights, but its logarithm may be a number.
fn beyond_range<T: Element>(form: Form, (outer, len, inner): (usize, usize, usize), x: &[T], out: &mut [T]) {
    let starts = (0..outer).flat_map(|o| (0..inner).map(move |i| o * len * inner + i));
    let infinite = |y: &T| y.to_f32().is_infinite();
    let any_infinite = form.log && out.iter().any(infinite);
    for start in starts {
        let is_left = any_infinite && out[start..].iter().step_by(inner).take(len).any(infinite);
        if !out[start].to_f32().is_nan() && !is_left {
            continue;
        }
        let row =
            || x[start..].iter().step_by(inner).take(len).map(|x| form.scale as f64 * x.to_f32() as f64);
        let max = row().fold(f64::NEG_INFINITY, |max, t| if t > max || t.is_nan() { t } else { max });
        let sum: f64 = row().map(|t| (t - max).exp()).sum();
        for (out, t) in out[start..].iter_mut().step_by(inner).zip(row()) {
            let y = if form.log { (t - max) - sum.ln() } else { (t - max).exp() / sum };
            *out = T::from_f32(y as f32);
        }
    }
}

impl Engine {
    fn softmax<T: Element>(&self, form: Form, dims: (usize, usize, usize), x: &[T], out: &mut [T]) {
        let (outer, len, inner) = dims;
        let threads = self.threads.worth(out.len());
        if outer >= threads && inner == 1 {
            let most =
                if len <= rows::longest_in_flight::<T>(form.log) { rows::TOGETHER } else { rows::IN_TURN };
            let together = (outer / (2 * threads)).clamp(1, most);
            self.threads.elements(out, together * len, |start, out| {
                self.isa.run(form.of(Rows { x: &x[start..start + out.len()], out, len }));
            });
        } else if inner == 1 {
            for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
                self.long_softmax(form, x, out);
            }
        } else if outer >= threads {
            self.threads.elements(out, len * inner, |start, out| {
                let slabs = x[start..].chunks_exact(len * inner).zip(out.chunks_exact_mut(len * inner));
                for (x, out) in slabs {
                    let rows = out.chunks_exact_mut(inner).collect();
                    self.isa.run(form.of(Columns { x, inner, first: 0, rows }));
                }
            });
        } else {
            for (x, out) in x.chunks_exact(len * inner).zip(out.chunks_exact_mut(len * inner)) {
                let tasks = columns::split(x, out, inner, threads);
                self.threads.map(tasks, |columns| self.isa.run(form.of(columns)));
            }
        }
    }

    /// One row whose blocks are shared out among threads.
    fn long_softmax<T: Element>(&self, form: Form, x: &[T], out: &mut [T]) {
        let threads = &self.threads;
        let maxima = threads.map(x.chunks(BLOCK).collect(), |x| self.isa.run(form.of(BlockMax(x))));
        let max = maxima.into_iter().fold(f32::NEG_INFINITY, larger);
        let blocks = x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).collect();
        let sums = threads.map(blocks, |(x, out)| self.isa.run(form.of(BlockSum { max, x, out })));
        let sum = sums.into_iter().fold(0.0, |sum, block| sum + block);
        let blocks = x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).collect();
        threads.map(blocks, |(x, out)| self.isa.run(form.of(BlockFinish { max, sum, x, out })));
    }
}
