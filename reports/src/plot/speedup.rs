//! Speed-up over the reference: bars with intervals, growing from 1.

use plotters::style::text_anchor::HPos;

use super::axis::{LogAxis, plain};
use super::canvas::{GRID, INK, MARGIN, draw, width_of};
use super::palette::Palette;
use super::{Plot, PlotError};
use crate::speed::{Ratio, Speeds};
use crate::words::{plural, times};

/// Bars under one label.
#[derive(Clone, Debug, PartialEq)]
pub struct BarGroup {
    /// The label above them.
    pub label: String,
    /// Backends and their speed-ups, from top to bottom.
    pub bars: Vec<(String, Ratio)>,
}

/// The bars of one group of cases: every contender but the reference itself, which is 1.
fn bars(speeds: &Speeds, label: &str, order: &[String]) -> Option<BarGroup> {
    let mut bars: Vec<_> = speeds
        .contenders
        .iter()
        .filter(|c| c.backend != speeds.reference)
        .filter_map(|c| Some((c.backend.clone(), c.mean?)))
        .collect();
    bars.sort_by_key(|(backend, _)| order.iter().position(|name| name == backend));
    let label = format!("{label} ({})", plural(speeds.cases, "case"));
    (!bars.is_empty()).then_some(BarGroup { label, bars })
}

/// One group of bars per family, for one thread count and cache state.
#[must_use]
pub fn family_bars(speeds: &[&Speeds], order: &[String]) -> Vec<BarGroup> {
    speeds.iter().filter_map(|s| bars(s, &s.group.family, order)).collect()
}

const BAR: i32 = 38;
const GAP: i32 = 18;

/// Draws groups of bars on one logarithmic axis. `None` without bars.
///
/// # Errors
/// The drawing library fails.
pub fn speedup_bars(
    title: &str,
    reference: &str,
    groups: &[BarGroup],
    palette: &Palette,
) -> Result<Option<Plot>, PlotError> {
    let bars = || groups.iter().flat_map(|group| &group.bars);
    let Some(widest) = bars().map(|(backend, _)| width_of(backend)).max() else {
        return Ok(None);
    };
    let rows: i32 =
        groups.iter().map(|group| GAP + BAR * (1 + i32::try_from(group.bars.len()).unwrap_or(0))).sum();
    let ends = || {
        bars().flat_map(|(_, ratio)| {
            let (low, high) = ratio.interval.unwrap_or((ratio.value, ratio.value));
            [low, high, 1.0]
        })
    };
    let description = format!("Speed-up over {reference} on a logarithmic axis: {}.", in_words(groups));
    draw(title, &description, |canvas| {
        let left = widest + 30;
        let right = canvas.width - 110;
        let top = canvas.top + 18;
        let bottom = top + rows;
        let axis = LogAxis::around(ends(), left, right);
        for tick in axis.ticks() {
            let x = axis.at(tick);
            canvas.line(vec![(x, top), (x, bottom)], GRID, 1)?;
            canvas.text(&format!("{}×", plain(tick)), (x, bottom + 22), HPos::Center)?;
        }
        let mut y = top;
        for group in groups {
            y += GAP;
            canvas.text(&group.label, (MARGIN, y + BAR / 2), HPos::Left)?;
            y += BAR;
            for (backend, ratio) in &group.bars {
                let middle = y + BAR / 2;
                let (one, end) = (axis.at(1.0), axis.at(ratio.value));
                canvas.text(backend, (left - 14, middle), HPos::Right)?;
                let corners = [(one, y + 5), (end, y + BAR - 5)];
                canvas.bar(corners, palette.look(backend).colour)?;
                let mut label = end.max(one);
                if let Some((low, high)) = ratio.interval {
                    let (low, high) = (axis.at(low), axis.at(high));
                    canvas.line(vec![(low, middle), (high, middle)], INK, 2)?;
                    for x in [low, high] {
                        canvas.line(vec![(x, middle - 7), (x, middle + 7)], INK, 2)?;
                    }
                    label = label.max(high);
                }
                canvas.text(&times(ratio.value), (label + 10, middle), HPos::Left)?;
                y += BAR;
            }
        }
        let one = axis.at(1.0);
        canvas.line(vec![(one, top), (one, bottom)], INK, 3)?;
        let name = format!("{reference} = 1×");
        let middle = one.min(canvas.width - MARGIN - width_of(&name) / 2);
        canvas.text(&name, (middle, top - 18), HPos::Center)?;
        let note = format!("Log scale; faster than {reference} to the right. Thin lines are 95 % intervals.");
        canvas.note(&note, bottom + 62)
    })
    .map(Some)
}

fn in_words(groups: &[BarGroup]) -> String {
    let group = |group: &BarGroup| {
        let bars: Vec<_> =
            group.bars.iter().map(|(backend, ratio)| format!("{backend} {}", times(ratio.value))).collect();
        format!("{}: {}", group.label, bars.join(", "))
    };
    groups.iter().map(group).collect::<Vec<_>>().join("; ")
}
