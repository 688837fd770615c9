//! What a backend returned, with how far each number may be off.

use touchstone_kernels::{Backend, DType, ElementType, Inputs, Op, Problem, Support, Tensor};

use crate::agreement::{Tolerance, is_refused, unravel};
use crate::case::Case;
use crate::check::outputs;
use crate::oracle;

/// Why an invariant did not come to `held`.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// It says nothing here.
    NotApplicable,
    /// It is broken, or the backend failed.
    Broken(String),
}

pub(crate) type Held = Result<(), Stop>;

/// A problem with its operands, and what a backend made of them.
pub(crate) struct Answer {
    pub(crate) problem: Problem,
    pub(crate) inputs: Inputs,
    pub(crate) results: Vec<Returned>,
}

/// One result.
pub(crate) struct Returned {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
    pub(crate) got: Vec<f64>,
    /// How far each number may be from the right one.
    pub(crate) tolerance: Vec<f64>,
}

impl Answer {
    pub(crate) fn of(backend: &dyn Backend, problem: &Problem, inputs: Inputs) -> Result<Self, Stop> {
        if let Support::No(_) = backend.supports(problem) {
            return Err(Stop::NotApplicable);
        }
        let case = Case::plain(problem.clone(), 0);
        // Each run on memory of its own: a kernel that writes to an operand must not spoil another's.
        let returned = outputs(backend, &case, &inputs.deep_clone()).map_err(Stop::Broken)?;
        // Of the oracle only the bounds are used, and the magnitudes in them.
        let expected = oracle::expect(problem, &inputs);
        let shapes = expected.results.iter().map(|result| result.shape.as_slice());
        if !shapes.eq(returned.iter().map(|(_, tensor)| tensor.shape())) {
            return Err(Stop::Broken("the results have another shape".into()));
        }
        let declaration = backend.declares(problem);
        // No relation is asked of elements for which no bound is known.
        applies(!expected.results.iter().any(|result| {
            let tolerance = Tolerance::new(result, &declaration);
            result.value.iter().enumerate().any(|(i, &value)| is_refused(value, tolerance.at(i)))
        }))?;
        let results = expected.results.iter().zip(returned.iter()).map(|(expected, (name, tensor))| {
            let tolerance = Tolerance::new(expected, &declaration);
            Returned {
                name,
                shape: expected.shape.clone(),
                dtype: expected.dtype,
                got: tensor.to_f64(),
                // What is not finite is so exactly.
                tolerance: (0..expected.value.len())
                    .map(|i| if expected.value[i].is_finite() { tolerance.at(i) } else { 0.0 })
                    .collect(),
            }
        });
        let results = results.collect();
        Ok(Answer { problem: problem.clone(), inputs, results })
    }

    /// The first result.
    pub(crate) fn out(&self) -> &Returned {
        &self.results[0]
    }

    /// An operand's numbers.
    pub(crate) fn operand(&self, name: &str) -> Result<Vec<f64>, Stop> {
        Ok(self.inputs.get(name).ok_or(Stop::NotApplicable)?.to_f64())
    }

    /// The answer to the same problem with other operands.
    pub(crate) fn with(&self, backend: &dyn Backend, changes: &[(&str, Vec<f64>)]) -> Result<Self, Stop> {
        self.image(backend, self.problem.op.clone(), changes)
    }

    /// The answer to another problem over these operands, some of them changed. A number that the
    /// storage type does not have ends it: the image would be of something else.
    pub(crate) fn image(
        &self,
        backend: &dyn Backend,
        op: impl Into<Op>,
        changes: &[(&str, Vec<f64>)],
    ) -> Result<Self, Stop> {
        let problem = Problem::new(op, self.problem.dtype).map_err(|_| Stop::NotApplicable)?;
        let mut tensors = Vec::new();
        for operand in problem.operands() {
            let changed = changes.iter().find(|(name, _)| *name == operand.name);
            let tensor = match changed {
                Some((_, values)) => exactly(operand.element, &operand.shape, values)?,
                None => self.inputs.get(operand.name).ok_or(Stop::NotApplicable)?.clone(),
            };
            tensors.push((operand.name, tensor));
        }
        let inputs = Inputs::new(&problem, tensors).map_err(|_| Stop::NotApplicable)?;
        Answer::of(backend, &problem, inputs)
    }

