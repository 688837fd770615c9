//! How a problem is cut into tasks. Only the problem and the instruction set enter, never the
//! number of threads, so that results do not depend on it.

use super::Task;
use super::product::strip_rows;
use crate::op::{Attention, Operation};
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

/// Rows of a task out of `all`, in whole vectors: at most `most`, as many for one task as for the next,
/// and enough for `wanted` tasks where they are not too few; then more if that saves strips, of which
/// narrow ones cost nearly as much as full ones.
fn rows(all: usize, most: usize, vector: usize, strip: usize, wanted: usize) -> usize {
    let tasks = all.div_ceil(most).max(wanted.min(all / FEW_ROWS)).max(1);
    let even = all.div_ceil(vector).div_ceil(tasks).max(1) * vector;
    let enough = wanted.min(all.div_ceil(even));
    let strips = |rows: usize| all / rows * rows.div_ceil(strip) + (all % rows).div_ceil(strip);
    let cuts = (even..=most).step_by(vector).filter(|&rows| all.div_ceil(rows) >= enough);
    cuts.min_by_key(|&rows| strips(rows)).unwrap_or(even)
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
            false => {
                let wanted = TASKS.div_ceil(pairs.max(1));
                rows(group * spec.q_len, ROWS, isa.lanes(), strip_rows(isa), wanted) / group
            }
            // Every task packs K and V: no more of them than there have to be.
            true => rows(group * spec.q_len, PACKED_ROWS, BLOCK, BLOCK, 1) / group,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_even_unless_that_costs_strips() {
        // 16 lanes, strips of 48 rows. Vectors of a task: 5 and 3 have one strip less than 4 and 4.
        assert_eq!(rows(128, 96, 16, 48, 1), 80);
        // 13 vectors are five strips as 5 + 5 + 3 and as 6 + 6 + 1.
        assert_eq!(rows(197, 96, 16, 48, 2), 80);
        assert_eq!(rows(512, 96, 16, 48, 1), 96);
        // Never fewer tasks than wanted, unless their rows would be too few.
        assert_eq!(rows(128, 96, 16, 48, 4), 32);
        assert_eq!(rows(128, 96, 16, 48, 8), 32);
        assert_eq!(rows(1, 96, 16, 48, 8), 16);
        assert_eq!(rows(0, 96, 16, 48, 8), 16);
    }
}
