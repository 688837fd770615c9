//! softmax and log_softmax.
//!
//! With t = s·x, m = max t, S = Σ exp(t_j − m) and p_j = exp(t_j − m)/S, an f32 evaluation of
//! exp(t_j − m) is off by (2|t_j − m| + k_exp)·u relatively: the argument was rounded once, a second
//! time where it is taken times log₂e, and exp multiplies its absolute error. The denominator inherits the p-weighted mean of that plus
//! the growth of its sum. Where a scale is applied, t_j itself is off by |t_j|·u. Errors of m
//! cancel: any m gives the same quotient.

use rayon::prelude::*;
use touchstone_kernels::Problem;
use touchstone_kernels::op::Softmax;

use super::rounding::{EXP, LOG, U, UNDERFLOW, growth};
use super::{ExpectedResult, Rows, sum};

pub(super) fn expect(spec: &Softmax, problem: &Problem, x: &[f64]) -> Vec<ExpectedResult> {
    let (_, axis, inner) = spec.dims();
    let mut out = ExpectedResult::new(&problem.results()[0], axis);
    out.rows = Rows::new(axis, inner);
    let scale = spec.scale as f64;
    out.blocks(axis * inner).zip(x.par_chunks((axis * inner).max(1))).for_each(|(block, x)| {
        for i in 0..inner {
            let t: Vec<f64> = x[i..].iter().step_by(inner).map(|x| scale * x).collect();
            let (value, error) = if spec.log { log_row(&t, scale) } else { row_of(&t, scale) };
            for (a, (value, error)) in value.into_iter().zip(error).enumerate() {
                block.value[a * inner + i] = value;
                block.error[a * inner + i] = error;
            }
        }
    });
    vec![out]
}

/// What the values and bounds of a row are made of.
struct Row {
    max: f64,
    denominator: f64,
    /// Relative error of the denominator in units of u.
    denominator_error: f64,
}

impl Row {
    fn new(t: &[f64], scale: f64) -> Self {
        // NaN and +∞ make every t − m NaN at some j, and with it the sum.
        let max = t.iter().copied().fold(f64::NEG_INFINITY, |m, t| if t > m || t.is_nan() { t } else { m });
        let denominator = sum(t.iter().map(|t| (t - max).exp()));
        let conditioning = sum(t.iter().map(|&t| {
            let p = (t - max).exp() / denominator;
            // 0·∞ would be NaN; an impossible key contributes nothing.
            if p == 0.0 { 0.0 } else { p * (2.0 * (t - max).abs() + scaling(t, scale)) }
        }));
        Row { max, denominator, denominator_error: conditioning + EXP + growth(t.len()) }
    }
}

/// Error of t = s·x in units of u.
fn scaling(t: f64, scale: f64) -> f64 {
    if scale == 1.0 { 0.0 } else { t.abs() }
}

fn row_of(t: &[f64], scale: f64) -> (Vec<f64>, Vec<f64>) {
    let row = Row::new(t, scale);
    // A single element is exactly 1.
    let single = t.len() == 1;
    t.iter()
        .map(|&t| {
            let y = (t - row.max).exp() / row.denominator;
            let own = 2.0 * (t - row.max).abs() + scaling(t, scale) + EXP + 3.0;
            let error = if y == 0.0 { 0.0 } else { U * y * (own + row.denominator_error) };
            (y, if single { 0.0 } else { error + (EXP + 1.0) * UNDERFLOW })
        })
        .unzip()
}

fn log_row(t: &[f64], scale: f64) -> (Vec<f64>, Vec<f64>) {
    let row = Row::new(t, scale);
    let log = row.denominator.ln();
    let single = t.len() == 1;
    t.iter()
        .map(|&t| {
            let y = (t - row.max) - log;
            let own = (t - row.max).abs() + y.abs() + scaling(t, scale) + LOG * log;
            (y, if single { 0.0 } else { U * (own + row.denominator_error) })
        })
        .unzip()
}
