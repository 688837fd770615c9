//! Error of a point-wise function in ULP over all its arguments, negative and positive.

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain};
use super::canvas::{Canvas, GRID, HEIGHT, INK, LINE, MARGIN, draw};
use super::palette::Palette;
use super::{Plot, PlotError};
use crate::drawn::Curve;

/// Half a unit is the error of correct rounding; the axis begins a little below.
const LEAST: f64 = 0.4;
/// An error of this size leaves no digit right in any type; larger ones stand here.
const MOST: f64 = 1e8;

/// Draws one function in one storage type, a line for each backend. `None` without points.
///
/// # Errors
/// The drawing library fails.
pub fn ulp(op: &str, dtype: &str, curves: &[&Curve], palette: &Palette) -> Result<Option<Plot>, PlotError> {
    let points = || curves.iter().flat_map(|curve| places(&curve.points));
    let Some(outermost) = points().map(|(_, exponent, _)| exponent).max() else { return Ok(None) };
    let innermost = points().map(|(_, exponent, _)| exponent).min().unwrap_or(outermost);
    let largest = points().map(|(.., ulp)| ulp).fold(1.0, f64::max).min(MOST);
    let backends: Vec<&str> = curves.iter().map(|curve| curve.backend.as_str()).collect();
    let worst = curves.iter().map(|curve| {
        let worst = curve.points.iter().map(|(_, ulp)| *ulp).fold(0.0, f64::max);
        format!("{} {}", curve.backend, plain((worst * 100.0).round() / 100.0))
    });
    let description =
        format!("Largest error in ULP in each binade. At worst: {}.", worst.collect::<Vec<_>>().join("; "));
    draw(&format!("{op} {dtype}: error in ULP"), &description, |canvas| {
        let top = canvas.legend(&backends, palette)? + 30;
        let across = Across { left: 100, right: canvas.width - 24, innermost, outermost };
        let bottom = top + HEIGHT * 3 / 4;
        let y = LogAxis::between(LEAST, largest * 1.6, bottom, top);
        axes(canvas, &across, &y, (top, bottom))?;
        for curve in curves {
            let look = palette.look(&curve.backend);
            for negative in [true, false] {
                let side = places(&curve.points).filter(|(sign, ..)| *sign == negative);
                let mut line: Vec<(i32, i32)> = side
                    .map(|(_, exponent, ulp)| (across.at(negative, exponent), y.at(ulp.clamp(LEAST, MOST))))
                    .collect();
                line.sort_unstable();
                canvas.line(bends(&line), look.colour, 3)?;
            }
        }
        let note = "Argument below, error on the left, both on log scales. Half a ULP is correct rounding.";
        canvas.note(note, bottom + 62)
    })
    .map(Some)
}

/// Sign, exponent and error of the points whose arguments are finite; zero and what is subnormal
/// stand at the smallest exponent.
fn places(points: &[(f64, f64)]) -> impl Iterator<Item = (bool, i32, f64)> {
    let smallest = points.iter().filter(|(from, _)| *from != 0.0).map(|(from, _)| exponent(*from)).min();
    points.iter().filter(|(from, _)| from.is_finite()).map(move |&(from, ulp)| {
        let exponent = if from == 0.0 { smallest.unwrap_or(0) - 1 } else { exponent(from) };
        (from.is_sign_negative(), exponent, ulp)
    })
}

#[expect(clippy::cast_possible_truncation, reason = "exponents of f64 are small")]
fn exponent(value: f64) -> i32 {
    value.abs().log2().floor() as i32
}

/// The horizontal axis: two logarithmic ones that meet at zero.
struct Across {
    left: i32,
    right: i32,
    innermost: i32,
    outermost: i32,
}

impl Across {
    fn at(&self, negative: bool, exponent: i32) -> i32 {
        let middle = i32::midpoint(self.left, self.right);
        let far =
            (self.right - middle) * (exponent - self.innermost) / (self.outermost - self.innermost).max(1);
        if negative { middle - far } else { middle + far }
    }
}

fn axes(
    canvas: &Canvas<'_>,
    across: &Across,
    y: &LogAxis,
    (top, bottom): (i32, i32),
) -> Result<(), PlotError> {
    for tick in y.ticks().into_iter().chain([0.5, 1.0]) {
        let at = y.at(tick);
        canvas.line(vec![(across.left, at), (across.right, at)], GRID, 1)?;
    }
    let mut above = i32::MAX;
    let mut ticks: Vec<f64> = y.ticks().into_iter().chain([0.5]).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    for tick in ticks {
        let at = y.at(tick);
        if above - at >= LINE - 8 {
            canvas.text(&plain(tick), (across.left - 10, at), HPos::Right)?;
            above = at;
        }
    }
    // Powers of two at round exponents, those of both signs, with room for their names.
    let step = [4, 8, 16, 32, 64].into_iter().find(|step| (across.outermost - across.innermost) / step <= 4);
    let step = step.unwrap_or(128);
    let narrow = canvas.width < 1000;
    for exponent in
        (across.innermost..=across.outermost).filter(|e| e % (step * if narrow { 2 } else { 1 }) == 0)
    {
        for negative in [true, false] {
            let x = across.at(negative, exponent);
            canvas.line(vec![(x, top), (x, bottom)], GRID, 1)?;
            let sign = if negative { "−" } else { "" };
            let text = if exponent == 0 { format!("{sign}1") } else { format!("{sign}2^{exponent}") };
            let near = (x - i32::midpoint(across.left, across.right)).abs() < 44;
            if !near {
                let x = x.min(canvas.width - MARGIN - 30);
                canvas.text(&text.replace("^-", "^−"), (x, bottom + 22), HPos::Center)?;
            }
        }
    }
    let middle = i32::midpoint(across.left, across.right);
    canvas.line(vec![(middle, top), (middle, bottom)], INK, 1)?;
    canvas.text("0", (middle, bottom + 22), HPos::Center)?;
    canvas.line(vec![(across.left, top), (across.left, bottom), (across.right, bottom)], INK, 2)?;
    canvas.text("ULP", (MARGIN, top - 22), HPos::Left)
}

/// The points of a line where it bends: between them it is straight and level.
fn bends(line: &[(i32, i32)]) -> Vec<(i32, i32)> {
    let level = |i: usize| line[i - 1].1 == line[i].1 && line[i].1 == line[i + 1].1;
    (0..line.len()).filter(|&i| i == 0 || i + 1 == line.len() || !level(i)).map(|i| line[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_stretches_need_two_points() {
        let line = [(0, 5), (1, 5), (2, 5), (3, 9), (4, 5), (5, 5)];
        assert_eq!(bends(&line), [(0, 5), (2, 5), (3, 9), (4, 5), (5, 5)]);
        assert_eq!(bends(&[]), []);
    }

    #[test]
    fn zero_and_what_is_not_finite_have_their_places() {
        let points = [(0.0, 0.5), (2f64.powi(-3), 0.6), (-2.0, 0.7), (f64::INFINITY, 0.0), (-0.0, 0.1)];
        let expected = [(false, -4, 0.5), (false, -3, 0.6), (true, 1, 0.7), (true, -4, 0.1)];
        assert_eq!(places(&points).collect::<Vec<_>>(), expected);
    }
}
