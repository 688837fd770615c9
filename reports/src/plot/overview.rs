//! The pictures that stand for a whole run: on top of the page, and in a README.

use super::{Palette, Plot, PlotError, error_over_bound, family_bars, roofline, speedup_bars};
use crate::environment::{Environment, RooflineEntry};
use crate::record::Record;
use crate::speed::Speeds;
use crate::summary::Summary;

/// A picture with a name to file it under.
#[derive(Clone, Debug)]
pub struct Named {
    /// `speedup`, `errors`, `roofline-1` …
    pub name: String,
    /// Threads it is about, if any number in particular.
    pub threads: Option<u32>,
    /// The picture.
    pub plot: Plot,
}

/// Speed-ups by family, errors, and a roofline per thread count.
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
    if let Some(headline) = summary.speeds.iter().find(|s| s.cases > 0) {
        let like: Vec<_> = summary.speeds.iter().filter(|s| alike(s, headline) && s.cases > 0).collect();
        let bars = family_bars(&like, &summary.backends);
        let reference = &headline.reference;
        let title = format!("Speed-up over {reference}, {}", headline.group.conditions());
        add("speedup".into(), None, speedup_bars(&title, reference, &bars, palette)?);
    }
    add("errors".into(), None, error_over_bound("Error over bound, one point per case", records, palette)?);
    let limits: &[RooflineEntry] = environment.map_or(&[], |e| &e.roofline);
    for limits in limits.iter().filter(|limits| matches!(limits.device.as_str(), "" | "cpu")) {
        let title = match limits.threads {
            1 => "Roofline, 1 thread".to_owned(),
            n => format!("Roofline, {n} threads"),
        };
        let plot = roofline(&title, records, limits, palette)?;
        add(format!("roofline-{}", limits.threads), Some(limits.threads), plot);
    }
    Ok(pictures)
}

/// Whether two speeds were taken under the same conditions, and can stand in one picture.
pub(crate) fn alike(a: &Speeds, b: &Speeds) -> bool {
    a.group.threads == b.group.threads && a.group.cache == b.group.cache && a.reference == b.reference
}
