//! `touchstone eval`: tensors of the user's own, and of the ONNX project.

use std::collections::HashSet;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use touchstone_kernels::{DType, Inputs};
use touchstone_reports::words::plural;

use super::dump::dump;
use super::node_tests::NodeTests;
use super::output::{shown, shown_error};
use super::select::{Backends, Who};
use super::verdicts::{Judged, print_verdicts, verdict};
use super::{MakeRegistry, Verdict};
use crate::capture::Capture;
use crate::case::Case;
use crate::check;
use crate::oracle::{self, Expected};

/// Judge backends on tensors of your own, and on ONNX's
///
/// Takes captures: safetensors files with the operands of one problem by name and, in the
/// metadata, `touchstone` = "1" and `problem`, a JSON object such as
/// {"op":"rms_norm","eps":1e-6}. Where a file holds `expected` (float64), the oracle is held
/// against it first.
///
/// Takes ONNX node tests as well: directories `test_<name>/` with model.onnx and test_data_set_0/,
/// or a directory of such, as scripts/setup-onnx brings. Every one that is a problem of ours is
/// judged by the oracle and against ONNX's own outputs (rtol 1e-3, atol 1e-7); so is the oracle.
/// The others are named with the reason.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  touchstone eval capture.safetensors\n  \
    touchstone eval target/onnx/node --backend naive,simd\n  \
    touchstone eval target/onnx/node/test_attention_4d_gqa")]
pub(super) struct Arguments {
    /// Captures, ONNX node tests, or directories of either
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Round the operands of captures to this type first
    #[arg(long = "as", value_name = "DTYPE")]
    dtype: Option<DType>,
    /// Write each backend's outputs into this directory
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    let backends: Vec<_> = backends.iter().filter_map(|id| registry.find(id.as_str())).collect();

    let sources = Sources::of(&arguments.files)?;
    let directories: Vec<&PathBuf> = sources.node_tests.iter().collect();
    if let (Some(dtype), Some(path)) = (arguments.dtype, directories.first()) {
        bail!("--as {dtype}: {} is no capture, and ONNX's outputs belong to its own type", path.display());
    }
    // A file that cannot be read, or contradicts itself, is bad input; the others are judged all the same.
    let (mut captures, mut bad) = (Vec::new(), 0);
    for path in &sources.captures {
        match Posed::read(path, arguments.dtype) {
            Ok(posed) => captures.push(posed),
            Err(error) if sources.captures.len() + directories.len() == 1 => return Err(error),
            Err(error) => {
                eprintln!("touchstone: {}", shown_error(&error));
                bad += 1;
            }
        }
    }
    let mut node_tests = NodeTests::read(&directories)?;
    name_apart(captures.iter_mut().map(|posed| &mut posed.name).chain(node_tests.names_mut()));
    if let Some(dir) = &arguments.dump {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }

    let mut out = stdout().lock();
    let mut judged = Vec::new();
    let mut json = Vec::new();
    for posed in &captures {
        if !arguments.json {
            posed.print(&mut out)?;
        }
        let first = judged.len();
        for backend in &backends {
            let outcome = check::check(backend.as_ref(), &posed.case, &posed.inputs, &posed.expected, &known);
            judged.push(Judged::new(backend.id(), &outcome));
            if let Some(dir) = &arguments.dump {
                dump_outputs(dir, &posed.name, backend.as_ref(), &posed.case, &posed.inputs)?;
            }
        }
        if arguments.json {
            json.push(posed.json(&judged[first..]));
        } else {
            print_verdicts(&mut out, &judged[first..])?;
            writeln!(out)?;
        }
    }
    if !captures.is_empty() && !arguments.json {
        let wrong = judged.iter().filter(|judged| judged.is_red()).count();
        let judgements = plural(judged.len(), "judgement");
        writeln!(out, "{}, {judgements}, {wrong} wrong", plural(captures.len(), "capture"))?;
    }

    let mut contradicted = false;
    if !node_tests.is_empty() {
        let ids: Vec<String> = backends.iter().map(|backend| backend.id().to_string()).collect();
        for backend in &backends {
            node_tests.judge(backend.as_ref(), &known, arguments.dump.as_deref())?;
        }
        if !arguments.json {
            node_tests.print(&mut out, &ids)?;
        }
        contradicted = node_tests.contradict_the_oracle();
    }
    let nothing = captures.is_empty() && node_tests.all_outside();
    if arguments.json {
        let all = serde_json::json!({ "captures": json, "onnx": node_tests.json() });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    }
    if nothing && bad == 0 {
        bail!("nothing was executed: no node test is a problem of ours");
    }
    judged.extend(node_tests.into_judged());
    let verdict = if judged.is_empty() { Verdict::Ok } else { verdict(&judged)? };
    match verdict {
        Verdict::Ok if contradicted => Ok(Verdict::Wrong),
        Verdict::Ok if bad > 0 => bail!("{} could not be judged (see above)", plural(bad, "file")),
        verdict => Ok(verdict),
    }
}

