//! Planted faults of a residual and its norm.

use touchstone_kernels::op::residual::{AddLayerNorm, AddRmsNorm, FAMILY, Residual};
use touchstone_kernels::{DType, Inputs, Problem};

use super::{AddNorm, add_norm};
use crate::selftest::arithmetic::stored;
use crate::selftest::planted::{
    Computed, SHORT, Specimen, misread, mistaken, naive, naive_on, operand, optional, results, unsupported,
};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = sums();
    all.extend(results_and_rows());
    all.extend(norms());
    all
}

fn fault(
    name: &'static str,
    about: &'static str,
    differs: fn(&dyn AddNorm) -> bool,
    compute: impl Fn(&Problem, &Inputs) -> Computed + Send + Sync + 'static,
) -> Specimen {
    Specimen::new(Some(&FAMILY), name, about, move |p| add_norm(p).is_some_and(differs), compute)
}

/// Another way through the same steps.
fn way(name: &'static str, about: &'static str, differs: fn(&dyn AddNorm) -> bool, way: Way) -> Specimen {
    fault(name, about, differs, move |problem, inputs| way.compute(problem, inputs))
}

/// The right answer to operands misread.
fn misreading(
    name: &'static str,
    about: &'static str,
    operand: &'static str,
    change: fn(&dyn AddNorm, &mut Vec<f64>),
) -> Specimen {
    fault(
        name,
        about,
        |_| true,
        move |problem, inputs| {
            let spec = add_norm(problem).ok_or_else(unsupported)?;
            naive(problem, &misread(problem, inputs, operand, |values| change(spec, values))?)
        },
    )
}

fn any(_: &dyn AddNorm) -> bool {
    true
}

fn sums() -> Vec<Specimen> {
    vec![
        misreading("residual-not-added", "x alone is normalized.", "residual", |_, r| r.fill(0.0)),
        misreading("residual-subtracted", "x − residual.", "residual", |_, r| {
            r.iter_mut().for_each(|r| *r = -*r);
        }),
        misreading(
            "residual-added-twice",
            "The epilogue of the product before has added it already.",
            "residual",
            |_, r| r.iter_mut().for_each(|r| *r *= 2.0),
        ),
        misreading(
            "residual-of-the-first-row",
            "One row of the residual serves for all.",
            "residual",
            |spec, r| {
                let first = r[..spec.width().min(r.len())].to_vec();
                r.chunks_mut(spec.width().max(1)).for_each(|row| row.copy_from_slice(&first[..row.len()]));
            },
        ),
        misreading(
            "residual-tail-not-added",
            "The last elements of a row, no whole vector, stay x.",
            "residual",
            |spec, r| {
                let whole = spec.width() / 8 * 8;
                r.chunks_mut(spec.width().max(1)).for_each(|row| row[whole..].fill(0.0));
            },
        ),
        fault(
            "residual-sum-not-rounded",
            "The norm takes the sum as it was before it was stored.",
            |spec| spec.residual().round_sum,
            |problem, inputs| {
                let spec = add_norm(problem).ok_or_else(unsupported)?;
                naive_on(spec.with(Residual { round_sum: false, ..spec.residual() }), problem.dtype, inputs)
            },
        )
        .only(SHORT),
        fault(
            "residual-sum-rounded",
            "The norm takes the sum as it was stored, unasked.",
            |spec| !spec.residual().round_sum,
            |problem, inputs| {
                let spec = add_norm(problem).ok_or_else(unsupported)?;
                naive_on(spec.with(Residual { round_sum: true, ..spec.residual() }), problem.dtype, inputs)
            },
        )
        .only(SHORT),
    ]
}

fn results_and_rows() -> Vec<Specimen> {
    let second =
        |name, about, of: fn(&Problem, &Inputs) -> Result<Vec<f32>, touchstone_kernels::BackendError>| {
            fault(
                name,
                about,
                |spec| spec.residual().sum,
                move |problem, inputs| {
                    let wrong = of(problem, inputs)?;
                    mistaken(problem, &naive(problem, inputs)?, |name, values| {
                        if name == "sum" {
                            values
                                .iter_mut()
                                .zip(&wrong)
                                .for_each(|(value, wrong)| *value = f64::from(*wrong));
                        }
                    })
                },
            )
        };
    vec![
        second("residual-sum-is-x", "x is handed over in place of the sum.", |_, inputs| {
            operand(inputs, "x")
        }),
        second("residual-sum-is-normalized", "The result is handed over twice.", |problem, inputs| {
            let out = naive(problem, inputs)?;
            Ok(out.get("out").ok_or_else(unsupported)?.to_f64().into_iter().map(|x| x as f32).collect())
        }),
    ]
}

