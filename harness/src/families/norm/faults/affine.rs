//! Weights, biases and groups.

use touchstone_kernels::op::{GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use touchstone_kernels::{BackendError, Inputs, Problem};

use super::{BARE, fault, reshaped, way};
use crate::families::norm::model::Way;
use crate::selftest::arithmetic::stored;
use crate::selftest::planted::{
    Computed, SHORT, Specimen, misread, mistaken, naive, naive_on, operand, unsupported,
};

/// Layer, group and instance norm and batch norm, with a weight.
fn weighted(problem: &Problem) -> bool {
    problem.operands().iter().any(|o| o.name == "weight" && o.len() > 1)
}

fn with_bias(problem: &Problem) -> bool {
    problem.operands().iter().any(|o| o.name == "bias" && o.len() > 1)
}

fn misreading(
    name: &'static str,
    about: &'static str,
    differs: fn(&Problem) -> bool,
    operand: &'static str,
    change: fn(&mut Vec<f64>),
) -> Specimen {
    fault(name, about, differs, move |problem, inputs| {
        naive(problem, &misread(problem, inputs, operand, change)?)
    })
}

pub(super) fn faults() -> Vec<Specimen> {
    vec![
        misreading("norm-weight-ignored", "The weight is not applied.", weighted, "weight", |w| w.fill(1.0)),
        misreading("norm-bias-ignored", "The bias is not added.", with_bias, "bias", |b| b.fill(0.0)),
        misreading("norm-weight-off-by-one", "Weights are shifted by one.", weighted, "weight", |w| {
            w.rotate_left(1);
        }),
        misreading("norm-bias-off-by-one", "Biases are shifted by one.", with_bias, "bias", |b| {
            b.rotate_left(1)
        }),
        misreading(
            "norm-one-plus-weight",
            "1 + w in place of w.",
            |p| {
                let gemma = p.get::<RmsNorm>().is_some_and(|spec| spec.weight_offset != 0.0);
                weighted(p) && !gemma
            },
            "weight",
            |w| w.iter_mut().for_each(|w| *w += 1.0),
        ),
        fault(
            "norm-weight-by-group",
            "Every channel takes the weight of its group's first.",
            |p| p.get::<GroupNorm>().is_some_and(|s| s.affine.weight && s.groups < s.shape[1]),
            |problem, inputs| {
                let spec = problem.get::<GroupNorm>().ok_or_else(unsupported)?;
                let size = spec.shape[1] / spec.groups;
                let misled = misread(problem, inputs, "weight", |w| {
                    w.chunks_mut(size).for_each(|group| group.fill(group[0]));
                })?;
                naive(problem, &misled)
            },
        ),
        way(
            "norm-rounded-before-weight",
            "The normalized value is stored before the weight, unasked: two roundings.",
            |p| weighted(p) && !p.op.is::<RmsNorm>(),
            Way {
                apply: |dtype, x, (mean, rstd), (weight, bias)| {
                    stored(dtype, (x - mean) * rstd) * weight + bias
                },
                ..Way::RIGHT
            },
        )
        .only(SHORT),
        fault(
            "norm-last-axis-only",
            "Of two normalized axes only the last one is.",
            |p| p.get::<LayerNorm>().is_some_and(|s| s.axes > 1 && s.affine.weight && s.affine.bias),
            |problem, inputs| {
                let spec = problem.get::<LayerNorm>().ok_or_else(unsupported)?;
                let width = spec.shape.last().copied().unwrap_or(1);
                let channels = spec.rows_and_width().1 / width;
                let rows = spec.rows_and_width().0 * channels;
                let unit = InstanceNorm { shape: vec![rows, 1, width], affine: BARE, eps: spec.eps };
                let normalized = naive_on(unit, problem.dtype, &only_x(problem, inputs)?)?;
                let (weight, bias) = (operand(inputs, "weight")?, operand(inputs, "bias")?);
                mistaken(problem, &reshaped(problem, &normalized)?, |_, values| {
                    for (i, y) in values.iter_mut().enumerate() {
                        let at = i % (channels * width);
                        *y = *y * weight[at] as f64 + bias[at] as f64;
                    }
                })
            },
        ),
        fault(
            "norm-groups-interleaved",
            "Channel c belongs to group c mod G.",
            |p| p.get::<GroupNorm>().is_some_and(|s| s.groups > 1 && s.groups < s.shape[1]),
            interleaved,
        ),
    ]
}

/// The operands without weight and bias.
fn only_x(problem: &Problem, inputs: &Inputs) -> Result<Inputs, BackendError> {
    let spec = problem.get::<LayerNorm>().ok_or_else(unsupported)?;
    let bare = LayerNorm { affine: BARE, ..spec.clone() };
    let bare = Problem { op: bare.into(), dtype: problem.dtype };
    Ok(Inputs::new(&bare, inputs.iter().filter(|(n, _)| *n == "x").map(|(n, t)| (n, t.clone())))?)
}

fn interleaved(problem: &Problem, inputs: &Inputs) -> Computed {
    let spec = problem.get::<GroupNorm>().ok_or_else(unsupported)?;
    let (_, channels, spatial) = spec.dims();
    let size = channels / spec.groups;
    // Channel c of the tensor is channel (c mod G)·size + ⌊c/G⌋ of the one that is normalized.
    let place = |c: usize| c % spec.groups * size + c / spec.groups;
    let moved = |values: &mut Vec<f64>, run: usize, back: bool| {
        let old = values.clone();
        for (n, to) in values.chunks_mut(run).enumerate() {
            let (sample, c) = (n / channels, n % channels);
            let from = if back { place(c) } else { (0..channels).position(|o| place(o) == c).unwrap_or(c) };
            to.copy_from_slice(&old[(sample * channels + from) * run..][..run]);
        }
    };
    let mut misled = misread(problem, inputs, "x", |x| moved(x, spatial, false))?;
    for name in ["weight", "bias"] {
        misled = misread(problem, &misled, name, |w| moved(w, 1, false))?;
    }
    mistaken(problem, &naive(problem, &misled)?, |_, values| moved(values, spatial, true))
}
