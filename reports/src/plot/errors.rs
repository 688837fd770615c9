//! Error over bound: how close each backend comes to the limit, as a histogram of its cases.

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain};
use super::canvas::{Canvas, GRID, INK, LIMIT, LINE, MARGIN, draw, width_of};
use super::palette::Palette;
use super::{Plot, PlotError};
use crate::record::Record;
use crate::statistics::median;
use crate::status::Status;
use crate::summary::{ordered, ordered_backends, worst_per_case};

/// Height of one backend, with its three lines of text.
const STRIP: i32 = 124;
/// Height of the tallest column.
const TALLEST: i32 = 100;
/// A single case is seen beside hundreds.
const LEAST: i32 = 4;

/// Columns per decade, so that 1, the bound, lies between two columns.
const PER_DECADE: i32 = 10;
/// Smallest ratio told apart, as a column: a ten-thousandth of the bound.
const FIRST: i32 = -4 * PER_DECADE;
/// Largest ratio told apart, as a column: 10^1.3, or 20.
const LAST: i32 = 13;
/// Columns, with one for all that is smaller and one for all that is larger.
const COLUMNS: usize = (LAST - FIRST + 2) as usize;
/// Room between these two and the others.
const APART: i32 = 12;

/// The column of a ratio: each holds its upper end, so that a ratio of 1 lies left of the bound.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn column(ratio: f64) -> usize {
    if ratio.is_nan() {
        return COLUMNS - 1;
    }
    let end = (ratio.log10() * f64::from(PER_DECADE)).ceil();
    (end - f64::from(FIRST)).clamp(0.0, (COLUMNS - 1) as f64) as usize
}

/// One backend: its cases by column.
struct Strip {
    backend: String,
    contracts: String,
    ratios: Vec<f64>,
    passed: [usize; COLUMNS],
    others: [usize; COLUMNS],
}

impl Strip {
    fn of(backend: String, cases: &[&Record]) -> Option<Self> {
        let own = || cases.iter().filter(|r| r.backend == backend && r.error_over_bound.is_some());
        let contracts = ordered(own().map(|r| r.contract.as_str()).filter(|c| !c.is_empty()), &[]);
        let mut ratios: Vec<_> = own().filter_map(|r| r.error_over_bound).collect();
        ratios.sort_by(f64::total_cmp);
        let (mut passed, mut others) = ([0; COLUMNS], [0; COLUMNS]);
        for record in own() {
            let counts = if record.status == Status::Passed { &mut passed } else { &mut others };
            counts[column(record.error_over_bound.unwrap_or_default())] += 1;
        }
        let contracts = contracts.join(", ");
        (!ratios.is_empty()).then_some(Self { backend, contracts, ratios, passed, others })
    }

    fn not_passed(&self) -> usize {
        self.others.iter().sum()
    }

    fn median(&self) -> f64 {
        median(self.ratios.iter().copied())
    }

    /// The lines that name it.
    fn label(&self) -> [String; 3] {
        let cases = format!("{} passed, {} not", self.ratios.len() - self.not_passed(), self.not_passed());
        [self.backend.clone(), self.contracts.clone(), cases]
    }
}

/// Draws one histogram per backend, with its median. The line at 1 is the bound. Cases that
/// did not pass are hollow. `None` without figures.
///
/// # Errors
/// The drawing library fails.
pub fn error_over_bound(
    title: &str,
    records: &[Record],
    palette: &Palette,
) -> Result<Option<Plot>, PlotError> {
    let cases = worst_per_case(records);
    let strips: Vec<_> =
        ordered_backends(records).into_iter().filter_map(|backend| Strip::of(backend, &cases)).collect();
    let columns = strips.iter().flat_map(|strip| strip.passed.iter().zip(&strip.others));
    let Some(most) = columns.map(|(passed, others)| passed + others).max() else {
        return Ok(None);
    };
    let labels = strips.iter().flat_map(Strip::label);
    let widest = labels.map(|label| width_of(&label)).max().unwrap_or(0);
    let description = strips
        .iter()
        .map(|strip| {
            let (cases, over) = (strip.ratios.len(), strip.not_passed());
            format!("{}: {cases} cases, {over} not passed, median {:.2}", strip.backend, strip.median())
        })
        .collect::<Vec<_>>()
        .join("; ");
    draw(title, &description, |canvas| {
        let mut y = canvas.note("Filled: passed. Hollow: did not pass. Stroke: median.", canvas.top)?;
        y += LINE;
        let scale = Scale::between(MARGIN + widest + 16, canvas.width - 34);
        let bottom = y + STRIP * i32::try_from(strips.len()).unwrap_or(0);
        scale.draw(canvas, y, bottom)?;
        for strip in &strips {
            y += STRIP;
            draw_strip(canvas, strip, &scale, y, most, palette)?;
        }
        let note = format!(
            "Error ÷ bound, log scale. Comparable only within one contract. \
             Heights are square roots of numbers of cases, the tallest of {most}."
        );
        canvas.note(&note, bottom + 66)
    })
    .map(Some)
}

