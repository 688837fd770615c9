//! Random problems: the backends are right on them, and a mistake is found and made small.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod touchstone;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use touchstone::{directory, prints, run};
use touchstone_harness::explore::{
    Finding, Indices, Numbers, Observer, Plan, Shrunk, Space, Tally, explore, shrink_first,
};
use touchstone_harness::known::KnownIssues;
use touchstone_harness::{Case, selftest};
use touchstone_kernels::op::Family;
use touchstone_kernels::{Backend, DType, Registry};
use touchstone_reports::{Status, read_records};

const SEED: u64 = 20_261_122;
static NEVER: AtomicBool = AtomicBool::new(false);

fn explored(space: &Space, backends: &[Arc<dyn Backend>], count: u64) -> (Tally, Vec<Finding>, Vec<Shrunk>) {
    println!("seed {SEED}");
    let known = KnownIssues::built_in().unwrap();
    let plan = Plan {
        space,
        seed: SEED,
        indices: Indices::below(count),
        wanted: &|_| true,
        backends: backends.to_vec(),
        known: &known,
        threads: 2,
    };
    let (tally, findings) = explore(&plan, &Observer { found: &|_| {}, done: &|| {} }, &NEVER);
    assert_eq!(tally.judged(), count);
    let shrunk = shrink_first(&plan, &findings, 1, &NEVER);
    (tally, findings, shrunk)
}

#[test]
fn our_backends_are_right_on_random_problems() {
    let registry = Registry::standard(2);
    let ours = ["naive", "simd"];
    let backends: Vec<_> =
        registry.present().iter().filter(|b| ours.contains(&b.id().implementation())).cloned().collect();
    let (tally, findings, shrunk) = explored(&Space::whole(), &backends, 1_000);
    let wrong: Vec<String> = shrunk
        .iter()
        .map(|one| format!("{}: {}", backends[one.finding.backend].id(), one.finding.case))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Where the inputs could not have told is a known share: NaN in every row, scores out of reach.
    for tally in &tally.backends {
        assert_eq!(tally.count(Status::Passed) + tally.count(Status::Suspect), 1_000);
        assert!(tally.count(Status::Suspect) < 50, "{tally:?}");
    }
    assert!(findings.iter().all(|finding| finding.outcome.status() == Status::Suspect));
}

#[test]
fn a_planted_fault_is_found_and_shrunk_to_a_minimal_repro() {
    for (name, most_elements) in [("last-key-dropped", 12), ("softmax-maximum-forgotten", 4), ("zeros", 4)] {
        let fault = selftest::faults().into_iter().find(|fault| fault.name == name).unwrap();
        let own = |_: &str, family: &Family| fault.family.is_none_or(|own| own == family);
        let space = Space::of(&own, &DType::ALL, Numbers::Moderate);
        let (_, findings, shrunk) = explored(&space, &[fault.backend()], 200);
        assert!(findings.iter().any(|finding| finding.outcome.is_red()), "{name} was not found");
        for Shrunk { from, finding } in &shrunk {
            println!("{name}: {from} → {}", finding.case);
            assert_eq!(finding.outcome.status(), Status::Failed);
            assert_eq!(finding.case.to_string().parse::<Case>().unwrap(), finding.case);
        }
        let elements =
            |case: &Case| case.problem.operands().iter().map(|operand| operand.len()).sum::<usize>();
        let smallest = shrunk.iter().map(|one| elements(&one.finding.case)).min();
        assert!(smallest <= Some(most_elements), "{name}: {smallest:?}");
    }
}

#[test]
fn the_command_explores_the_same_problems_again() {
    let here = directory();
    let once = |threads: &str, shard: &str| {
        let arguments = [
            "check",
            "--explore",
            "150",
            "--seed",
            "7",
            "--backend",
            "naive",
            "--threads",
            threads,
            "--shard",
            shard,
        ];
        let text = prints(here.path(), &arguments);
        // Counts do not depend on threads.
        text.lines().filter(|line| line.contains("naive ")).map(String::from).collect::<Vec<_>>()
    };
    let text = once("1", "1/1");
    assert!(!text.is_empty());
    assert_eq!(text, once("2", "1/1"));
    assert_ne!(text, once("2", "1/2"));
}

#[test]
fn the_seed_is_printed_where_none_is_given_and_rows_are_kept() {
    let here = directory();
    let explore = ["check", "--explore", "200", "--backend", "naive", "--op", "softmax", "--out", "run"];
    let output = run(here.path(), &explore);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let seed = stdout.lines().next().unwrap().rsplit(' ').next().unwrap();
    assert!(seed.parse::<u64>().is_ok() && stderr.contains(&format!("--seed {seed}")), "{stdout}{stderr}");
    let records = read_records(&[here.path().join("run")]).unwrap();
    assert!(records.iter().all(|record| record.suite == "explore" && record.status == Status::Suspect));
    assert!(std::fs::read_to_string(here.path().join("run/environment.toml")).unwrap().contains(seed));
}

#[test]
fn bad_input_is_refused_in_one_line() {
    let here = directory();
    for (arguments, word) in [
        (&["--explore", "0"][..], "0"),
        (&["--explore", "many"], "many"),
        (&["--explore", "-5"], "-5"),
        (&["--explore"], "--explore"),
        (&["--explore", "10", "--op", "conv"], "conv"),
        (&["--explore", "10", "--dtype", "f64"], "f64"),
        (&["--explore", "10", "--seed", "x"], "x"),
        (&["--explore", "10", "--suite", "smoke"], "--suite"),
        (&["--seed", "3"], "--explore"),
        (&["--explore", "10", "--out", "run", "--resume"], "--resume"),
        (&["--invariants", "--out", "run"], "--out"),
        // Zero executed is a failure.
        (&["--explore", "10", "--case", "no such text"], "nothing was executed"),
        (&["--explore", "10", "--case", "no such text", "--invariants"], "nothing was judged"),
    ] {
        let output = run(here.path(), &[&["check", "--backend", "naive"][..], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("touchstone: ") && last.contains(word), "{arguments:?}: {stderr}");
    }
    let output = run(here.path(), &["selftest", "--explore", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let output = run(here.path(), &["selftest", "--explore", "5", "--fault", "zeros"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn variants_pass_on_random_problems() {
    let cases = selftest::random_cases(SEED, 300);
    let stop = AtomicBool::new(false);
    let score = selftest::run(&[], &selftest::variants(), &cases, &|_, _, _| {}, &stop);
    println!("seed {SEED}: {score}");
    assert!(score.is_perfect(), "{:#?}", score.false_alarms);
    assert!(!stop.load(Ordering::Relaxed) && score.judgements > 1_000);
}
