//! How everything but the data is drawn: masks, lengths, positions, slopes, weights.

use rand_core::RngCore;
use rand_xoshiro::Xoshiro256PlusPlus;
use touchstone_kernels::{DType, ElementType, Kind, Operand, Tensor, named_enum};

use super::{Fill, Recipe, normal, reals, stream, uniform};

/// A distribution of the operands that are not data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Controls {
    /// Keys masked one by one, at least one full length, consecutive positions, the ALiBi paper's slopes,
    /// weights near 1.
    #[default]
    Usual,
    /// Masks hide runs of keys: left padding, the end, the middle, everything. The first length is 0.
    /// Positions have gaps. Slopes, weights and biases have any size and sign, variances any size.
    Runs,
    /// Additive masks hold finite penalties: −10⁴, or the lowest number of the type. Boolean ones leave
    /// one key to each query, and lengths too. Positions descend and repeat. Every third weight is 0,
    /// every other slope.
    Penalties,
}

named_enum!(Controls, "controls", {
    Controls::Usual => "usual",
    Controls::Runs => "runs",
    Controls::Penalties => "penalties",
});

/// The penalty that many models use in place of −∞.
const PENALTY: f64 = -1e4;

/// Integers and truth values.
pub(super) fn discrete(operand: &Operand, recipe: Recipe) -> Tensor {
    let tensor = if operand.element == ElementType::Bool {
        Tensor::from_slice(&operand.shape, &visible(operand, recipe))
    } else if operand.kind == Kind::Lengths {
        Tensor::from_slice(&operand.shape, &lengths(operand, recipe))
    } else {
        Tensor::from_slice(&operand.shape, &positions(operand, recipe))
    };
    #[expect(clippy::expect_used, reason = "one value was drawn for each element")]
    tensor.expect("as many values as elements")
}

/// The keys that a mask leaves visible: 1.
fn visible(operand: &Operand, Recipe { controls, seed, .. }: Recipe) -> Vec<u8> {
    let mut rng = stream(seed, operand.name, 0);
    let keys = keys_of(operand);
    let mut values = vec![1; operand.len()];
    for (row, values) in values.chunks_mut(keys).enumerate() {
        match controls {
            Controls::Usual => {
                values.iter_mut().for_each(|value| *value = u8::from(uniform(&mut rng) < 0.75));
            }
            Controls::Runs => values[hidden(row, keys, &mut rng)].fill(0),
            Controls::Penalties => {
                values.fill(0);
                values[below(&mut rng, keys)] = 1;
            }
        }
    }
    values
}

fn keys_of(operand: &Operand) -> usize {
    operand.shape.last().copied().unwrap_or(1).max(1)
}

/// The run of keys that is hidden from a row.
fn hidden(row: usize, keys: usize, rng: &mut Xoshiro256PlusPlus) -> std::ops::Range<usize> {
    let (a, b) = (below(rng, keys + 1), below(rng, keys + 1));
    match row % 5 {
        0 => 0..a,
        1 => a..keys,
        2 | 3 => a.min(b)..a.max(b),
        // Every fifth row alternates between nothing and everything.
        _ => 0..if row.is_multiple_of(2) { keys } else { 0 },
    }
}

/// U{0, …, n − 1}, by a remainder and not as [`touchstone_reports::statistics::below`] does: what a seed draws
/// is an interface.
fn below(rng: &mut Xoshiro256PlusPlus, n: usize) -> usize {
    (rng.next_u64() % n.max(1) as u64) as usize
}

fn lengths(operand: &Operand, Recipe { controls, seed, .. }: Recipe) -> Vec<i64> {
    let mut rng = stream(seed, operand.name, 0);
    let limit = operand.limit.unwrap_or(0);
    let mut any = || (rng.next_u64() % (limit as u64 + 1)) as i64;
    (0..operand.len())
        .map(|b| match controls {
            // At least one batch entry is full; the others have any length, 0 included.
            Controls::Usual => {
                if b == 0 {
                    limit
                } else {
                    any()
                }
            }
            Controls::Runs => {
                if b == 0 {
                    0
                } else {
                    any()
                }
            }
            Controls::Penalties => limit.min(1),
        })
        .collect()
}

