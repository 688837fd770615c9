//! Records on standard output.

use std::io::{IsTerminal, Write, stdout};

use anyhow::Context;
use clap::ValueEnum;
use touchstone_reports::{Record, export, markdown, table};

/// In which form records are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables for people.
    #[default]
    Human,
    /// Comma-separated values, one row per record.
    Csv,
    /// JSON, one object per line.
    Json,
    /// Markdown, for a pull request.
    Markdown,
}

/// Width where standard output is no terminal.
const WIDTH: usize = 80;

/// Prints records.
pub(super) fn print(records: &[Record], format: Format, every_case: bool) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    match format {
        Format::Human => out.write_all(table::report(records, style(every_case)).as_bytes()),
        Format::Csv => export::write_csv(records, &mut out),
        Format::Json => export::write_json_lines(records, &mut out),
        Format::Markdown => out.write_all(markdown::report(records).as_bytes()),
    }
    .and_then(|()| out.flush())
    .context("cannot write to standard output")
}

/// How tables are drawn on this terminal.
pub(super) fn style(cases: bool) -> table::Style {
    let terminal = stdout().is_terminal();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let width = comfy_table::Table::new().width().map_or(WIDTH, usize::from);
    table::Style { width, colour: terminal && !no_colour, cases }
}
