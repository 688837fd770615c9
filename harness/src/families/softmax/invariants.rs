//! Invariants of softmax and log_softmax.

use touchstone_kernels::Backend;
use touchstone_kernels::op::Softmax;
use touchstone_kernels::op::softmax::FAMILY;

use crate::invariants::Invariant;
use crate::invariants::answer::{Answer, Held, Stop, applies, ensure, shifted};

pub(super) fn invariants() -> Vec<Invariant> {
    let family = Some(&FAMILY);
    vec![
        Invariant {
            name: "softmax-sums-to-one",
            family,
            about: "A row of probabilities sums to 1.",
            holds: sums_to_one,
        },
        Invariant {
            name: "softmax-shift",
            family,
            about: "A constant added to x changes nothing.",
            holds: shift,
        },
        Invariant {
            name: "softmax-logarithm",
            family,
            about: "log_softmax is the logarithm of softmax.",
            holds: logarithm,
        },
        Invariant {
            name: "softmax-permutation",
            family,
            about: "A row turned around gives its result turned around.",
            holds: permutation,
        },
    ]
}

fn spec(answer: &Answer) -> Result<&Softmax, Stop> {
    answer.problem.get().ok_or(Stop::NotApplicable)
}

/// The elements of each row.
fn rows(spec: &Softmax) -> impl Iterator<Item = Vec<usize>> {
    let (outer, axis, inner) = spec.dims();
    (0..outer * inner).map(move |row| {
        let start = row / inner * axis * inner + row % inner;
        (0..axis).map(|a| start + a * inner).collect()
    })
}

fn sums_to_one(_: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let (x, out) = (answer.operand("x")?, answer.out());
    let scale = f64::from(spec.scale);
    let mut applied = false;
    for row in rows(spec) {
        let t = || row.iter().map(|&i| scale * x[i]);
        // NaN, +∞, and −∞ alone give NaN.
        if t().any(|t| t.is_nan() || t == f64::INFINITY) || !t().any(f64::is_finite) {
            continue;
        }
        applied = true;
        let (mut sum, mut tolerance) = (0.0, 0.0);
        for &i in &row {
            let p = if spec.log { out.got[i].exp() } else { out.got[i] };
            sum += p;
            // Not p·(e^tolerance − 1), which is 0·∞ where a probability is too small for a number.
            tolerance += if spec.log { (out.got[i] + out.tolerance[i]).exp() - p } else { out.tolerance[i] };
        }
        ensure((sum - 1.0).abs() <= tolerance + row.len() as f64 * f64::EPSILON, || {
            format!("the row of {} sums to {sum:.9} and should to 1 ± {tolerance:.1e}", out.place(row[0]))
        })?;
    }
    applies(applied)
}

fn shift(backend: &dyn Backend, answer: &Answer) -> Held {
    let x = answer.operand("x")?;
    let (high, low) = shifted(&x, answer.problem.dtype)?;
    answer.with(backend, &[("x", high)])?.equals(&answer.with(backend, &[("x", low)])?, 1.0)
}

fn logarithm(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let other = answer.image(backend, Softmax { log: !spec.log, ..spec.clone() }, &[])?;
    let (plain, log) = if spec.log { (&other, answer) } else { (answer, &other) };
    let (plain, log) = (plain.out(), log.out());
    (0..plain.got.len()).try_for_each(|i| {
        let p = log.got[i].exp();
        plain.holds(i, p, plain.tolerance[i] + p * log.tolerance[i].exp_m1())
    })
}

fn permutation(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let x = answer.operand("x")?;
    let mut turned = x.clone();
    let pairs = || rows(spec).flat_map(|row| row.clone().into_iter().zip(row.into_iter().rev()));
    pairs().for_each(|(i, j)| turned[j] = x[i]);
    let image = answer.with(backend, &[("x", turned)])?;
    answer.out().relates(image.out(), 1.0, pairs())
}
