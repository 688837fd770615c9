//! `touchstone repro`: one case, verbose.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use touchstone_kernels::{Declaration, Outputs};

use super::dump::{dump, dump_capture, dump_expected};
use super::invariants::print_of_case;
use super::select::{Backends, Who, announce_if_long, ensure_it_fits};
use super::verdicts::{Judged, print_verdicts, verdict};
use super::{MakeRegistry, Verdict};
use crate::agreement::{Tolerance, unravel};
use crate::case::Case;
use crate::check;
use crate::oracle::{self, Expected};

/// Run one case again, and show where and how it is wrong
///
/// Prints the worst elements and a histogram of error over bound. With --dump, writes inputs,
/// outputs, expected values and bounds as safetensors; inputs.safetensors is a capture, which `eval` reads.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The case, as every report prints it: `softmax f32 shape=4x1024 fill=normal seed=7`
    case: Case,
    #[command(flatten)]
    who: Who,
    /// How many of the worst elements to show
    #[arg(long, value_name = "N", default_value_t = 5)]
    worst: usize,
    /// Also judge the properties that need no oracle, see `check --invariants`
    #[arg(long)]
    invariants: bool,
    /// Write inputs and outputs into this directory
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    let threads = arguments.who.one_thread_count()?;
    crate::timing::configure_threads(threads)?;
    let registry = registry(threads);
    let backends = arguments.who.backends(&registry, Backends::Every)?;
    let known = arguments.who.known_issues()?;
    let case = &arguments.case;
    ensure_it_fits(case)?;
    announce_if_long(case);
    let inputs = case.inputs();
    let expected = oracle::expect(&case.problem, &inputs);
    if let Some(dir) = &arguments.dump {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        dump_capture(&dir.join("inputs.safetensors"), case, &inputs, &expected)?;
        dump_expected(&dir.join("expected.safetensors"), &expected)?;
    }
    let mut out = stdout().lock();
    let work = case.problem.work();
    writeln!(out, "{case}\n{} FLOPs, {} bytes at least", work.flops, work.bytes)?;
    for (name, tensor) in inputs.iter() {
        writeln!(out, "  {name:<12} {} {:?}", tensor.element(), tensor.shape())?;
    }
    let mut judged = Vec::new();
    for id in &backends {
        let Some(backend) = registry.find(id.as_str()) else { continue };
        let outcome = check::check(backend.as_ref(), case, &inputs, &expected, &known);
        writeln!(out, "\n{id}: {}", backend.declares(&case.problem).path)?;
        if let Ok(outputs) = check::outputs(backend.as_ref(), case, &inputs) {
            let declaration = backend.declares(&case.problem);
            print_elements(&mut out, arguments.worst, &expected, &outputs, &declaration)?;
            if let Some(dir) = &arguments.dump {
                let file = format!("{}.safetensors", id.as_str().replace(['/', ':'], "-"));
                dump(&dir.join(file), outputs.iter(), &case.to_string())?;
            }
        }
        judged.push(Judged::new(id, &outcome));
    }
    writeln!(out)?;
    print_verdicts(&mut out, &judged)?;
    let verdict = verdict(&judged)?;
    if arguments.invariants {
        let chosen: Vec<_> = backends.iter().filter_map(|id| registry.find(id.as_str()).cloned()).collect();
        if !print_of_case(&mut out, &chosen, case)? {
            return Ok(Verdict::Wrong);
        }
    }
    Ok(verdict)
}

/// The worst elements, and how error over bound is distributed.
fn print_elements(
    out: &mut impl Write,
    count: usize,
    expected: &Expected,
    outputs: &Outputs,
    declaration: &Declaration,
) -> std::io::Result<()> {
    for (result, (name, tensor)) in expected.results.iter().zip(outputs.iter()) {
        let tolerance = Tolerance::new(result, declaration);
        let got = tensor.to_f64();
        if got.is_empty() {
            writeln!(out, "  {name}: no elements")?;
            continue;
        }
        let ratio = |i: usize| {
            let (value, got) = (result.value[i], got[i]);
            if value.is_nan() && got.is_nan() || value == got {
                return 0.0;
            }
            let ratio = (got - value).abs() / tolerance.at(i);
            if ratio.is_nan() { f64::INFINITY } else { ratio }
        };
        let mut order: Vec<usize> = (0..got.len()).collect();
        order.sort_by(|&a, &b| ratio(b).total_cmp(&ratio(a)));
        writeln!(out, "  {name}: worst elements (expected, got, error/bound)")?;
        for &i in order.iter().take(count) {
            let place = format!("{:?}", unravel(i, &result.shape)).replace(' ', "");
            writeln!(out, "    {place:<14} {:>16.9e} {:>16.9e} {:>10.3}", result.value[i], got[i], ratio(i))?;
        }
        writeln!(out, "  {name}: error/bound")?;
        let edges = [0.0, 1e-3, 1e-2, 0.1, 0.25, 0.5, 1.0, f64::INFINITY];
        let exact = (0..got.len()).filter(|&i| ratio(i) == 0.0).count();
        let bar = |n: usize| "▇".repeat((40 * n).div_ceil(got.len()));
        writeln!(out, "    {:^15} {exact:>10} {}", "exact", bar(exact))?;
        for pair in edges.windows(2) {
            let n = (0..got.len()).filter(|&i| ratio(i) > pair[0] && ratio(i) <= pair[1]).count();
            writeln!(out, "    {:>6} … {:<6} {n:>10} {}", pair[0], pair[1], bar(n))?;
        }
    }
    Ok(())
}
