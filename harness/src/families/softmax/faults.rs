//! Planted faults of softmax and log_softmax.

use touchstone_kernels::op::Softmax;
use touchstone_kernels::op::softmax::FAMILY;
use touchstone_kernels::{DType, Inputs, Problem};

use crate::selftest::arithmetic::{Order, largest, max, stored};
use crate::selftest::planted::{
    Computed, F32, SHORT, Specimen, WIDE, naive_on, operand, results, unsupported,
};

pub(super) fn spec_of(problem: &Problem) -> Option<&Softmax> {
    problem.get()
}

/// Applies a function of a row to every row along the axis.
pub(super) fn rows(
    problem: &Problem,
    inputs: &Inputs,
    row: impl Fn(&Softmax, &[f32]) -> Vec<f32>,
) -> Computed {
    let spec = spec_of(problem).ok_or_else(unsupported)?;
    let x = operand(inputs, "x")?;
    let (outer, len, inner) = spec.dims();
    let mut out = vec![0.0; x.len()];
    for first in (0..outer).flat_map(|o| (0..inner).map(move |i| o * len * inner + i)) {
        let at = |a: usize| first + a * inner;
        let line: Vec<f32> = (0..len).map(|a| x[at(a)]).collect();
        for (a, y) in row(spec, &line).into_iter().enumerate() {
            out[at(a)] = y;
        }
    }
    results(problem, &[out])
}

/// s·x along a row. Where that leaves the range of f32 and x does not, s·x less the largest.
pub(super) fn scaled(spec: &Softmax, x: &[f32]) -> Vec<f32> {
    let t = unguarded(spec, x);
    if t.iter().zip(x).all(|(t, x)| t.is_finite() || !x.is_finite()) {
        return t;
    }
    let t: Vec<f64> = x.iter().map(|&x| f64::from(spec.scale) * f64::from(x)).collect();
    let m = t.iter().copied().fold(f64::NEG_INFINITY, |m, t| if t > m || t.is_nan() { t } else { m });
    t.iter().map(|t| (t - m) as f32).collect()
}

/// s·x along a row, and whatever comes of it.
fn unguarded(spec: &Softmax, x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| spec.scale * x).collect()
}

/// From shifted scores and the sum of their exponentials to results.
pub(super) fn finish(spec: &Softmax, shifted: &[f32], sum: f32) -> Vec<f32> {
    let log = sum.ln();
    shifted.iter().map(|&t| if spec.log { t - log } else { t.exp() / sum }).collect()
}

const SUM: Order = Order::Lanes(8);

/// Shifted by m, and divided by what `denominator` makes of the shifted row.
fn row(spec: &Softmax, t: &[f32], m: f32, denominator: impl Fn(&[f32]) -> f32) -> Vec<f32> {
    let shifted: Vec<f32> = t.iter().map(|t| t - m).collect();
    let sum = denominator(&shifted);
    finish(spec, &shifted, sum)
}

fn sum_of_exp(shifted: &[f32]) -> f32 {
    SUM.sum(&shifted.iter().map(|t| t.exp()).collect::<Vec<_>>())
}

