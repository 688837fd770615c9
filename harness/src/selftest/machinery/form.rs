//! Right numbers in results of another form.

use touchstone_kernels::{BackendError, DType, ElementType, Outputs, Problem};

use super::{len, rows};
use crate::selftest::planted::{SHORT, Specimen, naive, tensor, unsupported};

/// From the right numbers to type, shape and numbers of a result.
type Form = fn(&Problem, Vec<f64>) -> (DType, Vec<usize>, Vec<f64>);

/// The first result right in its numbers, with another type, shape or number of elements.
fn reshaped(name: &'static str, about: &'static str, differs: fn(&Problem) -> bool, form: Form) -> Specimen {
    Specimen::new(None, name, about, differs, move |problem, inputs| {
        let mut outputs = naive(problem, inputs)?;
        replace_first(problem, &mut outputs, form)?;
        Ok(outputs)
    })
}

fn replace_first(problem: &Problem, outputs: &mut Outputs, form: Form) -> Result<(), BackendError> {
    let (_, first) = outputs.iter_mut().next().ok_or_else(unsupported)?;
    let (dtype, shape, values) = form(problem, first.to_f64());
    *first = tensor(ElementType::Float(dtype), &shape, &values)?;
    Ok(())
}

fn shape(problem: &Problem) -> Vec<usize> {
    problem.results().first().map(|result| result.shape.clone()).unwrap_or_default()
}

pub(super) fn faults() -> Vec<Specimen> {
    vec![
        reshaped(
            "answers-in-f32",
            "The result keeps the type of the accumulator.",
            |_| true,
            |p, y| (DType::F32, shape(p), y),
        )
        .only(SHORT),
        reshaped(
            "flattened",
            "The result comes back as one axis.",
            |p| shape(p).len() > 1,
            |p, y| (p.dtype, vec![y.len()], y),
        ),
        reshaped(
            "last-row-missing",
            "The result has one row fewer, and those that it has are right.",
            |p| len(p) > 0,
            |p, mut y| {
                let (n, width) = rows(p);
                y.truncate((n - 1) * width);
                (p.dtype, vec![n - 1, width], y)
            },
        ),
    ]
}
