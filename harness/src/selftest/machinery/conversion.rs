//! From f32 to the storage type, and special numbers.

use touchstone_kernels::{BackendError, DType, ElementType, Inputs, Outputs, Problem, Tensor};

use super::storing;
use crate::families;
use crate::selftest::arithmetic::stored;
use crate::selftest::planted::{F32, SHORT, Specimen, naive, tensor, unsupported};

/// A problem and its operands in f32.
fn widened(problem: &Problem, inputs: &Inputs) -> Result<(Problem, Inputs), BackendError> {
    let wide = Problem { op: problem.op.clone(), dtype: DType::F32 };
    let tensors = wide.operands().into_iter().map(|operand| {
        let values = inputs.get(operand.name).ok_or_else(unsupported)?.to_f64();
        Ok((operand.name, tensor(operand.element, &operand.shape, &values)?))
    });
    let tensors = tensors.collect::<Result<Vec<_>, BackendError>>()?;
    let inputs = Inputs::new(&wide, tensors)?;
    Ok((wide, inputs))
}

/// Results computed in f32 and converted wrongly.
fn converting(
    name: &'static str,
    about: &'static str,
    differs: fn(&Problem) -> bool,
    convert: fn(DType, f64) -> f64,
) -> Specimen {
    Specimen::new(None, name, about, differs, move |problem, inputs| {
        let (wide, wider) = widened(problem, inputs)?;
        let right = naive(&wide, &wider)?;
        let tensors = problem.results().into_iter().zip(right.iter()).map(|(result, (_, values))| {
            let dtype = match result.element {
                ElementType::Float(dtype) => dtype,
                ElementType::I64 | ElementType::Bool => return Err(unsupported()),
            };
            let values: Vec<f64> = values.to_f64().into_iter().map(|y| convert(dtype, y)).collect();
            tensor(result.element, &result.shape, &values)
        });
        Ok(Outputs::new(problem, tensors.collect::<Result<Vec<Tensor>, _>>()?)?)
    })
}

fn no_early_rounding(problem: &Problem) -> bool {
    !families::checks(&problem.op).rounds_within()
}

pub(super) fn faults() -> Vec<Specimen> {
    vec![
        converting(
            "truncated",
            "Bits beyond the storage type are cut off.",
            no_early_rounding,
            |dtype, y| {
                let rounded = dtype.round(y);
                if rounded.abs() <= y.abs() || !rounded.is_finite() {
                    return rounded;
                }
                // One step back towards zero.
                dtype.round(rounded - dtype.ulp(y).copysign(y))
            },
        )
        .only(SHORT),
        converting(
            "two-bits-short",
            "Results keep two bits fewer than the storage type has.",
            no_early_rounding,
            {
                |dtype, y| {
                    let coarse = 4.0 * dtype.ulp(y);
                    if y.is_finite() { dtype.round((y / coarse).round() * coarse) } else { y }
                }
            },
        )
        .only(SHORT),
        converting(
            "through-the-other-short-type",
            "f16 by way of bf16, and the other way round.",
            no_early_rounding,
            |dtype, y| {
                let other = if dtype == DType::F16 { DType::BF16 } else { DType::F16 };
                if dtype == DType::F32 { y } else { other.round(y) }
            },
        )
        .only(SHORT),
        storing("subnormals-flushed", "Results below the smallest normal become 0, undeclared.", |_| true, {
            |problem, y| {
                let smallest = problem.dtype.smallest_normal();
                y.iter_mut().filter(|y| y.abs() < smallest).for_each(|y| *y = 0.0);
            }
        }),
        storing(
            "nan-to-number",
            "Results that are NaN are replaced by 0.",
            |_| true,
            |_, y| {
                y.iter_mut().filter(|y| y.is_nan()).for_each(|y| *y = 0.0);
            },
        ),
        storing(
            "overflow-saturates",
            "Results beyond the largest number become the largest number.",
            |_| true,
            {
                |problem, y| {
                    let largest = problem.dtype.max();
                    y.iter_mut().for_each(|y| *y = if y.is_nan() { *y } else { y.clamp(-largest, largest) });
                }
            },
        ),
        Specimen::new(
            None,
            "operands-in-bf16",
            "f32 operands go through bf16 matrix units.",
            |_| true,
            |problem, inputs| {
                let tensors = inputs.iter().map(|(name, old)| {
                    let round = |x: f64| stored(DType::BF16, x as f32) as f64;
                    let keep = !matches!(old.element(), ElementType::Float(_));
                    let values: Vec<f64> =
                        old.to_f64().into_iter().map(|x| if keep { x } else { round(x) }).collect();
                    Ok((name, tensor(old.element(), old.shape(), &values)?))
                });
                let tensors = tensors.collect::<Result<Vec<_>, BackendError>>()?;
                naive(problem, &Inputs::new(problem, tensors)?)
            },
        )
        .only(F32),
    ]
}
