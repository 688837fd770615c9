//! The roofline: arithmetic intensity against speed, under the machine's measured ceilings.
//!
//! S. Williams, A. Waterman, D. Patterson, *Roofline: an insightful visual performance model for
//! multicore architectures*, Communications of the ACM 52(4), 2009.

use std::collections::BTreeSet;

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain};
use super::canvas::{Frame, INK, SIZE, draw};
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
        .filter(|r| r.threads == limits.threads && r.flops > 0 && r.bytes > 0)
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
    let Some(peak) = limits.fma_gflops.filter(|peak| *peak > 0.0) else {
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
    draw(title, &description, SIZE, |canvas| {
        // Named in a line of their own: labels on the slopes would cover the points.
        let line = canvas.legend(&backends, palette)?;
        let names: Vec<_> = slopes.iter().map(|(name, s)| format!("{name} {s:.0}")).collect();
        let names = format!("slopes from the left: {} GB/s", names.join(", "));
        canvas.text(&names, (8, line), HPos::Left)?;
        let top = line + 70;
        let (left, right) = (100, canvas.size.0 - 24);
        let bottom = canvas.size.1 - 84;
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
            y: LogAxis::around(speeds.chain([peak * 1.1]), bottom, top),
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
        let text = format!("fused multiply-add {peak:.0} GFLOP/s");
        canvas.text(&text, (right - 4, y - 20), HPos::Right)?;
        // Points on the same spot would only make the file larger.
        let mut drawn = BTreeSet::new();
        for (record, intensity, speed) in &points {
            let (x, y) = frame.at(*intensity, *speed);
            if drawn.insert((record.backend.as_str(), x / 4, y / 4)) {
                canvas.marker((x, y), 5, palette.look(&record.backend))?;
            }
        }
        Ok(())
    })
    .map(Some)
}
