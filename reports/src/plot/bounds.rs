//! Bounds, audited: quantiles of error over bound, one row per result, one line per storage type.

use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain};
use super::canvas::{Canvas, GRID, INK, LIMIT, LINE, MARGIN, draw, width_of};
use super::palette::{Look, Marker};
use super::{Plot, PlotError};

/// Height of one storage type.
const STRIP: i32 = 18;
/// Room between results.
const APART: i32 = 16;
/// Below this nothing is told apart.
const LEAST: f64 = 1e-4;
/// The right end: a little beyond the bound.
const MOST: f64 = 2.0;

/// Colours of the storage types, and of one that is none of them.
const COLOURS: [(&str, RGBColor); 3] =
    [("f32", RGBColor(0, 114, 178)), ("f16", RGBColor(196, 106, 0)), ("bf16", RGBColor(0, 133, 100))];

/// How near right computations came to the bound of one result in one storage type.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// The result, such as `softmax`.
    pub result: String,
    /// The storage type.
    pub dtype: String,
    /// The median of error over bound, its 99 % and 99.9 % quantiles, and its maximum.
    pub quantiles: [f64; 4],
}

fn colour(dtype: &str) -> RGBColor {
    COLOURS.into_iter().find(|(name, _)| *name == dtype).map_or(INK, |(_, colour)| colour)
}

/// Draws for each result and storage type a line from the median to the 99.9 % quantile, with a
/// tick at 99 % and a disc at the maximum. `loose` is where a bound ceases to mean much. `None`
/// without rows.
///
/// # Errors
/// The drawing library fails.
pub fn bounds(title: &str, audits: &[Audit], loose: f64) -> Result<Option<Plot>, PlotError> {
    let mut results: Vec<&str> = Vec::new();
    for audit in audits {
        if !results.contains(&audit.result.as_str()) {
            results.push(&audit.result);
        }
    }
    let Some(widest) = results.iter().map(|result| width_of(result)).max() else { return Ok(None) };
    let of = |result: &str| audits.iter().filter(move |audit| audit.result == result).collect::<Vec<_>>();
    let largest = audits.iter().map(|audit| audit.quantiles[3]).fold(0.0, f64::max);
    let description =
        format!("{} results; the largest error is {} of its bound", results.len(), plain(largest));
    draw(title, &description, |canvas| {
        let mut y = legend(canvas)? + LINE;
        let axis = LogAxis::between(LEAST, MOST, MARGIN + widest + 16, canvas.width - 34);
        let height = |result: &&str| STRIP * i32::try_from(of(result).len()).unwrap_or(0) + APART;
        let bottom = y + results.iter().map(height).sum::<i32>();
        grid(canvas, &axis, y, bottom, loose)?;
        for result in &results {
            let rows = of(result);
            let middle = y + (height(result) - APART) / 2;
            canvas.text(result, (MARGIN, middle), HPos::Left)?;
            for audit in rows {
                row(canvas, audit, &axis, y + STRIP / 2)?;
                y += STRIP;
            }
            y += APART;
        }
        let note = "Error ÷ bound of correct kernels, log scale. Line: median to 99.9 %. Tick: 99 %. \
                    Disc: largest.";
        canvas.note(note, bottom + 66)
    })
    .map(Some)
}

fn legend(canvas: &Canvas<'_>) -> Result<i32, PlotError> {
    let mut x = 20;
    for (dtype, colour) in COLOURS {
        canvas.marker((x, canvas.top), 8, Look { colour, marker: Marker::Disc })?;
        canvas.text(dtype, (x + 18, canvas.top), HPos::Left)?;
        x += 60 + width_of(dtype);
    }
    Ok(canvas.top + LINE)
}

fn grid(canvas: &Canvas<'_>, axis: &LogAxis, top: i32, bottom: i32, loose: f64) -> Result<(), PlotError> {
    for power in -4..=0 {
        let tick = 10f64.powi(power);
        let x = axis.at(tick);
        canvas.line(vec![(x, top), (x, bottom)], GRID, 1)?;
        canvas.text(&plain(tick), (x, bottom + 22), HPos::Center)?;
    }
    let (limit, too_loose) = (axis.at(1.0), axis.at(loose));
    canvas.line(vec![(limit, top), (limit, bottom)], LIMIT, 4)?;
    canvas.line(vec![(too_loose, top), (too_loose, bottom)], INK, 2)?;
    canvas.text("too loose", (too_loose - 8, top - 18), HPos::Right)?;
    canvas.warning("bound", (limit, top - 18), HPos::Center)
}

fn row(canvas: &Canvas<'_>, audit: &Audit, axis: &LogAxis, y: i32) -> Result<(), PlotError> {
    let colour = colour(&audit.dtype);
    let [median, p99, p999, max] = audit.quantiles.map(|ratio| axis.at(ratio));
    canvas.line(vec![(median, y), (p999, y)], colour, 5)?;
    canvas.line(vec![(p99, y - 7), (p99, y + 7)], colour, 3)?;
    canvas.marker((max, y), 5, Look { colour, marker: Marker::Disc })
}
