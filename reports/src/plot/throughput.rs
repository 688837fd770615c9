//! Throughput against size: one line per backend.

use std::collections::BTreeMap;

use super::axis::{LogAxis, plain, si};
use super::canvas::{Frame, SIZE, draw};
use super::palette::Palette;
use super::{Plot, PlotError};
use crate::grid::{counts_flops, throughput as value_of};
use crate::record::Record;
use crate::summary::ordered_backends;

/// Draws the timed rows of one operation, dtype, thread count and cache state. `None` if there
/// are fewer than two sizes: that is a table, not a picture.
///
/// # Errors
/// The drawing library fails.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser than 2^-53")]
pub fn throughput(title: &str, records: &[Record], palette: &Palette) -> Result<Option<Plot>, PlotError> {
    let Some(first) = records.first() else {
        return Ok(None);
    };
    let flops = counts_flops(&first.family);
    let mut series: BTreeMap<&str, Vec<(u64, f64)>> = BTreeMap::new();
    for record in records {
        let size = if flops { record.flops } else { record.bytes };
        if let Some(value) = value_of(record).filter(|_| size > 0) {
            let points = series.entry(&record.backend).or_default();
            points.push((size, value));
        }
    }
    let points = || series.values().flatten();
    let mut sizes: Vec<_> = points().map(|(size, _)| *size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.len() < 2 {
        return Ok(None);
    }
    let order = ordered_backends(records);
    let backends: Vec<_> =
        order.iter().map(String::as_str).filter(|backend| series.contains_key(backend)).collect();
    let unit = if flops { "GFLOP/s" } else { "GB/s" };
    let description = format!(
        "{unit} against size on logarithmic axes, from {} points of {}.",
        points().count(),
        backends.join(", ")
    );
    draw(title, &description, SIZE, |canvas| {
        let top = canvas.legend(&backends, palette)? + 30;
        let (left, right) = (100, canvas.size.0 - 24);
        let bottom = canvas.size.1 - 84;
        let frame = Frame {
            left,
            right,
            top,
            bottom,
            x: LogAxis::around(sizes.iter().map(|size| *size as f64), left, right),
            y: LogAxis::around(points().map(|(_, value)| *value), bottom, top),
            x_text: si,
            y_text: plain,
            x_unit: if flops { "floating-point operations" } else { "bytes moved" },
            y_unit: unit,
        };
        canvas.axes(&frame)?;
        for backend in &backends {
            let look = palette.look(backend);
            let points = &series[backend];
            let line: Vec<_> =
                means(points).into_iter().map(|(size, value)| frame.at(size as f64, value)).collect();
            canvas.line(line, look.colour, 4)?;
            for (size, value) in points {
                canvas.marker(frame.at(*size as f64, *value), 7, look)?;
            }
        }
        Ok(())
    })
    .map(Some)
}

/// One point per size: several problems of the same size have a geometric mean.
#[expect(clippy::cast_precision_loss, reason = "numbers of points are small")]
fn means(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let mut logs: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (size, value) in points {
        logs.entry(*size).or_default().push(value.ln());
    }
    let mean = |logs: Vec<f64>| (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    logs.into_iter().map(|(size, logs)| (size, mean(logs))).collect()
}
