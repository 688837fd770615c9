//! Normalizations with the statistics in other hands: right in many ways, wrong in more.

use touchstone_kernels::op::{BatchNorm, BatchNormMode, RmsNorm};
use touchstone_kernels::{DType, Inputs, Op, Problem};

use super::common::norm;

use crate::selftest::arithmetic::Order;
use crate::selftest::planted::{Computed, operand, optional, results, unsupported};

/// The result from x, mean and 1/√(variance + eps), and weight and bias.
type Step = fn(DType, f32, (f32, f32), (f32, f32)) -> f32;

/// How a kernel comes to mean, variance and result.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// Mean and biased variance of a group.
    pub(super) moments: fn(DType, &[f32]) -> (f32, f32),
    /// 1/√(variance + eps).
    pub(super) rstd: fn(f32, f32) -> f32,
    /// (x − mean)·rstd·weight + bias.
    pub(super) apply: Step,
    /// Whether a group of large numbers is scaled down first, so that their squares stay finite.
    pub(super) scales: bool,
}

impl Way {
    /// The right way.
    pub(super) const RIGHT: Way = Way {
        moments: |_, x| corrected(Order::Lanes(8), x),
        rstd: |variance, eps| 1.0 / (variance + eps).sqrt(),
        apply: |_, x, (mean, rstd), (weight, bias)| (x - mean) * rstd * weight + bias,
        scales: true,
    };
}

/// The power of two by which to multiply a group, so that its squares and their sum stay finite: 1 for
/// usual numbers.
fn scale_for(x: impl Iterator<Item = f32>) -> f32 {
    let most = x.filter(|x| x.is_finite()).fold(0.0, |most: f32, x| most.max(x.abs()));
    if most > 2f32.powi(48) { 2f32.powi(-96) } else { 1.0 }
}

/// Two passes, after one that corrects the mean, so that equal numbers have exactly no variance. (The
/// first number taken off all others does so too, and is wrong where that one is large.)
pub(super) fn corrected(order: Order, x: &[f32]) -> (f32, f32) {
    let n = x.len() as f32;
    let near = order.sum(x) / n;
    let mean = near + order.sum(&x.iter().map(|x| x - near).collect::<Vec<_>>()) / n;
    (mean, order.sum(&x.iter().map(|x| (x - mean) * (x - mean)).collect::<Vec<_>>()) / n)
}

/// Welford's (1962) running mean and squares.
pub(super) fn welford(x: &[f32]) -> (f32, f32) {
    let (n, mean, squares) = x.iter().fold((0.0, 0.0, 0.0), |(n, mean, squares), &x| {
        let n: f32 = n + 1.0;
        let delta = x - mean;
        let next = mean + delta / n;
        (n, next, squares + delta * (x - next))
    });
    (mean, squares / n)
}

/// Blocks by themselves, merged in pairs (Chan, Golub & LeVeque 1979).
pub(super) fn merged(block: usize, x: &[f32]) -> (f32, f32) {
    fn merge(x: &[f32], block: usize) -> (f32, f32, f32) {
        if x.len() <= block {
            let (mean, variance) = corrected(Order::Runs(8), x);
            let n = x.len() as f32;
            return (n, mean, variance * n);
        }
        let (left, right) = x.split_at(x.len() / 2);
        let ((n, mean, squares), (m, other, more)) = (merge(left, block), merge(right, block));
        let delta = other - mean;
        (n + m, mean + delta * (m / (n + m)), squares + more + delta * delta * (n * m / (n + m)))
    }
    let (n, mean, squares) = merge(x, block);
    (mean, squares / n)
}

/// Two passes in f64.
pub(super) fn double(x: &[f32]) -> (f32, f32) {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| x as f64).sum::<f64>() / n;
    (mean as f32, (x.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n) as f32)
}

/// eps beside a variance that is scaled by the square; never 0, so that equal numbers do not divide by 0.
fn scaled_eps(eps: f32, scale: f32) -> f32 {
    if scale == 1.0 { eps } else { (eps * scale * scale).max(f32::MIN_POSITIVE) }
}

/// Which numbers are normalized together, and with which weight.
pub(super) struct Groups {
    /// The elements of each group.
    pub(super) members: Vec<Vec<usize>>,
    /// For each element the index of its weight and bias.
    pub(super) parameter: Vec<usize>,
    /// Added to the variance.
    pub(super) eps: f32,
}