fn norms() -> Vec<Specimen> {
    vec![
        way(
            "residual-statistics-of-x",
            "The statistics were computed before the residual was added.",
            any,
            Way { statistics_of_x: true, ..Way::RIGHT },
        ),
        way(
            "residual-eps-outside",
            "eps is added to the root.",
            any,
            Way { eps_outside: true, ..Way::RIGHT },
        ),
        way(
            "residual-normalized-then-added",
            "x is normalized and the residual is added after it.",
            any,
            Way { adds_after: true, ..Way::RIGHT },
        ),
        way(
            "residual-sum-in-storage",
            "Statistics are summed in the storage type.",
            |spec| spec.width() > 64,
            Way { sums_in_storage: true, ..Way::RIGHT },
        )
        .only(SHORT),
    ]
}

/// The computation in f32, with steps that can be exchanged.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) statistics_of_x: bool,
    pub(super) eps_outside: bool,
    pub(super) adds_after: bool,
    pub(super) sums_in_storage: bool,
    pub(super) backwards: bool,
}

impl Way {
    pub(super) const RIGHT: Way = Way {
        statistics_of_x: false,
        eps_outside: false,
        adds_after: false,
        sums_in_storage: false,
        backwards: false,
    };

    pub(super) fn compute(&self, problem: &Problem, inputs: &Inputs) -> Computed {
        let spec = add_norm(problem).ok_or_else(unsupported)?;
        let (eps, offset, centred) = match (problem.get::<AddRmsNorm>(), problem.get::<AddLayerNorm>()) {
            (Some(rms), _) => (rms.eps, rms.weight_offset, false),
            (_, Some(layer)) => (layer.eps, 0.0, true),
            _ => return Err(unsupported()),
        };
        let (x, residual) = (operand(inputs, "x")?, operand(inputs, "residual")?);
        let (weight, bias) = (optional(inputs, "weight"), optional(inputs, "bias"));
        let width = spec.width().max(1);
        let (mut out, mut all) = (Vec::new(), Vec::new());
        for (x, residual) in x.chunks(width).zip(residual.chunks(width)) {
            let sums: Vec<f32> = x.iter().zip(residual).map(|(x, r)| x + r).collect();
            all.extend(&sums);
            let taken = |sum: f32| if spec.residual().round_sum { stored(problem.dtype, sum) } else { sum };
            let taken: Vec<f32> = sums.iter().map(|&sum| taken(sum)).collect();
            let taken = if self.adds_after { x.to_vec() } else { taken };
            let of = if self.statistics_of_x { x } else { &taken };
            let mean = if centred { self.mean(problem.dtype, of.iter().map(|&x| x.into())) } else { 0.0 };
            // In f64: the squares of large numbers are beyond f32.
            let squares = of.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean));
            let (variance, eps) = (self.mean(problem.dtype, squares), f64::from(eps));
            let rstd =
                if self.eps_outside { 1.0 / (variance.sqrt() + eps) } else { 1.0 / (variance + eps).sqrt() };
            out.extend(taken.iter().enumerate().map(|(i, s)| {
                let weight = weight.as_ref().map_or(1.0, |weight| offset + weight[i]);
                let y = ((f64::from(*s) - mean) * rstd) as f32 * weight
                    + bias.as_ref().map_or(0.0, |bias| bias[i]);
                if self.adds_after { y + residual[i] } else { y }
            }));
        }
        results(problem, &[out, all])
    }

    fn mean(&self, dtype: DType, x: impl DoubleEndedIterator<Item = f64> + ExactSizeIterator) -> f64 {
        let n = x.len() as f64;
        if self.sums_in_storage {
            x.fold(0.0, |sum, x| stored(dtype, (sum + x) as f32).into()) / n
        } else if self.backwards {
            x.rev().sum::<f64>() / n
        } else {
            x.sum::<f64>() / n
        }
    }
}
