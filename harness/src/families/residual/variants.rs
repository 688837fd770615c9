//! Other right ways.

use touchstone_kernels::op::residual::FAMILY;

use super::faults::Way;
use crate::selftest::planted::Specimen;

/// All of them.
pub(super) fn variants() -> Vec<Specimen> {
    let way = |name, about, way: Way| {
        Specimen::new(
            Some(&FAMILY),
            name,
            about,
            |_| true,
            move |problem, inputs| way.compute(problem, inputs),
        )
    };
    vec![
        way(
            "residual-statistics-in-f64",
            "The sum and the affine step in f32, statistics in f64.",
            Way::RIGHT,
        ),
        way(
            "residual-backwards",
            "Statistics from the end of the row.",
            Way { backwards: true, ..Way::RIGHT },
        ),
    ]
}
