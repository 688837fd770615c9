//! The pictures that stand for a whole run: on top of the page, and in a README.

use super::{Palette, Plot, PlotError, error_over_bound, family_bars, roofline, speedup_bars};
use crate::environment::{Environment, RooflineEntry};
use crate::record::Record;
use crate::speed::Speeds;
use crate::summary::Summary;
use crate::words::plural;

/// A picture with a name to file it under.
#[derive(Clone, Debug)]
pub struct Named {
    /// `speedup`, `speedup-2-hot`, `errors`, `roofline-1` …
    pub name: String,
    /// Threads it is about, if any number in particular.
    pub threads: Option<u32>,
    /// The picture.
    pub plot: Plot,
}

/// Speed-ups by family for each thread count and cache state, errors, and a roofline per thread
/// count.
///
/// # Errors
/// The drawing library fails.
pub fn overview(
    records: &[Record],
    summary: &Summary,
    environment: Option<&Environment>,
    palette: &Palette,
) -> Result<Vec<Named>, PlotError> {
    let mut pictures = Vec::new();
    let mut add = |name: String, threads: Option<u32>, plot: Option<Plot>| {
        pictures.extend(plot.map(|plot| Named { name, threads, plot }));
    };
    let timed: Vec<_> = summary.speeds.iter().filter(|speeds| speeds.cases > 0).collect();
    // Conditions in the order of the first family that has them; the first stands for all.
    let mut conditions: Vec<&Speeds> = Vec::new();
    for speeds in &timed {
        if !conditions.iter().any(|known| alike(known, speeds)) {
            conditions.push(speeds);
        }
    }
    let headline = conditions.first().copied();
    conditions.sort_by_key(|s| (s.group.cache != "hot", s.group.threads));
    if let Some(place) = conditions.iter().position(|c| headline.is_some_and(|h| alike(c, h))) {
        conditions[..=place].rotate_right(1);
    }
    for (i, first) in conditions.into_iter().enumerate() {
        let like: Vec<_> = timed.iter().copied().filter(|speeds| alike(speeds, first)).collect();
        let bars = family_bars(&like, &summary.backends);
        let title = format!("Speed-up over {}, {}", first.reference, first.group.conditions());
        let plot = speedup_bars(&title, &first.reference, &bars, palette)?;
        let name = match i {
            0 => "speedup".to_owned(),
            _ => format!("speedup-{}-{}", first.group.threads, first.group.cache),
        };
        add(name, Some(first.group.threads), plot);
    }
    add("errors".into(), None, error_over_bound("Error over bound, cases per backend", records, palette)?);
    let limits: &[RooflineEntry] = environment.map_or(&[], |e| &e.roofline);
    for limits in limits {
        let place = place(limits);
        let threads = is_cpu(limits).then_some(limits.threads);
        let plot = roofline(&format!("Roofline, {place}"), records, limits, palette)?;
        let name = threads.map_or_else(|| place.replace(':', "-"), |n| n.to_string());
        add(format!("roofline-{name}"), threads, plot);
    }
    Ok(pictures)
}

/// Where limits were measured: `1 thread`, `2 threads`, `cuda:0`.
pub(crate) fn place(limits: &RooflineEntry) -> String {
    if is_cpu(limits) { plural(limits.threads as usize, "thread") } else { limits.device.clone() }
}

/// Whether limits are those of a number of threads.
pub(crate) fn is_cpu(limits: &RooflineEntry) -> bool {
    matches!(limits.device.as_str(), "" | "cpu")
}

/// Whether two speeds were taken under the same conditions, and can stand in one picture.
fn alike(a: &Speeds, b: &Speeds) -> bool {
    a.group.threads == b.group.threads && a.group.cache == b.group.cache && a.reference == b.reference
}
