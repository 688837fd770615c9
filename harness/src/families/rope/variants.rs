//! Other right ways: summation orders, blockings, exponentials, merges. None of them may be failed.

use touchstone_kernels::op::rope::FAMILY;

use super::faults::{Turn, exact, rotate, turn};
use crate::selftest::planted::Specimen;

/// All of them.
pub(super) fn variants() -> Vec<Specimen> {
    let by = |name, about, turn: Turn| {
        Specimen::new(
            Some(&FAMILY),
            name,
            about,
            |_| true,
            move |problem, inputs| rotate(problem, inputs, exact, turn),
        )
    };
    vec![
        by("rope-rounded", "Products rounded, then added.", turn),
        by("rope-fused", "With fused multiply-add.", |x0, x1, c, s| {
            (x0.mul_add(c, -(x1 * s)), x1.mul_add(c, x0 * s))
        }),
        by("rope-in-f64", "The rotation in f64.", |x0, x1, c, s| {
            let [x0, x1, c, s] = [x0, x1, c, s].map(f64::from);
            ((x0 * c - x1 * s) as f32, (x1 * c + x0 * s) as f32)
        }),
        Specimen::new(
            Some(&FAMILY),
            "rope-reduced-angle",
            "The angle reduced to one turn in f64, its sine and cosine in f32.",
            |_| true,
            |problem, inputs| {
                let table = |position: i64, theta: f64| {
                    let turn = std::f64::consts::TAU;
                    let angle = (position as f64 * theta).rem_euclid(turn);
                    // Sine and cosine of the nearest f32 angle, turned on by what it lacks.
                    let near = angle as f32;
                    let (sin, cos) = (near as f64).sin_cos();
                    let rest = angle - near as f64;
                    (cos - rest * sin, sin + rest * cos)
                };
                rotate(problem, inputs, table, turn)
            },
        ),
    ]
}
