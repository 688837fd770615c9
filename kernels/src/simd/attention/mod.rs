//! Scaled dot-product attention with an online softmax (Milakov & Gimelshein 2018; Dao et al.
//! 2022): no row of scores ever leaves the caches.
//!
//! The queries of all heads that share a kv head are stacked as rows, so that K and V are read
//! once for the whole group. A *task* is a run of such rows and a run of keys.
//!
//! | file | holds |
//! |---|---|
//! | `plan` | how a problem is cut into tasks; nothing there depends on the number of threads |
//! | `operands`, `rules` | the semantics: ranges, masks, biases |
//! | `tile`, `strip` | many rows: queries in the lanes, `product` its two matrix products, `amx` in tiles, `words` what bf16 units take |
//! | `stream` | few rows: K and V stream past, head dimensions in the lanes |
//! | `finish` | division by the sum, merging of runs of keys |
//! | `careful` | rows that meet NaN or ∞ |
//!
//! `tile` and `stream` leave the same thing behind, a [`Partial`]: unnormalized rows of the
//! result with their maximum and sum.

mod amx;
mod careful;
mod exp2;
mod finish;
mod operands;
mod plan;
mod product;
mod rules;
mod stream;
mod strip;
#[cfg(test)]
mod tests;
mod tile;
mod transpose;
mod words;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use self::operands::Operands;
use self::plan::Plan;
use super::isa::Isa;
use super::pairs::Pairs;
use super::threads::lock;
use super::tiles::Tiles;
use super::{Engine, Entry, HasKernel, of};
use crate::backend::{Prepared, Support};
use crate::dtype::{DType, Element};
use crate::error::BackendError;
use crate::host::HostPrepared;
use crate::op::Attention;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::with_element;

pub(super) const KERNELS: &[Entry] = &[of::<Attention>];

impl HasKernel for Attention {
    fn supports(&self) -> Support {
        if self.kv_len.max(self.q_len) >= MAX_LEN {
            return Support::No("more than 2²⁴ keys or queries".into());
        }
        Support::Yes
    }

    fn path(&self) -> &'static str {
        "fused"
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

/// Keys and queries are counted in f32 lanes, which hold every integer below this one.
const MAX_LEN: usize = 1 << 24;

fn prepare<T: Element>(
    engine: &Arc<Engine>,
    problem: &Problem,
    spec: &Attention,
    inputs: &Inputs,
) -> Result<Box<dyn Prepared>, BackendError> {
    let (engine, spec) = (Arc::clone(engine), spec.clone());
    let packs = matches!(Unit::best::<T>(engine.isa, spec.head_dim), Unit::Tiles(_));
    let plan = Plan::new(&spec, engine.isa, packs);
    let scratch: Vec<Mutex<Scratch>> = (0..engine.threads.count()).map(|_| Mutex::default()).collect();
    let partials: Vec<Mutex<Partial>> =
        (0..if plan.splits > 1 { plan.tasks() } else { 0 }).map(|_| Mutex::default()).collect();
    let kernel = move |inputs: &Inputs, outputs: &mut Outputs| {
        let operands = Operands::<T>::new(&spec, inputs)?;
        let mut lse = if spec.lse { Some(Lse::take(outputs)?) } else { None };
        let lse_rows = lse.as_mut().map(|lse| &mut lse.0[..]);
        let out = outputs.slice_mut::<T>("out")?;
        attention(&engine, &plan, &operands, &scratch, &partials, targets(&spec, &plan, out, lse_rows));
        if let Some(lse) = lse {
            outputs.slice_mut::<f32>("lse")?.copy_from_slice(&lse.0);
        }
        Ok(())
    };
    Ok(Box::new(HostPrepared::new(problem, inputs, kernel)))
}

/// The log-sum-exps, apart from the other result: the two cannot be borrowed at once.
struct Lse(Vec<f32>);

impl Lse {
    fn take(outputs: &mut Outputs) -> Result<Self, BackendError> {
        Ok(Lse(vec![f32::NAN; outputs.slice_mut::<f32>("lse")?.len()]))
    }
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    tile: tile::Scratch,
    stream: stream::Scratch,
    partial: Partial,
    clean: Partial,
}

/// What a task leaves behind: for each row r, Σ_j 2^(s_j − m_r)·v_j, m_r and Σ_j 2^(s_j − m_r).
#[derive(Default)]
struct Partial {
    rows: Vec<f32>,
    max: Vec<f32>,
    sum: Vec<f32>,
}

impl Partial {
    fn resize(&mut self, rows: usize, width: usize) {
        self.rows.resize(rows * width, 0.0);
        self.max.resize(rows, 0.0);
        self.sum.resize(rows, 0.0);
    }
}

/// A run of queries of all heads of a kv head, against a run of keys.
#[derive(Clone, Debug)]
struct Task {
    batch: usize,
    kv_head: usize,
    /// How many query heads there are to the kv head.
    group: usize,
    queries: Range<usize>,
    keys: Range<usize>,
    /// Which of the runs of keys it is.
    split: usize,
}

impl Task {
    fn rows(&self) -> usize {
        self.queries.len() * self.group
    }

