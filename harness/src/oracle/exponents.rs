//! How errors of exponents move a softmax.
//!
//! A kernel computes weights from exponents t_j + η_j with |η_j| ≤ ε_j instead of t_j. With the exact
//! weights p_j, weight i becomes
//!
//! p_i·e^η_i / Σ_j p_j·e^η_j,
//!
//! and that lies between p_i·e^(−ε_i − above) and p_i·e^(ε_i + below), where above = ln Σ p_j·e^ε_j and
//! below = −ln Σ p_j·e^−ε_j. This is exact in the ε: where they are small it is first-order analysis, and
//! where they exceed 1 it stays true. All of it is computed from ln p_j, because p_j itself underflows
//! long before p_j·e^ε_j does.

/// ln Σ exp(x_j), without overflow; −∞ of no terms.
pub(crate) fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY { max } else { max + super::sum(terms.map(|x| (x - max).exp())).ln() }
}

/// A weight by its logarithm, and the largest error of its exponent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight {
    pub(crate) log: f64,
    pub(crate) error: f64,
}

/// By how much the sum of all exponentials may be wrong, as logarithms that are not negative.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SumError {
    /// ln of the factor by which it may be too large.
    pub(crate) above: f64,
    /// ln of the factor by which it may be too small.
    pub(crate) below: f64,
}

impl SumError {
    /// The sum of weights whose exponents are off by their errors.
    pub(crate) fn of(weights: impl Iterator<Item = Weight> + Clone) -> Self {
        // What is undefined stays so, and refuses: `max` would take 0.
        let not_negative = |x: f64| if x.is_nan() { x } else { x.max(0.0) };
        SumError {
            above: not_negative(log_sum_exp(weights.clone().map(|w| w.log + w.error))),
            below: not_negative(-log_sum_exp(weights.map(|w| w.log - w.error))),
        }
    }

    /// With a relative error of the summation itself.
    #[must_use]
    pub(crate) fn rounded(self, relative: f64) -> Self {
        SumError { above: self.above + relative.ln_1p(), below: self.below - (-relative).ln_1p() }
    }
}

/// e^log·(e^by − 1), also where e^log underflows. Infinite where it overflows.
pub(crate) fn change(log: f64, by: f64) -> f64 {
    let weight = log.exp();
    if weight > 0.0 && weight.is_finite() && by < 700.0 {
        weight * by.exp_m1()
    } else {
        (log + by).exp() - weight.min(f64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_underflow_and_small_exponents() {
        assert_eq!(change(-800.0, 800.0), 1.0);
        assert!((change(-1.0, 1e-9) / ((-1f64).exp() * 1e-9) - 1.0).abs() < 1e-8);
        assert!((change(-1.0, -1e-9) / ((-1f64).exp() * -1e-9) - 1.0).abs() < 1e-8);
        assert_eq!(change(0.0, 1e30), f64::INFINITY);
    }

    #[test]
    fn an_error_that_is_undefined_leaves_that_of_the_sum_undefined() {
        let weights = [(-1.0, 1e-7), (-0.5, f64::NAN)].map(|(log, error)| Weight { log, error });
        let error = SumError::of(weights.into_iter());
        assert!(error.above.is_nan() && error.below.is_nan(), "{error:?}");
    }

    #[test]
    fn the_logarithm_of_a_sum_neither_overflows_nor_underflows() {
        assert_eq!(log_sum_exp([1e5, 1e5].into_iter()), 1e5 + 2f64.ln());
        assert_eq!(log_sum_exp([-1e5, -1e5].into_iter()), -1e5 + 2f64.ln());
        assert_eq!(log_sum_exp([].into_iter()), f64::NEG_INFINITY);
    }
}
