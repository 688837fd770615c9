//! Suspicion: whether a case could have told right from wrong at all.
//!
//! A verdict is worth what would have failed in its place. After a backend has passed, answers
//! that owe nothing to the kernel are held against the same bounds: zeros, one constant, each row's
//! neighbour in place of the row (what is left of another case looks like that), for attention the
//! mean of V, and a buffer that nobody wrote. When one of them passes too, and is not simply the
//! right answer, the case is *suspect*.
//!
//! Some right answers are constant, and suites ask for them on purpose: the softmax of equal
//! numbers, the norm of a constant row, rows that see no key. There an impostor is right, and such
//! a case still tells a right kernel from one that drifts or divides by zero. So an impostor
//! counts only where it is *grossly* wrong, by more than half of the digits of the storage type:
//! √u of the largest expected magnitude. NaN everywhere is the exception, since it is what an output
//! holds before its kernel ran.

use touchstone_kernels::op::{Attention, Op};
use touchstone_kernels::{Declaration, Inputs, Problem};

use crate::agreement::Tolerance;
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
    let results = &expected.results;
    if results.iter().all(|result| result.value.is_empty()) {
        return None;
    }
    if results.iter().all(|result| result.value.iter().all(|x| x.is_nan())) {
        if !safeguards.have(Safeguard::SuspectNan) {
            return None;
        }
        return Some("a kernel that writes nothing would pass: every result is NaN".into());
    }
    let would_pass = |safeguard: Safeguard, impostor: &dyn Fn(&Judge) -> Option<Fit>| -> bool {
        let fits = || -> Option<Vec<Fit>> {
            results.iter().map(|result| impostor(&Judge::new(result, declaration))).collect()
        };
        safeguards.have(safeguard) && fits().is_some_and(|fits| fits.contains(&Fit::Wrong))
    };
    let mean_of_v = match &problem.op {
        Op::Attention(spec) if results.len() == 1 && spec.kv_len > 0 => {
            inputs.get("v").map(|v| mean_of_v(spec, &v.to_f64()))
        }
        _ => None,
    };
    let what = if would_pass(Safeguard::SuspectZeros, &|judge| judge.fit(|_| 0.0)) {
        "zeros"
    } else if would_pass(Safeguard::SuspectConstant, &|judge| judge.fit_constant()) {
        "a constant"
    } else if would_pass(Safeguard::SuspectNeighbour, &|judge| judge.fit_neighbour()) {
        "each row's neighbour"
    } else if mean_of_v
        .is_some_and(|mean| would_pass(Safeguard::SuspectMean, &|judge| judge.fit(|i| mean[i])))
    {
        "the mean of V"
    } else {
        return None;
    };
    Some(format!("{what} would pass too: the bounds of this case are too wide to tell"))
}

/// How an impostor fits a result within its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It is the right answer, or nearly.
    Right,
    /// It passes, and is grossly wrong.
    Wrong,
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

    /// How an answer fits; none when an element of it fails.
    fn fit(&self, answer: impl Fn(usize) -> f64) -> Option<Fit> {
        let mut fit = Fit::Right;
        for (i, &value) in self.expected.value.iter().enumerate() {
            let answer = answer(i);
            if value.is_nan() && answer.is_nan() || value == answer {
                continue;
            }
            let error = (answer - value).abs();
            // NaN and ∞ have no place where there is a number, and the other way round.
            if !(error.is_finite() && error <= self.tolerance.at(i)) {
                return None;
            }
            if error > self.gross {
                fit = Fit::Wrong;
            }
        }
        Some(fit)
    }

    /// The constant that lies within all bounds, if there is one.
    fn fit_constant(&self) -> Option<Fit> {
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        for (i, &value) in self.expected.value.iter().enumerate() {
            let tolerance = self.tolerance.at(i);
            (low, high) = (low.max(value - tolerance), high.min(value + tolerance));
            if !value.is_finite() || low > high {
                return None;
            }
        }
        self.fit(|_| low + (high - low) / 2.0)
    }

    /// Every row replaced by the next one.
    fn fit_neighbour(&self) -> Option<Fit> {
        let n = self.expected.value.len();
        let width = self.expected.shape.last().copied().unwrap_or(1);
        self.fit(|i| self.expected.value[(i + width) % n])
    }
}

/// For every output of attention the mean of its value channel over all keys.
fn mean_of_v(spec: &Attention, v: &[f64]) -> Vec<f64> {
    let (rows, dv) = (spec.kv_rows(), spec.v_dim);
    let means: Vec<f64> = v
        .chunks((rows * dv).max(1))
        .flat_map(|head| {
            (0..dv).map(move |c| {
                let channel = head[c..].iter().step_by(dv).take(spec.kv_len);
                channel.sum::<f64>() / spec.kv_len as f64
            })
        })
        .collect();
    let mut out = Vec::with_capacity(spec.batch * spec.q_heads * spec.q_len * dv);
    for head in 0..spec.batch * spec.q_heads {
        let kv = head / spec.q_heads * spec.kv_heads + head % spec.q_heads / spec.group();
        for _ in 0..spec.q_len {
            out.extend_from_slice(means.get(kv * dv..(kv + 1) * dv).unwrap_or(&[]));
        }
    }
    out
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
