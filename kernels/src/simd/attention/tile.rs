//! Many rows: queries in the lanes.
//!
//! A task's rows are cut into [strips](super::strip) of two or three vectors. For each tile of keys and
//! each strip: scores = K·Qᵀ with a vector of queries for each key, so that the softmax over keys is
//! arithmetic between vectors, and then the transposed result Oᵀ += Vᵀ·P.

use std::borrow::Cow;

use super::amx::Products;
use super::operands::Operands;
use super::product::{block_rows, strip_vectors};
use super::rules::Rules;
use super::strip::{Keys, Step, Strip};
use super::transpose::to_rows;
use super::{Partial, Task, Unit, hull};
use crate::dtype::{DType, Element};
use crate::simd::buffer::Buffer;
use crate::simd::cut::cut_mut;
use crate::simd::lanes::{Kernel, Lanes, MAX_LANES};
use crate::simd::tiles::BLOCK;

/// Most keys of a tile: their scores for a strip stay in L1, and the running results are touched once
/// in so many multiply-adds.
pub(super) const KEYS: usize = 128;

/// Most rows of a strip.
pub(super) const MAX_WIDTH: usize = 3 * MAX_LANES;

#[derive(Default)]
pub(super) struct Scratch {
    q: Buffer,
    o: Buffer,
    scores: Buffer,
    mask: Buffer,
    k: Buffer,
    v: Buffer,
    weights: Buffer,
    lanes: Buffer,
}

/// One task. Nothing comes of it where its queries are not for the unit.
pub(super) struct Tile<'a, 'b, T> {
    pub(super) x: &'a Operands<'b, T>,
    pub(super) task: &'a Task,
    pub(super) clean: bool,
    pub(super) unit: Unit,
    pub(super) partial: &'a mut Partial,
    pub(super) scratch: &'a mut Scratch,
}

impl<T: Element> Kernel for Tile<'_, '_, T> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> Option<()> {
        let Tile { x, task, clean, unit, partial, scratch } = self;
        let (depth, v_dim) = (x.spec.head_dim, x.spec.v_dim);
        let rules = Rules::new(x.spec, x.has_mask());
        let amx = match unit {
            Unit::Tiles(tiles) => {
                Some(Products::new(tiles.session(), depth, v_dim, KEYS.min(task.keys.len())))
            }
            Unit::Lanes | Unit::Pairs(_) => None,
        };
        let (strip, padded) = match &amx {
            None => (strip_vectors::<L>() * L::N, task.rows().next_multiple_of(L::N)),
            Some(_) => (BLOCK, task.rows().next_multiple_of(BLOCK)),
        };
        // Of a query.
        let words = match (&amx, unit) {
            (Some(amx), _) => amx.depth(),
            (None, Unit::Pairs(_)) => depth / 2,
            (None, _) => depth,
        };

        let mut q = scratch.q.reserve(padded.div_ceil(strip) * strip * words);
        let mut o = scratch.o.reserve(padded * v_dim);
        let mut per_lane = scratch.lanes.reserve(padded * 6);
        let mut strips = Vec::with_capacity(padded.div_ceil(strip));
        let mut first = 0;
        while first < padded {
            // Two strips of two vectors, rather than three and one.
            let left = padded - first;
            let width = if left == 4 * L::N { 2 * L::N } else { left }.min(strip);
            let mut piece = || cut_mut(&mut per_lane, width);
            let mut strip = Strip {
                rows: first..(first + width).min(task.rows()),
                width,
                max: piece(),
                sum: piece(),
                start: piece(),
                end: piece(),
                position: piece(),
                slope: piece(),
                q: cut_mut(&mut q, width * words),
                o: cut_mut(&mut o, width * v_dim),
                any: 0..0,
                all: 0..0,
            };
            strip.begin(x, task);
            match unit {
                Unit::Lanes => strip.pack(lanes, x, task, rules.scale),
                _ if strip.pack_words(lanes, x, task, rules.scale, words) => {}
                _ => return None,
            }
            strips.push(strip);
            first += width;
        }