    /// Holds every number of this answer, times `factor`, against the same number of another.
    pub(crate) fn equals(&self, other: &Self, factor: f64) -> Held {
        self.results
            .iter()
            .zip(&other.results)
            .try_for_each(|(mine, theirs)| mine.relates(theirs, factor, (0..mine.got.len()).map(|i| (i, i))))
    }
}

impl Returned {
    /// Holds `factor` times the numbers here against numbers of another answer, by pairs of places.
    pub(crate) fn relates(
        &self,
        other: &Returned,
        factor: f64,
        pairs: impl IntoIterator<Item = (usize, usize)>,
    ) -> Held {
        pairs.into_iter().try_for_each(|(i, j)| {
            let tolerance = factor.abs() * self.tolerance[i] + other.tolerance[j];
            other.holds(j, factor * self.got[i], tolerance)
        })
    }

    /// Holds the number at a place against what it should be.
    pub(crate) fn holds(&self, at: usize, should_be: f64, tolerance: f64) -> Held {
        if self.agrees(self.got[at], should_be, tolerance) {
            return Ok(());
        }
        let got = self.got[at];
        let why = format!("{} is {got:.9e} and should be {should_be:.9e} ± {tolerance:.1e}", self.place(at));
        Err(Stop::Broken(why))
    }

    pub(crate) fn place(&self, at: usize) -> String {
        let index: Vec<String> = unravel(at, &self.shape).iter().map(usize::to_string).collect();
        format!("{}[{}]", self.name, index.join(","))
    }

    fn agrees(&self, got: f64, should_be: f64, tolerance: f64) -> bool {
        if got == should_be || got.is_nan() && should_be.is_nan() {
            return true;
        }
        if got.is_infinite() != should_be.is_infinite() {
            // Within the tolerance of the largest number either may be.
            let finite = if got.is_infinite() { should_be } else { got };
            return finite.abs() + tolerance >= self.dtype.max() && got.signum() == should_be.signum();
        }
        (got - should_be).abs() <= tolerance
    }
}

/// A tensor of numbers that its type has.
fn exactly(element: ElementType, shape: &[usize], values: &[f64]) -> Result<Tensor, Stop> {
    let tensor = match element {
        ElementType::Float(dtype) => {
            if values.iter().any(|&x| dtype.round(x) != x && !x.is_nan()) {
                return Err(Stop::NotApplicable);
            }
            Tensor::from_f64(dtype, shape, values)
        }
        ElementType::I64 => Tensor::from_slice(shape, &values.iter().map(|&x| x as i64).collect::<Vec<_>>()),
        ElementType::Bool => Tensor::from_slice(shape, &values.iter().map(|&x| x as u8).collect::<Vec<_>>()),
    };
    tensor.map_err(|error| Stop::Broken(error.to_string()))
}

/// Broken with a sentence, unless so.
pub(crate) fn ensure(so: bool, why: impl FnOnce() -> String) -> Held {
    if so { Ok(()) } else { Err(Stop::Broken(why())) }
}

/// Goes on only where the invariant says something.
pub(crate) fn applies(so: bool) -> Held {
    if so { Ok(()) } else { Err(Stop::NotApplicable) }
}

/// Two tensors that differ by a constant, exactly: x + c rounded to the storage type, and that
/// minus c. c is a power of two, and every x + c lies between c/2 and 2c, where the difference is
/// exact (Sterbenz). What is not finite stays as it is.
pub(crate) fn shifted(x: &[f64], dtype: DType) -> Result<(Vec<f64>, Vec<f64>), Stop> {
    let largest = x.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
    let c = (2.0 * largest.max(dtype.smallest_normal())).log2().ceil().exp2();
    applies(4.0 * c <= dtype.max())?;
    let high: Vec<f64> = x.iter().map(|&x| if x.is_finite() { dtype.round(x + c) } else { x }).collect();
    let low = high.iter().map(|&x| if x.is_finite() { x - c } else { x }).collect();
    Ok((high, low))
}

/// The number with the same magnitude and the other sign.
pub(crate) fn negated(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| -x).collect()
}

/// Twice the numbers.
pub(crate) fn doubled(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| 2.0 * x).collect()
}
