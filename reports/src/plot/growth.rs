//! Cost against one size on logarithmic axes: a power law is a straight line.

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, si};
use super::canvas::{Frame, HEIGHT, draw};
use super::palette::Palette;
use super::{Plot, PlotError};
use crate::growth::{Cost, Sweep, fit};

/// Draws one sweep: a line for each backend, with the exponents below. `None` with fewer than two
/// sizes.
///
/// # Errors
/// The drawing library fails.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser than 2^-53")]
pub fn growth(sweep: &Sweep, palette: &Palette) -> Result<Option<Plot>, PlotError> {
    let (low, high) = sweep.range();
    if low == high {
        return Ok(None);
    }
    let points = || sweep.series.iter().flat_map(|(_, points)| points);
    let backends: Vec<_> = sweep.series.iter().map(|(backend, _)| backend.as_str()).collect();
    let exponents: Vec<_> = sweep
        .series
        .iter()
        .filter_map(|(backend, points)| {
            let fit = fit(points)?;
            Some(format!("{backend} {:.2} [{}]", fit.exponent, fit.span()))
        })
        .collect();
    let exponents = format!("Exponents: {}.", exponents.join("; "));
    let title =
        format!("{}: {} against {}, {}", sweep.problem, sweep.cost.as_str(), sweep.size, sweep.conditions);
    let size = format!("{}, log scale", sweep.size);
    draw(&title, &exponents, |canvas| {
        let top = canvas.legend(&backends, palette)? + 30;
        let (left, right) = (124, canvas.width - 40);
        let bottom = top + HEIGHT;
        let unit = match sweep.cost {
            Cost::Time => 1e-9,
            Cost::Memory => 1.0,
        };
        let frame = Frame {
            left,
            right,
            top,
            bottom,
            x: LogAxis::around(points().map(|(size, _)| *size as f64), left, right),
            y: LogAxis::around(points().map(|(_, cost)| *cost * unit), bottom, top),
            x_text: si,
            y_text: small,
            x_unit: &size,
            y_unit: if sweep.cost == Cost::Time { "seconds, log scale" } else { "bytes, log scale" },
        };
        canvas.axes(&frame)?;
        for (backend, points) in &sweep.series {
            let look = palette.look(backend);
            let line: Vec<_> =
                points.iter().map(|(size, cost)| frame.at(*size as f64, *cost * unit)).collect();
            if line.len() > 1 {
                canvas.line(line.clone(), look.colour, 4)?;
            }
            for point in line {
                canvas.marker(point, 7, look)?;
            }
        }
        canvas.text(&format!("{low} to {high}"), (left, bottom + 58), HPos::Left)?;
        canvas.note(&exponents, bottom + 100)
    })
    .map(Some)
}

/// A number with an SI prefix, below 1 too: `20 µ`, `5 m`.
fn small(value: f64) -> String {
    const PREFIXES: [(f64, &str); 4] = [(1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")];
    if value >= 1.0 {
        return si(value);
    }
    let (unit, prefix) =
        PREFIXES.into_iter().find(|(unit, _)| value >= unit * 0.9999).unwrap_or((1e-12, "p"));
    format!("{} {prefix}", super::axis::plain(value / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_prefixes() {
        let texts = [2e-9, 5e-6, 1e-3, 0.2, 1.0, 2e6].map(|value| small(value).trim().to_owned());
        assert_eq!(texts, ["2 n", "5 µ", "1 m", "200 m", "1", "2 M"]);
    }
}
