//! Normalizations.
//!
//! For a group of N numbers the mean is off by δμ = u·(g(N)·mean|x| + |μ|) + 2⁻¹⁵⁰, the variance by
//! δvar = δμ² + (g(N) + 3)·u·var: two passes, each rounded as its sum. Then
//!
//! |error| ≤ |γ|·((δμ + u·|x − μ|)·rstd·(1 + ρ) + |x̂|·(ρ + 2u)) + u·(|γx̂| + |β|),
//!
//! where ρ is the exact effect of δvar on 1/√(var + eps), to first order δvar/2(var + eps), and 2u.
//!
//! A one-pass variance E[x²] − μ² does not fit this for |μ| ≫ σ, rightly. Running moments (Welford
//! 1962) do not either, and are admitted where they are declared: see [`Moved`]. Normwise, the folded
//! form x·(γ·rstd) + (β − μ·γ·rstd) that libraries use is admitted: it rounds γ·rstd·x and
//! γ·rstd·μ, which cancel.
//!
//! With eps = 0 there is no bound where δvar may be all of the variance, and no result is judged there: 0/0 is
//! NaN by the formula, 0 in PyTorch, and any number once the mean was rounded. RMS norm has no bound where the
//! squares underflow.
//!
//! A group of equal numbers is no exception: the sum of n equal numbers is not representable for most n,
//! so its mean is off by δμ, and 1/√eps multiplies that. That such a group gives exactly β is a property
//! that a kernel may have, and no part of the bound.

use rayon::prelude::*;
use touchstone_kernels::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use touchstone_kernels::{DType, Inputs, Problem};

use crate::oracle::rounding::{U, UNDERFLOW, growth};
use crate::oracle::{ExpectedResult, required, sum};

/// Mean and variance of a group, with their errors.
#[derive(Clone, Copy)]
struct Statistics {
    mean: f64,
    variance: f64,
    mean_error: f64,
    variance_error: f64,
    /// Relative error of rstd from the variance and the root.
    rstd_error: f64,
    rstd: f64,
    running: Moved,
}

/// What running moments add to the errors of mean, variance and rstd.
///
/// An error of step j is in every later mean, by its share, and there it does not cancel from the
/// squares as that of a common mean does. Nor are the errors independent: an element near the mean
/// leaves no trace in it, so that they may all have one sign, and N stands where sums have g(N).
///
/// δμ′ = u·((N + 1)·(|μ|/2 + 2σ) + 6σ) + N·2⁻¹⁵⁰,
/// δvar′ = δvar + δμ′² + u·σ·((N + 1)·(0.6|μ| + 2.4σ) + 24σ).
#[derive(Clone, Copy, Default)]
struct Moved {
    mean: f64,
    variance: f64,
    rstd: f64,
}

impl Statistics {
    fn of(x: impl Iterator<Item = f64> + Clone, eps: f64) -> Self {
        let n = x.clone().count();
        let mean = sum(x.clone()) / n as f64;
        let mean_magnitude = sum(x.clone().map(f64::abs)) / n as f64;
        let variance = sum(x.map(|x| (x - mean) * (x - mean))) / n as f64;
        // A subnormal mean loses up to half a spacing, which 1/√eps then multiplies.
        let mean_error = U * (growth(n) * mean_magnitude + mean.abs()) + UNDERFLOW;
        // Two passes about a mean that is off find more variance, never less.
        let sum_error = (growth(n) + 3.0) * U * variance + 2.0 * UNDERFLOW;
        let variance_error = [sum_error, mean_error * mean_error + sum_error];
        let statistics = Statistics::known(mean, mean_error, variance, variance_error, eps);
        let (steps, deviation) = (n as f64 + 1.0, variance.sqrt());
        let moved_mean =
            U * (steps * (mean.abs() / 2.0 + 2.0 * deviation) + 6.0 * deviation) + n as f64 * UNDERFLOW;
        let moved_variance = variance_error[1]
            + moved_mean * moved_mean
            + U * deviation * (steps * (0.6 * mean.abs() + 2.4 * deviation) + 24.0 * deviation);
        let moved_rstd = rstd_error(variance, [moved_variance; 2], eps);
        let running = Moved {
            mean: (moved_mean - mean_error).max(0.0),
            variance: moved_variance - variance_error[1],
            rstd: (moved_rstd - statistics.rstd_error).max(0.0),
        };
        Statistics { running, ..statistics }
    }

    /// Statistics that are given, or exact. The variance may be too small and too large by its errors.
    fn known(mean: f64, mean_error: f64, variance: f64, variance_error: [f64; 2], eps: f64) -> Self {
        Statistics {
            mean,
            variance,
            mean_error,
            variance_error: variance_error[1],
            rstd_error: rstd_error(variance, variance_error, eps),
            rstd: 1.0 / (variance + eps).sqrt(),
            running: Moved::default(),
        }
    }
}

