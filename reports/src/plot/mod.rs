//! Pictures of records, as SVG drawn with `plotters`.
//!
//! No fonts are read from the system; the reader's own sans-serif is used. Every picture comes as
//! a file of its own ([`Plot::file`], on white) or inline for a page ([`Plot::inline`], in the
//! page's own text colour, so that it is readable on light and dark).

mod axis;
mod bounds;
mod canvas;
mod compact;
mod errors;
mod growth;
mod history;
mod overview;
mod palette;
mod rivals;
mod roofline;
mod series;
mod speedup;
mod throughput;
mod ulp;

pub use bounds::{Audit, bounds};
pub use errors::error_over_bound;
pub use growth::growth;
pub use history::history;
pub use overview::{Named, overview};
pub(crate) use overview::{is_cpu, place};
pub use palette::{Look, Marker, Palette};
pub use rivals::rival_classes;
pub use roofline::roofline;
pub use speedup::{BarGroup, family_bars, speedup_bars};
pub use throughput::throughput;
pub use ulp::ulp;

use compact::compact;

/// A picture that could not be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot draw `{title}`: {message}")]
pub struct PlotError {
    /// Title of the picture.
    pub title: String,
    /// What the drawing library says.
    pub message: String,
}

/// One picture, drawn twice: wide for a screen or print, narrow for a phone, with letters of the
/// same size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plot {
    /// Title, also drawn in the picture.
    pub title: String,
    /// What it shows, for those who cannot see it.
    pub description: String,
    wide: Sheet,
    narrow: Sheet,
}

/// A drawing of one width.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sheet {
    /// Width in units of the drawing.
    width: i32,
    /// Height in units of the drawing.
    height: i32,
    /// The elements, without the surrounding `<svg>`.
    elements: String,
}

impl Plot {
    /// A file of its own, wide and on white: for a README, a talk or print.
    #[must_use]
    pub fn file(&self) -> String {
        let Sheet { width, height, elements } = &self.wide;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n<desc>{}</desc>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n{elements}</svg>\n",
            width / canvas::SCALE,
            height / canvas::SCALE,
            escape(&self.title),
            escape(&self.description),
        )
    }

    /// What it shows, in words.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}. {}", self.title, self.description)
    }

    /// Elements of an HTML page, in its text colour, of the classes `wide` and `narrow`, of which
    /// the page shows one. The page's style sheet has their fonts and the colour `--grid`; who
    /// cannot see them reads [`Plot::label`] on the element around them.
    #[must_use]
    pub fn inline(&self) -> String {
        let sheets = [("wide", &self.wide), ("narrow", &self.narrow)].map(|(class, sheet)| {
            let Sheet { width, height, elements } = sheet;
            let elements = compact(elements);
            format!("<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\">{elements}</svg>")
        });
        sheets.concat()
    }
}

/// Text inside an element or an attribute.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
