//! Grids for a terminal.

use comfy_table::presets::{NOTHING, UTF8_HORIZONTAL_ONLY};
use comfy_table::{
    Attribute, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, TableStyle, Width,
};

use crate::grid::{self, Cell, Grid, Heading, Tone};
use crate::growth::{Cost, sweeps};
use crate::lead::{Part, against, lead};
use crate::record::Record;
use crate::rivals::Rivals;
use crate::summary::Summary;
use crate::words::wrap;

/// Narrowest table that is laid out well; narrower terminals wrap it themselves.
const NARROWEST: usize = 60;
/// Room for the first column when a wide grid is split: enough for most problem texts in two or
/// three lines.
const FIRST_COLUMN: usize = 20;
/// Room for what stands below a figure: its interval (`0.985–1.02`), its contract (`componentwise`); with
/// the padding of two.
const FIGURE_COLUMN: usize = 15;

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether to use colour and bold; the caller asks the terminal and `NO_COLOR`.
    pub colour: bool,
    /// Whether to show the speed of every case, not only the means.
    pub cases: bool,
}

/// The whole report: the summary, verdicts, speeds, the subject against its fastest rival if there
/// is one, failures, known issues, unsupported.
#[must_use]
pub fn report(records: &[Record], rivals: Option<&Rivals<'_>>, style: Style) -> String {
    let summary = Summary::of(records);
    let mut sentences = lead(records, &summary);
    sentences.extend(rivals.and_then(against));
    let mut parts = vec![opening(&sentences, style.width.max(NARROWEST))];
    let mut grids = vec![grid::verdicts(&summary)];
    grids.extend(grid::accuracy(&summary));
    grids.extend(grid::mean_speeds(&summary));
    grids.extend(rivals.and_then(grid::rival_totals));
    let classes = rivals.map(grid::rival_classes).unwrap_or_default();
    // The first conditions stand for the others in a short report.
    let shown = if style.cases { classes.len() } else { 1 };
    grids.extend(classes.into_iter().take(shown));
    for cost in [Cost::Time, Cost::Memory] {
        grids.extend(grid::growth(&sweeps(records, cost), cost).filter(|_| style.cases));
    }
    for family in summary.families.iter().filter(|_| style.cases) {
        grids.extend(grid::family_speeds(records, family, &summary.backends));
    }
    grids.extend(grid::failures(records));
    grids.extend(grid::known_issues(records));
    grids.extend(grid::unsupported(records));
    parts.extend(grids.iter().map(|grid| render(grid, style)));
    parts.join("\n")
}

/// Sentences, with their points as a list.
fn opening(parts: &[Part], width: usize) -> String {
    let mut out = String::new();
    for part in parts {
        out.push_str(&wrap(&part.text, width));
        for point in &part.points {
            let point = wrap(point, width.saturating_sub(4));
            out.push_str(&format!("  • {}\n", point.trim_end().replace('\n', "\n    ")));
        }
    }
    out
}

/// One grid with its title and note. A grid of figures that is too wide is split into several
/// with the same first column; a grid with code shows the code below each row, on a line of its
/// own, so that it can be copied.
#[must_use]
pub fn render(grid: &Grid, style: Style) -> String {
    let width = style.width.max(NARROWEST);
    let mut out = format!("{}\n", paint(&grid.title, Tone::Best, style.colour));
    if grid.headings.iter().any(|heading| heading.code) {
        out.push_str(&blocks(grid, width, style.colour));
    } else {
        for columns in pages(grid, width) {
            out.push_str(&page(grid, &columns, width, style.colour));
        }
    }
    if !grid.note.is_empty() {
        let mark = if style.colour { "Bold:" } else { "Starred (*):" };
        out.push_str(&wrap(&grid.note.replace("Bold:", mark), width));
    }
    out
}

/// Which columns stand together: all, or as many figures as fit beside the words.
fn pages(grid: &Grid, width: usize) -> Vec<Vec<usize>> {
    let (figures, words): (Vec<_>, Vec<_>) = (0..grid.headings.len())
        .filter(|&i| !grid.headings[i].detail)
        .partition(|&i| grid.headings[i].figures);
    let widest = |i: usize| {
        let head = heading(&grid.headings[i]);
        let head = head.lines().map(|line| line.chars().count()).max();
        let texts = grid.rows.iter().flat_map(move |row| lines(&row.cells[i]));
        texts.map(|t| t.chars().count()).max().max(head).unwrap_or(0)
    };
    let names: usize = words.iter().map(|&i| widest(i) + 2).sum();
    let room = width.saturating_sub(names.min(FIRST_COLUMN + 2));
    let mut pages: Vec<Vec<usize>> = vec![words.clone()];
    let mut left = room;
    for i in figures {
        let needed = (widest(i) + 2).min(FIGURE_COLUMN);
        if needed > left && pages.last().is_some_and(|page| page.len() > words.len()) {
            pages.push(words.clone());
            left = room;
        }
        left = left.saturating_sub(needed);
        if let Some(page) = pages.last_mut() {
            page.push(i);
        }
    }
    // A table of words only, or with figures between words, stays in its order.
    if let [page] = pages.as_mut_slice() {
        page.sort_unstable();
    }
    pages
}