/// Relative error of 1/√(variance + eps) where the variance is too small or too large by these, and of
/// the root and the reciprocal. A computed variance is never negative; where it may be 0 and eps is 0, the
/// error is unbounded.
fn rstd_error(variance: f64, [below, above]: [f64; 2], eps: f64) -> f64 {
    let smaller = (variance - below).max(0.0) + eps;
    let larger = variance + above + eps;
    let exact = variance + eps;
    if !exact.is_finite() {
        // 1/√∞ is 0 and that of NaN is NaN, in every rounding.
        return 2.0 * U;
    }
    if smaller == 0.0 {
        return f64::INFINITY;
    }
    ((exact / smaller).sqrt() - 1.0).max(1.0 - (exact / larger).sqrt()) + 2.0 * U
}

/// Weight and bias of an element.
#[derive(Clone, Copy)]
struct Affine {
    weight: f64,
    bias: f64,
}

/// Weight and bias operands, where there are any.
struct AffineOperands {
    weight: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
}

impl AffineOperands {
    fn new(inputs: &Inputs) -> Self {
        let operand = |name| inputs.get(name).map(|tensor| tensor.to_f64());
        AffineOperands { weight: operand("weight"), bias: operand("bias") }
    }

    fn at(&self, index: usize) -> Affine {
        Affine {
            weight: self.weight.as_ref().map_or(1.0, |w| w[index]),
            bias: self.bias.as_ref().map_or(0.0, |b| b[index]),
        }
    }
}

/// One normalized element: its value, its errors, and what running moments add to either.
struct Normalized {
    value: f64,
    error: f64,
    normwise_error: f64,
    running_error: f64,
}

fn normalized(x: f64, s: &Statistics, affine: Affine) -> Normalized {
    let Affine { weight, bias } = affine;
    let centred = x - s.mean;
    let unit = centred * s.rstd;
    let value = unit * weight + bias;
    let centred_error = s.mean_error + U * centred.abs();
    let error = weight.abs()
        * (centred_error * s.rstd * (1.0 + s.rstd_error) + unit.abs() * (s.rstd_error + 2.0 * U))
        + U * ((weight * unit).abs() + bias.abs())
        + (2.0 + weight.abs()) * UNDERFLOW;
    let folded = U * (3.0 * (weight * s.rstd).abs() * (x.abs() + s.mean.abs()) + bias.abs());
    let running = weight.abs()
        * (s.running.mean * s.rstd * (1.0 + s.rstd_error + s.running.rstd)
            + (centred_error * s.rstd + unit.abs()) * s.running.rstd);
    if s.rstd_error == f64::INFINITY {
        return Normalized {
            value: unasked(value),
            error: f64::INFINITY,
            normwise_error: f64::INFINITY,
            running_error: 0.0,
        };
    }
    Normalized { value, error, normwise_error: error + folded, running_error: running }
}

/// A value without a bound: where 0 times infinity makes NaN of it, not even NaN is asked for.
fn unasked(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}

pub(super) fn layer_norm(spec: &LayerNorm, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
    let (_, width) = spec.rows_and_width();
    let affine = AffineOperands::new(inputs);
    groups(problem, &required(inputs, "x"), width, width, spec.eps as f64, |_, i| affine.at(i))
}

pub(super) fn group_norm(spec: &GroupNorm, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
    let (_, channels, spatial) = spec.dims();
    let per_group = channels / spec.groups;
    let affine = AffineOperands::new(inputs);
    groups(problem, &required(inputs, "x"), per_group * spatial, spatial, spec.eps as f64, |group, i| {
        affine.at(group % spec.groups * per_group + i / spatial)
    })
}

pub(super) fn instance_norm(spec: &InstanceNorm, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
    let (_, channels, spatial) = spec.dims();
    let affine = AffineOperands::new(inputs);
    groups(problem, &required(inputs, "x"), spatial, spatial, spec.eps as f64, |group, _| {
        affine.at(group % channels)
    })
}

/// Normalizes each run of `len` elements by its own statistics.
fn groups(
    problem: &Problem,
    x: &[f64],
    len: usize,
    row: usize,
    eps: f64,
    affine: impl Fn(usize, usize) -> Affine + Sync,
) -> Vec<ExpectedResult> {
    let out = ExpectedResult::new(&problem.results()[0], row);
    vec![elements(out, x, len, |_, x| Statistics::of(x.iter().copied(), eps), affine)]
}

/// Normalizes runs of `len` elements: `statistics` has those of each by number and content,
/// `affine` weight and bias by number of the run and place in it.
fn elements(
    mut out: ExpectedResult,
    x: &[f64],
    len: usize,
    statistics: impl Fn(usize, &[f64]) -> Statistics + Sync,
    affine: impl Fn(usize, usize) -> Affine + Sync,
) -> ExpectedResult {
    let (mut normwise, mut running) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let len = len.max(1);
    out.blocks(len)
        .zip(normwise.par_chunks_mut(len))
        .zip(running.par_chunks_mut(len))
        .zip(x.par_chunks(len))
        .enumerate()
        .for_each(|(run, (((block, normwise), running), x))| {
            let statistics = statistics(run, x);
            for (i, &x) in x.iter().enumerate() {
                let element = normalized(x, &statistics, affine(run, i));
                (block.value[i], block.error[i]) = (element.value, element.error);
                (normwise[i], running[i]) = (element.normwise_error, element.running_error);
            }
        });
    out.normwise_error = Some(normwise);
    out.declared_error = Some(running);
    out
}