        let score_tile = scratch.scores.reserve(KEYS * strip);
        let mask_tile = scratch.mask.reserve(if x.has_mask() { KEYS * strip } else { 0 });
        let seen = strips.iter().fold(0..0, |seen, strip| hull(seen, strip.any.clone()));
        let tiles = seen.len().div_ceil(KEYS).max(1);
        let tile = seen.len().div_ceil(tiles).max(1).next_multiple_of(block_rows::<L>()).min(KEYS);
        for first in seen.clone().step_by(tile) {
            let keys = first..(first + tile).min(seen.end);
            let (k, v) = (x.keys(task.batch, task.kv_head, &keys), x.values(task.batch, task.kv_head, &keys));
            let cleaned_k;
            let (k, v) = match (&amx, unit) {
                (None, Unit::Pairs(pairs)) => {
                    cleaned_k = cleaned_if(clean, k);
                    let k = Keys::Pairs(pairs, bytemuck::cast_slice(&cleaned_k));
                    (k, as_f32(lanes, v, clean, &mut scratch.v))
                }
                (None, _) => {
                    let k = Keys::Lanes(as_f32(lanes, k, clean, &mut scratch.k));
                    (k, as_f32(lanes, v, clean, &mut scratch.v))
                }
                (Some(amx), _) => {
                    let (k, v) = (cleaned_if(clean, k), cleaned_if(clean, v));
                    let packed_k = scratch.k.reserve(amx.key_words());
                    let packed_v = scratch.v.reserve(amx.value_words());
                    amx.pack_keys(&k, depth, packed_k);
                    amx.pack_values(lanes, &v, v_dim, packed_v);
                    (Keys::Tiles(amx, packed_k), &*packed_v)
                }
            };
            for strip in &mut strips {
                let mut seen = keys.start.max(strip.any.start)..keys.end.min(strip.any.end);
                if seen.is_empty() {
                    continue;
                }
                if amx.is_some() {
                    // Packed operands are taken whole.
                    seen = keys.clone();
                }
                let mask = if x.has_mask() {
                    strip.mask(lanes, x, task, &seen, mask_tile);
                    Some(&mask_tile[..seen.len() * strip.width])
                } else {
                    None
                };
                let plain = rules.is_empty() && strip.all.start <= seen.start && seen.end <= strip.all.end;
                let part = seen.start - keys.start..seen.end - keys.start;
                let (v, weights, scores) = match &amx {
                    None => (&v[part.start * v_dim..part.end * v_dim], None, seen.len() * strip.width),
                    Some(amx) => (v, Some(scratch.weights.reserve(amx.weight_words())), amx.score_words()),
                };
                lanes.run(Step {
                    k: k.of(part, depth),
                    v,
                    weights,
                    keys: seen.len(),
                    factor: match unit {
                        Unit::Lanes => 1.0,
                        Unit::Pairs(_) | Unit::Tiles(_) => rules.scale.abs(),
                    },
                    depth,
                    v_dim,
                    first: seen.start,
                    rules: if plain { None } else { Some(&rules) },
                    mask,
                    scores: &mut score_tile[..scores],
                    strip,
                });
            }
        }

        for strip in strips {
            let rows = strip.rows.clone();
            partial.max[rows.clone()].copy_from_slice(&strip.max[..rows.len()]);
            partial.sum[rows.clone()].copy_from_slice(&strip.sum[..rows.len()]);
            for r in (0..rows.len()).step_by(L::N) {
                let out = &mut partial.rows[(rows.start + r) * v_dim..];
                to_rows(lanes, &strip.o[r..], strip.width, v_dim, out, L::N.min(rows.len() - r));
            }
        }
        Some(())
    }
}

/// A tile in f32: as it lies in memory where it can be, else converted.
#[inline(always)]
fn as_f32<'a, L: Lanes, T: Element>(lanes: L, x: &'a [T], clean: bool, buffer: &'a mut Buffer) -> &'a [f32] {
    if T::DTYPE == DType::F32 && !clean {
        return bytemuck::cast_slice(x);
    }
    let x = cleaned_if(clean, x);
    let to = buffer.reserve(x.len());
    for (x, to) in x.chunks(L::N).zip(to.chunks_mut(L::N)) {
        if x.len() == L::N {
            lanes.store(to, lanes.load_as(x));
        } else {
            lanes.store_partial(to, lanes.load_partial(x, 0.0));
        }
    }
    to
}

#[inline(always)]
fn cleaned_if<T: Element>(clean: bool, x: &[T]) -> Cow<'_, [T]> {
    if clean { Cow::Owned(cleaned(x)) } else { Cow::Borrowed(x) }
}

/// A copy with 0 for ∞ and NaN.
#[cold]
#[inline(never)]
pub(super) fn cleaned<T: Element>(x: &[T]) -> Vec<T> {
    x.iter().map(|x| if x.to_f32().is_finite() { *x } else { T::from_f32(0.0) }).collect()
}