/// Backend ids break before their slash, which makes columns of figures narrow.
fn heading(heading: &Heading) -> String {
    if heading.backend { heading.text.replacen('/', "\n/", 1) } else { heading.text.clone() }
}

/// Rules between rows only where rows have several lines.
fn rules(grid: &Grid, columns: &[usize]) -> TableStyle {
    let mut cells = grid.rows.iter().flat_map(|row| columns.iter().map(|&i| &row.cells[i]));
    if cells.any(|cell| !cell.below.is_empty()) {
        return UTF8_HORIZONTAL_ONLY;
    }
    NOTHING
        .top_border(UTF8_HORIZONTAL_ONLY.top_border)
        .header_separator(UTF8_HORIZONTAL_ONLY.header_separator)
        .bottom_border(UTF8_HORIZONTAL_ONLY.bottom_border)
}

fn lines(cell: &Cell) -> impl Iterator<Item = &str> {
    std::iter::once(cell.text.as_str()).chain(cell.below.iter().map(String::as_str))
}

fn page(grid: &Grid, columns: &[usize], width: usize, colour: bool) -> String {
    let mut table = Table::new();
    table
        .load_style(rules(grid, columns))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX))
        .set_header(columns.iter().map(|&i| heading(&grid.headings[i])));
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for row in &grid.rows {
        table.add_row(columns.iter().map(|&i| styled(&row.cells[i], colour)));
    }
    for (place, &i) in columns.iter().enumerate() {
        let Some(column) = table.column_mut(place) else {
            continue;
        };
        if grid.headings[i].figures {
            column.set_cell_alignment(CellAlignment::Right);
            if columns.len() > 4 {
                let most = u16::try_from(FIGURE_COLUMN).unwrap_or(u16::MAX);
                column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(most)));
            }
        }
    }
    format!("{}\n", table.trim_fmt())
}

fn styled(cell: &Cell, colour: bool) -> comfy_table::Cell {
    let text: Vec<_> = lines(cell).collect();
    if !colour {
        // Bold needs a substitute where there is none.
        let mark = if cell.tone == Tone::Best { "*" } else { "" };
        return comfy_table::Cell::new(format!("{mark}{}", text.join("\n")));
    }
    let styled = comfy_table::Cell::new(text.join("\n"));
    match cell.tone {
        Tone::Plain | Tone::Heat(_) => styled,
        Tone::Best => styled.add_attribute(Attribute::Bold),
        Tone::Good => styled.fg(Color::Green),
        Tone::Bad => styled.fg(Color::Red).add_attribute(Attribute::Bold),
        Tone::Note => styled.fg(Color::Yellow),
        Tone::Muted => styled.add_attribute(Attribute::Dim),
    }
}

/// Rows as paragraphs, with code unwrapped on its own line.
fn blocks(grid: &Grid, width: usize, colour: bool) -> String {
    let mut out = String::new();
    for row in &grid.rows {
        let mut words = Vec::new();
        let mut code = Vec::new();
        for (heading, cell) in grid.headings.iter().zip(&row.cells) {
            if heading.code {
                code.push(format!("    {}\n", cell.text));
            } else {
                words.push(lines(cell).collect::<Vec<_>>().join("; "));
            }
        }
        let tone = row.cells.first().map_or(Tone::Plain, |cell| cell.tone);
        let head = words.first().cloned().unwrap_or_default();
        let text = wrap(&words.join(" · "), width.saturating_sub(2)).replace('\n', "\n  ");
        let text = text.trim_end();
        let text = text.strip_prefix(&head).unwrap_or(text);
        out.push_str(&format!("• {}{text}\n{}", paint(&head, tone, colour), code.concat()));
    }
    out
}

fn paint(text: &str, tone: Tone, colour: bool) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Plain | Tone::Heat(_) => return text.to_owned(),
        Tone::Best => "1",
        Tone::Good => "32",
        Tone::Bad => "1;31",
        Tone::Note => "33",
        Tone::Muted => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
