//! Throughput against size: one line per backend and series of problems.

use std::collections::BTreeMap;

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain, si};
use super::canvas::{Frame, HEIGHT, LINE, draw};
use super::palette::Palette;
use super::series::{family, label, means};
use super::{Plot, PlotError};
use crate::grid::{counts_flops, throughput as value_of};
use crate::record::Record;
use crate::summary::ordered_backends;

/// Problems that differ in a length only.
#[derive(Default)]
struct Series<'a> {
    /// Sizes and problems.
    problems: Vec<(u64, &'a str)>,
    /// Sizes and throughputs by backend.
    points: BTreeMap<&'a str, Vec<(u64, f64)>>,
}

impl Series<'_> {
    fn label(&mut self) -> String {
        self.problems.sort_unstable();
        self.problems.dedup();
        label(&self.problems.iter().map(|(_, problem)| *problem).collect::<Vec<_>>())
    }
}

/// Draws the timed rows of one operation, dtype, thread count and cache state. Problems that
/// differ in a length only are joined by a line; where there are several such series, each has
/// a number. `None` if there are fewer than two sizes: that is a table, not a picture.
///
/// # Errors
/// The drawing library fails.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser than 2^-53")]
pub fn throughput(title: &str, records: &[Record], palette: &Palette) -> Result<Option<Plot>, PlotError> {
    let Some(first) = records.first() else {
        return Ok(None);
    };
    let flops = counts_flops(&first.family);
    let mut by_family: BTreeMap<String, Series<'_>> = BTreeMap::new();
    for record in records {
        let size = if flops { record.flops } else { record.bytes };
        if let Some(value) = value_of(record).filter(|_| size > 0) {
            let series = by_family.entry(family(&record.problem)).or_default();
            series.problems.push((size, &record.problem));
            series.points.entry(&record.backend).or_default().push((size, value));
        }
    }
    let mut series: Vec<_> = by_family.into_values().map(|mut s| (s.label(), s.points)).collect();
    // Long lines first: they are what the eye follows.
    series.sort_by_key(|(_, points)| std::cmp::Reverse(points.values().map(|p| means(p).len()).max()));
    let points = || series.iter().flat_map(|(_, points)| points.values().flatten());
    let mut sizes: Vec<_> = points().map(|(size, _)| *size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let lines = series.iter().filter(|(_, points)| points.values().any(|p| means(p).len() > 1)).count();
    if sizes.len() < 2 {
        return Ok(None);
    }
    let order = ordered_backends(records);
    let backends: Vec<_> = order
        .iter()
        .map(String::as_str)
        .filter(|backend| series.iter().any(|(_, points)| points.contains_key(backend)))
        .collect();
    let unit = if flops { "GFLOP/s" } else { "GB/s" };
    let description = format!(
        "{unit} against size on logarithmic axes, from {} points of {}: {}.",
        points().count(),
        backends.join(", "),
        series.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>().join("; ")
    );
    draw(title, &description, |canvas| {
        let top = canvas.legend(&backends, palette)? + 30;
        let (left, right) = (100, canvas.width - 40);
        let bottom = top + HEIGHT;
        let frame = Frame {
            left,
            right,
            top,
            bottom,
            x: LogAxis::around(sizes.iter().map(|size| *size as f64), left, right),
            y: LogAxis::around(points().map(|(_, value)| *value), bottom, top),
            x_text: si,
            y_text: plain,
            x_unit: if flops { "floating-point operations, log scale" } else { "bytes moved, log scale" },
            y_unit: unit,
        };
        canvas.axes(&frame)?;
        for (number, (_, points)) in (1..).zip(&series) {
            let mut numbered: Vec<(i32, i32)> = Vec::new();
            for (backend, points) in points {
                let look = palette.look(backend);
                let line: Vec<_> =
                    means(points).into_iter().map(|(size, value)| frame.at(size as f64, value)).collect();
                if let (Some(&(x, y)), true) = (line.last(), lines > 1 && line.len() > 1) {
                    // Points close together share their number.
                    if !numbered.iter().any(|(x0, y0)| *x0 == x && (y0 - y).abs() < LINE / 2) {
                        canvas.text(&number.to_string(), (x + 12, y), HPos::Left)?;
                        numbered.push((x, y));
                    }
                }
                if line.len() > 1 {
                    canvas.line(line, look.colour, 4)?;
                }
                for (size, value) in points {
                    canvas.marker(frame.at(*size as f64, *value), 7, look)?;
                }
            }
        }
        let mut y = bottom + 100;
        for (number, (label, _)) in (1..).zip(&series).take(lines) {
            let text = if lines > 1 { format!("{number}: {label}") } else { label.clone() };
            y = canvas.note(&text, y)?;
        }
        // They have names in the tables; here names would hide them.
        if lines < series.len() {
            y = canvas.note("Points without a line: problems of one size each.", y)?;
        }
        Ok(y)
    })
    .map(Some)
}