/// A number that is rounded to a storage type on the way, and its error: known exactly where all that it
/// may be before round to the same.
fn rounded(dtype: DType, (value, error): (f64, f64)) -> (f64, f64) {
    let (low, high) = (dtype.round(value - error), dtype.round(value + error));
    if low == high { (low, 0.0) } else { ((low + high) / 2.0, (high - low) / 2.0) }
}

pub(super) fn rms_norm(spec: &RmsNorm, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
    let (_, width) = spec.rows_and_width();
    let x = required(inputs, "x");
    let affine = AffineOperands::new(inputs);
    let mut out = ExpectedResult::new(&problem.results()[0], width);
    // The sum of squares, its division, eps; then the offset and a product.
    let of_square = (growth(width) + 2.0) * U;
    let of_weight = 2.0 * U;
    out.blocks(width).zip(x.par_chunks(width.max(1))).for_each(|(block, x)| {
        let mean_square = sum(x.iter().map(|x| x * x)) / width as f64;
        let eps = spec.eps as f64;
        let rstd = 1.0 / (mean_square + eps).sqrt();
        let square_error = of_square * (mean_square + eps) + 2.0 * UNDERFLOW;
        // And the product with x.
        let relative = rstd_error(mean_square, [square_error; 2], eps) + U;
        for (i, &x) in x.iter().enumerate() {
            let weight = if spec.weight { spec.weight_offset as f64 + affine.at(i).weight } else { 1.0 };
            let exact = x * rstd;
            if relative == f64::INFINITY {
                (block.value[i], block.error[i]) = (unasked(exact * weight), relative);
                continue;
            }
            let own = (exact, relative * exact.abs() + UNDERFLOW);
            let (normalized, error) =
                if spec.round_before_weight { rounded(problem.dtype, own) } else { own };
            block.value[i] = normalized * weight;
            block.error[i] = error * weight.abs() + of_weight * block.value[i].abs() + UNDERFLOW;
        }
    });
    vec![out]
}

pub(super) fn batch_norm(spec: &BatchNorm, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
    let (batch, channels, spatial) = spec.dims();
    let x = required(inputs, "x");
    let (running_mean, running_var) = (required(inputs, "running_mean"), required(inputs, "running_var"));
    let affine = AffineOperands::new(inputs);
    let channel = |c: usize| {
        let x = &x;
        (0..batch).flat_map(move |n| x[(n * channels + c) * spatial..][..spatial].iter().copied())
    };
    let statistics: Vec<Statistics> = (0..channels)
        .into_par_iter()
        .map(|c| match spec.mode {
            BatchNormMode::Train => Statistics::of(channel(c), spec.eps as f64),
            BatchNormMode::Infer => {
                Statistics::known(running_mean[c], 0.0, running_var[c], [0.0; 2], spec.eps as f64)
            }
        })
        .collect();

    let results = problem.results();
    let out = ExpectedResult::new(&results[0], spatial);
    let (statistics_of, affine_of) =
        (|run, _: &[f64]| statistics[run % channels], |run, _| affine.at(run % channels));
    let out = elements(out, &x, spatial, statistics_of, affine_of);
    let mut expected = vec![out];
    if spec.mode == BatchNormMode::Train {
        let n = (batch * spatial) as f64;
        let momentum = spec.momentum as f64;
        let unbiased = n / (n - 1.0);
        let mut updated = |result, old: &[f64], new: &dyn Fn(&Statistics) -> [f64; 3]| {
            let mut updated = ExpectedResult::new(result, 1);
            let mut running = vec![0.0; channels];
            for c in 0..channels {
                let [value, error, running_error] = new(&statistics[c]);
                let (kept, added) = ((1.0 - momentum) * old[c], momentum * value);
                updated.value[c] = kept + added;
                if value.abs() >= f32::MAX as f64 && updated.value[c].abs() < f32::MAX as f64 {
                    // What is added is a share of infinity in f32, and NaN where the share is 0.
                    updated.error[c] = f64::INFINITY;
                    continue;
                }
                // 1 − m, two products, n/(n − 1), the sum; the other form loses of old what it takes off.
                updated.error[c] = momentum * error
                    + 4.0 * U * (kept.abs() + added.abs())
                    + 2.0 * U * (momentum * old[c]).abs();
                running[c] = momentum * running_error;
            }
            updated.declared_error = Some(running);
            expected.push(updated);
        };
        updated(&results[1], &running_mean, &|s| [s.mean, s.mean_error, s.running.mean]);
        updated(&results[2], &running_var, &|s| {
            [s.variance, s.variance_error, s.running.variance].map(|x| x * unbiased)
        });
    }
    expected
}
