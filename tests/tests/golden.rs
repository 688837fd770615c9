//! What must not move when the code is rearranged: of the cases of the built-in suites the text, the bits of
//! the inputs, some expected values and the verdicts on our own backends, as `fixtures/golden.csv` has them. Of
//! large cases only the text, or no expected values ([`MOST_BYTES`], [`MOST_FLOPS`]).
//!
//! A verdict or a value that has to change (a sharper bound, a bound that was unsound) changes with a line in
//! CHANGELOG.md, and the file is made anew:
//!
//! ```sh
//! TOUCHSTONE_RENEW_GOLDEN=1 cargo test --package acceptance --test golden
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use acceptance::Posed;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use touchstone_harness::Case;
use touchstone_harness::known::KnownIssues;
use touchstone_harness::oracle::ExpectedResult;
use touchstone_harness::suite::{BUILT_IN, Suite};
use touchstone_kernels::{Inputs, Registry};

/// One case, as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Golden {
    suite: String,
    case: String,
    /// FNV-1a of the names and bytes of all operands. Empty where the case is too large to be drawn here.
    inputs: String,
    /// Status of naive, and of simd with the widest instruction set. Empty where the case is too large to be
    /// judged here.
    naive: String,
    simd: String,
    /// Of each result some elements: `out 0=1.5±2e-7 63=…`, with the tolerance before the last rounding.
    expected: String,
}

/// Elements of each result that are kept.
const KEPT: usize = 4;

/// Largest part of its bound by which an expected value may move: the oracle is f64, and a sum may be done in
/// another order.
const MOST: f64 = 1e-3;

/// Of cases with more memory than this only the text is frozen, and of those with more work no expected values:
/// smaller cases go through the same code.
const MOST_BYTES: f64 = 16e6;
const MOST_FLOPS: u64 = 100_000_000;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden.csv")
}

#[test]
fn nothing_has_moved() {
    let cases: Vec<(&str, Case)> = BUILT_IN
        .into_iter()
        .flat_map(|(name, _)| Suite::load(name).unwrap().cases.into_iter().map(move |case| (name, case.case)))
        .collect();
    let registry = Registry::standard(1);
    let now: Vec<Golden> = cases.par_iter().map(|(suite, case)| golden(suite, case, &registry)).collect();
    if std::env::var_os("TOUCHSTONE_RENEW_GOLDEN").is_some() {
        let mut writer = csv::Writer::from_path(path()).unwrap();
        now.iter().for_each(|golden| writer.serialize(golden).unwrap());
        writer.flush().unwrap();
    }
    let was: Vec<Golden> =
        csv::Reader::from_path(path()).unwrap().deserialize().collect::<Result<_, _>>().unwrap();
    assert!(!was.is_empty());
    let keyed = |all: Vec<Golden>| -> BTreeMap<(String, String), Golden> {
        all.into_iter().map(|golden| ((golden.suite.clone(), golden.case.clone()), golden)).collect()
    };
    let (was, now) = (keyed(was), keyed(now));
    let mut moved = Vec::new();
    for (key, was) in &was {
        match now.get(key) {
            None => moved.push(format!("{} {}: is gone", key.0, key.1)),
            Some(now) => {
                moved.extend(differences(was, now).map(|what| format!("{} {}: {what}", key.0, key.1)));
            }
        }
    }
    for key in now.keys().filter(|key| !was.contains_key(*key)) {
        moved.push(format!("{} {}: is new", key.0, key.1));
    }
    let judged = now.values().filter(|golden| !golden.naive.is_empty()).count();
    println!("{} cases, {judged} of them judged", now.len());
    assert!(judged * 10 > now.len() * 9, "only {judged} of {} cases were judged", now.len());
    let shown: Vec<&str> = moved.iter().take(20).map(String::as_str).collect();
    assert!(moved.is_empty(), "{} cases have moved:\n{}", moved.len(), shown.join("\n"));
}

