//! The numbers that are summed together: how many, and the moments of each group.

use touchstone_kernels::{Inputs, Op, Problem};

/// Unit roundoff of f32.
pub(super) const F32: f64 = 1.0 / (1u64 << 24) as f64;

/// How many numbers are summed.
pub(super) fn terms(problem: &Problem) -> usize {
    match &problem.op {
        Op::Softmax(spec) => spec.dims().1,
        Op::Attention(spec) => spec.kv_len,
        Op::LayerNorm(spec) => spec.rows_and_width().1,
        Op::RmsNorm(spec) => spec.rows_and_width().1,
        Op::BatchNorm(spec) => {
            let (n, _, spatial) = spec.dims();
            n * spatial
        }
        Op::GroupNorm(spec) => {
            let (_, channels, spatial) = spec.dims();
            channels / spec.groups * spatial
        }
        Op::InstanceNorm(spec) => spec.dims().2,
        Op::Activation(_) | Op::Glu(_) | Op::Rope(_) => 1,
    }
}

/// The groups that a norm normalizes together; nothing for other operations.
pub(super) fn groups(problem: &Problem, inputs: &Inputs) -> Vec<Vec<f64>> {
    let Some(x) = inputs.get("x").map(|x| x.to_f64()) else { return Vec::new() };
    match &problem.op {
        Op::LayerNorm(_) | Op::RmsNorm(_) | Op::GroupNorm(_) | Op::InstanceNorm(_) => {
            x.chunks(terms(problem).max(1)).map(<[f64]>::to_vec).collect()
        }
        Op::BatchNorm(spec) => {
            let (_, channels, spatial) = spec.dims();
            let mut groups = vec![Vec::new(); channels];
            for (run, x) in x.chunks(spatial.max(1)).enumerate() {
                groups[run % channels].extend_from_slice(x);
            }
            groups
        }
        Op::Attention(_) | Op::Softmax(_) | Op::Activation(_) | Op::Glu(_) | Op::Rope(_) => Vec::new(),
    }
}

/// What is known of a group of N numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// N.
    len: f64,
    /// μ.
    mean: f64,
    /// σ².
    pub(super) variance: f64,
    /// E\[x²\].
    pub(super) mean_square: f64,
    /// E|x|.
    magnitude: f64,
    /// Largest |x|.
    pub(super) largest: f64,
    /// Largest |x − μ|.
    pub(super) deviation: f64,
}

impl Group {
    pub(super) fn new(x: &[f64]) -> Self {
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
    pub(super) fn mean_over_deviation(&self) -> f64 {
        if self.mean == 0.0 { 0.0 } else { self.mean.abs() / self.variance.sqrt() }
    }

    /// The most by which a mean from a sum in f32, one by one, is off: (N + 1)·2⁻²⁴·E|x|.
    pub(super) fn sum_error(&self) -> f64 {
        (self.len + 1.0) * F32 * self.magnitude
    }

    /// The most by which E\[x²\] − μ² from sums in f32, one by one, is off:
    /// 2⁻²⁴·((N + 2)·E\[x²\] + 2(N + 2)·|μ|·E|x| + σ²).
    pub(super) fn one_pass_error(&self) -> f64 {
        let sums = self.mean_square + 2.0 * self.mean.abs() * self.magnitude;
        F32 * ((self.len + 2.0) * sums + self.variance)
    }
}
