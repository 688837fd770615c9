//! `touchstone eval`: the user's own tensors.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use touchstone_kernels::DType;
use touchstone_reports::words::plural;

use super::dump::dump;
use super::select::{Backends, Who};
use super::verdicts::{Judged, print_verdicts, verdict};
use super::{MakeRegistry, Verdict};
use crate::capture::Capture;
use crate::case::Case;
use crate::check;
use crate::fill::Fill;
use crate::oracle::{self, Expected};

/// Judge backends on tensors of your own
///
/// Takes captures: safetensors files with the operands of one problem by name and, in the
/// metadata, `touchstone` = "1" and `problem`, a JSON object such as
/// {"op":"rms_norm","eps":1e-6}. Where a file holds `expected` (float64), the oracle is held
/// against it first.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Captures
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Round the operands to this type first
    #[arg(long = "as", value_name = "DTYPE")]
    dtype: Option<DType>,
    /// Write each backend's outputs into this directory
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    #[command(flatten)]
    who: Who,
}

/// Relative to the largest magnitude: what captures promise of their expectations, with room for
/// parameters that are f32 here.
const ORACLE_TOLERANCE: f64 = 1e-6;

pub(super) fn run(arguments: &Arguments, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    let threads = arguments.who.one_thread_count()?;
    crate::timing::configure_threads(threads)?;
    let registry = registry(threads);
    let known = arguments.who.known_issues()?;
    let backends = arguments.who.backends(&registry, Backends::Every)?;
    let captures: Vec<(&PathBuf, Capture)> = arguments
        .files
        .iter()
        .map(|path| Ok((path, Capture::read(path, arguments.dtype)?)))
        .collect::<anyhow::Result<_>>()?;
    if let Some(dir) = &arguments.dump {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    // Before anything is printed: a file that contradicts itself is bad input.
    let expectations = captures.iter().map(|(path, capture)| expectation(path, capture));
    let expectations: Vec<(Expected, Option<f64>)> = expectations.collect::<anyhow::Result<_>>()?;

    let mut out = stdout().lock();
    let mut judged = Vec::new();
    for ((path, capture), (expected, distance)) in captures.iter().zip(&expectations) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        writeln!(out, "{name}\n  {}\n  {}", capture.source, capture.problem)?;
        if let Some(distance) = distance {
            writeln!(out, "  oracle against the file's expectation: {distance:.1e} of its largest value")?;
        }
        // A capture has no recipe of inputs; this one stands in for it where known issues are matched.
        let case = Case { problem: capture.problem.clone(), fill: Fill::Normal, seed: 0 };
        let first = judged.len();
        for id in &backends {
            let Some(backend) = registry.find(id.as_str()) else { continue };
            let outcome = check::check(backend.as_ref(), &case, &capture.inputs, expected, &known);
            if let (Some(dir), Ok(outputs)) =
                (&arguments.dump, check::outputs(backend.as_ref(), &case, &capture.inputs))
            {
                let file = format!("{name}-{}.safetensors", id.as_str().replace(['/', ':'], "-"));
                dump(&dir.join(file), outputs.iter(), &capture.problem.to_string())?;
            }
            judged.push(Judged { backend: id.to_string(), outcome });
        }
        print_verdicts(&mut out, &judged[first..])?;
        writeln!(out)?;
    }
    let wrong = judged.iter().filter(|judged| judged.outcome.is_red()).count();
    let judgements = plural(judged.len(), "judgement");
    writeln!(out, "{}, {judgements}, {wrong} wrong", plural(captures.len(), "capture"))?;
    verdict(&judged)
}

/// The oracle's expectation, held against the file's own: how far they are apart.
fn expectation(path: &Path, capture: &Capture) -> anyhow::Result<(Expected, Option<f64>)> {
    let expected = oracle::expect(&capture.problem, &capture.inputs);
    let distance = oracle_distance(&expected, capture);
    match distance {
        Some(distance) if distance.is_nan() || distance > ORACLE_TOLERANCE => bail!(
            "{}: the oracle and the file's 'expected' disagree by {distance:.1e} of its largest value",
            path.display()
        ),
        _ => Ok((expected, distance)),
    }
}

/// Largest difference between the oracle and the file's expectation, relative to the largest
/// expected value.
fn oracle_distance(expected: &Expected, capture: &Capture) -> Option<f64> {
    let theirs = capture.expected.as_ref()?;
    let ours = &expected.results.first()?.value;
    let largest = theirs.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    // Log-probabilities and plain values alike are of a size at which an absolute error means
    // something only against the largest.
    Some(difference / largest.max(f64::MIN_POSITIVE))
}
