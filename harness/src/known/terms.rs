//! The moments of numbers that are summed together.

use touchstone_kernels::{Inputs, Problem};

use crate::families;

/// Unit roundoff of f32.
pub(crate) const F32: f64 = 1.0 / (1u64 << 24) as f64;

/// How many numbers are summed.
pub(crate) fn terms(problem: &Problem) -> usize {
    families::checks(&problem.op).summed()
}

/// The groups that are normalized together; nothing for operations that normalize nothing.
pub(crate) fn groups(problem: &Problem, inputs: &Inputs) -> Vec<Vec<f64>> {
    let Some(x) = inputs.get("x").map(|x| x.to_f64()) else { return Vec::new() };
    let members = families::checks(&problem.op).normalized();
    members.into_iter().map(|group| group.into_iter().map(|i| x[i]).collect()).collect()
}

/// What is known of a group of N numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// N.
    len: f64,
    /// μ.
    mean: f64,
    /// σ².
    pub(crate) variance: f64,
    /// E\[x²\].
    pub(crate) mean_square: f64,
    /// E|x|.
    magnitude: f64,
    /// Largest |x|.
    pub(crate) largest: f64,
    /// Largest |x − μ|.
    pub(crate) deviation: f64,
}

impl Group {
    pub(crate) fn new(x: &[f64]) -> Self {
        let len = x.len() as f64;
        let mean = x.iter().sum::<f64>() / len;
        let largest = |about: f64| x.iter().fold(0.0, |m: f64, x| m.max((x - about).abs()));
        Group {
            len,
            mean,
            variance: x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / len,
            mean_square: x.iter().map(|x| x * x).sum::<f64>() / len,
            magnitude: x.iter().map(|x| x.abs()).sum::<f64>() / len,
            largest: largest(0.0),
            deviation: largest(mean),
        }
    }

    /// |μ|/σ; infinite for equal numbers, unless they are 0.
    pub(crate) fn mean_over_deviation(&self) -> f64 {
        if self.mean == 0.0 { 0.0 } else { self.mean.abs() / self.variance.sqrt() }
    }

    /// The most by which a mean from a sum in f32, one by one, is off: (N + 1)·2⁻²⁴·E|x|.
    pub(crate) fn sum_error(&self) -> f64 {
        (self.len + 1.0) * F32 * self.magnitude
    }

    /// The most by which E\[x²\] − μ² from sums in f32, one by one, is off:
    /// 2⁻²⁴·((N + 2)·E\[x²\] + 2(N + 2)·|μ|·E|x| + σ²).
    pub(crate) fn one_pass_error(&self) -> f64 {
        let sums = self.mean_square + 2.0 * self.mean.abs() * self.magnitude;
        F32 * ((self.len + 2.0) * sums + self.variance)
    }
}
