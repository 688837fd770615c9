//! Tensors of real models (`fixtures/captures/`): the oracle agrees with the file's own
//! expectation, and every backend is right on them, in every dtype.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use acceptance::{Posed, Tally};
use touchstone_harness::Case;
use touchstone_harness::capture::Capture;
use touchstone_harness::known::KnownIssues;
use touchstone_kernels::{DType, Registry};

/// What the captures' README promises of `expected`, with room for parameters that are f32 here.
const ORACLE_TOLERANCE: f64 = 1e-6;

fn captures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/captures");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 17, "captures are missing");
    files
}

/// A capture as known issues know it: without a recipe of its inputs.
fn posed(capture: Capture) -> Posed {
    Posed::with_inputs(Case::plain(capture.problem, 0), capture.inputs)
}

#[test]
fn the_oracle_agrees_with_the_files() {
    for path in captures() {
        let capture = Capture::read(&path, None).unwrap();
        assert!(!capture.source.is_empty(), "{}", path.display());
        let theirs = capture.expected.clone().unwrap();
        let expected = posed(capture).expected;
        let ours = &expected.results[0].value;
        assert_eq!(ours.len(), theirs.len(), "{}", path.display());
        let largest = theirs.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        assert!(largest > 0.0 && theirs.iter().all(|x| x.is_finite()), "{}", path.display());
        let off = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
        println!("{off:.1e} {}", path.file_stem().unwrap().display());
        assert!(off <= ORACLE_TOLERANCE, "{}: off by {off:e} of the largest", path.display());
    }
}

fn every_backend_is_right(dtype: DType) {
    let registry = Registry::standard(2);
    let known = KnownIssues::built_in().unwrap();
    let posed: Vec<Posed> =
        captures().iter().map(|path| posed(Capture::read(path, Some(dtype)).unwrap())).collect();
    let mut wrong = Vec::new();
    for backend in registry.whole() {
        let mut tally = Tally::default();
        for posed in &posed {
            assert_eq!(posed.problem().dtype, dtype);
            let outcome = posed.judge(backend.as_ref(), &known);
            tally.add(backend.as_ref(), &posed.case, &outcome);
        }
        println!("{}: {} passed, {} known", backend.id(), tally.passed, tally.known);
        assert_eq!(tally.executed(), posed.len(), "{} supports every capture", backend.id());
        if ["naive", "simd"].contains(&backend.id().implementation()) {
            assert_eq!(tally.known, 0, "{} has no known issue on captures", backend.id());
        }
        wrong.extend(tally.wrong);
    }
    assert!(wrong.is_empty(), "{} judgements are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_backend_is_right_in_f32() {
    every_backend_is_right(DType::F32);
}

#[test]
fn every_backend_is_right_in_f16() {
    every_backend_is_right(DType::F16);
}

#[test]
fn every_backend_is_right_in_bf16() {
    every_backend_is_right(DType::BF16);
}
