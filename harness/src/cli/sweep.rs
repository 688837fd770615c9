//! `touchstone sweep`: point-wise functions over all numbers of a type.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use touchstone_kernels::{Backend, BackendId, DType};
use touchstone_reports::evidence;
use touchstone_reports::words::number;

use super::output::plain;
use super::select::{Backends, Who};
use super::{MakeRegistry, Verdict, stop_on_ctrl_c};
use crate::families::activation::sweep::{Arguments as Numbers, FUNCTIONS, Missing, Swept, sweep};
use crate::progress;

/// Find the largest error of point-wise functions in ULP, over every number or a sample
///
/// In f32 every 257th number and the neighbourhood of every power of two are tried, and with --full all
/// 2³²: some minutes for each function. Of f16 and bf16 always all 65,536. How large an error is, is no
/// verdict; `check` compares results with derived bounds. But a result that is NaN or infinite where the
/// exact value is not is wrong: exit status 2, unless it is a known issue.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    who: Who,
    /// Functions [default: all]
    #[arg(long, value_name = "OP", value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(FUNCTIONS))]
    op: Vec<String>,
    /// Storage types: f32, f16, bf16
    #[arg(long, value_name = "DTYPE", value_delimiter = ',', default_value = "f32")]
    dtype: Vec<DType>,
    /// Try every N-th f32
    #[arg(long, value_name = "N", default_value_t = 257, value_parser = clap::value_parser!(u32).range(1..))]
    stride: u32,
    /// Try every f32: the same as --stride 1
    #[arg(long)]
    full: bool,
    /// Write ulp.csv and ulp_curves.csv into this directory, where the page of a run finds them; what
    /// other sweeps wrote there of other functions or backends stays
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What became of a function in a storage type.
struct Line {
    function: String,
    dtype: DType,
    numbers: Numbers,
    backends: Vec<Result<Swept, Missing>>,
}

pub(super) fn run(arguments: &Arguments, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    let threads = arguments.who.one_thread_count()?;
    let registry = registry(threads);
    let ids = arguments.who.backends(&registry, Backends::Best)?;
    let backends: Vec<&dyn Backend> =
        ids.iter().filter_map(|id| registry.find(id.as_str())).map(AsRef::as_ref).collect();
    let functions: Vec<&str> = match arguments.op.is_empty() {
        true => FUNCTIONS.to_vec(),
        false => arguments.op.iter().map(String::as_str).collect(),
    };
    let stride = if arguments.full { 1 } else { arguments.stride };
    let jobs: Vec<(&str, Numbers, DType)> = functions
        .iter()
        .flat_map(|function| {
            arguments.dtype.iter().map(|&dtype| (*function, Numbers::new(dtype, stride), dtype))
        })
        .collect();
    let bar = progress::in_percent(jobs.iter().map(|(_, numbers, _)| numbers.count()).sum());
    let stop = stop_on_ctrl_c();
    let mut lines = Vec::new();
    let mut done = 0;
    for (function, numbers, dtype) in jobs {
        bar.set_message(format!("{function} {dtype}"));
        let Some(swept) = sweep(function, numbers, &backends, &|n| bar.set_position(done + n), stop) else {
            break;
        };
        done += numbers.count();
        lines.push(Line { function: function.into(), dtype, numbers, backends: swept });
        // Each line as it comes: an interrupted sweep has what was finished.
        if let Some(out) = &arguments.out {
            write(out, &ids, &lines)?;
        }
    }
    bar.finish_and_clear();
    print(&ids, &lines)?;
    if stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(Verdict::Interrupted);
    }
    if lines.iter().all(|line| line.backends.iter().all(Result::is_err)) {
        bail!(
            "none of {} has any of these functions",
            ids.iter().map(BackendId::as_str).collect::<Vec<_>>().join(", ")
        );
    }
    let known = arguments.who.known_issues()?;
    let unknown: Vec<String> = lines
        .iter()
        .flat_map(|line| line.backends.iter().zip(&ids).map(move |(swept, id)| (line, id, swept)))
        .filter(|(_, _, swept)| swept.as_ref().is_ok_and(|swept| swept.not_finite > 0))
        .filter(|(line, id, _)| !known.excuses_non_finite(id, &line.function, line.dtype))
        .map(|(line, id, _)| format!("{id} {} {}", line.function, line.dtype))
        .collect();
    for wrong in &unknown {
        eprintln!("wrong: {wrong} is NaN or infinite where it should not be, and no known issue says so");
    }
    Ok(if unknown.is_empty() { Verdict::Ok } else { Verdict::Wrong })
}

