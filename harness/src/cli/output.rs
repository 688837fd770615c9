//! Records on standard output.

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Row, Table, presets};
use touchstone_reports::store::write_whole;
use touchstone_reports::{Record, Rivals, export, markdown, table};

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

/// A text from a stranger's file as it can be shown: control characters could steer the terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// An error and its causes, as [`shown`]: messages quote files. Lines stay apart.
pub(super) fn shown_error(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

/// Puts each content between the markers of its name in a document: all of them, or none where one is missing.
pub(super) fn renew(document: &Path, parts: &[(&str, String)]) -> anyhow::Result<()> {
    let named = || document.display().to_string();
    let mut text = std::fs::read_to_string(document).with_context(|| format!("cannot read {}", named()))?;
    for (name, content) in parts {
        text = markdown::splice(&text, name, &format!("\n{content}\n"))
            .with_context(|| format!("cannot renew {}", named()))?;
    }
    write_whole(document, text.as_bytes()).with_context(|| format!("cannot write {}", named()))
}

/// A table for a document: the first column is text, the others are figures.
pub(super) fn markdown_table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut text = format!("| {} |\n|---|{}\n", header.join(" | "), "---:|".repeat(N - 1));
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}

/// Width where standard output is no terminal and `COLUMNS` does not say one.
const WIDTH: usize = 80;

/// Prints records, and a backend against its rivals where that was asked for.
pub(super) fn print(
    records: &[Record],
    rivals: Option<&Rivals<'_>>,
    format: Format,
    every_case: bool,
) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    match format {
        Format::Human => out.write_all(table::report(records, rivals, style(every_case)).as_bytes()),
        Format::Csv => export::write_csv(records, &mut out),
        Format::Json => export::write_json_lines(records, &mut out),
        Format::Markdown => out.write_all(markdown::report(records, rivals).as_bytes()),
    }
    .and_then(|()| out.flush())
    .context("cannot write to standard output")
}

/// How tables are drawn on this terminal.
pub(super) fn style(cases: bool) -> table::Style {
    let terminal = stdout().is_terminal();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let asked = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = Table::new().width().map(usize::from).or_else(asked).unwrap_or(WIDTH);
    table::Style { width, colour: terminal && !no_colour, cases }
}

/// A table without lines, as wide as the terminal or, where there is none, as tables usually are.
pub(super) fn plain(headings: impl Into<Row>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(WIDTH as u16);
    }
    table.set_header(headings);
    table
}
