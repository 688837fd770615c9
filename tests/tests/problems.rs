//! Texts of problems and cases: they go around unchanged for any spec, and no text panics.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use proptest::sample::select;
use touchstone_harness::Case;
use touchstone_harness::explore::{Numbers, Space};
use touchstone_kernels::{DType, Problem};

/// The problems that are explored, with any parameters.
fn case() -> impl Strategy<Value = Case> {
    Space::of(&|_, _| true, &DType::ALL, Numbers::Any).cases()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts_go_around(case in case()) {
        let text = case.problem.to_string();
        prop_assert_eq!(&text.parse::<Problem>().unwrap(), &case.problem, "{}", text);
        prop_assert_eq!(text.parse::<Problem>().unwrap().to_string(), text);
        let text = case.to_string();
        prop_assert_eq!(&text.parse::<Case>().unwrap(), &case, "{}", text);
    }

    #[test]
    fn work_is_sane(case in case()) {
        let problem = &case.problem;
        let work = problem.work();
        let operands: u64 = problem.operands().iter().map(|operand| operand.bytes()).sum();
        let results: u64 = problem.results().iter().map(|result| result.bytes()).sum();
        prop_assert!(work.bytes >= results && work.bytes <= operands + results, "{problem}: {work:?}");
        // A tensor without elements takes no operations, and neither does a query that sees no key.
        let nothing = problem.operands().iter().any(|operand| operand.is_empty());
        prop_assert!(work.flops > 0 || nothing || problem.name() == "attention", "{problem}: {work:?}");
        // The most expensive element is one score: a product and a sum for each of 2·99 channels.
        prop_assert!(work.flops < 1 << 40, "{problem}: {work:?}");
    }

    #[test]
    fn garbage_is_refused_in_good_order(text in "\\PC{0,80}") {
        prop_assert!(text.parse::<Case>().is_err(), "{text}");
    }

    /// Texts that are nearly right, and numbers that are nearly too large.
    #[test]
    fn damaged_texts_do_not_panic(
        case in case(),
        at in any::<prop::sample::Index>(),
        with in select(vec!["", " ", "=", "x", "-", "0", "9999999999", "18446744073709551615", "e9", ",", "NaN", "inf", "é"]),
        len in 0usize..3,
    ) {
        let mut text: Vec<char> = case.to_string().chars().collect();
        let start = at.index(text.len());
        let end = (start + len).min(text.len());
        text.splice(start..end, with.chars());
        let text: String = text.into_iter().collect();
        if let Ok(case) = text.parse::<Case>() {
            // Whatever was understood can be said again.
            prop_assert_eq!(case.to_string().parse::<Case>().unwrap(), case, "{}", text);
        }
    }
}
