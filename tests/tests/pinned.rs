//! Inputs that somebody found by hand, on which a verdict was once wrong. Each says what it protects.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use touchstone_harness::case::Case;
use touchstone_harness::check::check;
use touchstone_harness::known::KnownIssues;
use touchstone_harness::{Outcome, oracle};
use touchstone_kernels::{ElementType, Inputs, Problem, Registry, Tensor};

/// A problem with operands in its order.
fn posed(problem: &str, operands: &[&[f64]]) -> (Problem, Inputs) {
    let problem: Problem = problem.parse().unwrap();
    let declared = problem.operands();
    assert_eq!(declared.len(), operands.len(), "{problem}");
    let tensors: Vec<_> = declared
        .iter()
        .zip(operands)
        .map(|(operand, values)| {
            let tensor = match operand.element {
                ElementType::Float(dtype) => Tensor::from_f64(dtype, &operand.shape, values),
                _ => {
                    Tensor::from_slice(&operand.shape, &values.iter().map(|&x| x as i64).collect::<Vec<_>>())
                }
            };
            (operand.name, tensor.unwrap())
        })
        .collect();
    let inputs = Inputs::new(&problem, tensors).unwrap();
    (problem, inputs)
}

/// The outcomes of the backends that are wanted.
fn outcomes(problem: &Problem, inputs: &Inputs, wanted: impl Fn(&str) -> bool) -> Vec<(String, Outcome)> {
    let expected = oracle::expect(problem, inputs);
    let case = Case::plain(problem.clone(), 1);
    let registry = Registry::standard(2);
    let backends = registry.whole().filter(|backend| wanted(backend.id().as_str()));
    let outcomes: Vec<_> = backends
        .map(|backend| {
            let outcome = check(backend.as_ref(), &case, inputs, &expected, &KnownIssues::default());
            (backend.id().to_string(), outcome)
        })
        .collect();
    assert!(!outcomes.is_empty());
    outcomes
}

fn is_ours(id: &str) -> bool {
    id == "naive" || id.starts_with("simd/")
}

/// No backend fails: what these kernels do is right, within what f32 can do.
fn none_is_failed(problem: &str, operands: &[&[f64]], wanted: fn(&str) -> bool) {
    let (problem, inputs) = posed(problem, operands);
    for (id, outcome) in outcomes(&problem, &inputs, wanted) {
        let is_fine =
            matches!(&outcome, Outcome::Passed(_) | Outcome::Suspect { .. } | Outcome::Unsupported { .. });
        assert!(is_fine, "{id} on {problem}: {outcome:?}");
    }
}

/// Exact scores are 0 and −60; added up in order in f32 both are 0. A weight may be off by all that it can be.
#[test]
fn a_score_that_cancels_may_be_anything() {
    let big = 2f64.powi(31);
    let k = [0.0, 0.0, 0.0, big, -60.0, -big];
    none_is_failed("attention f32 h=1 lq=1 lk=2 d=3 dv=1 scale=1", &[&[1.0; 3], &k, &[0.0, 1.0]], |_| true);
}

/// The product with the scale is rounded, and half a unit of 10⁸ is 4 in an exponent.
#[test]
fn a_rounded_product_in_an_exponent_counts_exactly() {
    let x = [110_000_016.0, 110_000_008.0];
    for name in ["softmax", "log_softmax"] {
        none_is_failed(&format!("{name} f32 shape=1x2 scale=0.9"), &[&x], |_| true);
    }
}

