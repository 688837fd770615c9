//! The checker, tested: planted faults are failed, correct variants are not. `touchstone selftest`
//! goes through the whole catalogue and all sizes; here are some of each family, on the smoke suite.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::sync::atomic::AtomicBool;

use touchstone::{directory, prints, run};
use touchstone_harness::selftest::{self, Score, Specimen};

fn smoke(faults: &[Specimen], variants: &[Specimen]) -> Score {
    let cases = selftest::cases(&["smoke".into()]).unwrap();
    selftest::run(faults, variants, &cases, &|_, _, _| {}, &AtomicBool::new(false))
}

/// A few of each family, and those of the machinery that each prove one check of the verdict.
const QUICK: [&str; 30] = [
    "last-key-dropped",
    "top-left-for-bottom-right",
    "window-one-wider",
    "gqa-modulo",
    "masked-row-nan",
    "output-not-rescaled",
    "split-averaged",
    "scores-in-storage",
    "softmax-maximum-forgotten",
    "softmax-sum-in-storage",
    "softmax-last-axis",
    "softmax-nan-skipped",
    "norm-eps-outside-root",
    "norm-one-pass-variance",
    "norm-groups-interleaved",
    "rms-rounded-before-weight",
    "batch-running-variance-biased",
    "gelu-tanh-for-erf",
    "relu-swallows-nan",
    "elu-cancels",
    "glu-halves-swapped",
    "rope-interleaved-for-half",
    "rope-position-off-by-one",
    "rope-angle-in-f32",
    "zeros",
    "tail-unwritten",
    "writes-past-the-end",
    "race-lost-update",
    "cached-answer",
    "truncated",
];

#[test]
fn planted_faults_are_caught() {
    let faults: Vec<Specimen> =
        selftest::faults().into_iter().filter(|fault| QUICK.contains(&fault.name)).collect();
    assert_eq!(faults.len(), QUICK.len());
    let score = smoke(&faults, &[]);
    assert!(score.is_perfect(), "{:#?}", score.survivors);
    println!("{score}");
}

/// Rust gives a backend no way to write to its operands; what stands for a kernel in another
/// language is there on Linux only.
#[test]
#[cfg(target_os = "linux")]
fn a_changed_operand_is_caught() {
    let names = ["modifies-an-input", "writes-past-an-input"];
    let faults: Vec<Specimen> =
        selftest::faults().into_iter().filter(|fault| names.contains(&fault.name)).collect();
    let score = smoke(&faults, &[]);
    assert!(score.is_perfect(), "{:#?}", score.survivors);
    let why = |fault: &str| &score.kills.iter().find(|kill| kill.fault == fault).unwrap().why;
    assert_eq!(why(names[0]), "an input was changed");
    assert_eq!(why(names[1]), "wrote outside the inputs");
}

#[test]
fn correct_variants_pass() {
    let score = smoke(&[], &selftest::variants());
    assert!(score.is_perfect(), "{:#?}", score.false_alarms);
    println!("{score}");
}

#[test]
fn the_command_says_how_it_ended() {
    let here = directory();
    let caught = ["selftest", "--suite", "smoke", "--fault", "^softmax-scale", "--out", "proof"];
    let printed = prints(here.path(), &caught);
    assert!(printed.starts_with("2 of 2 planted faults caught"), "{printed}");
    let kills = std::fs::read_to_string(here.path().join("proof/kills.csv")).unwrap();
    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(kills.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().all(|row| row[4].contains("scale=0.25")), "{kills}");

    std::fs::write(here.path().join("own.toml"), "[[case]]\nop = 'softmax'\ndtype = 'f32'\nshape = '3x4'\n")
        .unwrap();
    let survived = run(here.path(), &["selftest", "--suite", "own.toml", "--fault", "^softmax-scale"]);
    assert_eq!(survived.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&survived.stdout).contains("softmax-scale-ignored"));
    for wrong in
        [["selftest", "--fault", "("], ["selftest", "--fault", "^$"], ["selftest", "--suite", "none"]]
    {
        assert_eq!(run(here.path(), &wrong).status.code(), Some(1), "{wrong:?}");
    }
}
