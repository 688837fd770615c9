//! Suspicion: whether a case could have told right from wrong at all.
//!
//! A pass is informative only if a wrong answer would have failed. After a backend has passed, trivial
//! answers are judged by the same bounds: zeros, one constant, each row's neighbour in place of the row
//! (left-overs of another case look like that), for attention the mean of V, and an unwritten buffer.
//!
//! Each result is judged by itself, so that a sharp one does not vouch for a blunt one, and by share:
//! of the elements in which a trivial answer is *grossly* wrong, at least a quarter must fail. Otherwise the
//! case is *suspect*, and the reason names the result. So one element with a sharp bound does not vouch
//! for a million without.
//!
//! Grossly wrong is an error of more than half of the digits of the storage type: √u of the largest
//! expected magnitude of the result. Some right answers are constant, and suites ask for them on
//! purpose: the softmax of equal numbers, the norm of a constant row, rows that see no key. There a
//! trivial answer is right, and such a case still detects a kernel that drifts or divides by zero.
//!
//! The √u and the quarter are choices, not derived.
//!
//! - √u lies halfway, in digits, between an error of one rounding (u), which right kernels have, and one of
//!   the size of the result (1). A limit near u would count elements in which a trivial answer is nearly right.
//!   A limit near 1 would count none where the answer differs in its second digit. Half or twice the limit
//!   moves it by one bit of the 12 (f32), 5.5 (f16) or 4 (bf16) that it is from either end.
//! - The quarter asks for more than a few sharp elements, and for less than all, because one wrong element
//!   is enough to fail a kernel. With an eighth, cases would count in which seven grossly wrong elements in
//!   eight are accepted. With a half, a case in which 49 % of them fail would be suspect.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use touchstone_kernels::{Allocation, Declaration, Inputs, Problem};

use crate::agreement::{Tolerance, is_refused, unravel};
use crate::families;
use crate::oracle::{Expected, ExpectedResult};
use crate::safeguard::{Safeguard, Safeguards};

/// Why the case could not have told right from wrong, if so.
pub fn suspicion(
    problem: &Problem,
    inputs: &Inputs,
    expected: &Expected,
    declaration: &Declaration,
) -> Option<String> {
    suspicion_by(Safeguards::ALL, problem, inputs, expected, declaration)
}

/// The same, by the safeguards that stand.
pub(crate) fn suspicion_by(
    safeguards: Safeguards,
    problem: &Problem,
    inputs: &Inputs,
    expected: &Expected,
    declaration: &Declaration,
) -> Option<String> {
    expected.results.iter().enumerate().find_map(|(index, result)| {
        let indifferent = || families::checks(&problem.op).indifferent(index, inputs);
        let blunt = blunt(safeguards, &indifferent, result, declaration)?;
        // The usual single result needs no name.
        let of = if expected.results.len() > 1 { format!(" for {}", result.name) } else { String::new() };
        Some(match blunt {
            Blunt::AllNan => format!("a kernel that writes nothing would pass{of}: every element is NaN"),
            Blunt::Refused(first) => {
                let place = unravel(first, &result.shape);
                format!("the oracle has no bound for {}{place:?}: any value would pass there", result.name)
            }
            Blunt::Passes(what) => {
                format!("{what} would pass too{of}: the bounds of this case are too wide to tell")
            }
        })
    })
}

/// The suspicions about one case, each found once for all backends that promise the same.
pub(crate) struct Suspicions(Mutex<Vec<(Declaration, Option<String>)>>);

impl Suspicions {
    pub(crate) fn none_yet() -> Self {
        Suspicions(Mutex::default())
    }

    /// [`suspicion`], about a case that is the same in every call.
    pub(crate) fn about(
        &self,
        problem: &Problem,
        inputs: &Inputs,
        expected: &Expected,
        declaration: &Declaration,
    ) -> Option<String> {
        // Neither enters a bound.
        let promise =
            Declaration { allocation: Allocation::Reused, path: Cow::Borrowed(""), ..declaration.clone() };
        let found = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = found().iter().find(|(known, _)| *known == promise).map(|(_, why)| why.clone());
        known.unwrap_or_else(|| {
            let why = suspicion(problem, inputs, expected, declaration);
            found().push((promise, why.clone()));
            why
        })
    }
}

