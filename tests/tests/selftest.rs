//! The checker, tested: planted faults are failed, correct variants are not. `touchstone selftest`
//! goes through the whole catalogue and all sizes; here are some of each family, on the smoke suite.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::sync::atomic::AtomicBool;

use touchstone::{directory, prints, run};
use touchstone_harness::safeguard::Safeguard;
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
    let names = ["modifies-an-input", "clears-the-cache", "writes-past-an-input"];
    let faults: Vec<Specimen> =
        selftest::faults().into_iter().filter(|fault| names.contains(&fault.name)).collect();
    let score = smoke(&faults, &[]);
    assert!(score.is_perfect(), "{:#?}", score.survivors);
    let why = |fault: &str| &score.kills.iter().find(|kill| kill.fault == fault).unwrap().why;
    assert_eq!(why(names[0]), "an input was changed");
    assert_eq!(why(names[1]), "an input was changed");
    assert_eq!(why(names[2]), "wrote outside the inputs");
}

/// For each safeguard something that only it sees. The whole table is `touchstone selftest`'s.
const SEEN_BY_ONE: [(Safeguard, &str); 18] = [
    (Safeguard::Form, "answers-in-f32"),
    (Safeguard::Kind, "tail-unwritten"),
    (Safeguard::Magnitude, "library-softmax-sum-in-storage"),
    (Safeguard::Componentwise, "gelu-tail-cancels"),
    (Safeguard::ResultGuards, "writes-past-the-end"),
    (Safeguard::OperandGuards, "writes-past-an-input"),
    (Safeguard::Operands, "clears-the-cache"),
    (Safeguard::SecondRun, "second-call-wrong"),
    (Safeguard::Alignment, "head-not-stored"),
    (Safeguard::Unwritten, "zeros-not-stored"),
    (Safeguard::AfterTiming, "slow-then-wrong"),
    (Safeguard::Refused, "case-without-a-bound"),
    (Safeguard::SuspectNan, "case-of-nan"),
    (Safeguard::SuspectZeros, "case-of-small-numbers"),
    (Safeguard::SuspectConstant, "case-of-a-constant"),
    (Safeguard::SuspectNeighbour, "case-of-like-rows"),
    (Safeguard::SuspectMean, "case-of-the-mean"),
    (Safeguard::Witness, "issue-out-of-date"),
];

#[test]
fn every_safeguard_is_needed() {
    let here = directory();
    // The smoke suite times nothing.
    let timed = here.path().join("timed.toml");
    let text = "[[case]]\nop = 'relu'\ndtype = ['f32', 'f16', 'bf16']\nshape = '64'\ntime = 'hot'\n";
    std::fs::write(&timed, text).unwrap();
    let suites = ["smoke".to_string(), timed.display().to_string()];
    let faults: Vec<Specimen> = selftest::faults()
        .into_iter()
        .filter(|fault| SEEN_BY_ONE.iter().any(|(_, name)| *name == fault.name))
        .collect();
    let cases = selftest::cases(&suites).unwrap();
    let needs = selftest::needs(&faults, &cases, &|_, _| {}, &AtomicBool::new(false)).unwrap();
    assert_eq!(needs.iter().map(|need| need.safeguard).collect::<Vec<_>>(), Safeguard::ALL);
    for (need, (safeguard, what)) in needs.iter().zip(SEEN_BY_ONE) {
        println!("without {safeguard}: {:?}", need.escapes);
        assert_eq!(need.safeguard, safeguard);
        assert!(need.is_shown(), "nothing gets through without {safeguard}");
        let foreign = matches!(safeguard, Safeguard::Operands | Safeguard::OperandGuards);
        if cfg!(target_os = "linux") || !foreign {
            assert!(need.escapes.iter().any(|escape| escape.what == what), "{what} without {safeguard}");
        }
    }
}

/// No right way leaves a bound, and no bound is out of all reach. `touchstone selftest --audit` has
/// the long rows as well.
#[test]
fn bounds_are_neither_exceeded_nor_loose() {
    let cases = selftest::cases(&["smoke".into()]).unwrap();
    let audited =
        selftest::audit(&selftest::variants(), &cases, &|_, _| {}, &AtomicBool::new(false)).unwrap();
    let wholes: Vec<_> = audited.iter().filter(|row| row.subject.is_none()).collect();
    for row in &wholes {
        println!(
            "{} {} {}: {} of the bound at 99.9 %, {} at most",
            row.op, row.result, row.dtype, row.p999, row.max
        );
        assert_eq!(row.mistake(), None, "{row:?}");
        assert!(row.elements > 0 && row.median <= row.p99 && row.p99 <= row.p999 && row.p999 <= row.max);
    }
    // relu rounds nothing, and everything else does in three types; batch norm and attention have
    // results besides.
    assert!(wholes.len() >= 3 * (touchstone_kernels::op::names().count() - 1), "{} bounds", wholes.len());
    let subjects = audited.iter().filter_map(|row| row.subject.as_deref());
    assert!(subjects.clone().any(|name| name == "softmax-pairwise"));
    assert!(subjects.clone().any(|name| name == "simd/scalar"));
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

/// Timed like any other kernel, in worker processes. Those whose results are wrong on inputs that are new are
/// found out on any machine; the others by their times, which a machine that runs tests beside them blurs:
/// `touchstone selftest --cheats` demands all of them.
#[test]
#[cfg(target_os = "linux")]
fn kernels_that_remember_are_wrong_on_new_inputs() {
    let output = run(directory().path(), &["selftest", "--cheats"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let all = selftest::cheats::Trick::ALL.len();
    assert!(printed.contains(&format!("of {all} kernels that cheat the stopwatch got no time")), "{printed}");
    for cheat in ["in-prepare", "patient", "every-second", "every-tenth", "half-later", "rough-later"] {
        let rows: Vec<_> =
            printed.lines().filter(|line| line.split_whitespace().next() == Some(cheat)).collect();
        assert_eq!(rows.len(), 2, "{cheat}: {printed}");
        assert!(rows.iter().all(|row| !row.contains(" passed ")), "{rows:?}");
    }
}
