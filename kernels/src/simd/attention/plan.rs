//! How a problem is cut into tasks. Only the problem and the instruction set enter, never the
//! number of threads, so that results do not depend on it.

use super::Task;
use crate::op::{Attention, Spec};
use crate::simd::isa::Isa;
use crate::simd::tiles::BLOCK;

/// Most rows of a task: enough to reuse a tile of K and V many times, few enough for their part of
/// the result to stay in L2.
const ROWS: usize = 96;

/// The same where K and V are packed for each task anew.
const PACKED_ROWS: usize = 192;

/// Rows and tasks that a problem is rather cut into than into larger tasks: threads that take turns
/// at less are idle at the end.
const FEW_ROWS: usize = 32;
const TASKS: usize = 8;

/// Rows up to which K and V are streamed past rather than tiled.
const STREAM_ROWS: usize = 8;

/// Tasks that a problem with few rows is cut into, along the keys, so that threads have something
/// to share; and the fewest keys worth a task.
const SPLIT_TASKS: usize = 16;
const SPLIT_KEYS: usize = 512;

/// Floating-point operations below which a second thread costs more than it saves.
const MIN_FLOPS: u64 = 1 << 20;

/// Rows of a task out of `all`, at most `most` and enough for `wanted` tasks where they are not too few:
/// whole vectors, and as many for one task as for the next.
fn rows(all: usize, most: usize, vector: usize, wanted: usize) -> usize {
    let tasks = all.div_ceil(most).max(wanted.min(all / FEW_ROWS)).max(1);
    all.div_ceil(vector).div_ceil(tasks) * vector
}

/// The cut of a problem.
#[derive(Debug)]
pub(super) struct Plan {
    /// Queries of a task.
    pub(super) queries: usize,
    /// Runs of keys.
    pub(super) splits: usize,
    /// Whether K and V are streamed.
    pub(super) streams: bool,
    /// Whether more than one thread is worth starting.
    pub(super) shared: bool,
    /// Runs of queries, those that see the most keys first.
    order: Vec<usize>,
    pairs: usize,
}

impl Plan {
    pub(super) fn new(spec: &Attention, isa: Isa, packs: bool) -> Self {
        let (group, pairs) = (spec.group(), spec.batch * spec.kv_heads);
        let streams = group * spec.q_len <= STREAM_ROWS.min(isa.lanes().max(4));
        let queries = match packs {
            _ if streams => spec.q_len,
            false => rows(group * spec.q_len, ROWS, isa.lanes(), TASKS.div_ceil(pairs.max(1))) / group,
            // Every task packs K and V: no more of them than there have to be.
            true => rows(group * spec.q_len, PACKED_ROWS, BLOCK, 1) / group,
        };
        let queries = queries.max(1);
        let mut order: Vec<usize> = (0..spec.q_len.div_ceil(queries)).collect();
        let seen = |&tile: &usize| -> usize {
            let tile = tile * queries..((tile + 1) * queries).min(spec.q_len);
            tile.map(|i| spec.key_range(i).len()).sum()
        };
        order.sort_by_key(|tile| std::cmp::Reverse(seen(tile)));
        let whole = (pairs * order.len()).max(1);
        let splits = SPLIT_TASKS.div_ceil(whole).min(spec.kv_len / SPLIT_KEYS).max(1);
        let shared = spec.flops() >= MIN_FLOPS;
        Plan { queries, splits, streams, shared, order, pairs }
    }

    /// Runs of queries.
    pub(super) fn tiles(&self) -> usize {
        self.order.len()
    }

    pub(super) fn tasks(&self) -> usize {
        self.pairs * self.tiles() * self.splits
    }

    /// The n-th task, and which target it belongs to. The tasks of one target follow each other.
    pub(super) fn task(&self, spec: &Attention, n: usize) -> (usize, Task) {
        let (whole, split) = (n / self.splits, n % self.splits);
        let (pair, tile) = (whole / self.tiles(), self.order[whole % self.tiles()]);
        let bound = |split: usize| spec.kv_len * split / self.splits;
        let task = Task {
            batch: pair / spec.kv_heads,
            kv_head: pair % spec.kv_heads,
            group: spec.group(),
            queries: tile * self.queries..((tile + 1) * self.queries).min(spec.q_len),
            keys: bound(split)..bound(split + 1),
            split,
        };
        (pair * self.tiles() + tile, task)
    }
}
