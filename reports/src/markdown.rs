//! Grids as Markdown, for pull requests and the README.

use crate::grid::{self, Cell, Grid, Tone};
use crate::growth::{Cost, sweeps};
use crate::lead::{Part, against, lead};
use crate::record::Record;
use crate::rivals::Rivals;
use crate::summary::Summary;

/// The whole report: the same content as [`crate::table::report`]. The long tables are folded.
#[must_use]
pub fn report(records: &[Record], rivals: Option<&Rivals<'_>>) -> String {
    let summary = Summary::of(records);
    let mut out = format!("{}\n", summary_of(records, &summary));
    out.push_str(&render(&grid::verdicts(&summary)));
    for grid in [grid::accuracy(&summary), grid::mean_speeds(&summary)] {
        out.extend(grid.map(|grid| render(&grid)));
    }
    out.extend(rivals.map(against_rivals));
    for cost in [Cost::Time, Cost::Memory] {
        out.extend(grid::growth(&sweeps(records, cost), cost).map(|grid| folded(&grid)));
    }
    for grid in grid::extra_memory(records) {
        out.push_str(&folded(&grid));
    }
    for family in &summary.families {
        for grid in grid::family_speeds(records, family, &summary.backends) {
            out.push_str(&folded(&grid));
        }
    }
    out.extend(grid::failures(records).map(|grid| render(&grid)));
    out.extend(grid::known_issues(records).map(|grid| render(&grid)));
    out.extend(grid::unsupported(records).map(|grid| folded(&grid)));
    out
}

/// The summary as sentences and short lists.
#[must_use]
pub fn summary_of(records: &[Record], summary: &Summary) -> String {
    lead(records, summary).iter().map(sentence).collect::<Vec<_>>().join("\n")
}

fn sentence(part: &Part) -> String {
    let points: Vec<_> = part.points.iter().map(|point| format!("- {}\n", escape(point))).collect();
    let gap = if points.is_empty() { "" } else { "\n" };
    format!("{}\n{gap}{}", escape(&part.text), points.concat())
}

/// The subject against its fastest rival: all together, by class, and, folded, case by case.
fn against_rivals(rivals: &Rivals<'_>) -> String {
    let Some(part) = against(rivals) else { return String::new() };
    let mut out = format!("## Against the fastest rival\n\n{}\n", sentence(&part));
    out.extend(grid::rival_totals(rivals).map(|grid| render(&grid)));
    for (i, grid) in grid::rival_classes(rivals).iter().enumerate() {
        // The first conditions stand for the others.
        out.push_str(&if i == 0 { render(grid) } else { folded(grid) });
    }
    grid::rival_cases(rivals).iter().for_each(|grid| out.push_str(&folded(grid)));
    out
}

/// One grid under a heading, with its note.
#[must_use]
pub fn render(grid: &Grid) -> String {
    format!("### {}\n\n{}", escape(&grid.title), body(grid))
}

/// One grid behind a fold that shows its title.
#[must_use]
pub fn folded(grid: &Grid) -> String {
    format!("<details><summary>{}</summary>\n\n{}</details>\n\n", escape(&grid.title), body(grid))
}

fn body(grid: &Grid) -> String {
    let mut out = table(grid);
    if !grid.note.is_empty() {
        out.push_str(&format!("\n{}\n", escape(&grid.note)));
    }
    out.push('\n');
    out
}

/// One grid as a table alone.
#[must_use]
pub fn table(grid: &Grid) -> String {
    let headings: Vec<_> = grid.headings.iter().map(|h| escape(&h.text)).collect();
    let rules: Vec<_> = grid.headings.iter().map(|h| if h.figures { "--:" } else { "---" }).collect();
    let mut out = format!("| {} |\n| {} |\n", headings.join(" | "), rules.join(" | "));
    for row in &grid.rows {
        let cells = grid.headings.iter().zip(&row.cells);
        let cells: Vec<_> = cells.map(|(h, c)| cell(c, h.code)).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out
}

fn cell(cell: &Cell, is_code: bool) -> String {
    if is_code && !cell.text.is_empty() {
        return code(&cell.text);
    }
    let mut text = escape(&cell.text);
    if matches!(cell.tone, Tone::Best | Tone::Bad) && !text.is_empty() {
        text = format!("**{text}**");
    }
    for line in &cell.below {
        text.push_str("<br>");
        text.push_str(&escape(line));
    }
    text
}

/// Inline code; a table's bars must be escaped even there, backticks cannot be.
fn code(text: &str) -> String {
    let fence = if text.contains('`') { "``" } else { "`" };
    format!("{fence}{}{fence}", text.replace('|', "\\|").replace('\n', " "))
}

/// Text that Markdown would take for markup, escaped.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// A document without exactly one pair of markers of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// A marker is missing.
    #[error("`{marker}` is missing")]
    Missing {
        /// The marker.
        marker: String,
    },
    /// A marker is there twice, so that it is not clear what to replace.
    #[error("`{marker}` is there more than once")]
    Repeated {
        /// The marker.
        marker: String,
    },
    /// The end comes before the beginning.
    #[error("`{marker}` comes before the marker that opens it")]
    Inverted {
        /// The closing marker.
        marker: String,
    },
}

/// Replaces what stands between `<!-- touchstone:NAME -->` and `<!-- /touchstone:NAME -->`. The
/// markers stay, so splicing again replaces again.
///
/// # Errors
/// The markers are not there exactly once each, in order.
pub fn splice(document: &str, name: &str, content: &str) -> Result<String, SpliceError> {
    let open = format!("<!-- touchstone:{name} -->");
    let close = format!("<!-- /touchstone:{name} -->");
    let start = only(document, &open)? + open.len();
    let end = only(document, &close)?;
    if end < start {
        return Err(SpliceError::Inverted { marker: close });
    }
    let (before, after) = (&document[..start], &document[end..]);
    Ok(format!("{before}\n{}\n{after}", content.trim_matches('\n')))
}

fn only(document: &str, marker: &str) -> Result<usize, SpliceError> {
    let mut places = document.match_indices(marker);
    let (place, _) = places.next().ok_or_else(|| SpliceError::Missing { marker: marker.to_owned() })?;
    if places.next().is_some() {
        return Err(SpliceError::Repeated { marker: marker.to_owned() });
    }
    Ok(place)
}
