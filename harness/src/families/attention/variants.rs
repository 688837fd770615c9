//! Other right ways: summation orders, blockings, exponentials, merges. None of them may be failed.

use touchstone_kernels::op::attention::FAMILY;

use super::model::Flow;
use crate::selftest::arithmetic::{Order, Product, exp_above, exp_below, exp_reduced};
use crate::selftest::planted::Specimen;

/// All of them.
pub(super) fn variants() -> Vec<Specimen> {
    let flow = |name, about, flow: Flow| {
        Specimen::new(
            Some(&FAMILY),
            name,
            about,
            |_| true,
            move |problem, inputs| flow.attend(problem, inputs),
        )
    };
    let right = Flow::RIGHT;
    vec![
        flow(
            "attention-key-by-key",
            "Online softmax, a new maximum with any key.",
            Flow { tile: 1, ..right },
        ),
        flow("attention-tiles-of-16", "Online softmax over tiles of 16 keys.", right),
        flow("attention-tiles-of-64", "Online softmax over tiles of 64 keys.", Flow { tile: 64, ..right }),
        flow("attention-two-pass", "The maximum first, then the sums.", Flow { tile: usize::MAX, ..right }),
        flow("attention-backwards", "From the last key to the first.", Flow { backwards: true, ..right }),
        flow("attention-split-in-2", "Two parts, merged by their maxima.", Flow { parts: 2, ..right }),
        flow(
            "attention-split-in-7",
            "Seven parts, merged by their maxima.",
            Flow { parts: 7, tile: 8, ..right },
        ),
        flow("attention-reciprocal", "Multiplied by 1/Σ.", Flow { reciprocal: true, ..right }),
        flow("attention-fused", "q·k with fused multiply-add.", Flow { product: Product::Fused, ..right }),
        flow(
            "attention-pairwise",
            "q·k in halves of halves.",
            Flow { product: Product::Rounded(Order::Pairs), ..right },
        ),
        flow(
            "attention-products-in-f64",
            "q·k in f64.",
            Flow { product: Product::Rounded(Order::Double), ..right },
        ),
        flow("attention-exp-above", "exp one ULP too large.", Flow { exp: exp_above, ..right }),
        flow("attention-exp-below", "exp one ULP too small.", Flow { exp: exp_below, tile: 32, ..right }),
        flow("attention-exp-reduced", "exp by reduction and polynomial.", Flow { exp: exp_reduced, ..right }),
    ]
}
