//! Properties that need no oracle: every backend keeps them, and mistakes break them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use touchstone::{directory, prints};
use touchstone_harness::explore::Space;
use touchstone_harness::invariants::{Judged, Survey, all, judge};
use touchstone_harness::known::KnownIssues;
use touchstone_harness::suite::Suite;
use touchstone_harness::{Case, selftest};
use touchstone_kernels::Registry;

const SEED: [u8; 32] = *b"invariants on random problems, 1";
const CASES: u32 = 300;

/// Our backends through the registry; a break is shrunk by proptest.
#[test]
fn our_backends_keep_the_invariants_on_random_problems() {
    let (registry, invariants) = (Registry::standard(2), all());
    for backend in registry.present().iter().filter(|b| ["naive", "simd"].contains(&b.id().implementation()))
    {
        println!("{}: seed {:?}", backend.id(), std::str::from_utf8(&SEED));
        let held = std::cell::Cell::new(0);
        let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &SEED));
        let result = runner.run(&Space::whole().cases(), |case| {
            let judged = judge(&invariants, backend.as_ref(), &case);
            for (invariant, judged) in invariants.iter().zip(judged) {
                match judged {
                    Judged::Held => held.set(held.get() + 1),
                    Judged::NotApplicable => {}
                    Judged::Broken(why) => {
                        let repro =
                            format!("touchstone repro '{case}' --invariants --backend {}", backend.id());
                        return Err(TestCaseError::fail(format!("{}: {why}\n  {repro}", invariant.name)));
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{}: {error}", backend.id());
        }
        assert!(held.get() > u64::from(CASES), "{}: {} held", backend.id(), held.get());
    }
}

/// Libraries included: they may break what is asked of an operation in which they have a known issue.
#[test]
fn every_backend_keeps_the_invariants_on_the_smoke_suite() {
    let (registry, invariants) = (Registry::standard(2), all());
    let cases: Vec<Case> = Suite::load("smoke").unwrap().cases.into_iter().map(|case| case.case).collect();
    let (known, stop) = (KnownIssues::built_in().unwrap(), AtomicBool::new(false));
    let case = |n: u64| cases.get(n as usize).cloned();
    let count = (cases.len() as u64, &case as &(dyn Fn(u64) -> Option<Case> + Sync));
    let survey = Survey::of(&invariants, registry.present(), count, &known, 2, &|| {}, &stop);
    for broken in &survey.breaks {
        println!("{} {} {}: {}", broken.invariant, broken.backend, broken.case, broken.why);
    }
    assert!(
        survey.breaks.is_empty(),
        "{} breaks of {} backends",
        survey.breaks.len(),
        registry.present().len()
    );
    assert!(survey.judged() > 10 * count.0, "{} judgements", survey.judged());
}

/// No value of the oracle is used, and most mistakes show all the same.
#[test]
fn invariants_alone_catch_most_planted_faults() {
    let mut cases: Vec<Case> =
        Suite::load("smoke").unwrap().cases.into_iter().map(|case| case.case).collect();
    cases.retain(|case| case.problem.work().flops < 1_000_000);
    let faults = selftest::faults();
    let caught = selftest::caught_by_invariants(&faults, &all(), &cases);
    let missed: Vec<&str> =
        faults.iter().map(|fault| fault.name).filter(|name| !caught.contains(name)).collect();
    println!(
        "{} of {} planted faults break an invariant; the others: {missed:?}",
        caught.len(),
        faults.len()
    );
    assert!(caught.len() * 2 > faults.len(), "{} of {}", caught.len(), faults.len());
}

/// Right ways break none.
#[test]
fn variants_keep_the_invariants() {
    let (space, invariants, variants) = (Space::whole(), all(), selftest::variants());
    let mut judged = 0;
    for case in (0..60).map(|index| space.case(11, index)) {
        for variant in variants.iter().filter(|variant| variant.applies(&case.problem)) {
            let outcomes = judge(&invariants, variant.backend().as_ref(), &case);
            for (invariant, outcome) in invariants.iter().zip(outcomes) {
                assert!(
                    !matches!(outcome, Judged::Broken(_)),
                    "{} {} {case}: {outcome:?}",
                    variant.name,
                    invariant.name
                );
                judged += usize::from(outcome == Judged::Held);
            }
        }
    }
    assert!(judged > 1_000, "{judged}");
}

/// Our kernels give the same bits in a second run, anywhere in memory, with any number of threads, and for an
/// entry of a batch alone. A library that does not is counted, and not failed.
#[test]
fn our_kernels_give_the_same_bits_whatever_does_not_count() {
    let here = directory();
    let text = prints(here.path(), &["check", "--bitwise", "--case", "f32|bf16"]);
    for backend in ["naive", "simd/"] {
        let mut rows = text.lines().map(str::trim).filter(|line| line.starts_with(backend)).peekable();
        assert!(rows.peek().is_some(), "{text}");
        for row in rows {
            assert!(row.contains("all ") && !row.contains(" of "), "{row}");
        }
    }
    let nothing = touchstone::run(here.path(), &["check", "--bitwise", "--case", "no such case"]);
    assert_eq!(nothing.status.code(), Some(1));
}

#[test]
fn the_command_prints_a_table_of_invariants_and_backends() {
    let here = directory();
    let arguments =
        ["check", "--invariants", "--op", "softmax,rope", "--backend", "naive,simd", "--case", "f32"];
    let text = prints(here.path(), &arguments);
    assert!(
        text.contains("softmax-sums-to-one") && text.contains("held") && !text.contains("BROKEN"),
        "{text}"
    );
    let random = ["check", "--invariants", "--explore", "20", "--seed", "1", "--backend", "naive"];
    assert!(prints(here.path(), &random).contains("20 cases"));
    let repro = ["repro", "softmax f32 shape=2x3", "--backend", "naive", "--invariants"];
    assert!(prints(here.path(), &repro).contains("softmax-shift"));
}
