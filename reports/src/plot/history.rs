//! A series of times from run to run, with its changes.

use plotters::style::text_anchor::HPos;

use super::axis::LogAxis;
use super::canvas::{GRID, HEIGHT, INK, LIMIT, draw};
use super::palette::Palette;
use super::{Plot, PlotError};
use crate::history::Series;
use crate::statistics::median;
use crate::words::plural;

/// Draws a series relative to the median of its first stretch: a point for each run, the median of
/// each stretch as a line, a change as an upright one with its revision.
///
/// # Errors
/// The drawing library fails.
pub fn history(series: &Series, palette: &Palette) -> Result<Plot, PlotError> {
    let values = series.values();
    let segments = series.segments();
    let of = |range: &std::ops::Range<usize>| median(values[range.clone()].iter().copied());
    let first = segments.first().map_or(1.0, of);
    let key = &series.subject.key;
    let title = format!("{} on {}", key.problem, key.backend);
    let against = if series.relative { "over the canary" } else { "as it is" };
    let description = format!(
        "The time {against}, as a multiple of the median of the first stretch, in {} with {}.",
        plural(values.len(), "run"),
        plural(series.changes.len(), "change")
    );
    let look = palette.look(&key.backend);
    draw(&title, &description, |canvas| {
        let top = canvas.top + 40;
        let (left, right, bottom) = (124, canvas.width - 40, top + HEIGHT);
        let last = values.len().saturating_sub(1).max(1);
        let x = |i: usize| left + 16 + (right - left - 32) * pixel(i) / pixel(last);
        let y = LogAxis::around(values.iter().map(|value| value / first), bottom, top);
        for tick in y.ticks() {
            canvas.line(vec![(left, y.at(tick)), (right, y.at(tick))], GRID, 1)?;
            canvas.text(&super::axis::plain(tick), (left - 10, y.at(tick)), HPos::Right)?;
        }
        canvas.line(vec![(left, top), (left, bottom), (right, bottom)], INK, 2)?;
        canvas.text("multiple of the beginning, log scale", (8, top - 22), HPos::Left)?;
        for (i, value) in values.iter().enumerate() {
            canvas.marker((x(i), y.at(value / first)), 5, look)?;
        }
        for range in &segments {
            let height = y.at(of(range) / first);
            canvas.line(vec![(x(range.start), height), (x(range.end.max(1) - 1), height)], look.colour, 4)?;
        }
        for change in &series.changes {
            let between = i32::midpoint(x(change.at - 1), x(change.at));
            canvas.line(vec![(between, top), (between, bottom)], LIMIT, 2)?;
            let revision: String = series.points[change.at].git_revision.chars().take(9).collect();
            // On the side where there is room.
            let (at, side) = if between > canvas.width / 2 {
                (between - 8, HPos::Right)
            } else {
                (between + 8, HPos::Left)
            };
            let size = format!("{revision} {:+.1} %", 100.0 * (change.factor - 1.0));
            canvas.warning(&size, (at, top + 14), side)?;
        }
        let day =
            |i: usize| series.points.get(i).map_or("", |point| point.time.split('T').next().unwrap_or(""));
        canvas.text(day(0), (left, bottom + 26), HPos::Left)?;
        canvas.text(day(values.len() - 1), (right, bottom + 26), HPos::Right)?;
        canvas.note(&description, bottom + 68)
    })
}

fn pixel(i: usize) -> i32 {
    i32::try_from(i).unwrap_or(i32::MAX >> 12)
}