/// Where columns stand.
struct Scale {
    left: i32,
    column: i32,
}

impl Scale {
    fn between(left: i32, right: i32) -> Self {
        let columns = i32::try_from(COLUMNS).unwrap_or(i32::MAX);
        Self { left, column: ((right - left - 2 * APART) / columns).max(4) }
    }

    /// Left edge of a column.
    fn at(&self, column: usize) -> i32 {
        let apart = i32::from(column > 0) + i32::from(column == COLUMNS - 1);
        self.left + self.column * i32::try_from(column).unwrap_or(0) + APART * apart
    }

    /// Between the first and the last column.
    fn axis(&self) -> LogAxis {
        let end = |column: i32| 10f64.powf(f64::from(column) / f64::from(PER_DECADE));
        LogAxis::between(end(FIRST), end(LAST), self.at(1), self.at(COLUMNS - 1) - APART)
    }

    /// The place of a ratio; those beyond an end stand in the middle of its column.
    fn place(&self, ratio: f64) -> i32 {
        match column(ratio) {
            end if end == 0 || end == COLUMNS - 1 => self.at(end) + self.column / 2,
            _ => self.axis().at(ratio),
        }
    }

    fn draw(&self, canvas: &Canvas<'_>, top: i32, bottom: i32) -> Result<(), PlotError> {
        let axis = self.axis();
        let ends = [(0, "≤ 1e-4"), (COLUMNS - 1, "≥ 20")].map(|(end, text)| (self.at(end), text));
        let [(first, below), (last, above)] = ends.map(|(x, text)| (x + self.column / 2, text));
        canvas.text(below, (first, bottom + 22), HPos::Center)?;
        canvas.text(above, (last, bottom + 22), HPos::Center)?;
        let room = (first + width_of(below) / 2)..(last - width_of(above) / 2);
        for power in -3..=1 {
            let tick = 10f64.powi(power);
            let x = axis.at(tick);
            canvas.line(vec![(x, top), (x, bottom)], GRID, 1)?;
            let (text, half) = (plain(tick), width_of(&plain(tick)) / 2);
            if room.contains(&(x - half - 6)) && room.contains(&(x + half + 6)) {
                canvas.text(&text, (x, bottom + 22), HPos::Center)?;
            }
        }
        let limit = axis.at(1.0);
        canvas.line(vec![(limit, top), (limit, bottom)], LIMIT, 4)?;
        canvas.warning("bound", (limit, top - 18), HPos::Center)
    }
}

fn draw_strip(
    canvas: &Canvas<'_>,
    strip: &Strip,
    scale: &Scale,
    floor: i32,
    most: usize,
    palette: &Palette,
) -> Result<(), PlotError> {
    let look = palette.look(&strip.backend);
    let label = strip.label();
    for (line, text) in (0..).zip(label.iter().filter(|text| !text.is_empty())) {
        canvas.text(text, (MARGIN, floor - STRIP + 36 + line * (LINE - 4)), HPos::Left)?;
    }
    let right = scale.at(COLUMNS - 1) + scale.column;
    canvas.line(vec![(scale.left, floor), (right, floor)], INK, 1)?;
    let height = |count: usize| {
        // The root shows single cases and hundreds in one picture.
        let tallest = TALLEST.unsigned_abs() as usize;
        let share = i32::try_from((count * tallest * tallest / most).isqrt()).unwrap_or(TALLEST);
        if count > 0 { share.max(LEAST) } else { 0 }
    };
    for (i, (passed, others)) in strip.passed.iter().zip(&strip.others).enumerate() {
        let (x0, x1) = (scale.at(i) + 1, scale.at(i) + scale.column - 1);
        let top = floor - height(*passed);
        if *passed > 0 {
            canvas.bar([(x0, top), (x1, floor)], look.colour)?;
        }
        if *others > 0 {
            canvas.outline([(x0, top - height(*others)), (x1, top)], look.colour)?;
        }
    }
    let median = scale.place(strip.median());
    canvas.line(vec![(median, floor - TALLEST - 6), (median, floor)], INK, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_lies_between_two_columns_and_ends_hold_what_is_beyond() {
        let bound = (-FIRST) as usize;
        assert_eq!((column(1.0), column(1.0 + 1e-9)), (bound, bound + 1));
        assert_eq!([0.0, 1e-300, 1e-4].map(column), [0, 0, 0]);
        assert_eq!([20.0, f64::INFINITY, f64::NAN].map(column), [COLUMNS - 1; 3]);
        assert!(column(1.01e-4) > 0 && column(19.9) < COLUMNS - 1);
        let scale = Scale::between(100, 700);
        assert_eq!(scale.at(bound + 1), scale.axis().at(1.0), "columns and axis agree");
    }
}
