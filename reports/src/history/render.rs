//! A history as grids.

use super::divisive::fewest_for;
use super::{Change, History, Series};
use crate::grid::{Cell, Grid, Heading, Row, Subject, Tone};
use crate::speed::Group;
use crate::statistics::median;
use crate::words::{duration, number, plural};

/// What changed, the largest first; the machine's own changes before those of kernels.
#[must_use]
pub fn changes(history: &History) -> Grid {
    let headings = vec![
        Heading::words("since"),
        Heading::words("revision"),
        Heading::words("backend"),
        Heading::words("conditions"),
        Heading::words("median"),
        Heading::figures("change"),
        Heading::figures("p"),
        Heading::code("problem"),
    ];
    let mut grid = Grid::new("Changes", note(history), headings);
    let machine = history.canaries.iter().flat_map(|s| s.changes.iter().map(move |c| (s, c)));
    grid.rows.extend(machine.chain(history.changes()).map(|(series, change)| row(series, change)));
    grid
}

fn row(series: &Series, change: &Change) -> Row {
    let key = &series.subject.key;
    let point = &series.points[change.at];
    let percent = 100.0 * (change.factor - 1.0);
    let tone = if change.factor > 1.0 { Tone::Bad } else { Tone::Good };
    let time = |ns: f64| duration(ns.round() as u64);
    Row {
        cells: vec![
            Cell::new(date(&point.time)),
            Cell::new(point.git_revision.chars().take(9).collect::<String>()),
            Cell::new(&key.backend),
            Cell::new(conditions(series)),
            Cell::new(format!("{} → {}", time(change.before_ns), time(change.after_ns))),
            Cell::new(format!("{percent:+.1} %")).tone(tone),
            Cell::new(format!("p {}", number(change.p))),
            Cell::new(&key.problem),
        ],
        subject: Subject { backend: key.backend.clone(), ..Subject::default() },
    }
}

fn note(history: &History) -> String {
    let level = history.search.level;
    let tested = history.series.len() - history.too_short();
    let plain = history.series.iter().filter(|series| !series.relative).count();
    let mut note = format!(
        "{} in {} series: {} searched at a level of {level}, so that {} of them would show a change by chance; \
         changes below {} % are left out. Positive is slower.",
        plural(history.runs, "run"),
        history.series.len(),
        tested,
        number(level * tested as f64),
        number(100.0 * history.search.smallest),
    );
    if history.too_short() > 0 {
        let fewest = fewest_for(level);
        note.push_str(&format!(" {} too short: {fewest} runs are needed.", history.too_short()));
    }
    if plain > 0 {
        note.push_str(&format!(
            " {plain} hold times as they are, for want of a canary in each run: a change there may be one \
             of the machine."
        ));
    }
    note
}

/// Every series: its last time, and its course.
#[must_use]
pub fn series(history: &History) -> Grid {
    let headings = vec![
        Heading::words("backend"),
        Heading::words("conditions"),
        Heading::figures("runs"),
        Heading::figures("last"),
        Heading::figures("against the first"),
        Heading::words("course"),
        Heading::code("problem"),
    ];
    let note = format!(
        "The course runs from the fastest of its runs to the slowest. Against the first: the median of the last \
         {ENDS} runs to that of the first {ENDS}, in which steps too small to be told one by one add up. \
         Positive is slower."
    );
    let mut grid = Grid::new("Series", note, headings);
    for series in history.canaries.iter().chain(&history.series) {
        let key = &series.subject.key;
        let last = series.points.last().map_or(0, |point| point.median_ns);
        grid.rows.push(Row {
            cells: vec![
                Cell::new(&key.backend),
                Cell::new(conditions(series)),
                Cell::new(plural(series.points.len(), "run")),
                Cell::new(duration(last)),
                Cell::new(
                    drift(&series.values())
                        .map_or_else(String::new, |drift| format!("{:+.1} %", 100.0 * drift)),
                ),
                Cell::new(course(&series.values())),
                Cell::new(&key.problem),
            ],
            subject: Subject { backend: key.backend.clone(), ..Subject::default() },
        });
    }
    grid
}

/// The last so many runs of a series are compared with the first so many.
const ENDS: usize = 5;

/// How much slower the last runs are than the first; nothing where they would overlap.
fn drift(values: &[f64]) -> Option<f64> {
    let (first, last) = (values.first_chunk::<ENDS>()?, values.last_chunk::<ENDS>()?);
    let of = |ends: &[f64; ENDS]| median(ends.iter().copied());
    (values.len() >= 2 * ENDS).then(|| of(last) / of(first) - 1.0)
}

fn conditions(series: &Series) -> String {
    let key = &series.subject.key;
    // The canary has none.
    if key.cache.is_empty() {
        return "the machine".to_owned();
    }
    let group = Group {
        family: String::new(),
        op: String::new(),
        dtype: String::new(),
        threads: key.threads,
        cache: key.cache.clone(),
    };
    group.conditions()
}

fn date(time: &str) -> &str {
    time.split('T').next().unwrap_or(time)
}

/// The last so many values, as letters of eight heights.
fn course(values: &[f64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &values[values.len().saturating_sub(24)..];
    let low = shown.iter().copied().fold(f64::INFINITY, f64::min);
    let high = shown.iter().copied().fold(0.0, f64::max);
    let height = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.0 };
        HEIGHTS[((share * 8.0) as usize).min(7)]
    };
    shown.iter().map(|value| height(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_is_that_of_the_ends() {
        let steps: Vec<f64> = (0..20).map(|i| 1.0 + 0.01 * f64::from(i / 5)).collect();
        assert!((drift(&steps).unwrap() - 0.03).abs() < 1e-12);
        assert_eq!(drift(&steps[..9]), None);
    }

    #[test]
    fn a_course_rises_and_falls() {
        assert_eq!(course(&[1.0, 2.0, 1.5, 1.0]), "▁█▅▁");
        assert_eq!(course(&[3.0, 3.0]), "▁▁");
        assert_eq!(course(&[]), "");
    }
}
