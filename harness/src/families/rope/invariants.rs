//! Invariants of rotary position embedding.

use touchstone_kernels::Backend;
use touchstone_kernels::op::Rope;
use touchstone_kernels::op::rope::FAMILY;

use crate::invariants::Invariant;
use crate::invariants::answer::{Answer, Held, Stop, applies, ensure};

pub(super) fn invariants() -> Vec<Invariant> {
    let family = Some(&FAMILY);
    vec![
        Invariant {
            name: "rope-keeps-norms",
            family,
            about: "A pair keeps its length, up to the temperature of YaRN.",
            holds: norms,
        },
        Invariant {
            name: "rope-copies-the-rest",
            family,
            about: "Channels beyond rotary_dim are copied, bit for bit.",
            holds: rest,
        },
        Invariant {
            name: "rope-is-relative",
            family,
            about: "q·k depends on the distance of their positions only.",
            holds: relative,
        },
        Invariant { name: "rope-at-zero", family, about: "Position 0 turns nothing.", holds: zero },
    ]
}

fn spec(answer: &Answer) -> Result<&Rope, Stop> {
    answer.problem.get().ok_or(Stop::NotApplicable)
}

/// The places of each pair of a tensor of heads.
fn pairs(spec: &Rope) -> impl Iterator<Item = (usize, usize)> {
    let rows = spec.batch * spec.heads * spec.len;
    (0..rows).flat_map(move |row| {
        (0..spec.rotary_dim / 2).map(move |i| {
            let (a, b) = spec.pair(i);
            (row * spec.head_dim + a, row * spec.head_dim + b)
        })
    })
}

fn norms(_: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let (x, out) = (answer.operand("x")?, answer.out());
    let magnitude = spec.magnitude();
    for (a, b) in pairs(spec).filter(|&(a, b)| x[a].is_finite() && x[b].is_finite()) {
        let (before, after) = (magnitude * x[a].hypot(x[b]), out.got[a].hypot(out.got[b]));
        let tolerance = out.tolerance[a].hypot(out.tolerance[b]) + 4.0 * f64::EPSILON * before;
        let overflown = before + tolerance >= out.dtype.max();
        ensure((after - before).abs() <= tolerance || overflown, || {
            format!("the pair of {} has length {after:.9e} and should have {before:.9e}", out.place(a))
        })?;
    }
    Ok(())
}

fn rest(_: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    applies(spec.rotary_dim < spec.head_dim)?;
    let x = answer.operand("x")?;
    let beyond = (0..x.len()).filter(|i| i % spec.head_dim >= spec.rotary_dim);
    beyond.into_iter().try_for_each(|i| answer.out().holds(i, x[i], 0.0))
}

/// By how much all positions are moved on.
const DISTANCE: f64 = 17.0;

fn relative(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    applies(spec.len > 1)?;
    let positions = answer.operand("positions")?.iter().map(|p| p + DISTANCE).collect();
    let moved = answer.with(backend, &[("positions", positions)])?;
    let (out, moved) = (answer.out(), moved.out());
    let d = spec.head_dim;
    // Neighbouring rows of one head stand for q and k.
    for (a, b) in pairs(spec) {
        let (row, c) = (a / d, b / d * d + d);
        if row % spec.len + 1 == spec.len {
            continue;
        }
        let (k, l) = (a % d + c, b % d + c);
        let product = |y: &[f64]| y[a] * y[k] + y[b] * y[l];
        let slack = |y: &crate::invariants::answer::Returned| -> f64 {
            [(a, k), (b, l)]
                .map(|(i, j)| {
                    let (s, t) = (y.tolerance[i], y.tolerance[j]);
                    y.got[i].abs() * t
                        + y.got[j].abs() * s
                        + s * t
                        + 2.0 * f64::EPSILON * (y.got[i] * y.got[j]).abs()
                })
                .iter()
                .sum()
        };
        let (here, there) = (product(&out.got), product(&moved.got));
        let comparable = here.is_finite() && there.is_finite();
        ensure(!comparable || (here - there).abs() <= slack(out) + slack(moved), || {
            format!("{} times the next row is {here:.9e}, and {there:.9e} further on", out.place(a))
        })?;
    }
    Ok(())
}

fn zero(backend: &dyn Backend, answer: &Answer) -> Held {
    let spec = spec(answer)?;
    let positions = vec![0.0; answer.operand("positions")?.len()];
    let image = answer.with(backend, &[("positions", positions)])?;
    let (x, out) = (answer.operand("x")?, image.out());
    let magnitude = spec.magnitude();
    pairs(spec).flat_map(|(a, b)| [(a, b), (b, a)]).try_for_each(|(i, partner)| {
        // 0·∞ of the partner is NaN.
        if x[partner].is_finite() { out.holds(i, magnitude * x[i], out.tolerance[i]) } else { Ok(()) }
    })
}
