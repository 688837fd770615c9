//! The roofline: arithmetic intensity against speed, under the machine's measured ceilings.
//!
//! S. Williams, A. Waterman, D. Patterson, *Roofline: an insightful visual performance model for
//! multicore architectures*, Communications of the ACM 52(4), 2009.

use std::collections::BTreeSet;

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain};
use super::canvas::{Canvas, Frame, HEIGHT, INK, LINE, MARGIN, draw, width_of};
use super::palette::Palette;
use super::{Plot, PlotError};
use crate::environment::RooflineEntry;
use crate::record::Record;
use crate::summary::ordered_backends;

/// Draws all timed rows with the thread count of the measured limits. `None` without limits or
/// rows.
///
/// # Errors
/// The drawing library fails.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser than 2^-53")]
pub fn roofline(
    title: &str,
    records: &[Record],
    limits: &RooflineEntry,
    palette: &Palette,
) -> Result<Option<Plot>, PlotError> {
    let points: Vec<(&Record, f64, f64)> = records
        .iter()
        .filter(|r| limits.applies_to(r) && r.flops > 0 && r.bytes > 0)
        .filter_map(|r| {
            let median = r.median_ns.filter(|ns| *ns > 0)? as f64;
            Some((r, r.flops as f64 / r.bytes as f64, r.flops as f64 / median))
        })
        .collect();
    let mut slopes: Vec<(&str, f64)> = [
        ("cache read", limits.cache_read_gb_s),
        ("non-temporal copy", limits.nt_copy_gb_s),
        ("copy", limits.copy_gb_s),
        ("read", limits.read_gb_s),
    ]
    .into_iter()
    .filter_map(|(name, slope)| Some((name, slope.filter(|s| *s > 0.0)?)))
    .collect();
    slopes.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some(peak) = limits.peak_gflops().filter(|peak| *peak > 0.0) else {
        return Ok(None);
    };
    if points.is_empty() || slopes.is_empty() {
        return Ok(None);
    }
    let order = ordered_backends(records);
    let backends: Vec<_> = order
        .iter()
        .map(String::as_str)
        .filter(|backend| points.iter().any(|(r, ..)| r.backend == *backend))
        .collect();
    let description = format!(
        "{} measurements against the measured peak of {peak:.0} GFLOP/s and bandwidths of {}.",
        points.len(),
        slopes.iter().map(|(name, slope)| format!("{slope:.0} GB/s ({name})")).collect::<Vec<_>>().join(", ")
    );
    draw(title, &description, |canvas| {
        let top = canvas.legend(&backends, palette)? + 30;
        let (left, right) = (100, canvas.width - 24);
        let names = LINE * i32::try_from(slopes.len() + 1).unwrap_or(0);
        let bottom = top + names + HEIGHT;
        let intensities = points.iter().map(|(_, x, _)| *x);
        let (low, high) =
            intensities.fold((0.5, 32.0), |(low, high): (f64, f64), x| (low.min(x), high.max(x)));
        let speeds = points.iter().map(|(.., y)| *y);
        let frame = Frame {
            left,
            right,
            top,
            bottom,
            x: LogAxis::between(low / 1.5, high * 1.5, left, right),
            y: LogAxis::around(speeds.chain([peak]), bottom, top + names),
            x_text: plain,
            y_text: plain,
            x_unit: "floating-point operations per byte",
            y_unit: "GFLOP/s",
        };
        canvas.axes(&frame)?;
        let start = low / 1.5;
        for (_, slope) in &slopes {
            let ridge = peak / slope;
            let ends = vec![frame.at(start, start * slope), frame.at(ridge, peak)];
            canvas.line(ends, INK, 2)?;
        }
        let knee = slopes.iter().map(|(_, s)| peak / s).fold(f64::INFINITY, f64::min);
        canvas.line(vec![frame.at(knee, peak), frame.at(high * 1.5, peak)], INK, 2)?;
        let (_, y) = frame.at(knee, peak);
        let text = format!("FMA {peak:.0} GFLOP/s");
        canvas.text(&text, (right - 4, y - 20), HPos::Right)?;
        let ridges = slopes.iter().map(|(name, slope)| {
            let text = format!("{name} {slope:.0} GB/s");
            (text, frame.at(peak / slope, peak))
        });
        name_slopes(canvas, &ridges.collect::<Vec<_>>())?;
        // Points on the same spot would only make the file larger.
        let mut drawn = BTreeSet::new();
        for (record, intensity, speed) in &points {
            let (x, y) = frame.at(*intensity, *speed);
            if drawn.insert((record.backend.as_str(), x / 4, y / 4)) {
                canvas.marker((x, y), 5, palette.look(&record.backend))?;
            }
        }
        Ok(bottom + 84)
    })
    .map(Some)
}

/// Names each slope at its ridge, where it meets the peak, in the empty space above: on the slopes
/// themselves, which lie close together, names would cover each other and the points. The ridges
/// come from left to right, so that names to their left need rising, to their right falling rows
/// for no stem to cross a name.
fn name_slopes(canvas: &Canvas<'_>, ridges: &[(String, (i32, i32))]) -> Result<(), PlotError> {
    let leftwards = ridges.iter().all(|(text, (x, _))| x - 16 - width_of(text) >= MARGIN);
    for (i, (text, (x, ridge))) in ridges.iter().enumerate() {
        let row = if leftwards { i + 1 } else { ridges.len() - i };
        // The first row is left to the name of the peak.
        let y = ridge - 20 - LINE * i32::try_from(row).unwrap_or(0);
        canvas.line(vec![(*x, *ridge), (*x, y)], INK, 1)?;
        let (at, side) = if leftwards { (x - 8, HPos::Right) } else { (x + 8, HPos::Left) };
        canvas.text(text, (at, y), side)?;
    }
    Ok(())
}
