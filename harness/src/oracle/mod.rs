//! The oracle: what a problem's results are, and how far a correct kernel may be from them.
//!
//! Everything here is computed in f64 from the inputs *as rounded to the storage type*, by code
//! that shares nothing with any backend. Each element comes with an a-priori bound on the error
//! of any sensible f32 algorithm; METHODOLOGY.md derives the bounds, [`rounding`] holds their
//! constants.
//!
//! The oracle's own error is about n·2⁻⁵³ relative where the bounds are at least 2⁻²⁴: a part in
//! 10⁵ even for sums of a thousand terms.

mod bounded;
pub(crate) mod exponents;
mod real;
pub mod rounding;

pub use self::bounded::Bounded;
pub use self::real::{Formula, Operands, Real, expect as by_formula};

use touchstone_kernels::{DType, ElementType, Inputs, Operand, Problem};

use crate::families;

/// The results that a problem must have.
#[derive(Clone, Debug)]
pub struct Expected {
    /// One for each result of the problem, in order.
    pub results: Vec<ExpectedResult>,
}

/// One expected tensor, with error bounds before the rounding to the storage type.
#[derive(Clone, Debug)]
pub struct ExpectedResult {
    /// The result's name.
    pub name: &'static str,
    /// Its storage type.
    pub dtype: DType,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// The exact value of each element, up to f64.
    pub value: Vec<f64>,
    /// The largest error of a careful f32 computation of each element.
    pub error: Vec<f64>,
    /// The same for algorithms that are only accurate relative to the largest magnitudes; absent
    /// where it is `error` scaled to the row.
    pub normwise_error: Option<Vec<f64>>,
    /// What may be added where the backend declares a weaker intermediate value: attention
    /// probabilities or RoPE tables in the storage type, running moments of a norm.
    pub declared_error: Option<Vec<f64>>,
    /// The rows over which the normwise contract takes the largest bound.
    pub rows: Rows,
}

/// How a tensor falls into rows: along one axis, which may be strided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    len: usize,
    inner: usize,
}

impl Rows {
    /// Rows of `len` elements that lie `inner` apart.
    pub fn new(len: usize, inner: usize) -> Self {
        Rows { len: len.max(1), inner: inner.max(1) }
    }

    /// The row of element `i`.
    pub fn of(self, i: usize) -> usize {
        match self.inner {
            1 => i / self.len,
            inner => i / (self.len * inner) * inner + i % inner,
        }
    }
}

impl ExpectedResult {
    pub(crate) fn new(operand: &Operand, row: usize) -> Self {
        let dtype = match operand.element {
            ElementType::Float(dtype) => dtype,
            ElementType::I64 | ElementType::Bool => unreachable!("every result is floating-point"),
        };
        ExpectedResult {
            name: operand.name,
            dtype,
            shape: operand.shape.clone(),
            value: vec![0.0; operand.len()],
            error: vec![0.0; operand.len()],
            normwise_error: None,
            declared_error: None,
            rows: Rows::new(row, 1),
        }
    }

    /// Values and errors of the block-th `len` elements, for writers that go in parallel.
    pub(crate) fn blocks(
        &mut self,
        len: usize,
    ) -> impl rayon::iter::IndexedParallelIterator<Item = Block<'_>> {
        use rayon::prelude::*;
        let len = len.max(1);
        self.value
            .par_chunks_mut(len)
            .zip(self.error.par_chunks_mut(len))
            .map(|(value, error)| Block { value, error })
    }
}

/// A run of elements to be filled.
pub(crate) struct Block<'a> {
    pub(crate) value: &'a mut [f64],
    pub(crate) error: &'a mut [f64],
}

/// Computes values and bounds of every result.
///
/// # Panics
/// When the inputs are not those of the problem; [`Inputs::new`] has checked that they are.
pub fn expect(problem: &Problem, inputs: &Inputs) -> Expected {
    Expected { results: families::checks(&problem.op).expect(problem, inputs) }
}

/// The operand as f64.
pub(crate) fn required(inputs: &Inputs, name: &str) -> Vec<f64> {
    #[expect(clippy::expect_used, reason = "Inputs::new has checked that every operand is there")]
    inputs.get(name).expect("operands were checked").to_f64()
}

/// A sum with Neumaier's compensation (1974): its error does not grow with the number of terms.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    sum: f64,
    compensation: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        // Non-finite sums have no compensation: it would turn ∞ into NaN.
        if sum.is_finite() {
            self.compensation +=
                if self.sum.abs() >= x.abs() { (self.sum - sum) + x } else { (x - sum) + self.sum };
        }
        self.sum = sum;
    }

    pub(crate) fn value(self) -> f64 {
        self.sum + self.compensation
    }
}

impl FromIterator<f64> for Sum {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let mut sum = Sum::default();
        terms.into_iter().for_each(|x| sum.add(x));
        sum
    }
}

/// The sum of the terms.
pub(crate) fn sum(terms: impl IntoIterator<Item = f64>) -> f64 {
    terms.into_iter().collect::<Sum>().value()
}