    /// Head and query of a row. Heads run fastest, so that neighbouring rows see nearly the same
    /// keys.
    fn head_and_query(&self, row: usize) -> (usize, usize) {
        // Without a division where it can be: this is asked for each row.
        let (member, query) = if self.group == 1 { (0, row) } else { (row % self.group, row / self.group) };
        (self.kv_head * self.group + member, self.queries.start + query)
    }
}

/// Where the results of a run of queries go: a piece for each head of the group.
struct Target<'a, T> {
    out: Vec<&'a mut [T]>,
    lse: Vec<&'a mut [f32]>,
}

/// Cuts the results into targets, one for each pair of a (batch, kv head) and a run of queries.
fn targets<'a, T>(
    spec: &Attention,
    plan: &Plan,
    out: &'a mut [T],
    lse: Option<&'a mut [f32]>,
) -> Vec<Mutex<Target<'a, T>>> {
    let tiles = plan.tiles();
    let mut targets: Vec<Target<T>> = (0..spec.batch * spec.kv_heads * tiles)
        .map(|_| Target { out: Vec::with_capacity(spec.group()), lse: Vec::new() })
        .collect();
    if !out.is_empty() {
        for (h, head) in out.chunks_mut(spec.q_len * spec.v_dim).enumerate() {
            for (t, piece) in head.chunks_mut(plan.queries * spec.v_dim).enumerate() {
                targets[h / spec.group() * tiles + t].out.push(piece);
            }
        }
        // Not a flat_map of the option: optimized, that branches on the length of a slice which is not
        // there before it asks whether it is, to no effect but that memcheck sees it.
        if let Some(lse) = lse {
            for (h, head) in lse.chunks_mut(spec.q_len).enumerate() {
                for (t, piece) in head.chunks_mut(plan.queries).enumerate() {
                    targets[h / spec.group() * tiles + t].lse.push(piece);
                }
            }
        }
    }
    targets.into_iter().map(Mutex::new).collect()
}

/// The smallest range that holds both.
fn hull(a: Range<usize>, b: Range<usize>) -> Range<usize> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b,
        (_, true) => a,
        _ => a.start.min(b.start)..a.end.max(b.end),
    }
}

