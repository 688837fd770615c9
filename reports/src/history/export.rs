//! A history for other programs.

use serde_json::json;

use super::{History, Series};
use crate::store::line_of;

/// The columns of [`csv`].
const COLUMNS: [&str; 15] = [
    "backend",
    "problem",
    "fill",
    "seed",
    "threads",
    "cache",
    "isa",
    "processor",
    "time",
    "run_id",
    "git_revision",
    "median_ns",
    "canary_ns",
    "relative",
    "segment",
];

/// A row for each point, canaries last. `relative` is the time over the canary, empty where a series
/// is of times as they are; `segment` counts from 0 and goes up at each change.
#[must_use]
pub fn csv(history: &History) -> Vec<u8> {
    let mut out = line_of(&COLUMNS);
    for series in history.series.iter().chain(&history.canaries) {
        let values = series.values();
        for (segment, range) in series.segments().into_iter().enumerate() {
            for i in range {
                let (subject, point) = (&series.subject, &series.points[i]);
                let key = &subject.key;
                let relative = series.relative.then(|| values[i]);
                out.extend(line_of(&(
                    (&key.backend, &key.problem, &key.fill, key.seed, key.threads, &key.cache),
                    (&subject.isa, &subject.processor, &point.time, &point.run_id, &point.git_revision),
                    (point.median_ns, point.canary_ns, relative, segment),
                )));
            }
        }
    }
    out
}

/// One object for each series, canaries last.
#[must_use]
pub fn json_lines(history: &History) -> String {
    let series = history.series.iter().chain(&history.canaries);
    series.map(|series| format!("{}\n", object(series, history))).collect()
}

fn object(series: &Series, history: &History) -> serde_json::Value {
    let key = &series.subject.key;
    let points = series.points.iter().map(|point| {
        json!({
            "time": point.time,
            "run_id": point.run_id,
            "git_revision": point.git_revision,
            "median_ns": point.median_ns,
            "canary_ns": point.canary_ns,
        })
    });
    let changes = series.changes.iter().map(|change| {
        json!({
            "at": change.at,
            "run_id": series.points[change.at].run_id,
            "git_revision": series.points[change.at].git_revision,
            "p": change.p,
            "before_ns": change.before_ns,
            "after_ns": change.after_ns,
            "factor": change.factor,
        })
    });
    json!({
        "backend": key.backend,
        "problem": key.problem,
        "fill": key.fill,
        "seed": key.seed,
        "threads": key.threads,
        "cache": key.cache,
        "isa": series.subject.isa,
        "processor": series.subject.processor,
        "relative": series.relative,
        "long_enough": series.is_long_enough(history.search.level),
        "points": points.collect::<Vec<_>>(),
        "changes": changes.collect::<Vec<_>>(),
    })
}
