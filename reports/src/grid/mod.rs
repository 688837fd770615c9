//! Tables as content: what stands in which cell, before anyone decides how it looks.
//!
//! The terminal ([`crate::table`]), Markdown ([`crate::markdown`]) and the page ([`crate::html`])
//! render the same grids, so they cannot disagree.

mod behind;
mod environment;
mod groups;
mod growth;
mod heat;
mod kills;
mod lists;
mod rivals;
mod speed;
mod verdict;

pub(crate) use behind::{open_slowest, open_worst};
pub use environment::{backends, limits};
pub use groups::{known_issues, unsupported};
pub use growth::{extra_memory, growth};
pub use heat::heat;
pub use kills::kill_matrix;
pub use lists::failures;
pub use rivals::{rival_cases, rival_classes, rival_totals};
pub use speed::{counts_flops, family_speeds, mean_speeds, status_tone, throughput};
pub use verdict::{accuracy, verdicts};

use crate::plot::escape;

/// How much a cell should stand out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    #[default]
    Plain,
    /// The best of its row: bold.
    Best,
    /// Good news.
    Good,
    /// Somebody has to act.
    Bad,
    /// Worth knowing: a known issue.
    Note,
    /// Absent or of less interest.
    Muted,
    /// On a scale from −4, bad, to 4, good.
    Heat(i8),
}

impl Tone {
    /// A word for style sheets.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Best => "best",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Note => "note",
            Self::Muted => "muted",
            Self::Heat(..=-4) => "cold4",
            Self::Heat(-3) => "cold3",
            Self::Heat(-2) => "cold2",
            Self::Heat(-1) => "cold1",
            Self::Heat(0) => "even",
            Self::Heat(1) => "warm1",
            Self::Heat(2) => "warm2",
            Self::Heat(3) => "warm3",
            Self::Heat(4..) => "warm4",
        }
    }
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The text that counts.
    pub text: String,
    /// Further lines below it, such as the interval.
    pub below: Vec<String>,
    /// How it stands out.
    pub tone: Tone,
    /// Position of the record behind it, in the slice the grid was made from.
    pub record: Option<usize>,
}

impl Cell {
    /// A plain cell.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A timed problem. Normal numbers are what most are timed on; another fill is named below.
    pub(crate) fn problem(problem: &str, fill: &str) -> Self {
        let below = (fill != "normal").then(|| format!("fill {fill}")).into_iter().collect();
        Self { below, ..Self::new(problem) }
    }

    /// The cell of something that is not there.
    #[must_use]
    pub fn absent() -> Self {
        Self::new("–").tone(Tone::Muted)
    }

    /// The classes of the cell on a page, as an attribute.
    pub(crate) fn class(&self, heading: &Heading) -> String {
        let tone = Some(self.tone.as_str()).filter(|_| self.tone != Tone::Plain);
        let classes: Vec<_> = tone.into_iter().chain(heading.figures.then_some("num")).collect();
        if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.join(" ")) }
    }

    /// The same cell, standing out.
    #[must_use]
    pub const fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

/// A column heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// Its text.
    pub text: String,
    /// Whether the cells below are figures, to be aligned to the right.
    pub figures: bool,
    /// Whether the text is a backend, which the cells below are about.
    pub backend: bool,
    /// Whether the cells below are code, to be copied as they are.
    pub code: bool,
    /// Whether a terminal, which has little room, leaves the column out.
    pub detail: bool,
}

impl Heading {
    /// A column of words.
    #[must_use]
    pub fn words(text: impl Into<String>) -> Self {
        Self { text: text.into(), figures: false, backend: false, code: false, detail: false }
    }

    /// A column of figures.
    #[must_use]
    pub fn figures(text: impl Into<String>) -> Self {
        Self { figures: true, ..Self::words(text) }
    }

    /// A column of figures about one backend.
    #[must_use]
    pub fn backend(text: impl Into<String>) -> Self {
        Self { backend: true, ..Self::figures(text) }
    }

    /// The same column, left out on a terminal.
    #[must_use]
    pub const fn detail(mut self) -> Self {
        self.detail = true;
        self
    }

    /// The text in pieces between which a line may break: ids of backends break at their slash.
    #[must_use]
    pub fn pieces(&self) -> Vec<&str> {
        if self.backend { self.text.split_inclusive('/').collect() } else { vec![&self.text] }
    }

    /// A column of code.
    #[must_use]
    pub fn code(text: impl Into<String>) -> Self {
        Self { code: true, ..Self::words(text) }
    }
}

/// What a row is about, for filters; empty where it is about several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// See [`crate::Record::op`].
    pub op: String,
    /// See [`crate::Record::dtype`].
    pub dtype: String,
    /// See [`crate::Record::backend`].
    pub backend: String,
    /// See [`crate::Record::status`].
    pub status: String,
}

impl Subject {
    /// What a filter looks at, as attributes of an element.
    pub(crate) fn attributes(&self) -> String {
        let keys =
            [("op", &self.op), ("dtype", &self.dtype), ("backend", &self.backend), ("status", &self.status)];
        let known = keys.into_iter().filter(|(_, value)| !value.is_empty());
        known.map(|(key, value)| format!(" data-{key}=\"{}\"", escape(value))).collect()
    }
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// One cell per heading; the first names the row.
    pub cells: Vec<Cell>,
    /// What it is about.
    pub subject: Subject,
}

impl Row {
    /// A row that no filter hides.
    #[must_use]
    pub fn new(cells: Vec<Cell>) -> Self {
        Self { cells, subject: Subject::default() }
    }
}

/// A table with a title, and a note that says how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Title, without a full stop.
    pub title: String,
    /// How to read it; may be empty.
    pub note: String,
    /// Column headings.
    pub headings: Vec<Heading>,
    /// Rows.
    pub rows: Vec<Row>,
    /// See [`crate::Record::threads`], where the whole grid is about one thread count.
    pub threads: Option<u32>,
}

impl Grid {
    /// An empty grid.
    #[must_use]
    pub fn new(title: impl Into<String>, note: impl Into<String>, headings: Vec<Heading>) -> Self {
        Self { title: title.into(), note: note.into(), headings, rows: Vec::new(), threads: None }
    }

    /// The grid, unless it has no rows.
    #[must_use]
    pub fn unless_empty(self) -> Option<Self> {
        (!self.rows.is_empty()).then_some(self)
    }
}
