//! `touchstone repro`: one case, verbose.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use safetensors::tensor::TensorView;
use touchstone_kernels::{DType, Declaration, ElementType, Outputs, Tensor};

use super::eval::{Judged, print_verdicts};
use super::select::{Backends, Who, processors};
use super::{MakeRegistry, Verdict};
use crate::agreement::Tolerance;
use crate::case::Case;
use crate::check;
use crate::oracle::{self, Expected};

/// Run one case again, and show where and how it is wrong
///
/// Prints the worst elements and a histogram of error over bound. With --dump, writes inputs,
/// outputs, expected values and bounds as safetensors.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The case, as every report prints it: `softmax f32 shape=4x1024 fill=normal seed=7`
    case: Case,
    #[command(flatten)]
    who: Who,
    /// How many of the worst elements to show
    #[arg(long, value_name = "N", default_value_t = 5)]
    worst: usize,
    /// Write inputs and outputs into this directory
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    let threads = arguments.who.threads(&[processors()]).last().copied().unwrap_or(1);
    crate::timing::configure_threads(threads)?;
    let registry = registry(threads);
    let backends = arguments.who.backends(&registry, Backends::Every)?;
    let known = arguments.who.known_issues()?;
    let case = &arguments.case;
    let inputs = case.inputs();
    let expected = oracle::expect(&case.problem, &inputs);
    let work = case.problem.work();
    println!("{case}\n{} FLOPs, {} bytes at least", work.flops, work.bytes);
    for (name, tensor) in inputs.iter() {
        println!("  {name:<12} {} {:?}", tensor.element(), tensor.shape());
    }
    if let Some(dir) = &arguments.dump {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        dump(&dir.join("inputs.safetensors"), inputs.iter(), &case.to_string())?;
        dump_expected(&dir.join("expected.safetensors"), &expected)?;
    }
    let mut judged = Vec::new();
    for id in &backends {
        let Some(backend) = registry.find(id.as_str()) else { continue };
        let outcome = check::check(backend.as_ref(), case, &inputs, &expected, &known);
        println!("\n{id}: {}", backend.declares(&case.problem).path);
        if let Ok(outputs) = check::outputs(backend.as_ref(), case, &inputs) {
            print_elements(arguments.worst, &expected, &outputs, &backend.declares(&case.problem));
            if let Some(dir) = &arguments.dump {
                let file = format!("{}.safetensors", id.as_str().replace(['/', ':'], "-"));
                dump(&dir.join(file), outputs.iter(), &case.to_string())?;
            }
        }
        judged.push(Judged { backend: id.to_string(), outcome });
    }
    println!();
    print_verdicts(&judged)
}

/// The worst elements, and how error over bound is distributed.
fn print_elements(count: usize, expected: &Expected, outputs: &Outputs, declaration: &Declaration) {
    for (result, (name, tensor)) in expected.results.iter().zip(outputs.iter()) {
        let tolerance = Tolerance::new(result, declaration);
        let got = tensor.to_f64();
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
        println!("  {name}: worst elements (linear index: expected, got, error/bound)");
        for &i in order.iter().take(count) {
            println!("    {i:>8}: {:>16.9e} {:>16.9e} {:>10.3}", result.value[i], got[i], ratio(i));
        }
        println!("  {name}: error/bound");
        let edges = [0.0, 1e-3, 1e-2, 0.1, 0.25, 0.5, 1.0, f64::INFINITY];
        for pair in edges.windows(2) {
            let inside = |r: f64| if pair[0] == 0.0 { r <= pair[1] } else { r > pair[0] && r <= pair[1] };
            let n = (0..got.len()).filter(|&i| inside(ratio(i))).count();
            let width = (40 * n).div_ceil(got.len().max(1));
            println!("    {:>6} … {:<6} {n:>10} {}", pair[0], pair[1], "▇".repeat(width));
        }
    }
}

/// Writes tensors as safetensors, with the case in the metadata.
pub(super) fn dump<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'static str, &'a Tensor)>,
    case: &str,
) -> anyhow::Result<()> {
    let views = tensors
        .map(|(name, tensor)| {
            let dtype = match tensor.element() {
                ElementType::Float(DType::F32) => safetensors::Dtype::F32,
                ElementType::Float(DType::F16) => safetensors::Dtype::F16,
                ElementType::Float(DType::BF16) => safetensors::Dtype::BF16,
                ElementType::I64 => safetensors::Dtype::I64,
                ElementType::Bool => safetensors::Dtype::BOOL,
            };
            Ok((name, TensorView::new(dtype, tensor.shape().to_vec(), tensor.bytes())?))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    write(path, views, case)
}

/// Writes expected values and componentwise errors, in f64.
fn dump_expected(path: &Path, expected: &Expected) -> anyhow::Result<()> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = expected
        .results
        .iter()
        .flat_map(|result| {
            [("", &result.value), ("_error", &result.error)].map(|(suffix, data)| {
                let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
                (format!("{}{suffix}", result.name), result.shape.clone(), bytes)
            })
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(safetensors::Dtype::F64, shape.clone(), bytes)?))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    write(path, views, "")
}

fn write(path: &Path, views: Vec<(&str, TensorView)>, case: &str) -> anyhow::Result<()> {
    let metadata = HashMap::from([("touchstone_case".to_string(), case.to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata))?;
    touchstone_reports::store::write_whole(path, &bytes).context("cannot write the tensors")
}