/// With eps = 0 equal numbers leave 0/0: NaN by the formula, 0 in PyTorch, and any number once the mean was
/// rounded. Numbers whose squares underflow do the same. Such a case is suspect on every backend.
#[test]
fn no_result_is_asked_for_where_the_variance_may_be_zero() {
    let subnormal = [1e-40, -3e-40];
    for (problem, x) in [
        ("layer_norm f32 shape=1x3 weight=false bias=false eps=0", &[0.1f32 as f64; 3][..]),
        ("rms_norm f32 shape=1x2 weight=false eps=0", &subnormal),
        ("rms_norm f32 shape=1x2 weight=false eps=0 round_before_weight=true", &[0.0; 2]),
    ] {
        let (problem, inputs) = posed(problem, &[x]);
        for (id, outcome) in outcomes(&problem, &inputs, |_| true) {
            let is_fine = matches!(&outcome, Outcome::Suspect { .. } | Outcome::Unsupported { .. });
            assert!(is_fine, "{id} on {problem}: {outcome:?}");
        }
    }
    // The root of ∞ is exact.
    let (problem, inputs) =
        posed("rms_norm f32 shape=2x2 weight=false eps=0", &[&[f64::INFINITY, 1.0, 3.0, -1.0]]);
    for (id, outcome) in outcomes(&problem, &inputs, is_ours) {
        assert!(matches!(outcome, Outcome::Passed(_)), "{id} on {problem}: {outcome:?}");
    }
}

/// Scores of 10¹⁰ are off by hundreds, and their log-sum-exp by no more: its bound is a number.
#[test]
fn a_log_sum_exp_has_a_bound() {
    let (problem, inputs) = posed(
        "attention f32 h=1 lq=1 lk=1 d=2 scale=10000000000 lse=true",
        &[&[1.0, 0.3], &[0.7, -0.9], &[1.0, 2.0]],
    );
    let expected = oracle::expect(&problem, &inputs);
    let lse = expected.results.iter().find(|result| result.name == "lse").unwrap();
    assert!(lse.error[0].is_finite() && lse.error[0] < 1e-5 * lse.value[0].abs(), "{}", lse.error[0]);
}

/// The mean of seven times 0.1 is not representable, and 1/√eps multiplies what it is off by.
#[test]
fn equal_numbers_need_not_give_exactly_the_bias() {
    let (ones, zeros) = ([1.0; 7], [0.0; 7]);
    let x = [f64::from(0.1f32); 7];
    none_is_failed("layer_norm f32 shape=1x7", &[&x, &ones, &zeros], |_| true);
}

/// Beyond 10⁹ radians the angle is what f64 makes of it.
#[test]
fn far_positions_are_judged_by_what_an_angle_can_be() {
    for position in [5e9, 1e12] {
        none_is_failed("rope f32 h=1 l=1 d=4", &[&[1.0, 2.0, 3.0, 4.0], &[position]], is_ours);
    }
}

/// Scores beyond f32 are compared before they leave it.
#[test]
fn scores_beyond_f32_have_a_softmax() {
    let (problem, inputs) =
        posed("attention f32 h=1 lq=1 lk=2 d=1 scale=1", &[&[1e20], &[1e20, 2e20], &[3.0, 5.0]]);
    for (id, outcome) in outcomes(&problem, &inputs, is_ours) {
        assert!(matches!(outcome, Outcome::Passed(_)), "{id}: {outcome:?}");
    }
    none_is_failed("softmax f32 shape=1x2 scale=1e10", &[&[1e30, 2e30]], is_ours);
}

/// A result without elements is done at once, however many rows it has.
#[test]
fn rows_without_elements_are_not_counted() {
    for text in
        ["softmax f32 shape=4294967296x0", "layer_norm f32 shape=4294967296x0 weight=false bias=false"]
    {
        let (problem, inputs) = posed(text, &[&[]]);
        for (id, outcome) in outcomes(&problem, &inputs, is_ours) {
            assert!(!matches!(outcome, Outcome::Failed { .. } | Outcome::Error { .. }), "{id}: {outcome:?}");
        }
    }
}

/// A window wider than any sequence is none.
#[test]
fn a_window_of_any_size_is_understood() {
    let qkv: [&[f64]; 3] = [&[1.0, 2.0], &[0.5, -0.5], &[3.0, 5.0]];
    none_is_failed("attention f32 h=1 lq=2 d=1 window=9223372036854775807,0", &qkv, |_| true);
}