/// Why a result cannot tell right from wrong.
enum Blunt {
    /// Nothing but NaN is expected.
    AllNan,
    /// There is no bound for this element.
    Refused(usize),
    /// This trivial answer passes.
    Passes(&'static str),
}

fn blunt(
    safeguards: Safeguards,
    indifferent: &dyn Fn() -> Option<Vec<f64>>,
    result: &ExpectedResult,
    declaration: &Declaration,
) -> Option<Blunt> {
    if result.value.is_empty() {
        return None;
    }
    if result.value.iter().all(|x| x.is_nan()) {
        return safeguards.have(Safeguard::SuspectNan).then_some(Blunt::AllNan);
    }
    let judge = Judge::new(result, declaration);
    if let Some(first) = judge.refused() {
        return safeguards.have(Safeguard::Refused).then_some(Blunt::Refused(first));
    }
    let passes = |safeguard, what, answer: &dyn Fn() -> bool| {
        (safeguards.have(safeguard) && answer()).then_some(Blunt::Passes(what))
    };
    passes(Safeguard::SuspectZeros, "zeros", &|| judge.misses(|_| 0.0))
        .or_else(|| {
            passes(Safeguard::SuspectConstant, "a constant", &|| {
                let constant = judge.best_constant();
                judge.misses(|_| constant)
            })
        })
        .or_else(|| {
            let n = result.value.len();
            let width = result.shape.last().copied().unwrap_or(1);
            passes(Safeguard::SuspectNeighbour, "each row's neighbour", &|| {
                judge.misses(|i| result.value[(i + width) % n])
            })
        })
        .or_else(|| {
            passes(Safeguard::SuspectMean, "the mean of V", &|| {
                indifferent().is_some_and(|answer| judge.misses(|i| answer[i]))
            })
        })
}

/// A result with its tolerances.
struct Judge<'a> {
    expected: &'a ExpectedResult,
    tolerance: Tolerance<'a>,
    gross: f64,
}

impl<'a> Judge<'a> {
    fn new(expected: &'a ExpectedResult, declaration: &Declaration) -> Self {
        let finite = expected.value.iter().copied().filter(|x| x.is_finite());
        let largest = finite.fold(0.0, |m: f64, x| m.max(x.abs()));
        let gross = expected.dtype.unit_roundoff().sqrt() * largest;
        // Of what underflows, zero and the smallest number are both the right rounding.
        let gross = gross.max(expected.dtype.smallest_subnormal());
        Judge { expected, tolerance: Tolerance::new(expected, declaration), gross }
    }

    /// The first element that has no bound.
    fn refused(&self) -> Option<usize> {
        let values = self.expected.value.iter().enumerate();
        values.into_iter().find(|&(i, &value)| is_refused(value, self.tolerance.at(i))).map(|(i, _)| i)
    }

    /// Whether the bounds miss a wrong answer: of the elements in which it is grossly wrong, more than three
    /// in four lie within them.
    fn misses(&self, answer: impl Fn(usize) -> f64) -> bool {
        let (mut wrong, mut within) = (0usize, 0usize);
        for (i, &value) in self.expected.value.iter().enumerate() {
            let answer = answer(i);
            if value.is_nan() && answer.is_nan() || value == answer {
                continue;
            }
            let error = (answer - value).abs();
            // NaN and ∞ have no place where there is a number, and the other way round.
            if !error.is_finite() {
                wrong += 1;
            } else if error > self.gross {
                wrong += 1;
                within += usize::from(error <= self.tolerance.at(i));
            }
        }
        4 * within > 3 * wrong
    }

    /// A constant that lies within all bounds, or if there is none a value from the middle of their order. It is
    /// one of them, and not a mean of two, so that the constant is right somewhere.
    fn best_constant(&self) -> f64 {
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        let mut finite = Vec::with_capacity(self.expected.value.len());
        for (i, &value) in self.expected.value.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let tolerance = self.tolerance.at(i);
            (low, high) = (low.max(value - tolerance), high.min(value + tolerance));
            finite.push(value);
        }
        if finite.is_empty() {
            return 0.0;
        }
        if low <= high && low.is_finite() && high.is_finite() {
            return low + (high - low) / 2.0;
        }
        let middle = finite.len() / 2;
        *finite.select_nth_unstable_by(middle, f64::total_cmp).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::oracle;

    /// The suspicion about a case whose bounds have been multiplied.
    fn suspected(case: &str, factor: f64) -> Option<String> {
        let case: Case = case.parse().unwrap();
        let inputs = case.inputs();
        let mut expected = oracle::expect(&case.problem, &inputs);
        for result in &mut expected.results {
            result.error.iter_mut().for_each(|error| *error *= factor);
        }
        suspicion(&case.problem, &inputs, &expected, &Declaration::strict("test"))
    }