/// What there is to be judged.
struct Sources {
    captures: Vec<PathBuf>,
    node_tests: Vec<PathBuf>,
}

impl Sources {
    /// Each file is a capture. A directory that contains captures is read as those captures. Any other
    /// directory is searched for ONNX node tests.
    fn of(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut sources = Sources { captures: Vec::new(), node_tests: Vec::new() };
        for path in paths {
            if !path.is_dir() {
                sources.captures.push(path.clone());
                continue;
            }
            let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let entries = entries.with_context(|| format!("cannot read {}", path.display()))?;
            let mut captures: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
            captures.retain(|file| file.extension().is_some_and(|ending| ending == "safetensors"));
            captures.sort();
            match captures.is_empty() {
                true => sources.node_tests.push(path.clone()),
                false => sources.captures.extend(captures),
            }
        }
        Ok(sources)
    }
}

/// Numbers captures and node tests of the same name, so that none overwrites what another one dumped.
fn name_apart<'a>(names: impl Iterator<Item = &'a mut String>) {
    let mut taken = HashSet::new();
    for name in names {
        // A number may itself be the end of another name: `x`, `x-2`, `x`.
        let numbered = (2..).map(|count| format!("{name}-{count}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
        if let Some(free) = free {
            taken.insert(free.clone());
            *name = free;
        }
    }
}

/// Writes what a backend makes of a case, if it comes to anything.
pub(super) fn dump_outputs(
    dir: &Path,
    name: &str,
    backend: &dyn touchstone_kernels::Backend,
    case: &Case,
    inputs: &Inputs,
) -> anyhow::Result<()> {
    let Ok(outputs) = check::outputs(backend, case, inputs) else { return Ok(()) };
    let file = format!("{name}-{}.safetensors", backend.id().as_str().replace(['/', ':'], "-"));
    dump(&dir.join(file), outputs.iter(), &case.problem.to_string())
}

/// A capture with what the oracle says of it.
struct Posed {
    name: String,
    source: String,
    case: Case,
    inputs: Inputs,
    expected: Expected,
    /// How far the oracle is from the file's own expectation, relative to its largest value.
    distance: Option<f64>,
}

impl Posed {
    fn read(path: &Path, dtype: Option<DType>) -> anyhow::Result<Self> {
        let capture = Capture::read(path, dtype)?;
        let expected = oracle::expect(&capture.problem, &capture.inputs);
        let distance = oracle_distance(&expected, &capture);
        if let Some(distance) = distance.filter(|d| d.is_nan() || *d > ORACLE_TOLERANCE) {
            bail!(
                "{}: the oracle and the file's 'expected' disagree by {distance:.1e} of its largest value",
                path.display()
            );
        }
        // A capture has no recipe of inputs; this one stands in for it where known issues are matched.
        let case = Case::plain(capture.problem, 0);
        let name = shown(&path.file_stem().unwrap_or_default().to_string_lossy());
        Ok(Posed { name, source: shown(&capture.source), case, inputs: capture.inputs, expected, distance })
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{}\n  {}\n  {}", self.name, self.source, self.case.problem)?;
        if let Some(distance) = self.distance {
            writeln!(out, "  oracle against the file's expectation: {distance:.1e} of its largest value")?;
        }
        Ok(())
    }

    fn json(&self, judged: &[Judged]) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "source": self.source,
            "problem": self.case.problem.to_string(),
            "oracle_distance": self.distance,
            "verdicts": judged.iter().map(Judged::json).collect::<Vec<_>>(),
        })
    }
}

/// Largest difference between the oracle and the file's expectation, relative to the largest
/// expected value.
fn oracle_distance(expected: &Expected, capture: &Capture) -> Option<f64> {
    let theirs = capture.expected.as_ref()?;
    let ours = &expected.results.first()?.value;
    let largest = theirs.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
    // f64::max would drop a NaN. Where either is not finite, the two have to be the same.
    let differ = |(a, b): (&f64, &f64)| match a.is_finite() && b.is_finite() {
        true => (a - b).abs(),
        false if a == b || a.is_nan() && b.is_nan() => 0.0,
        false => f64::INFINITY,
    };
    let difference = ours.iter().zip(theirs).map(differ).fold(0.0, f64::max);
    if difference.is_infinite() {
        return Some(difference);
    }
    // Log-probabilities and plain values alike are of a size at which an absolute error means
    // something only against the largest.
    Some(difference / largest.max(f64::MIN_POSITIVE))
}
