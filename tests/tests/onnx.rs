//! The ONNX project's node tests (`target/onnx/node`, brought by `scripts/setup-onnx`): the oracle
//! and every backend give what ONNX expects, on each test that is a problem of ours.
//!
//! Whether the tests are there is known only when this runs, so it brings its own list of tests:
//! without them, that is one which is ignored, and says so.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

use libtest_mimic::{Arguments, Failed, Trial};
use touchstone_harness::known::KnownIssues;
use touchstone_harness::onnx::{NodeTest, Outside, Posed, directories};
use touchstone_kernels::{Backend, Registry};
use touchstone_reports::Status;

const NODE_TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/onnx/node");

/// Of ONNX 1.22.0: how many tests of our operators are problems of ours, and all that are not.
const MAPPED: usize = 160;
const OUTSIDE: [&str; 6] = [
    "flexattention_causal_mask",
    "flexattention_double",
    "flexattention_prob_mod",
    "flexattention_relative_positional",
    "flexattention_score_mod",
    "flexattention_soft_cap",
];

type Read = (Vec<(String, Posed)>, Vec<String>);

/// The tests that are problems of ours, and the names of those of our operators that are not.
static TESTS: LazyLock<Result<Read, String>> = LazyLock::new(|| {
    let directories = directories(Path::new(NODE_TESTS)).map_err(|error| error.to_string())?;
    let (mut posed, mut outside) = (Vec::new(), Vec::new());
    for directory in directories {
        let test = NodeTest::read(&directory).map_err(|error| error.to_string())?;
        match test.mapped {
            Ok(mapped) => posed.push((test.name, Posed::new(mapped))),
            Err(Outside::Semantics(_)) => outside.push(test.name),
            Err(Outside::Operator | Outside::Body { .. }) => {}
        }
    }
    Ok((posed, outside))
});

fn tests() -> Result<&'static Read, Failed> {
    TESTS.as_ref().map_err(Failed::from)
}

fn passes(backend: &dyn Backend) -> Result<(), Failed> {
    let known = KnownIssues::built_in()?;
    let mut executed = 0;
    let mut wrong = Vec::new();
    for (name, posed) in &tests()?.0 {
        let (status, why) = posed.judge(backend, &known).verdict();
        executed += usize::from(status.was_executed());
        // What a library does wrong is known; ours passes, and so does libtorch.
        let allowed = status == Status::Known && backend.id().implementation() == "candle";
        if status != Status::Passed && !allowed {
            wrong.push(format!("{name}: {status}: {why}"));
        }
    }
    check(executed == MAPPED, format!("{executed} of {MAPPED} tests were executed"))?;
    check(wrong.is_empty(), wrong.join("\n"))
}

fn the_oracle_agrees_with_onnx() -> Result<(), Failed> {
    let differences = tests()?
        .0
        .iter()
        .filter_map(|(name, posed)| posed.oracle.as_ref().map(|difference| format!("{name}: {difference}")));
    let differences: Vec<String> = differences.collect();
    check(differences.is_empty(), differences.join("\n"))
}

fn every_test_of_our_operators_is_mapped_or_named() -> Result<(), Failed> {
    let (posed, outside) = tests()?;
    check(posed.len() == MAPPED, format!("{} tests are mapped, expected {MAPPED}", posed.len()))?;
    check(*outside == OUTSIDE, format!("out of scope are {}", outside.join(", ")))
}

/// The passes above mean something: with one of ONNX's values changed, here the last of each
/// output, the test fails.
fn another_expectation_fails() -> Result<(), Failed> {
    let known = KnownIssues::built_in()?;
    let registry = Registry::standard(1);
    let naive = registry.find("naive").ok_or("naive is not here")?;
    for (name, posed) in &tests()?.0 {
        let mut mapped = posed.mapped.clone();
        for part in 0..mapped.parts.len() {
            for wanted in 0..mapped.parts[part].wanted.len() {
                let values = &mut mapped.parts[part].wanted[wanted].values;
                let last = values.len() - 1;
                let right = values[last];
                values[last] = right + 0.01 * right.abs() + 1e-3;
                let posed = Posed::new(mapped.clone());
                let (status, _) = posed.judge(naive.as_ref(), &known).verdict();
                let noticed = status == Status::Failed && posed.oracle.is_some();
                check(noticed, format!("{name}: the last of part {part} may be anything: {status}"))?;
                mapped.parts[part].wanted[wanted].values[last] = right;
            }
        }
    }
    Ok(())
}

fn check(holds: bool, complaint: String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(complaint.into()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if !Path::new(NODE_TESTS).exists() {
        let absent = || Err(format!("{NODE_TESTS} is absent: run scripts/setup-onnx").into());
        let trial = Trial::test("node_tests_are_absent_run_setup_onnx", absent).with_ignored_flag(true);
        return libtest_mimic::run(&arguments, vec![trial]).exit_code();
    }
    let mut trials = vec![
        Trial::test("the_oracle_agrees_with_onnx", the_oracle_agrees_with_onnx),
        Trial::test(
            "every_test_of_our_operators_is_mapped_or_named",
            every_test_of_our_operators_is_mapped_or_named,
        ),
        Trial::test("another_expectation_fails", another_expectation_fails),
    ];
    for backend in Registry::standard(2).whole() {
        let backend = backend.clone();
        let name = format!("{}::passes_every_node_test", backend.id());
        trials.push(Trial::test(name, move || passes(backend.as_ref())));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
