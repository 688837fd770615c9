//! `touchstone report`: records into tables and pages.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use touchstone_reports::plot::{Palette, overview};
use touchstone_reports::store::{merge, one_machine, write_whole};
use touchstone_reports::summary::Summary;
use touchstone_reports::{
    Environment, Evidence, Record, Rivals, SampleRow, grid, html, markdown, read_records, read_samples,
};

use super::Verdict;
use super::output::{Format, print, renew};
use crate::criterion;

/// Make tables and pages from records
///
/// Takes run directories and records.csv files, several at once for a run in shards, and the
/// directory that `cargo bench` leaves, which is target/criterion.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Run directories or records.csv files, or target/criterion
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Write the page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write Markdown to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the overview's pictures into this directory, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Put the tables between the markers of this document, such as
    /// `<!-- touchstone:verdicts -->` and `<!-- /touchstone:verdicts -->`; the names are summary,
    /// verdicts and speed
    #[arg(long, value_name = "FILE")]
    splice: Option<PathBuf>,
    /// Hold this backend against the fastest of the others in each case [default: the widest `simd`]
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Only rows of the machine whose description contains this: processor, cores, caches
    #[arg(long, value_name = "TEXT")]
    machine: Option<String>,
    /// Leave out the speed of every single case
    #[arg(long)]
    brief: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let (mut records, samples) = read(&arguments.runs)?;
    if let Some(part) = &arguments.machine {
        records.retain(|record| record.machine.contains(part.as_str()));
        if records.is_empty() {
            bail!("--machine: no row is of a machine whose description contains '{part}'");
        }
    }
    one_machine(&records).with_context(|| {
        "make a report of each (--machine with a part of its description), or run the comparison again on \
         one of them"
    })?;
    let rivals = Rivals::of(&records, &samples, arguments.subject.as_deref())?;
    let environment = Environment::beside(&arguments.runs[0])?;
    if let Some(path) = &arguments.html {
        let evidence = Evidence::beside(&arguments.runs[0])?;
        write_html(&records, environment.as_ref(), &evidence, rivals.as_ref(), path)?;
    }
    if let Some(path) = &arguments.markdown {
        write_markdown(&records, rivals.as_ref(), path)?;
    }
    if let Some(dir) = &arguments.plots {
        write_plots(&records, environment.as_ref(), dir)?;
    }
    if let Some(path) = &arguments.splice {
        splice(&records, path)?;
    }
    print(&records, rivals.as_ref(), arguments.format, !arguments.brief)?;
    Ok(Verdict::Ok)
}

/// Records and samples of runs, and of what `cargo bench` left.
fn read(paths: &[PathBuf]) -> anyhow::Result<(Vec<Record>, Vec<SampleRow>)> {
    let (benched, recorded): (Vec<PathBuf>, Vec<PathBuf>) =
        paths.iter().cloned().partition(|path| criterion::is_criterion(path));
    let mut tables = Vec::new();
    let samples = read_samples(&recorded)?;
    if !recorded.is_empty() {
        tables.push(read_records(&recorded)?);
    }
    for path in &benched {
        let benches = criterion::read(path).context("cannot read what cargo bench left")?;
        if !benches.others.is_empty() {
            eprintln!("left out, as no problem of ours: {}", benches.others.join(", "));
        }
        if !benches.unjudged.is_empty() {
            eprintln!("left out, as not judged in the last run: {}", benches.unjudged.join(", "));
        }
        tables.push(benches.records);
    }
    Ok((merge(tables), samples))
}

fn write_plots(records: &[Record], environment: Option<&Environment>, dir: &Path) -> anyhow::Result<()> {
    let summary = Summary::of(records);
    let palette = Palette::new(&summary.backends);
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for picture in overview(records, &summary, environment, &palette)? {
        let path = dir.join(format!("{}.svg", picture.name));
        write_whole(&path, picture.plot.file().as_bytes()).context("cannot write a picture")?;
    }
    Ok(())
}

/// Renews the tables of a document.
fn splice(records: &[Record], document: &Path) -> anyhow::Result<()> {
    let summary = Summary::of(records);
    let mut parts = vec![
        ("summary", markdown::summary_of(records, &summary)),
        ("verdicts", markdown::table(&grid::verdicts(&summary))),
    ];
    parts.extend(grid::mean_speeds(&summary).map(|grid| ("speed", markdown::table(&grid))));
    renew(document, &parts)
}

/// Writes the page and the Markdown, each whole or not at all.
pub(super) fn write_pages(
    records: &[Record],
    rivals: Option<&Rivals<'_>>,
    environment: Option<&Environment>,
    html: &Path,
    markdown: &Path,
) -> anyhow::Result<()> {
    let run = html.parent().unwrap_or(html);
    write_html(records, environment, &Evidence::beside(run)?, rivals, html)?;
    write_markdown(records, rivals, markdown)
}

fn write_html(
    records: &[Record],
    environment: Option<&Environment>,
    evidence: &Evidence,
    rivals: Option<&Rivals<'_>>,
    path: &Path,
) -> anyhow::Result<()> {
    let page = html::page(records, environment, evidence, rivals).context("cannot make the page")?;
    write_whole(path, page.as_bytes()).context("cannot write the page")
}

fn write_markdown(records: &[Record], rivals: Option<&Rivals<'_>>, path: &Path) -> anyhow::Result<()> {
    write_whole(path, markdown::report(records, rivals).as_bytes()).context("cannot write the Markdown")
}