    #[test]
    fn derived_bounds_are_not_suspect() {
        for case in [
            "softmax f32 shape=4x33",
            "softmax f16 shape=4x4099 fill=constant",
            "log_softmax bf16 shape=4x64",
            "layer_norm bf16 shape=3x64",
            "layer_norm f32 shape=3x64 weight=false bias=false fill=constant",
            "gelu f16 shape=257 fill=spread",
            "exp f32 shape=257 fill=subnormal",
            "reglu f16 shape=3x1 fill=spread",
            "softmax f16 shape=16x67 fill=special",
            "rope bf16 h=2 l=9 d=64",
            "attention bf16 h=2 lq=5 lk=513 d=64",
            "attention f32 h=1 lq=3 lk=1 d=16",
        ] {
            assert_eq!(suspected(case, 1.0), None, "{case}");
        }
    }

    #[test]
    fn a_case_without_keys_or_without_elements_is_not_suspect() {
        for case in
            ["attention f32 h=2 lq=3 lk=0 d=4", "attention f32 h=2 lq=0 lk=3 d=4", "softmax f32 shape=0x3"]
        {
            assert_eq!(suspected(case, 1.0), None, "{case}");
        }
    }

    #[test]
    fn wide_bounds_are_suspect() {
        for (case, what) in [
            ("softmax f32 shape=4x33", "zeros"),
            ("layer_norm f32 shape=4x33", "zeros"),
            ("attention f32 h=2 lq=5 lk=513 d=64", "zeros"),
            ("rope f32 h=2 l=9 d=64", "zeros"),
        ] {
            let why = suspected(case, 1e9).unwrap();
            assert!(why.starts_with(what), "{case}: {why}");
        }
    }

    #[test]
    fn a_constant_within_all_bounds_is_suspect() {
        let case: Case = "softmax f32 shape=3x5".parse().unwrap();
        let inputs = case.inputs();
        let mut expected = oracle::expect(&case.problem, &inputs);
        for (i, value) in expected.results[0].value.iter_mut().enumerate() {
            *value = 1.0 + 0.01 * i as f64;
        }
        expected.results[0].error.fill(0.2);
        let why = suspicion(&case.problem, &inputs, &expected, &Declaration::strict("test"));
        assert!(why.unwrap().starts_with("a constant"));
    }

    /// The case of DEFECTS: the second result has no bound worth its name, the first is sharp.
    #[test]
    fn a_sharp_result_does_not_vouch_for_a_blunt_one() {
        let case: Case = "attention f32 h=2 lq=5 lk=9 d=16 lse=true".parse().unwrap();
        let inputs = case.inputs();
        let mut expected = oracle::expect(&case.problem, &inputs);
        let declaration = Declaration::strict("test");
        assert_eq!(suspicion(&case.problem, &inputs, &expected, &declaration), None);
        expected.results[1].error.fill(1e3);
        let why = suspicion(&case.problem, &inputs, &expected, &declaration).unwrap();
        assert!(why.contains("zeros would pass too for lse"), "{why}");
    }

    #[test]
    fn a_sharp_element_does_not_vouch_for_many_blunt_ones() {
        let case: Case = "gelu f32 shape=1000".parse().unwrap();
        let inputs = case.inputs();
        let mut expected = oracle::expect(&case.problem, &inputs);
        expected.results[0].error[1..].fill(1e3);
        let why = suspicion(&case.problem, &inputs, &expected, &Declaration::strict("test"));
        assert!(why.unwrap().starts_with("zeros"));
    }

    /// Under the normwise contract the row's largest bound must not stand in for one that is undefined.
    #[test]
    fn a_bound_that_is_undefined_is_refused_under_every_contract() {
        let case: Case = "softmax f32 shape=3x5".parse().unwrap();
        let inputs = case.inputs();
        let mut expected = oracle::expect(&case.problem, &inputs);
        for bound in [f64::NAN, f64::INFINITY] {
            expected.results[0].error[7] = bound;
            for declaration in [Declaration::strict("test"), Declaration::library("test")] {
                let why = suspicion(&case.problem, &inputs, &expected, &declaration).unwrap();
                assert!(why.contains("no bound for out[1, 2]"), "{bound} {declaration:?}: {why}");
            }
        }
    }

    #[test]
    fn results_that_are_all_nan_are_suspect() {
        let case: Case = "softmax f32 shape=3x5".parse().unwrap();
        let inputs = case.inputs();
        let mut expected = oracle::expect(&case.problem, &inputs);
        expected.results[0].value.fill(f64::NAN);
        let why = suspicion(&case.problem, &inputs, &expected, &Declaration::strict("test"));
        assert!(why.unwrap().contains("writes nothing"));
    }
}