fn positions(operand: &Operand, Recipe { fill, controls, seed }: Recipe) -> Vec<i64> {
    let mut rng = stream(seed, operand.name, 0);
    let len = operand.shape.last().copied().unwrap_or(1).max(1);
    let first = if fill == Fill::Far { 1_000_000 } else { 0 };
    let start: Vec<i64> = (0..operand.len().div_ceil(len))
        .map(|b| first + if b == 0 { 0 } else { (rng.next_u64() % 512) as i64 })
        .collect();
    let mut gaps = 0;
    (0..operand.len())
        .map(|i| {
            let (b, l) = (i / len, i % len);
            match controls {
                Controls::Usual => start[b] + l as i64,
                Controls::Runs => {
                    gaps = if l == 0 { 0 } else { gaps + 1 + below(&mut rng, 16) as i64 };
                    start[b] + gaps
                }
                Controls::Penalties => start[b] + ((len - 1 - l) / 2) as i64,
            }
        })
        .collect()
}

/// Floating-point operands that are not data.
pub(super) fn real(operand: &Operand, dtype: DType, recipe: Recipe) -> Vec<f64> {
    let Recipe { controls, seed, .. } = recipe;
    let draw = |value: &(dyn Fn(&mut Xoshiro256PlusPlus, usize) -> f64 + Sync)| {
        reals(operand, seed, |rng, index| value(rng, index))
    };
    let signed = |rng: &mut Xoshiro256PlusPlus, low: f64, high: f64| {
        let magnitude = libm::exp2(low + (high - low) * uniform(rng));
        if uniform(rng) < 0.5 { -magnitude } else { magnitude }
    };
    match (operand.kind, controls) {
        (Kind::Mask, Controls::Usual) => {
            draw(&|rng, _| if uniform(rng) < 0.125 { f64::NEG_INFINITY } else { normal(rng) })
        }
        (Kind::Mask, _) => {
            let mut rng = stream(seed, operand.name, 0);
            let keys = keys_of(operand);
            let mut values = vec![0.0; operand.len()];
            for (row, values) in values.chunks_mut(keys).enumerate() {
                let run = hidden(row, keys, &mut rng);
                values[run].fill(match controls {
                    Controls::Penalties if row % 2 == 0 => PENALTY,
                    Controls::Penalties => -dtype.max(),
                    Controls::Usual | Controls::Runs => f64::NEG_INFINITY,
                });
            }
            values
        }
        // Weights near the model's initial ones.
        (Kind::Weight | Kind::OffsetWeight, _) => {
            let centre = if operand.kind == Kind::Weight { 1.0 } else { 0.0 };
            draw(&|rng, index| match controls {
                Controls::Usual => centre + 0.25 * normal(rng),
                Controls::Runs => 4.0 * normal(rng),
                Controls::Penalties if index % 3 == 2 => 0.0,
                Controls::Penalties => centre + 0.25 * normal(rng),
            })
        }
        (Kind::Variance, Controls::Usual) => draw(&|rng, _| 0.5 + uniform(rng)),
        (Kind::Variance, _) => draw(&|rng, _| libm::exp2(28.0 * uniform(rng) - 14.0)),
        (Kind::FrequencyFactors, Controls::Usual) => draw(&|rng, _| 1.0 + 7.0 * uniform(rng)),
        (Kind::FrequencyFactors, _) => draw(&|rng, _| libm::exp2(9.0 * uniform(rng) - 3.0)),
        // The geometric series of the ALiBi paper.
        (Kind::Slopes, Controls::Usual) => {
            let heads = operand.len() as f64;
            draw(&|_, h| libm::exp2(-8.0 * (h + 1) as f64 / heads))
        }
        (Kind::Slopes, Controls::Runs) => draw(&|rng, _| signed(rng, -10.0, 3.0)),
        (Kind::Slopes, Controls::Penalties) => {
            draw(&|rng, h| if h % 2 == 0 { 0.0 } else { signed(rng, -4.0, 0.0) })
        }
        (_, Controls::Runs) => draw(&|rng, _| 20.0 * normal(rng)),
        _ => draw(&|rng, _| 0.5 * normal(rng)),
    }
}
