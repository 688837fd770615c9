//! Numbers over which a formula is written once.
//!
//! With `f64` a [`Formula`] gives the exact values, with [`Bounded`] values and the errors that a careful f32
//! kernel may have. [`expect`] makes an operation's expected results of it. Where a family has a bound that is
//! sharper than the computed one, it keeps that.
//!
//! ```
//! use touchstone_harness::oracle::{Bounded, Real};
//!
//! fn root_mean_square<R: Real>(x: &[R]) -> R {
//!     (R::sum(x.iter().map(|&x| x * x)) / R::exact(x.len() as f64)).sqrt()
//! }
//!
//! let x = [3.0, -4.0, 5.0];
//! assert_eq!(root_mean_square(&x), (50f64 / 3.0).sqrt());
//! let bounded = root_mean_square(&x.map(Bounded::exact));
//! assert!(bounded.error() > 0.0 && bounded.error() < 1e-6);
//! ```

use std::ops::{Add, Div, Mul, Neg, Sub};

use touchstone_kernels::{DType, Inputs, Operation, Problem};

use super::bounded::Bounded;
use super::{ExpectedResult, Rows};

/// A number of a formula.
///
/// A sum of several terms, by `+` and `-` or by [`sum`](Real::sum), may be computed in any order.
/// [`difference`](Real::difference) says that a kernel has both numbers before it subtracts them.
pub trait Real:
    Copy
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A number that every kernel has exactly: an operand, a count, a parameter in f32.
    fn exact(x: f64) -> Self;

    /// A constant of the formula, which a kernel rounds to f32.
    fn constant(x: f64) -> Self;

    /// Its value.
    fn value(self) -> f64;

    /// The sum of the terms, in any order.
    fn sum(terms: impl IntoIterator<Item = Self>) -> Self {
        terms.into_iter().fold(Self::exact(0.0), Add::add)
    }

    /// Σ a·b.
    fn dot(a: impl IntoIterator<Item = Self>, b: impl IntoIterator<Item = Self>) -> Self {
        Self::sum(a.into_iter().zip(b).map(|(a, b)| a * b))
    }

    /// self − other of two numbers that a kernel has computed both: x − max, x − mean.
    fn difference(self, other: Self) -> Self;

    /// The larger of two; NaN if either is.
    fn max(self, other: Self) -> Self;

    /// eˣ.
    fn exp(self) -> Self;

    /// The natural logarithm.
    fn ln(self) -> Self;

    /// The hyperbolic tangent.
    fn tanh(self) -> Self;

    /// The error function.
    fn erf(self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// 1/√x.
    fn recip_sqrt(self) -> Self;

    /// The same as a number that a kernel has computed before it goes on: no part of a longer sum.
    fn computed(self) -> Self;

    /// Rounded to a storage type, as a part of the formula; infinite beyond the largest number of the type.
    fn stored(self, dtype: DType) -> Self;

    /// The same where mathematics says that it lies in this range, and so does what any kernel computes.
    fn within(self, low: f64, high: f64) -> Self;
}

impl Real for f64 {
    fn exact(x: f64) -> Self {
        x
    }

    fn constant(x: f64) -> Self {
        x
    }

    fn value(self) -> f64 {
        self
    }

    fn sum(terms: impl IntoIterator<Item = Self>) -> Self {
        super::sum(terms)
    }

    fn difference(self, other: Self) -> Self {
        self - other
    }

    fn max(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }

    fn exp(self) -> Self {
        f64::exp(self)
    }

    fn ln(self) -> Self {
        f64::ln(self)
    }

    fn tanh(self) -> Self {
        f64::tanh(self)
    }

    fn erf(self) -> Self {
        libm::erf(self)
    }

    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    fn recip_sqrt(self) -> Self {
        1.0 / f64::sqrt(self)
    }

    fn computed(self) -> Self {
        self
    }

    fn stored(self, dtype: DType) -> Self {
        dtype.round(self)
    }

    fn within(self, _low: f64, _high: f64) -> Self {
        self
    }
}

/// The operands of a problem as numbers of a formula.
pub struct Operands<'a>(&'a Inputs);

impl<'a> Operands<'a> {
    /// Those of these inputs.
    pub fn new(inputs: &'a Inputs) -> Self {
        Operands(inputs)
    }

    /// The elements of an operand that the operation has.
    ///
    /// # Panics
    /// When it has not.
    pub fn get<R: Real>(&self, name: &str) -> Vec<R> {
        super::required(self.0, name).into_iter().map(R::exact).collect()
    }

    /// The elements of an operand that the operation may have.
    pub fn optional<R: Real>(&self, name: &str) -> Option<Vec<R>> {
        self.0.get(name).map(|tensor| tensor.to_f64().into_iter().map(R::exact).collect())
    }
}

/// An operation with a formula over [`Real`].
pub trait Formula: Operation {
    /// The elements of each result, in the order of the results.
    fn evaluate<R: Real>(&self, operands: &Operands, dtype: DType) -> Vec<Vec<R>>;

    /// Elements of the result of that index that share a scale under the normwise contract; the last axis
    /// where it does not say.
    fn row(&self, result: usize) -> Option<usize> {
        let _ = result;
        None
    }
}

/// The expected results by a formula: values in f64, with the errors of [`Bounded`].
pub fn expect(formula: &impl Formula, problem: &Problem, inputs: &Inputs) -> Vec<ExpectedResult> {
    let bounded = formula.evaluate::<Bounded>(&Operands::new(inputs), problem.dtype);
    let results = problem.results();
    assert_eq!(bounded.len(), results.len(), "{problem}: a formula gives every result");
    results
        .iter()
        .zip(bounded)
        .enumerate()
        .map(|(index, (operand, numbers))| {
            assert_eq!(numbers.len(), operand.len(), "{problem}: a formula gives every element of a result");
            let row = formula.row(index).or(operand.shape.last().copied()).unwrap_or(1);
            let mut result = ExpectedResult::new(operand, row);
            result.value = numbers.iter().map(|number| number.value()).collect();
            result.error = numbers.iter().map(|number| number.error()).collect();
            result.rows = Rows::new(row, 1);
            result
        })
        .collect()
}
