//! softmax and log_softmax.
//!
//! With t = s·x, m = max t, S = Σ exp(t_j − m) and p_j = exp(t_j − m)/S, the exponent of an f32
//! evaluation of exp(t_j − m) is off by ε_j = (2|t_j − m| + k_exp)·u: the argument is rounded once, a
//! second time where it is multiplied by log₂e, and k_exp is exp's own. Where a scale is applied, t_j
//! itself is off by |t_j|·u more. Errors of m cancel: any m gives the same quotient.
//!
//! What the ε do to the weights is taken exactly ([`exponents`](crate::oracle::exponents)): weight i may be too
//! large by p_i·(e^(ε_i + below) − 1), but no larger than 1, and too small by p_i·(1 − e^(−ε_i − above)),
//! where the sum of exponentials may be e^above too large and e^below too small, its summation included.
//! The quotient and what is done to it add 3u.
//!
//! log_softmax has |t − m|·u from its argument, |y|·u from the difference, k_log·u·|ln S|, and `above`
//! (never less than `below`, by Jensen's inequality).

use rayon::prelude::*;
use touchstone_kernels::Problem;
use touchstone_kernels::op::Softmax;

use crate::oracle::exponents::{SumError, Weight, change};
use crate::oracle::rounding::{EXP, LOG, U, UNDERFLOW, growth};
use crate::oracle::{ExpectedResult, Rows, sum};

pub(super) fn expect(spec: &Softmax, problem: &Problem, x: &[f64]) -> Vec<ExpectedResult> {
    let (_, axis, inner) = spec.dims();
    let mut out = ExpectedResult::new(&problem.results()[0], axis);
    out.rows = Rows::new(axis, inner);
    let scale = spec.scale as f64;
    out.blocks(axis * inner).zip(x.par_chunks((axis * inner).max(1))).for_each(|(block, x)| {
        for i in 0..inner {
            let t: Vec<f64> = x[i..].iter().step_by(inner).map(|x| scale * x).collect();
            let row = Row::new(&t, scale != 1.0);
            for (a, &t) in t.iter().enumerate() {
                let (value, error) = if spec.log { row.log_weight(t) } else { row.weight(t) };
                block.value[a * inner + i] = value;
                // A single element is exactly 1, and its logarithm 0.
                block.error[a * inner + i] = if axis == 1 { 0.0 } else { error };
            }
        }
    });
    vec![out]
}

/// What the values and bounds of a row are made of.
struct Row {
    scaled: bool,
    max: f64,
    log_sum: f64,
    sum_error: SumError,
}

impl Row {
    fn new(t: &[f64], scaled: bool) -> Self {
        // NaN and +∞ make every t − m NaN at some j, and with it the sum.
        let max = t.iter().copied().fold(f64::NEG_INFINITY, |m, t| if t > m || t.is_nan() { t } else { m });
        let log_sum = sum(t.iter().map(|t| (t - max).exp())).ln();
        let mut row = Row { scaled, max, log_sum, sum_error: SumError { above: 0.0, below: 0.0 } };
        // An element of −∞ has no weight, whatever is rounded.
        let weights = t.iter().filter(|&&t| t != f64::NEG_INFINITY);
        let weights = weights.map(|&t| Weight { log: row.log(t), error: row.exponent_error(t) });
        row.sum_error = SumError::of(weights).rounded(growth(t.len()) * U);
        row
    }

    /// ln p.
    fn log(&self, t: f64) -> f64 {
        (t - self.max) - self.log_sum
    }

    fn exponent_error(&self, t: f64) -> f64 {
        U * (2.0 * (t - self.max).abs() + self.scaling(t) + EXP)
    }

    /// Error of t = s·x in units of u.
    fn scaling(&self, t: f64) -> f64 {
        if self.scaled { t.abs() } else { 0.0 }
    }

    fn weight(&self, t: f64) -> (f64, f64) {
        let underflow = (EXP + 1.0) * UNDERFLOW;
        if t == f64::NEG_INFINITY {
            // Nothing, or with a NaN or +∞ in the row, or with −∞ alone, NaN.
            return (self.log(t).exp(), underflow);
        }
        let (log, own) = (self.log(t), self.exponent_error(t));
        let value = log.exp();
        let most = change(log, (own + self.sum_error.below).min(-log));
        let least = -change(log, -own - self.sum_error.above);
        (value, most.max(least) + 3.0 * U * (value + most) + underflow)
    }

    fn log_weight(&self, t: f64) -> (f64, f64) {
        let value = self.log(t);
        if t == f64::NEG_INFINITY {
            return (value, 0.0);
        }
        let own = (t - self.max).abs() + value.abs() + self.scaling(t) + LOG * self.log_sum.abs();
        (value, U * own + self.sum_error.above)
    }
}