/// A row computed wrongly.
fn fault(
    name: &'static str,
    about: &'static str,
    differs: fn(&Softmax) -> bool,
    wrong: fn(DType, &Softmax, &[f32]) -> Vec<f32>,
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        rows(problem, inputs, |spec, x| wrong(problem.dtype, spec, x))
    };
    Specimen::new(Some(&FAMILY), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

/// The right answer to another problem.
fn other(
    name: &'static str,
    about: &'static str,
    differs: fn(&Softmax) -> bool,
    change: fn(&mut Softmax),
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        let mut spec = spec_of(problem).ok_or_else(unsupported)?.clone();
        change(&mut spec);
        naive_on(spec, problem.dtype, inputs)
    };
    Specimen::new(Some(&FAMILY), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

fn len(spec: &Softmax) -> usize {
    spec.dims().1
}

/// A wrong sum over a row that is shifted rightly.
fn wrong_sum(
    name: &'static str,
    about: &'static str,
    differs: fn(&Softmax) -> bool,
    sum: fn(DType, &[f32]) -> f32,
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        rows(problem, inputs, |spec, x| {
            let t = scaled(spec, x);
            row(spec, &t, largest(&t), |shifted| sum(problem.dtype, shifted))
        })
    };
    Specimen::new(Some(&FAMILY), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = sums();
    all.extend(semantics());
    all.extend(extremes());
    all
}

/// The exponentials of a shifted row, each and every partial sum rounded to the storage type.
fn sum_in_storage(dtype: DType, shifted: &[f32]) -> f32 {
    shifted.iter().fold(0.0, |sum, t| stored(dtype, sum + stored(dtype, t.exp())))
}

fn sums() -> Vec<Specimen> {
    vec![
        wrong_sum(
            "softmax-one-f32-accumulator",
            "A single f32 accumulator over a long row: what is added late is lost in what is there.",
            |s| len(s) > 150_000,
            |_, shifted| shifted.iter().map(|t| t.exp()).sum(),
        )
        .only(F32),
        wrong_sum(
            "softmax-last-256-not-summed",
            "The last block of a long row is left out of the denominator.",
            |s| len(s) > 1 << 16,
            |_, shifted| sum_of_exp(&shifted[..shifted.len() - 256]),
        ),
        wrong_sum(
            "softmax-counted-in-16-bits",
            "The denominator ends after 65,536 elements.",
            |s| len(s) > 1 << 16,
            |_, shifted| sum_of_exp(&shifted[..1 << 16]),
        ),
        wrong_sum(
            "softmax-sum-in-storage",
            "The denominator is added up in the storage type.",
            |s| len(s) > 8,
            sum_in_storage,
        )
        .only(SHORT),
        wrong_sum(
            "library-softmax-sum-in-storage",
            "The same in a library that promises its rows, not its elements.",
            |s| len(s) > 8,
            sum_in_storage,
        )
        .only(SHORT)
        .normwise(),
        wrong_sum(
            "softmax-last-element-dropped",
            "The sum ends one too early.",
            |s| len(s) > 1,
            |_, t| sum_of_exp(&t[..t.len() - 1]),
        ),
        wrong_sum(
            "softmax-first-element-dropped",
            "The sum begins at the second.",
            |s| len(s) > 1,
            |_, t| sum_of_exp(&t[1..]),
        ),
        wrong_sum(
            "softmax-tail-not-summed",
            "What is left over after vectors of 8 is not in the denominator.",
            |s| len(s) > 8 && !len(s).is_multiple_of(8),
            |_, t| sum_of_exp(&t[..t.len() / 8 * 8]),
        ),
        wrong_sum(
            "softmax-padding-counted",
            "The last vector is filled up with 1, which is exp(0), not with 0.",
            |s| !len(s).is_multiple_of(8),
            |_, t| sum_of_exp(t) + (8 - t.len() % 8) as f32,
        ),
        fault(
            "softmax-sum-not-rescaled",
            "Online softmax: a new maximum does not rescale the sum.",
            |s| len(s) > 1,
            |_, spec, x| {
                let t = scaled(spec, x);
                let (mut m, mut sum) = (f32::NEG_INFINITY, 0.0);
                for &t in &t {
                    m = max(m, t);
                    sum += (t - m).exp();
                }
                row(spec, &t, m, |_| sum)
            },
        ),
        wrong_sum(
            "softmax-rough-reciprocal",
            "1/Σ is the processor's 12-bit estimate, without a Newton step.",
            |s| !s.log && len(s) > 1,
            |_, t| f32::from_bits(sum_of_exp(t).to_bits() & !0xfff),
        )
        .only(F32),
    ]
}

fn semantics() -> Vec<Specimen> {
    vec![
        Specimen::new(
            Some(&FAMILY),
            "softmax-last-axis",
            "The axis is taken for the last one.",
            |p| spec_of(p).is_some_and(|s| s.axis + 1 < s.shape.len()),
            |problem, inputs| {
                let spec = spec_of(problem).ok_or_else(unsupported)?;
                let last = Softmax { axis: spec.shape.len() - 1, ..spec.clone() };
                naive_on(last, problem.dtype, inputs)
            },
        ),
        other("softmax-scale-ignored", "The scale is not applied.", |s| s.scale != 1.0, |s| s.scale = 1.0),
        other(
            "softmax-temperature-inverted",
            "The scale is taken for a temperature.",
            |s| s.scale != 1.0,
            |s| s.scale = 1.0 / s.scale,
        ),
        fault(
            "softmax-scale-after",
            "The result is scaled, not the input.",
            |s| s.scale != 1.0,
            |_, spec, x| {
                let out = row(spec, x, largest(x), sum_of_exp);
                out.into_iter().map(|y| spec.scale * y).collect()
            },
        ),
        other(
            "softmax-logarithm-forgotten",
            "softmax in place of log_softmax.",
            |s| s.log,
            |s| s.log = false,
        ),
        fault(
            "softmax-base-2",
            "2^x in place of e^x.",
            |s| !s.log && len(s) > 1,
            |_, spec, x| {
                let t = scaled(spec, x);
                let m = largest(&t);
                let powers: Vec<f32> = t.iter().map(|t| (t - m).exp2()).collect();
                let sum = SUM.sum(&powers);
                powers.into_iter().map(|p| p / sum).collect()
            },
        ),
        fault(
            "softmax-exp-rounded-early",
            "Exponentials are stored before they are divided: two roundings.",
            |s| !s.log && len(s) > 8,
            |dtype, spec, x| {
                let t = scaled(spec, x);
                let m = largest(&t);
                let powers: Vec<f32> = t.iter().map(|t| stored(dtype, (t - m).exp())).collect();
                let sum = SUM.sum(&powers);
                powers.into_iter().map(|p| p / sum).collect()
            },
        )
        .only(SHORT),
    ]
}

fn extremes() -> Vec<Specimen> {
    vec![
        fault(
            "softmax-maximum-forgotten",
            "exp(x) without a maximum subtracted.",
            |_| true,
            |_, spec, x| row(spec, &scaled(spec, x), 0.0, sum_of_exp),
        ),
        fault(
            "softmax-scores-overflow",
            "s·x in f32 is infinite where x and the results are not.",
            |s| s.scale.abs() > 1.0,
            |_, spec, x| {
                let t = unguarded(spec, x);
                row(spec, &t, largest(&t), sum_of_exp)
            },
        )
        .only(WIDE),
        fault(
            "softmax-maximum-from-zero",
            "The search for the maximum begins at 0: rows far below it underflow.",
            |_| true,
            |_, spec, x| {
                let t = scaled(spec, x);
                row(spec, &t, max(0.0, largest(&t)), sum_of_exp)
            },
        )
        .only(&[DType::F32, DType::BF16]),
        fault(
            "softmax-log-of-quotient",
            "log of a softmax that has already underflowed.",
            |s| s.log,
            |_, spec, x| {
                let plain = Softmax { log: false, ..spec.clone() };
                let t = scaled(spec, x);
                row(&plain, &t, largest(&t), sum_of_exp).into_iter().map(f32::ln).collect()
            },
        ),
        fault(
            "softmax-log-with-floor",
            "log(p + 1e-6), so that it cannot be −∞.",
            |s| s.log && len(s) > 1,
            |_, spec, x| {
                let plain = Softmax { log: false, ..spec.clone() };
                let t = scaled(spec, x);
                row(&plain, &t, largest(&t), sum_of_exp).into_iter().map(|p| (p + 1e-6).ln()).collect()
            },
        ),
        fault(
            "softmax-exponent-clamped",
            "Arguments of exp are cut off at −10.",
            |s| len(s) > 1,
            |_, spec, x| {
                let t = scaled(spec, x);
                let m = largest(&t);
                let clamped: Vec<f32> = t.iter().map(|t| if t - m < -10.0 { m - 10.0 } else { *t }).collect();
                row(spec, &clamped, m, sum_of_exp)
            },
        ),
        fault(
            "softmax-rough-exp",
            "exp by Schraudolph's bit trick, good to 3 %.",
            |s| !s.log && len(s) > 1,
            |_, spec, x| {
                let t = scaled(spec, x);
                let m = largest(&t);
                let rough = |t: f32| {
                    if t.is_nan() { t } else { f32::from_bits((12_102_203.0 * t + 1.064_866_8e9) as u32) }
                };
                let powers: Vec<f32> = t.iter().map(|t| rough(t - m)).collect();
                let sum = SUM.sum(&powers);
                powers.into_iter().map(|p| p / sum).collect()
            },
        ),
        fault(
            "softmax-nan-skipped",
            "A comparison that is false for NaN leaves it out of the row.",
            |s| len(s) > 1,
            |_, spec, x| {
                let t: Vec<f32> = scaled(spec, x)
                    .into_iter()
                    .map(|t| if t.is_nan() { f32::NEG_INFINITY } else { t })
                    .collect();
                row(spec, &t, largest(&t), sum_of_exp)
            },
        ),
        fault(
            "softmax-infinity-made-finite",
            "+∞ is clamped to the largest number, and wins the row.",
            |s| len(s) > 1,
            |_, spec, x| {
                let t: Vec<f32> = scaled(spec, x)
                    .into_iter()
                    .map(|t| if t == f32::INFINITY { f32::MAX } else { t })
                    .collect();
                row(spec, &t, largest(&t), sum_of_exp)
            },
        ),
    ]
}
