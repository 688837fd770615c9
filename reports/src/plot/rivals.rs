//! The subject against its fastest rival by class, with what was wanted.

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain};
use super::canvas::{Canvas, GRID, INK, LIMIT, LINE, MARGIN, draw, width_of};
use super::palette::{Look, Palette};
use super::{Plot, PlotError};
use crate::classes::Width;
use crate::rivals::{ClassStanding, Conditions, Rivals};
use crate::words::times;

/// Height of one class.
const STRIP: i32 = 40;

/// Draws for each class a point at the mean ratio with its interval, a small stroke for each case,
/// and a bracket at the goal. The line at 1 is the fastest rival. `None` without duels.
///
/// # Errors
/// The drawing library fails.
pub fn rival_classes(
    rivals: &Rivals<'_>,
    conditions: &Conditions,
    palette: &Palette,
) -> Result<Option<Plot>, PlotError> {
    let standings: Vec<_> =
        rivals.standings(conditions).into_iter().filter(|s| s.standing.mean.is_some()).collect();
    if standings.is_empty() {
        return Ok(None);
    }
    let title = format!("{} against its fastest rival, {}", rivals.subject, conditions.words());
    let labels: Vec<_> = standings.iter().map(label).collect();
    let description = standings
        .iter()
        .zip(&labels)
        .filter_map(|(s, label)| Some(format!("{label}: {}", times(s.standing.mean?.value))))
        .collect::<Vec<_>>()
        .join("; ");
    let values = || {
        standings.iter().flat_map(|s| {
            let cases = s.standing.duels.iter().map(|duel| duel.ratio.value);
            let ends = s.standing.mean.and_then(|mean| mean.interval).map_or([1.0; 2], |(a, b)| [a, b]);
            cases.chain(ends).chain(s.goal.map(|goal| goal.wanted))
        })
    };
    let look = palette.look(&rivals.subject);
    draw(&title, &description, |canvas| {
        let note = "Point: geometric mean with its 95 % interval. Strokes: cases. Bracket: goal.";
        let mut y = canvas.note(note, canvas.top)? + LINE;
        // A phone has room for the names above the strips only.
        let widest = labels.iter().map(|label| width_of(label)).max().unwrap_or(0);
        let beside = widest < canvas.width / 2;
        let (left, height) = if beside { (MARGIN + widest + 16, STRIP) } else { (MARGIN + 16, STRIP + LINE) };
        let axis = LogAxis::around(values().chain([1.0]), left, canvas.width - 34);
        let bottom = y + height * i32::try_from(standings.len()).unwrap_or(0);
        grid(canvas, &axis, y, bottom)?;
        for (standing, label) in standings.iter().zip(&labels) {
            y += height;
            let name = if beside { y - STRIP / 2 } else { y - STRIP - LINE / 2 + 6 };
            canvas.text(label, (MARGIN, name), HPos::Left)?;
            strip(canvas, standing, &axis, y - STRIP / 2, look)?;
        }
        canvas.note("Rival's time ÷ subject's, log scale: right of 1× the subject is faster.", bottom + 66)
    })
    .map(Some)
}

fn label(standing: &ClassStanding<'_>) -> String {
    match standing.width {
        Width::Full => standing.class.name.clone(),
        Width::Half => format!("{} (half)", standing.class.name),
    }
}

fn grid(canvas: &Canvas<'_>, axis: &LogAxis, top: i32, bottom: i32) -> Result<(), PlotError> {
    for tick in axis.ticks() {
        let x = axis.at(tick);
        canvas.line(vec![(x, top), (x, bottom)], GRID, 1)?;
        canvas.text(&format!("{}×", plain(tick)), (x, bottom + 22), HPos::Center)?;
    }
    let one = axis.at(1.0);
    canvas.line(vec![(one, top), (one, bottom)], LIMIT, 3)?;
    canvas.warning("fastest rival", (one, top - 18), HPos::Center)
}

fn strip(
    canvas: &Canvas<'_>,
    standing: &ClassStanding<'_>,
    axis: &LogAxis,
    y: i32,
    look: Look,
) -> Result<(), PlotError> {
    for duel in &standing.standing.duels {
        let x = axis.at(duel.ratio.value);
        canvas.line(vec![(x, y - 5), (x, y + 5)], look.colour, 2)?;
    }
    if let Some(goal) = standing.goal {
        let x = axis.at(goal.wanted);
        canvas.line(vec![(x + 7, y - 13), (x, y - 13), (x, y + 13), (x + 7, y + 13)], INK, 2)?;
    }
    let Some(mean) = standing.standing.mean else { return Ok(()) };
    if let Some((low, high)) = mean.interval {
        canvas.line(vec![(axis.at(low), y), (axis.at(high), y)], look.colour, 3)?;
    }
    canvas.marker((axis.at(mean.value), y), 7, look)
}
