//! Inputs with a reason: how the operands of a case are drawn.
//!
//! Every number comes from xoshiro256++ by integer arithmetic and from `libm`'s portable
//! logarithm and cosine, so that a seed means the same bits on every machine. Each operand has
//! its own stream, cut into blocks, so that drawing can go in parallel and adding an operand
//! does not disturb the others.

mod controls;

use std::f64::consts::TAU;

use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use touchstone_kernels::{DType, ElementType, Inputs, Kind, Operand, Problem, Tensor, named_enum};

use crate::families;
use crate::fnv1a::fnv1a;

pub use self::controls::Controls;

/// A distribution of the data operands, each for the mistakes it brings to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fill {
    /// N(0, 1): the plain case, and incompressible for timing.
    Normal,
    /// ±2^U(−24, 7): every magnitude, where tails and series of functions change over.
    Spread,
    /// N(0, 30²): saturation, and sums of exponentials that overflow unless the maximum is
    /// subtracted.
    Wide,
    /// −60 − 40·U(0, 1): all-negative rows around exp's underflow; a maximum that starts at 0
    /// is wrong here.
    Negative,
    /// 1000 + N(0, 1): |mean| ≫ std, where a one-pass variance cancels.
    Offset,
    /// Each row of the last axis holds one value: zero variance, uniform weights, and sums that
    /// drift in a sequential accumulator.
    Constant,
    /// Numbers below the smallest normal.
    Subnormal,
    /// N(0, 1) with NaN, ±∞ and ±0 strewn over a third of the rows, in vector bodies and tails.
    /// In attention NaN and ±0 only: an infinite score may come out as 0·∞ or not, by the order
    /// of operations, and neither is wrong.
    Special,
    /// One dominant key or element at the first, last, or a tile-edge position: a dropped key
    /// shows at any length.
    Needle,
    /// N(0, 1) with a few channels a thousand times larger, as real models have them.
    Outlier,
    /// N(0, 1), and positions from 10⁶ on: f32 angles are wrong there.
    Far,
    /// −500 − 100·U(0, 1), where every exponential without the maximum is 0. In attention q < 0 < k: all
    /// scores are strongly negative, and a running maximum that starts at 0 or at −100 is wrong.
    Opposed,
    /// As `constant`, with the sign turned in every 61st column: sums of equal numbers drift in one direction,
    /// and rows have a variance against which that shows.
    Plateau,
    /// ±2^U over the upper exponents of the type, for functions up to its largest number: squares, cubes and
    /// products leave the range of f32 where results do not.
    Huge,
}

named_enum!(Fill, "fill", {
    Fill::Normal => "normal",
    Fill::Spread => "spread",
    Fill::Wide => "wide",
    Fill::Negative => "negative",
    Fill::Offset => "offset",
    Fill::Constant => "constant",
    Fill::Subnormal => "subnormal",
    Fill::Special => "special",
    Fill::Needle => "needle",
    Fill::Outlier => "outlier",
    Fill::Far => "far",
    Fill::Opposed => "opposed",
    Fill::Plateau => "plateau",
    Fill::Huge => "huge",
});

/// Everything that decides the operands of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) fill: Fill,
    pub(crate) controls: Controls,
    pub(crate) seed: u64,
}

/// Elements drawn from one generator; part of what a seed means.
const BLOCK: usize = 1 << 14;

/// Draws the operands of a problem.
pub(crate) fn inputs(problem: &Problem, recipe: Recipe) -> Inputs {
    let mut tensors: Vec<(&'static str, Tensor)> =
        problem.operands().iter().map(|operand| (operand.name, draw(problem, operand, recipe))).collect();
    families::checks(&problem.op).relate(recipe.fill, &mut tensors);
    #[expect(clippy::expect_used, reason = "the tensors were made from the problem's own operands")]
    Inputs::new(problem, tensors).expect("operands fit their problem")
}

fn draw(problem: &Problem, operand: &Operand, recipe: Recipe) -> Tensor {
    let Recipe { fill, seed, .. } = recipe;
    match operand.element {
        ElementType::Bool | ElementType::I64 => controls::discrete(operand, recipe),
        ElementType::Float(dtype) => {
            let width = operand.shape.last().copied().unwrap_or(1).max(1);
            let values = if operand.kind == Kind::Data {
                let role = families::checks(&problem.op).role(operand);
                reals(operand, seed, |rng, index| data(fill, dtype, role, rng, index, width))
            } else {
                controls::real(operand, dtype, recipe)
            };
            #[expect(clippy::expect_used, reason = "one value was drawn for each element")]
            Tensor::from_f64(dtype, &operand.shape, &values).expect("as many values as elements")
        }
    }
}

/// What a fill has to know of a data operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataRole {
    /// Of an operation that squares its numbers.
    Squared,
    /// Of an operation that adds two products.
    Rotated,
    /// Of any other operation.
    Plain,
    /// Attention's queries.
    Queries,
    /// Attention's keys.
    Keys,
    /// Attention's values.
    Values,
}