fn golden(suite: &str, case: &Case, registry: &Registry) -> Golden {
    let golden = Golden { suite: suite.to_string(), case: case.to_string(), ..Golden::default() };
    if case.memory() > MOST_BYTES {
        return golden;
    }
    let inputs = case.inputs();
    let golden = Golden { inputs: format!("{:016x}", fnv1a(&inputs)), ..golden };
    if case.problem.work_on(&inputs).flops > MOST_FLOPS {
        return golden;
    }
    let posed = Posed::with_inputs(case.clone(), inputs);
    let status = |name: &str| {
        let backend = registry.find(name).unwrap();
        posed.judge(backend.as_ref(), &KnownIssues::default()).status().to_string()
    };
    let expected: Vec<String> = posed.expected.results.iter().map(kept).collect();
    Golden { naive: status("naive"), simd: status("simd"), expected: expected.join("; "), ..golden }
}

fn kept(result: &ExpectedResult) -> String {
    let last = result.value.len().saturating_sub(1);
    let mut elements: Vec<usize> = (0..KEPT).map(|n| n * last / (KEPT - 1)).collect();
    elements.dedup();
    let element = |i: &usize| format!(" {i}={:e}±{:.3e}", result.value[*i], result.error[*i]);
    let elements = if result.value.is_empty() { Vec::new() } else { elements };
    format!("{}{}", result.name, elements.iter().map(element).collect::<String>())
}

/// What is not as it was.
fn differences<'a>(was: &'a Golden, now: &'a Golden) -> impl Iterator<Item = String> + 'a {
    let texts = [("inputs", &was.inputs, &now.inputs), ("naive", &was.naive, &now.naive)];
    let texts = texts.into_iter().chain([("simd", &was.simd, &now.simd)]);
    let texts = texts.filter(|(_, was, now)| was != now);
    let texts = texts.map(|(what, was, now)| format!("{what} was '{was}' and is '{now}'"));
    let values = (!is_near(&was.expected, &now.expected))
        .then(|| format!("expected was '{}' and is '{}'", was.expected, now.expected));
    texts.chain(values)
}

/// Whether two lists of expected elements agree to [`MOST`] of the first one's bounds.
fn is_near(was: &str, now: &str) -> bool {
    let (was, now): (Vec<&str>, Vec<&str>) = (was.split(' ').collect(), now.split(' ').collect());
    was.len() == now.len() && was.iter().zip(now).all(|(was, now)| *was == now || is_near_element(was, now))
}

fn is_near_element(was: &str, now: &str) -> bool {
    let parse = |text: &str| -> Option<(usize, f64, f64)> {
        let (at, rest) = text.trim_end_matches(';').split_once('=')?;
        let (value, error) = rest.split_once('±')?;
        Some((at.parse().ok()?, value.parse().ok()?, error.parse().ok()?))
    };
    let (Some((at, was, error)), Some((at_now, now, _))) = (parse(was), parse(now)) else { return false };
    let same = was == now || (was.is_nan() && now.is_nan());
    at == at_now && (same || (was - now).abs() <= MOST * error)
}

fn fnv1a(inputs: &Inputs) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |byte: &u8| hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    for (name, tensor) in inputs.iter() {
        name.as_bytes().iter().for_each(&mut add);
        tensor.bytes().iter().for_each(&mut add);
    }
    hash
}

#[test]
fn the_smallest_movement_is_seen() {
    let was = "out 0=1e0±1e-6 3=-inf±0e0; lse 0=NaN±inf";
    assert!(is_near(was, was));
    assert!(
        is_near(was, "out 0=1.0000000005e0±2e-6 3=-inf±0e0; lse 0=NaN±inf"),
        "a new bound, and its order"
    );
    for now in [
        "out 0=1.000000002e0±1e-6 3=-inf±0e0; lse 0=NaN±inf",
        "out 0=1e0±1e-6 3=inf±0e0; lse 0=NaN±inf",
        "out 0=1e0±1e-6 3=-inf±0e0; lse 0=0e0±inf",
        "out 0=1e0±1e-6 2=-inf±0e0; lse 0=NaN±inf",
        "out 0=1e0±1e-6 3=-inf±0e0",
    ] {
        assert!(!is_near(was, now), "{now}");
    }
}
