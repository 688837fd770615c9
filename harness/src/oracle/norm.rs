//! Normalizations.
//!
//! For a group of N numbers the mean is off by δμ = u·(g(N)·mean|x| + |μ|) + 2⁻¹⁵⁰, the variance by
//! δvar = δμ² + (g(N) + 3)·u·var: two passes, each rounded as its sum. Then
//!
//! |error| ≤ |γ|·((δμ + u·|x − μ|)·rstd + |x̂|·(δvar/2(var + eps) + 4u)) + u·(|γx̂| + |β|).
//!
//! A one-pass variance E[x²] − μ² does not fit this for |μ| ≫ σ, rightly. Normwise, the folded
//! form x·(γ·rstd) + (β − μ·γ·rstd) that libraries use is admitted: it rounds γ·rstd·x and
//! γ·rstd·μ, which cancel. A group of zero variance gives exactly β.

use rayon::prelude::*;
use touchstone_kernels::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use touchstone_kernels::{Inputs, Problem};

use super::rounding::{U, UNDERFLOW, growth};
use super::{ExpectedResult, required, sum};

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
}

impl Statistics {
    fn of(x: impl Iterator<Item = f64> + Clone, eps: f64) -> Self {
        let n = x.clone().count();
        let mean = sum(x.clone()) / n as f64;
        let mean_magnitude = sum(x.clone().map(f64::abs)) / n as f64;
        let variance = sum(x.map(|x| (x - mean) * (x - mean))) / n as f64;
        // Sums of equal numbers and their mean are exact in f64, and must come out exact.
        // A subnormal mean loses up to half a spacing, which 1/√eps then multiplies.
        let mean_error =
            if variance == 0.0 { 0.0 } else { U * (growth(n) * mean_magnitude + mean.abs()) + UNDERFLOW };
        let variance_error = mean_error * mean_error + (growth(n) + 3.0) * U * variance;
        Statistics::known(mean, mean_error, variance, variance_error, eps)
    }

    /// Statistics that are given, or exact.
    fn known(mean: f64, mean_error: f64, variance: f64, variance_error: f64, eps: f64) -> Self {
        Statistics {
            mean,
            variance,
            mean_error,
            variance_error,
            rstd_error: variance_error / (2.0 * (variance + eps)) + 2.0 * U,
            rstd: 1.0 / (variance + eps).sqrt(),
        }
    }
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

/// Value, componentwise and normwise error of one normalized element.
fn normalized(x: f64, s: &Statistics, affine: Affine) -> (f64, f64, f64) {
    let Affine { weight, bias } = affine;
    let centred = x - s.mean;
    let unit = centred * s.rstd;
    let value = unit * weight + bias;
    if s.variance == 0.0 && centred == 0.0 {
        return (value, 0.0, 0.0);
    }
    let error = weight.abs()
        * ((s.mean_error + U * centred.abs()) * s.rstd + unit.abs() * (s.rstd_error + 2.0 * U))
        + U * ((weight * unit).abs() + bias.abs())
        + (2.0 + weight.abs()) * UNDERFLOW;
    let folded = U * (3.0 * (weight * s.rstd).abs() * (x.abs() + s.mean.abs()) + bias.abs());
    (value, error, error + folded)
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
    let mut out = ExpectedResult::new(&problem.results()[0], row);
    let mut normwise = vec![0.0; x.len()];
    let len = len.max(1);
    out.blocks(len).zip(normwise.par_chunks_mut(len)).zip(x.par_chunks(len)).enumerate().for_each(
        |(group, ((block, normwise), x))| {
            let statistics = Statistics::of(x.iter().copied(), eps);
            for (i, &x) in x.iter().enumerate() {
                (block.value[i], block.error[i], normwise[i]) = normalized(x, &statistics, affine(group, i));
            }
        },
    );
    out.normwise_error = Some(normwise);
    vec![out]
}

pub(super) fn rms_norm(spec: &RmsNorm, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
    let (_, width) = spec.rows_and_width();
    let x = required(inputs, "x");
    let affine = AffineOperands::new(inputs);
    let mut out = ExpectedResult::new(&problem.results()[0], width);
    // Half the error of the mean square, the root, two products, the offset; and the rounding of
    // the normalized value where the semantics ask for it, near zero to the spacing of subnormals.
    let (early, early_underflow) = match spec.round_before_weight {
        true => (problem.dtype.unit_roundoff(), problem.dtype.smallest_subnormal() / 2.0),
        false => (0.0, 0.0),
    };
    let relative = ((growth(width) + 2.0) / 2.0 + 5.0) * U + early;
    out.blocks(width).zip(x.par_chunks(width.max(1))).for_each(|(block, x)| {
        let mean_square = sum(x.iter().map(|x| x * x)) / width as f64;
        let rstd = 1.0 / (mean_square + spec.eps as f64).sqrt();
        for (i, &x) in x.iter().enumerate() {
            let weight = if spec.weight { spec.weight_offset as f64 + affine.at(i).weight } else { 1.0 };
            let value = x * rstd * weight;
            block.value[i] = value;
            block.error[i] =
                relative * value.abs() + (early_underflow + UNDERFLOW) * weight.abs() + UNDERFLOW;
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
                Statistics::known(running_mean[c], 0.0, running_var[c], 0.0, spec.eps as f64)
            }
        })
        .collect();

    let results = problem.results();
    let mut out = ExpectedResult::new(&results[0], spatial);
    let mut normwise = vec![0.0; x.len()];
    let len = spatial.max(1);
    out.blocks(len).zip(normwise.par_chunks_mut(len)).zip(x.par_chunks(len)).enumerate().for_each(
        |(run, ((block, normwise), x))| {
            let c = run % channels;
            for (i, &x) in x.iter().enumerate() {
                (block.value[i], block.error[i], normwise[i]) = normalized(x, &statistics[c], affine.at(c));
            }
        },
    );
    out.normwise_error = Some(normwise);
    let mut expected = vec![out];
    if spec.mode == BatchNormMode::Train {
        let n = (batch * spatial) as f64;
        let momentum = spec.momentum as f64;
        let unbiased = n / (n - 1.0);
        let mut updated = |result, old: &[f64], new: &dyn Fn(&Statistics) -> (f64, f64)| {
            let mut running = ExpectedResult::new(result, 1);
            for c in 0..channels {
                let (value, error) = new(&statistics[c]);
                let (kept, added) = ((1.0 - momentum) * old[c], momentum * value);
                running.value[c] = kept + added;
                // 1 − m, two products, n/(n − 1), the sum.
                running.error[c] = momentum * error + 4.0 * U * (kept.abs() + added.abs());
            }
            expected.push(running);
        };
        updated(&results[1], &running_mean, &|s| (s.mean, s.mean_error));
        updated(&results[2], &running_var, &|s| (s.variance * unbiased, s.variance_error * unbiased));
    }
    expected
}
