//! `touchstone history`: many recorded runs, and where times changed.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use regex::Regex;
use touchstone_reports::history::{self, CANARY, History, Search, Series, changes_grid, series_grid};
use touchstone_reports::plot::{self, Palette};
use touchstone_reports::store::{merge, read_table, write_whole};
use touchstone_reports::{Environment, table};

use super::Verdict;
use super::output::style;

/// Follow times over many recorded runs, and find where they changed
///
/// Takes run directories and records.csv files, shards too: rows with the same run are one point in
/// time, and their order is that of their times. Times are held against the canary, a loop that never
/// changes and that each run measures beside its kernels, so that a slow day is not a slow kernel.
/// Changes are found by divisive segmentation with a permutation test (Matteson and James 2014).
///
/// This looks back and describes. Whether a change about to be merged is slower is for
/// `touchstone gate`.
#[derive(Debug, Args)]
#[command(after_help = "Example: one run a night\n  touchstone bench --out nights/$(date +%F)\n  \
    touchstone history nights/* --plots pictures")]
pub(super) struct Arguments {
    /// Run directories or records.csv files
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Only cases whose problem matches this regular expression
    #[arg(long, value_name = "REGEX")]
    case: Option<Regex>,
    /// Only backends of this name: `simd` is every one of its instruction sets
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    backend: Vec<String>,
    /// The share of series without a change that may show one; a smaller one needs more runs
    #[arg(long, value_name = "SHARE", default_value_t = 0.001, value_parser = level)]
    level: f64,
    /// Leave out changes of fewer percent
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = percent)]
    smallest: f64,
    /// Seed of the permutations
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Show every series, not only what changed
    #[arg(long)]
    cases: bool,
    /// Draw the canary and every series that changed into this directory, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// In which form a history is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables for people.
    #[default]
    Human,
    /// Comma-separated values, one row per point.
    Csv,
    /// JSON, one object per series and line.
    Json,
}

fn level(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(level) if (1e-5..=0.5).contains(&level) => Ok(level),
        _ => Err("expected a share from 0.00001 to 0.5".into()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent),
        _ => Err("expected percent from 0 to 1000".into()),
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let runs = arguments.runs.iter().map(|path| read(arguments, path));
    let runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
    let search =
        Search { level: arguments.level, smallest: arguments.smallest / 100.0, seed: arguments.seed };
    let history = History::of(&runs, search);
    if history.series.is_empty() {
        anyhow::bail!("no times: none of the rows chosen was timed");
    }
    if let Some(dir) = &arguments.plots {
        write_plots(&history, dir)?;
    }
    let mut out = std::io::stdout().lock();
    match arguments.format {
        Format::Csv => out.write_all(&history::csv(&history))?,
        Format::Json => out.write_all(history::json_lines(&history).as_bytes())?,
        Format::Human => {
            let style = style(arguments.cases);
            if arguments.cases {
                writeln!(out, "{}", table::render(&series_grid(&history), style))?;
            }
            writeln!(out, "{}", table::render(&changes_grid(&history), style))?;
        }
    }
    Ok(Verdict::Ok)
}

fn read(arguments: &Arguments, path: &Path) -> anyhow::Result<history::Run> {
    let mut records = merge([read_table(path)?]);
    let wanted = |backend: &str| {
        let is_it = |name: &String| backend == name || backend.split('/').next() == Some(name);
        arguments.backend.is_empty() || arguments.backend.iter().any(is_it)
    };
    records.retain(|record| {
        wanted(&record.backend) && arguments.case.as_ref().is_none_or(|case| case.is_match(&record.problem))
    });
    let processor = Environment::beside(path)?.map(|environment| environment.machine.identity());
    Ok(history::Run { records, processor: processor.unwrap_or_default() })
}

/// Every picture is drawn before the first is written.
fn write_plots(history: &History, dir: &Path) -> anyhow::Result<()> {
    let changed: Vec<&Series> = history.series.iter().filter(|series| !series.changes.is_empty()).collect();
    let mut backends: Vec<String> = changed.iter().map(|s| s.subject.key.backend.clone()).collect();
    backends.push(CANARY.into());
    backends.dedup();
    let palette = Palette::new(&backends);
    let numbered = |name: &str, i: usize| format!("{name}-{}.svg", i + 1);
    let canaries = history.canaries.iter().enumerate().map(|(i, series)| (numbered(CANARY, i), series));
    let changed = changed.into_iter().enumerate().map(|(i, series)| (numbered("change", i), series));
    let mut files = Vec::new();
    for (name, series) in canaries.chain(changed) {
        files.push((dir.join(name), plot::history(series, &palette)?.file()));
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (path, picture) in files {
        write_whole(&path, picture.as_bytes()).context("cannot write a picture")?;
    }
    Ok(())
}