fn attention<T: Element>(
    engine: &Engine,
    plan: &Plan,
    x: &Operands<T>,
    scratch: &[Mutex<Scratch>],
    partials: &[Mutex<Partial>],
    targets: Vec<Mutex<Target<T>>>,
) {
    // In order: the longest of a head come first.
    engine.threads.each(plan.shared, plan.tasks(), |thread, n| {
        let scratch = &mut *lock(&scratch[thread]);
        let (target, task) = plan.task(x.spec, n);
        if plan.splits > 1 {
            compute(engine, plan, x, &task, false, &mut lock(&partials[n]), scratch);
            return;
        }
        let mut partial = std::mem::take(&mut scratch.partial);
        compute(engine, plan, x, &task, false, &mut partial, scratch);
        let target = &mut lock(&targets[target]);
        let bad = finish::write(engine.isa, x, &task, &partial, target);
        scratch.partial = partial;
        if bad {
            again(engine, plan, x, n, target, scratch);
        }
    });
    if plan.splits > 1 {
        engine.threads.each(plan.shared, plan.tasks() / plan.splits, |thread, whole| {
            let scratch = &mut *lock(&scratch[thread]);
            let first = whole * plan.splits;
            let (target, task) = plan.task(x.spec, first);
            finish::merge(&partials[first..first + plan.splits], &mut scratch.partial, x.spec.v_dim);
            let target = &mut lock(&targets[target]);
            if finish::write(engine.isa, x, &task, &scratch.partial, target) {
                again(engine, plan, x, first, target, scratch);
            }
        });
    }
}

/// What multiplies.
#[derive(Clone, Copy)]
enum Unit {
    /// Lanes of f32.
    Lanes,
    /// Pairs of bf16 for the scores, lanes of f32 for the values.
    Pairs(Pairs),
    /// Tiles of bf16.
    Tiles(Tiles),
}

impl Unit {
    /// The fastest for heads of this type and size.
    fn best<T: Element>(isa: Isa, head_dim: usize) -> Unit {
        match (T::DTYPE, isa.tiles(), isa.pairs()) {
            (DType::BF16, Some(tiles), _) => Unit::Tiles(tiles),
            (DType::BF16, None, Some(pairs)) if head_dim > 0 && head_dim.is_multiple_of(2) => {
                Unit::Pairs(pairs)
            }
            _ => Unit::Lanes,
        }
    }
}

/// One task, by the kernel that suits its number of rows. A `clean` run takes numbers of K and V
/// that are not finite for 0.
fn compute<T: Element>(
    engine: &Engine,
    plan: &Plan,
    x: &Operands<T>,
    task: &Task,
    clean: bool,
    partial: &mut Partial,
    scratch: &mut Scratch,
) {
    partial.resize(task.rows(), x.spec.v_dim);
    if plan.streams {
        engine.isa.run(stream::Stream { x, task, clean, partial, scratch: &mut scratch.stream });
    } else {
        let mut by =
            |unit| engine.isa.run(tile::Tile { x, task, clean, unit, partial, scratch: &mut scratch.tile });
        if by(Unit::best::<T>(engine.isa, x.spec.head_dim)).is_none() {
            by(Unit::Lanes);
        }
    }
}

/// Rows with a result that is not finite, once more. A row that sees only finite numbers has the
/// result that it would have if the unseen ones were finite too, bit for bit; any other row is
/// done one pair at a time.
#[cold]
fn again<T: Element>(
    engine: &Engine,
    plan: &Plan,
    x: &Operands<T>,
    first: usize,
    target: &mut Target<T>,
    scratch: &mut Scratch,
) {
    let parts: Vec<Mutex<Partial>> = (first..first + plan.splits)
        .map(|n| {
            let mut partial = Partial::default();
            compute(engine, plan, x, &plan.task(x.spec, n).1, true, &mut partial, scratch);
            Mutex::new(partial)
        })
        .collect();
    finish::merge(&parts, &mut scratch.clean, x.spec.v_dim);
    let (_, task) = plan.task(x.spec, first);
    finish::write(engine.isa, x, &task, &scratch.clean, target);
    for row in 0..task.rows() {
        let (h, i) = task.head_and_query(row);
        let (g, n) = (row % task.group, row / task.group);
        let out = &mut target.out[g][n * x.spec.v_dim..][..x.spec.v_dim];
        let finite = out.iter().all(|y| y.to_f32().is_finite());
        if !finite || careful::sees_non_finite(x, task.batch, h, i) {
            let lse = careful::attend(x, task.batch, h, i, out);
            if let Some(piece) = target.lse.get_mut(g) {
                piece[n] = lse;
            }
        }
    }
}
