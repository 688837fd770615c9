//! Error over bound: how close each backend comes to the limit, case by case.

use std::collections::BTreeSet;

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain};
use super::canvas::{GRID, INK, LIMIT, draw, width_of};
use super::palette::Palette;
use super::{Plot, PlotError};
use crate::record::Record;
use crate::summary::{ordered_backends, worst_per_case};

const STRIP: i32 = 76;
/// Heights within a strip over which points are spread, so that they do not hide each other.
const LEVELS: i32 = 9;

/// Draws one strip of points per backend, one point per case, with its median. The line at 1 is
/// the bound; zero stands at the left edge, NaN and infinity at the right one. `None` without
/// figures.
///
/// # Errors
/// The drawing library fails.
pub fn error_over_bound(
    title: &str,
    records: &[Record],
    palette: &Palette,
) -> Result<Option<Plot>, PlotError> {
    let cases = worst_per_case(records);
    let strips: Vec<(String, Vec<f64>)> = ordered_backends(records)
        .into_iter()
        .map(|backend| {
            let own = cases.iter().filter(|r| r.backend == backend);
            let mut ratios: Vec<_> = own.filter_map(|r| r.error_over_bound).collect();
            ratios.sort_by(f64::total_cmp);
            (backend, ratios)
        })
        .filter(|(_, ratios)| !ratios.is_empty())
        .collect();
    let Some(widest) = strips.iter().map(|(name, _)| width_of(name)).max() else {
        return Ok(None);
    };
    let top = 96;
    let rows = STRIP * i32::try_from(strips.len()).unwrap_or(0);
    let height = u32::try_from(top + rows + 92).unwrap_or(u32::MAX);
    let smallest = strips
        .iter()
        .flat_map(|(_, ratios)| ratios)
        .filter(|ratio| **ratio > 0.0)
        .fold(0.1, |low: f64, ratio| low.min(*ratio));
    let description = strips
        .iter()
        .map(|(name, ratios)| {
            let over = ratios.iter().filter(|r| r.is_nan() || **r > 1.0).count();
            format!("{name}: {} cases, {over} over the bound", ratios.len())
        })
        .collect::<Vec<_>>()
        .join("; ");
    draw(title, &description, (1160, height), |canvas| {
        let (left, right) = (widest + 40, canvas.size.0 - 30);
        let bottom = top + rows;
        // Below a ten-thousandth of the bound nobody cares how far.
        let axis = LogAxis::between(smallest.max(1e-4) / 1.5, 20.0, left, right);
        for tick in axis.ticks() {
            let x = axis.at(tick);
            canvas.line(vec![(x, top), (x, bottom)], GRID, 1)?;
            canvas.text(&plain(tick), (x, bottom + 22), HPos::Center)?;
        }
        canvas.line(vec![(left, bottom), (right, bottom)], INK, 2)?;
        let limit = axis.at(1.0);
        canvas.line(vec![(limit, top), (limit, bottom)], LIMIT, 4)?;
        canvas.warning("bound", (limit, top - 18), HPos::Center)?;
        for (strip, (name, ratios)) in (0..).zip(&strips) {
            let middle = top + STRIP * strip + STRIP / 2;
            let look = palette.look(name);
            canvas.text(name, (left - 16, middle), HPos::Right)?;
            let mut drawn = BTreeSet::new();
            for (i, ratio) in (0..).zip(ratios) {
                // A fixed stride through the levels looks irregular and is reproducible.
                let level = (i * 4) % LEVELS;
                let y = middle + (level - LEVELS / 2) * (STRIP - 28) / LEVELS;
                let x = axis.at(*ratio);
                if drawn.insert((x / 3, level)) {
                    canvas.marker((x, y), 5, look)?;
                }
            }
            let median = axis.at(ratios[ratios.len() / 2]);
            let span = STRIP / 2 - 8;
            canvas.line(vec![(median, middle - span), (median, middle + span)], INK, 4)?;
        }
        let unit = "error ÷ bound; vertical strokes are medians";
        canvas.text(unit, (right, bottom + 58), HPos::Right)
    })
    .map(Some)
}