/// One number of a data operand. `width` is the length of the last axis.
fn data(
    fill: Fill,
    dtype: DType,
    role: DataRole,
    rng: &mut Xoshiro256PlusPlus,
    index: usize,
    width: usize,
) -> f64 {
    let (row, column) = (index / width, index % width);
    match fill {
        Fill::Normal | Fill::Far => normal(rng),
        Fill::Spread => {
            let magnitude = libm::exp2(31.0 * uniform(rng) - 24.0);
            if uniform(rng) < 0.5 { -magnitude } else { magnitude }
        }
        Fill::Wide => 30.0 * normal(rng),
        Fill::Negative => -60.0 - 40.0 * uniform(rng),
        Fill::Offset => 1000.0 + normal(rng),
        Fill::Constant => 0.1 * ((row % 7) as f64 + 1.0),
        Fill::Subnormal => dtype.smallest_normal() * (2.0 * uniform(rng) - 1.0),
        Fill::Special => {
            let x = special(rng, row, column, width);
            // An infinite score may come out as 0·∞ or not, by the order of operations.
            let attends = matches!(role, DataRole::Queries | DataRole::Keys | DataRole::Values);
            if x.is_infinite() && attends { 0.0 } else { x }
        }
        Fill::Opposed => match role {
            DataRole::Queries => -1.0 - 4.0 * uniform(rng),
            DataRole::Keys => 1.0 + 4.0 * uniform(rng),
            DataRole::Values => normal(rng),
            DataRole::Plain | DataRole::Rotated | DataRole::Squared => -500.0 - 100.0 * uniform(rng),
        },
        Fill::Plateau => 0.1 * ((row % 7) as f64 + 1.0) * if column % 61 == 7 { -1.0 } else { 1.0 },
        Fill::Huge => huge(dtype, role, rng),
        Fill::Needle => normal(rng) + if column == needle(row, width) { 20.0 } else { 0.0 },
        Fill::Outlier => normal(rng) * if column % 61 == 7 { 1000.0 } else { 1.0 },
    }
}

/// ±2^U over upper exponents of the type. Of numbers that are squared the squares leave the range of f32,
/// and differences and results do not; scores stay within it at every usual scale; two products of what is
/// rotated and 2¹⁴ values can still be added.
fn huge(dtype: DType, role: DataRole, rng: &mut Xoshiro256PlusPlus) -> f64 {
    let top = f64::from(libm::ilogb(dtype.max())) + 1.0;
    let (low, high) = match role {
        DataRole::Plain => (top / 2.0, top),
        DataRole::Rotated => (top / 2.0, top - 2.0),
        DataRole::Squared => (top / 2.0, 0.75 * top),
        DataRole::Queries | DataRole::Keys => (top / 8.0, 0.3 * top),
        DataRole::Values => (top / 2.0, top - 15.0),
    };
    let magnitude = libm::exp2(low + (high - low) * uniform(rng)).min(dtype.max());
    if uniform(rng) < 0.5 { -magnitude } else { magnitude }
}

/// Every third row gets one special value, at a position that walks over the row and every
/// other time is its last element.
fn special(rng: &mut Xoshiro256PlusPlus, row: usize, column: usize, width: usize) -> f64 {
    let plain = normal(rng);
    let nth = row / 3;
    let position = if nth.is_multiple_of(2) { width - 1 } else { (nth * 5) % width };
    if !row.is_multiple_of(3) || column != position {
        return plain;
    }
    [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0][nth % 5]
}

/// The position of the dominant element of a row: ends, and both sides of tile edges.
pub(crate) fn needle(row: usize, width: usize) -> usize {
    let edges = [0, width - 1, 8, 15, 16, 31, 32, 47, 48, 63, 64, 65, 95, 96, 127, 128, width / 2];
    edges[row % edges.len()].min(width - 1)
}

fn reals(
    operand: &Operand,
    seed: u64,
    value: impl Fn(&mut Xoshiro256PlusPlus, usize) -> f64 + Sync,
) -> Vec<f64> {
    let mut values = vec![0.0; operand.len()];
    values.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
        let mut rng = stream(seed, operand.name, block as u64);
        for (i, x) in values.iter_mut().enumerate() {
            *x = value(&mut rng, block * BLOCK + i);
        }
    });
    values
}

/// The generator of one block of one operand.
fn stream(seed: u64, operand: &str, block: u64) -> Xoshiro256PlusPlus {
    // A hash of the name keeps streams of different operands apart.
    let name = fnv1a(operand.as_bytes());
    // seed_from_u64 scrambles its argument with SplitMix64, so consecutive blocks are unrelated.
    let mut base = Xoshiro256PlusPlus::seed_from_u64(seed ^ name);
    Xoshiro256PlusPlus::seed_from_u64(base.next_u64().wrapping_add(block))
}

/// U[0, 1) on the grid of 2⁻⁵³.
fn uniform(rng: &mut Xoshiro256PlusPlus) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// N(0, 1) by the cosine branch of Box and Muller (1958).
fn normal(rng: &mut Xoshiro256PlusPlus) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform(rng)));
    radius * libm::cos(TAU * uniform(rng))
}

#[cfg(test)]
mod tests {
    /// The promise of repro lines: these bits are the same on every machine, for ever.
    #[test]
    fn a_seed_means_the_same_bits_everywhere() {
        let case: crate::Case = "softmax f32 shape=2x3 fill=normal seed=7".parse().unwrap();
        let inputs = case.inputs();
        let bits: Vec<u32> = inputs.slice::<f32>("x").unwrap().iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, PINNED, "{bits:#x?}");
    }
    const PINNED: [u32; 6] = [0x3f7cfa8f, 0xbd3c82a9, 0xbf3418dc, 0xbf8ca48d, 0xbf97b888, 0xbdf2723a];

    #[test]
    fn unused_cache_rows_are_nan_and_used_ones_are_not() {
        let case: crate::Case = "attention bf16 h=2 lq=1 lk=3 d=4 cache=5".parse().unwrap();
        let k = case.inputs().get("k").unwrap().to_f64();
        for (i, x) in k.iter().enumerate() {
            assert_eq!(x.is_nan(), (i / 4) % 5 >= 3, "element {i}");
        }
    }
}