fn print(ids: &[BackendId], lines: &[Line]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut table =
        plain(["function", "in", "tried", "backend", "max ULP", "at", "within 1 ULP", "not finite"]);
    let mut failed = Vec::new();
    for line in lines {
        let tried = number(line.numbers.count() as f64);
        let mut name = [line.function.clone(), line.dtype.to_string(), tried];
        for (swept, id) in line.backends.iter().zip(ids) {
            let figures = match swept {
                Ok(swept) => figures(swept),
                Err(Missing::Unsupported(_)) => {
                    ["not supported".into(), String::new(), String::new(), String::new()]
                }
                Err(Missing::Failed(message)) => {
                    failed.push(format!("{id} {} {}: {message}", line.function, line.dtype));
                    ["failed".into(), String::new(), String::new(), String::new()]
                }
            };
            table.add_row(name.into_iter().chain([id.to_string()]).chain(figures).collect::<Vec<_>>());
            name = [const { String::new() }; 3];
        }
    }
    writeln!(out, "{table}")?;
    writeln!(
        out,
        "\nNot finite: results that are NaN or infinite where the exact value is not, or the other way round."
    )?;
    failed.iter().try_for_each(|message| writeln!(out, "{message}"))?;
    Ok(())
}

/// The largest error, where, the share within 1 ULP, what is not finite.
fn figures(swept: &Swept) -> [String; 4] {
    let share = 100.0 * swept.within_one as f64 / swept.arguments as f64;
    let not_finite = if swept.not_finite == 0 { String::new() } else { swept.not_finite.to_string() };
    [
        number(swept.worst.ulp),
        number(swept.worst.argument),
        // Rounded down: 100 % means all.
        format!("{:.1} %", (share * 10.0).floor() / 10.0),
        not_finite,
    ]
}

fn write(out: &Path, ids: &[BackendId], lines: &[Line]) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let worst = |line: &Line, id: &BackendId, swept: &Swept| {
        let worst = swept.worst;
        [
            line.function.clone(),
            line.dtype.to_string(),
            id.to_string(),
            swept.arguments.to_string(),
            format!("{:.4}", worst.ulp),
            format!("{:e}", worst.argument),
            format!("{:e}", worst.got),
            format!("{:e}", worst.expected),
            swept.within_one.to_string(),
            swept.not_finite.to_string(),
        ]
    };
    let swept = || {
        lines.iter().flat_map(|line| {
            line.backends
                .iter()
                .zip(ids)
                .filter_map(move |(swept, id)| Some((line, id, swept.as_ref().ok()?)))
        })
    };
    const WORST: [&str; 10] =
        ["op", "dtype", "backend", "tried", "max_ulp", "at", "got", "expected", "within_1_ulp", "not_finite"];
    let rows = swept().map(|(line, id, swept)| worst(line, id, swept).to_vec()).collect();
    put(&out.join("ulp.csv"), &WORST, rows)?;
    const CURVES: [&str; 5] = ["op", "dtype", "backend", "from", "max_ulp"];
    let curves = swept().flat_map(|(line, id, swept)| {
        swept.curve.iter().enumerate().map(move |(binade, ulp)| {
            [
                line.function.clone(),
                line.dtype.to_string(),
                id.to_string(),
                format!("{:e}", line.numbers.binade(binade)),
                format!("{ulp:.4}"),
            ]
            .to_vec()
        })
    });
    put(&out.join("ulp_curves.csv"), &CURVES, curves.collect())
}

/// Puts rows into a table: those that are there for the same function, type and backend give way, all
/// others stay. So a sweep over everything of one backend can lie beside a sample of another.
fn put(file: &Path, header: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    const KEY: usize = 3;
    let mut all = Vec::new();
    if file.exists() {
        let damaged = || format!("cannot add to {}", file.display());
        let mut reader = csv::Reader::from_path(file).with_context(damaged)?;
        if reader.headers().with_context(damaged)? != header {
            bail!("{} is no table of a sweep: its columns are not {}", file.display(), header.join(", "));
        }
        let replaced: HashSet<&[String]> = rows.iter().map(|row| &row[..KEY]).collect();
        for row in reader.deserialize::<Vec<String>>() {
            let row = row.with_context(damaged)?;
            if !replaced.contains(&row[..KEY]) {
                all.push(row);
            }
        }
    }
    all.extend(rows);
    evidence::write(file, header, all).context("cannot write the sweep")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 4]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect()
    }

    #[test]
    fn a_table_keeps_what_other_sweeps_wrote() {
        const HEADER: [&str; 4] = ["op", "dtype", "backend", "max_ulp"];
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ulp.csv");
        put(&file, &HEADER, rows(&[["exp", "f32", "a", "1"], ["exp", "f32", "b", "2"]])).unwrap();
        put(&file, &HEADER, rows(&[["exp", "f32", "b", "3"], ["tanh", "f32", "a", "4"]])).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "op,dtype,backend,max_ulp\nexp,f32,a,1\nexp,f32,b,3\ntanh,f32,a,4\n");
    }

    #[test]
    fn another_table_is_not_added_to() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ulp.csv");
        std::fs::write(&file, "x,y\n1,2\n").unwrap();
        let refused = put(&file, &["op", "dtype", "backend"], rows(&[["exp", "f32", "a", "1"]])).unwrap_err();
        assert!(refused.to_string().contains("is no table of a sweep"), "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "x,y\n1,2\n");
    }
}
