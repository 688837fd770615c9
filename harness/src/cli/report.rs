//! `touchstone report`: records into tables and pages.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use touchstone_reports::{Environment, Record, html, markdown, read_records, store::write_whole};

use super::Verdict;
use super::output::{Format, print};

/// Make tables and pages from records
///
/// Takes run directories and records.csv files, several at once for a run in shards.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Run directories or records.csv files
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Write the page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write Markdown to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Leave out the speed of every single case
    #[arg(long)]
    brief: bool,
    /// Form of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let records = read_records(&arguments.runs)?;
    let environment = Environment::beside(&arguments.runs[0])?;
    if let Some(path) = &arguments.html {
        write_html(&records, environment.as_ref(), path)?;
    }
    if let Some(path) = &arguments.markdown {
        write_markdown(&records, path)?;
    }
    print(&records, arguments.format, !arguments.brief)?;
    Ok(Verdict::Ok)
}

/// Writes the page and the Markdown, each whole or not at all.
pub(super) fn write_pages(
    records: &[Record],
    environment: Option<&Environment>,
    html: &Path,
    markdown: &Path,
) -> anyhow::Result<()> {
    write_html(records, environment, html)?;
    write_markdown(records, markdown)
}

fn write_html(records: &[Record], environment: Option<&Environment>, path: &Path) -> anyhow::Result<()> {
    let page = html::page(records, environment).context("cannot make the page")?;
    write_whole(path, page.as_bytes()).context("cannot write the page")
}

fn write_markdown(records: &[Record], path: &Path) -> anyhow::Result<()> {
    write_whole(path, markdown::report(records).as_bytes()).context("cannot write the Markdown")
}
