//! `touchstone eval`: the user's own tensors.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use touchstone_kernels::DType;

use super::list::plain;
use super::repro::dump;
use super::select::{Backends, Who, processors};
use super::{MakeRegistry, Verdict};
use crate::capture::Capture;
use crate::case::Case;
use crate::check;
use crate::fill::Fill;
use crate::oracle::{self, Expected};
use crate::outcome::Outcome;

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
    let threads = arguments.who.threads(&[processors()]).last().copied().unwrap_or(1);
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
    let mut judged = Vec::new();
    for (path, capture) in &captures {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        println!("{name}\n  {}\n  {}", capture.source, capture.problem);
        let expected = oracle::expect(&capture.problem, &capture.inputs);
        let distance = oracle_distance(&expected, capture);
        if let Some(distance) = distance {
            println!("  oracle against the file's expectation: {distance:.1e} of its largest value");
            if distance.is_nan() || distance > ORACLE_TOLERANCE {
                bail!("{}: the oracle and the file's 'expected' disagree", path.display());
            }
        }
        // A capture has no recipe of inputs; this one stands in for it where known issues are matched.
        let case = Case { problem: capture.problem.clone(), fill: Fill::Normal, seed: 0 };
        let first = judged.len();
        for id in &backends {
            let Some(backend) = registry.find(id.as_str()) else { continue };
            let outcome = check::check(backend.as_ref(), &case, &capture.inputs, &expected, &known);
            if let (Some(dir), Ok(outputs)) =
                (&arguments.dump, check::outputs(backend.as_ref(), &case, &capture.inputs))
            {
                let file = format!("{name}-{}.safetensors", id.as_str().replace(['/', ':'], "-"));
                dump(&dir.join(file), outputs.iter(), &capture.problem.to_string())?;
            }
            judged.push(Judged { backend: id.to_string(), outcome });
        }
        print_verdicts(&judged[first..])?;
        println!();
    }
    let wrong = judged.iter().filter(|judged| judged.outcome.is_red()).count();
    println!("{} captures, {} judgements, {wrong} wrong", captures.len(), judged.len());
    verdict(&judged)
}

/// Largest difference between the oracle and the file's expectation, relative to the largest
/// expected value.
fn oracle_distance(expected: &Expected, capture: &Capture) -> Option<f64> {
    let theirs = capture.expected.as_ref()?;
    let ours = &expected.results.first()?.value;
    if ours.len() != theirs.len() {
        return Some(f64::NAN);
    }
    let largest = theirs.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    // Log-probabilities and plain values alike are of a size at which an absolute error means
    // something only against the largest.
    Some(difference / largest.max(f64::MIN_POSITIVE))
}

/// The outcome of one backend.
pub(super) struct Judged {
    pub(super) backend: String,
    pub(super) outcome: Outcome,
}

/// A line for each backend, and what they come to together.
pub(super) fn print_verdicts(judged: &[Judged]) -> anyhow::Result<Verdict> {
    let mut table = plain(["backend", "verdict", "max abs", "max ulp", "error/bound", "why"]);
    for Judged { backend, outcome } in judged {
        let (verdict, why) = match outcome {
            Outcome::Passed(_) | Outcome::Measured(..) => ("passed", String::new()),
            Outcome::Failed { why, .. } => ("FAILED", why.to_string()),
            Outcome::Suspect { why, .. } => ("suspect", why.clone()),
            Outcome::Unsupported { reason } => ("unsupported", reason.clone()),
            Outcome::Known { issue, why, .. } => ("known", format!("{issue}: {why}")),
            Outcome::NoLongerFails { issue, .. } => ("FAILED", format!("{issue} no longer fails")),
            Outcome::Error { message } => ("error", message.clone()),
            Outcome::Timeout { message } => ("timeout", message.clone()),
        };
        let figure = |figure: fn(&crate::agreement::Figures) -> f64| {
            outcome.figures().map_or(String::new(), |figures| format!("{:.2e}", figure(figures)))
        };
        table.add_row([
            backend.clone(),
            verdict.to_string(),
            figure(|f| f.max_abs),
            figure(|f| f.ulp_max),
            figure(|f| f.error_over_bound),
            why,
        ]);
    }
    println!("{table}");
    verdict(judged)
}

fn verdict(judged: &[Judged]) -> anyhow::Result<Verdict> {
    let executed = judged.iter().any(|j| !matches!(j.outcome, Outcome::Unsupported { .. }));
    if !executed {
        bail!("nothing was executed: the chosen backends do not support this problem");
    }
    Ok(if judged.iter().any(|judged| judged.outcome.is_red()) { Verdict::Wrong } else { Verdict::Ok })
}
