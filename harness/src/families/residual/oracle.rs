//! The sum, and the norm of it.
//!
//! Where the sum is rounded to the storage type, and no kernel can round it otherwise, the result is that of the
//! norm of an operand that holds it, with the bound derived for that norm. Otherwise it is computed by a
//! formula over [`Real`].

use touchstone_kernels::op::residual::{AddLayerNorm, AddRmsNorm, Residual};
use touchstone_kernels::{DType, Inputs, Problem, Tensor};

use super::AddNorm;
use crate::families;
use crate::oracle::{Bounded, ExpectedResult, Formula, Operands, Real, by_formula};

/// The results of one of the two operations.
pub(super) fn expect(
    spec: &dyn AddNorm,
    formula: &impl Formula,
    problem: &Problem,
    inputs: &Inputs,
) -> Vec<ExpectedResult> {
    let by_norm = spec.residual().round_sum.then(|| of_the_norm(spec, problem, inputs)).flatten();
    match by_norm {
        None => by_formula(formula, problem, inputs),
        Some(out) if !spec.residual().sum => vec![out],
        Some(out) => {
            let sums: Vec<Bounded> = sums(&Operands::new(inputs));
            let mut sum = ExpectedResult::new(&problem.results()[1], spec.width());
            sum.value = sums.iter().map(|sum| sum.value()).collect();
            sum.error = sums.iter().map(|sum| sum.error()).collect();
            vec![out, sum]
        }
    }
}

/// The norm of the rounded sums; nothing where a kernel may round one of them otherwise.
fn of_the_norm(spec: &dyn AddNorm, problem: &Problem, inputs: &Inputs) -> Option<ExpectedResult> {
    let sums: Vec<Bounded> = sums(&Operands::new(inputs));
    if sums.iter().any(|sum| sum.stored(problem.dtype).error() != 0.0) {
        return None;
    }
    let (norm, inputs) = norm_of_sums(spec, problem, inputs)?;
    families::checks(&norm.op).expect(&norm, &inputs).into_iter().next()
}

/// The norm alone, with the sums, rounded to the storage type, as its `x`.
pub(super) fn norm_of_sums(
    spec: &dyn AddNorm,
    problem: &Problem,
    inputs: &Inputs,
) -> Option<(Problem, Inputs)> {
    let norm = Problem::new(spec.norm(), problem.dtype).ok()?;
    let x = Tensor::from_f64(problem.dtype, &norm.operands()[0].shape, &sums::<f64>(&Operands::new(inputs)))
        .ok()?;
    let affine = inputs.iter().filter(|(name, _)| ["weight", "bias"].contains(name));
    let tensors = std::iter::once(("x", x)).chain(affine.map(|(name, tensor)| (name, tensor.clone())));
    let inputs = Inputs::new(&norm, tensors).ok()?;
    Some((norm, inputs))
}

/// x + residual.
fn sums<R: Real>(operands: &Operands) -> Vec<R> {
    let (x, residual) = (operands.get::<R>("x"), operands.get::<R>("residual"));
    x.into_iter().zip(residual).map(|(x, residual)| x + residual).collect()
}

/// The sums as a result and as the norm takes them.
fn results_of<R: Real>(
    residual: Residual,
    operands: &Operands,
    dtype: DType,
    norm: impl Fn(&[R]) -> Vec<R>,
) -> Vec<Vec<R>> {
    let sums: Vec<R> = sums(operands);
    let of = |sum: &R| if residual.round_sum { sum.stored(dtype) } else { sum.computed() };
    let out = norm(&sums.iter().map(of).collect::<Vec<_>>());
    std::iter::once(out).chain(residual.sum.then_some(sums)).collect()
}

impl Formula for AddRmsNorm {
    fn evaluate<R: Real>(&self, operands: &Operands, dtype: DType) -> Vec<Vec<R>> {
        let width = self.width();
        let weight = operands.optional::<R>("weight");
        let offset = R::exact(self.weight_offset.into());
        let row = |s: &[R]| -> Vec<R> {
            let mean_square = R::dot(s.iter().copied(), s.iter().copied()) / R::exact(width as f64);
            let rstd = (mean_square + R::exact(self.eps.into())).recip_sqrt();
            let of = |(i, &s): (usize, &R)| match &weight {
                Some(weight) if self.weight_offset == 0.0 => s * rstd * weight[i],
                Some(weight) => s * rstd * (offset + weight[i]),
                None => s * rstd,
            };
            s.iter().enumerate().map(of).collect()
        };
        results_of(self.residual, operands, dtype, |s| s.chunks(width.max(1)).flat_map(row).collect())
    }
}

impl Formula for AddLayerNorm {
    fn evaluate<R: Real>(&self, operands: &Operands, dtype: DType) -> Vec<Vec<R>> {
        let width = self.width();
        let (weight, bias) = (operands.optional::<R>("weight"), operands.optional::<R>("bias"));
        let row = |s: &[R]| -> Vec<R> {
            let n = R::exact(width as f64);
            let mean = R::sum(s.iter().copied()) / n;
            let centred: Vec<R> = s.iter().map(|s| s.difference(mean)).collect();
            let variance = R::dot(centred.iter().copied(), centred.iter().copied()) / n;
            let rstd = (variance + R::exact(self.eps.into())).recip_sqrt();
            let of = |(i, &c): (usize, &R)| {
                let unit = c * rstd;
                let scaled = weight.as_ref().map_or(unit, |weight| unit * weight[i]);
                bias.as_ref().map_or(scaled, |bias| scaled + bias[i])
            };
            centred.iter().enumerate().map(of).collect()
        };
        results_of(self.residual, operands, dtype, |s| s.chunks(width.max(1)).flat_map(row).collect())
    }
}
