//! Error of a point-wise function in ULP over all its arguments, negative and positive.

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain};
use super::canvas::{Canvas, GRID, HEIGHT, INK, LINE, MARGIN, draw, width_of};
use super::palette::Palette;
use super::{Plot, PlotError};
use crate::drawn::Curve;

/// Half a unit is the error of correct rounding; the axis begins a little below.
const LEAST: f64 = 0.4;
/// An error of this size leaves no digit right in any type; larger ones stand here.
const MOST: f64 = 1e8;
/// Below 2^KNEE the axis is pressed together.
const KNEE: i32 = -20;

/// Draws one function in one storage type, a line for each backend. `None` without points.
///
/// # Errors
/// The drawing library fails.
pub fn ulp(op: &str, dtype: &str, curves: &[&Curve], palette: &Palette) -> Result<Option<Plot>, PlotError> {
    let points = || curves.iter().flat_map(|curve| places(&curve.points));
    let all: Vec<_> = points().collect();
    if all.is_empty() {
        return Ok(None);
    }
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
        let across = Across::new(&all, 100, canvas.width - 24);
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

/// The horizontal axis: two logarithmic ones that meet at zero. Far inside, where functions follow
/// their tangents, it is pressed together.
struct Across {
    left: i32,
    right: i32,
    innermost: i32,
    knee: i32,
    outermost: i32,
}

impl Across {
    fn new(points: &[(bool, i32, f64)], left: i32, right: i32) -> Self {
        let exponents = || points.iter().map(|(_, exponent, _)| *exponent);
        let innermost = exponents().min().unwrap_or(0);
        // Where nothing has an error any more, there is nothing to see.
        let seen = points.iter().filter(|(.., ulp)| *ulp >= LEAST).map(|(_, exponent, _)| *exponent).max();
        let outermost = seen.or(exponents().max()).unwrap_or(0) + 1;
        let knee = innermost.max(KNEE).min(outermost - 1);
        Self { left, right, innermost, knee, outermost }
    }

    fn middle(&self) -> i32 {
        i32::midpoint(self.left, self.right)
    }

    fn at(&self, negative: bool, exponent: i32) -> i32 {
        let half = self.right - self.middle();
        let pressed = if self.knee > self.innermost { half / 6 } else { 0 };
        let far = if exponent < self.knee {
            pressed * (exponent - self.innermost) / (self.knee - self.innermost)
        } else {
            let share = (exponent - self.knee).min(self.outermost - self.knee);
            pressed + (half - pressed) * share / (self.outermost - self.knee)
        };
        if negative { self.middle() - far } else { self.middle() + far }
    }

    /// Exponents at which a tick has room.
    fn ticks(&self, narrow: bool) -> impl Iterator<Item = i32> {
        let most = if narrow { 3 } else { 5 };
        let length = self.outermost - self.knee;
        let step = [1, 2, 4, 8, 16, 32, 64].into_iter().find(|step| length / step < most).unwrap_or(128);
        (self.knee..=self.outermost).filter(move |exponent| exponent % step == 0)
    }
}

fn axes(
    canvas: &Canvas<'_>,
    across: &Across,
    y: &LogAxis,
    (top, bottom): (i32, i32),
) -> Result<(), PlotError> {
    let mut ticks: Vec<f64> = y.ticks().into_iter().chain([0.5, 1.0]).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let mut below = i32::MAX;
    for tick in ticks {
        let at = y.at(tick);
        canvas.line(vec![(across.left, at), (across.right, at)], GRID, 1)?;
        if below - at >= LINE - 8 {
            canvas.text(&plain(tick), (across.left - 10, at), HPos::Right)?;
            below = at;
        }
    }
    for exponent in across.ticks(canvas.width < 1000) {
        for negative in [true, false] {
            let x = across.at(negative, exponent);
            canvas.line(vec![(x, top), (x, bottom)], GRID, 1)?;
            let text = power(negative, exponent);
            let middle = x.min(canvas.width - MARGIN - width_of(&text) / 2);
            canvas.text(&text, (middle, bottom + 22), HPos::Center)?;
        }
    }
    let middle = across.middle();
    canvas.line(vec![(middle, top), (middle, bottom)], INK, 1)?;
    canvas.text("0", (middle, bottom + 22), HPos::Center)?;
    canvas.line(vec![(across.left, top), (across.left, bottom), (across.right, bottom)], INK, 2)?;
    canvas.text("ULP", (MARGIN, top - 22), HPos::Left)
}

/// `−2⁻¹²`, `1`.
fn power(negative: bool, exponent: i32) -> String {
    let sign = if negative { "−" } else { "" };
    if exponent == 0 {
        return format!("{sign}1");
    }
    let digits = exponent.to_string();
    let raised = digits.chars().map(|digit| match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        other => other.to_digit(10).and_then(|d| char::from_u32('⁰' as u32 + d)).unwrap_or(other),
    });
    format!("{sign}2{}", raised.collect::<String>())
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
    fn the_axis_is_in_order_and_ends_where_errors_end() {
        let points = [(false, -149, 0.5), (true, -20, 0.6), (false, 3, 0.7), (false, 127, 0.0)];
        let across = Across::new(&points, 100, 1100);
        assert_eq!((across.knee, across.outermost), (KNEE, 4));
        let along: Vec<_> = (-149..=4).map(|exponent| across.at(false, exponent)).collect();
        assert!(along.is_sorted() && along[0] == 600 && along[153] == 1100, "{along:?}");
        assert_eq!(across.at(true, 127), 100, "what lies beyond stands at the end");
        assert_eq!(power(true, -12), "−2⁻¹²");
        assert_eq!(power(false, 4), "2⁴");
        assert_eq!(power(false, 0), "1");
    }

    #[test]
    fn zero_and_what_is_not_finite_have_their_places() {
        let points = [(0.0, 0.5), (2f64.powi(-3), 0.6), (-2.0, 0.7), (f64::INFINITY, 0.0), (-0.0, 0.1)];
        let expected = [(false, -4, 0.5), (false, -3, 0.6), (true, 1, 0.7), (true, -4, 0.1)];
        assert_eq!(places(&points).collect::<Vec<_>>(), expected);
    }
}