impl Groups {
    /// Those of layer, group, instance and batch norm.
    pub(super) fn of(op: &Op) -> Option<Self> {
        let norm = norm(op).filter(|norm| norm.is_centred())?;
        let layout = norm.layout();
        let parameter = (0..layout.count()).map(|i| layout.weight_of(i)).collect();
        Some(Groups { members: layout.members(), parameter, eps: norm.eps() })
    }
}

/// Normalizes groups by their mean and variance.
pub(super) fn normalise(problem: &Problem, inputs: &Inputs, way: &Way) -> Computed {
    let groups = Groups::of(&problem.op).ok_or_else(unsupported)?;
    let x = operand(inputs, "x")?;
    let (weight, bias) = (optional(inputs, "weight"), optional(inputs, "bias"));
    let mut out = vec![0.0; x.len()];
    let mut all = vec![out.clone()];
    if let Some(spec) = problem.get::<BatchNorm>() {
        all.extend([vec![0.0; spec.shape[1]], vec![0.0; spec.shape[1]]]);
    }
    let running = (optional(inputs, "running_mean"), optional(inputs, "running_var"));
    for (g, members) in groups.members.iter().enumerate() {
        let scale = if way.scales { scale_for(members.iter().map(|&i| x[i])) } else { 1.0 };
        let group: Vec<f32> = members.iter().map(|&i| x[i] * scale).collect();
        let mut statistics = (way.moments)(problem.dtype, &group);
        if way.scales && !statistics.0.is_finite() {
            // What corrects a mean, or goes on from one, makes NaN of an infinite one.
            statistics.0 = group.iter().sum::<f32>() / group.len() as f32;
        }
        let mut scale_back = scale;
        if let (Some(spec), Some(means), Some(variances)) =
            (problem.get::<BatchNorm>(), &running.0, &running.1)
        {
            let n = members.len() as f32;
            let update = |old: f32, new: f32| (1.0 - spec.momentum) * old + spec.momentum * new;
            all[1][g] = update(means[g], statistics.0 / scale);
            all[2][g] = update(variances[g], statistics.1 * (n / (n - 1.0)) / scale / scale);
            if spec.mode == BatchNormMode::Infer {
                statistics = (means[g], variances[g]);
                scale_back = 1.0;
            }
        }
        let rstd = (way.rstd)(statistics.1, scaled_eps(groups.eps, scale_back));
        for &i in members {
            let at = |operand: &Option<Vec<f32>>, without: f32| {
                operand.as_ref().map_or(without, |values| values[groups.parameter[i]])
            };
            let affine = (at(&weight, 1.0), at(&bias, 0.0));
            out[i] = (way.apply)(problem.dtype, x[i] * scale_back, (statistics.0, rstd), affine);
        }
    }
    all[0] = out;
    results(problem, &all)
}

/// rms_norm with the mean square, the root and the product in other hands. `apply` gets x, the
/// factor and the weight with its offset. `scales` as in [`Way::scales`].
pub(super) fn rms(
    problem: &Problem,
    inputs: &Inputs,
    scales: bool,
    mean_square: impl Fn(&[f32]) -> f32,
    rstd: impl Fn(f32, f32) -> f32,
    apply: impl Fn(f32, f32, f32) -> f32,
) -> Computed {
    let spec = problem.get::<RmsNorm>().ok_or_else(unsupported)?;
    let (_, width) = spec.rows_and_width();
    let weight = optional(inputs, "weight");
    let mut out = Vec::new();
    for row in operand(inputs, "x")?.chunks(width.max(1)) {
        let scale = if scales { scale_for(row.iter().copied()) } else { 1.0 };
        let row: Vec<f32> = row.iter().map(|x| x * scale).collect();
        let factor = rstd(mean_square(&row), scaled_eps(spec.eps, scale));
        out.extend(
            row.iter()
                .enumerate()
                .map(|(i, &x)| apply(x, factor, weight.as_ref().map_or(1.0, |w| spec.weight_offset + w[i]))),
        );
    }
    results(problem, &[out])
}

/// The squares of a row.
pub(super) fn squares(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| x * x).collect()
}
