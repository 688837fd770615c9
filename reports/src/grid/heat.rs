//! Where each backend is fast, at one glance: operations and types down, backends across, coloured.

use std::collections::BTreeMap;

use super::{Cell, Grid, Heading, Row, Subject, Tone};
use crate::record::Record;
use crate::speed::{Group, Speeds, speedup};
use crate::summary::{DTYPES, Summary, ordered};
use crate::words::{interval, times};

/// One grid for each number of threads and cache state in which a family was timed.
#[must_use]
pub fn heat(records: &[Record], family: &str, summary: &Summary) -> Vec<Grid> {
    let own: Vec<Record> = records.iter().filter(|r| r.family == family).cloned().collect();
    let by_type = |r: &Record| Group { dtype: r.dtype.clone(), ..Group::op(r) };
    let mut grids: BTreeMap<(bool, u32, String), Vec<Speeds>> = BTreeMap::new();
    for speeds in Speeds::by(&own, by_type).into_iter().filter(|speeds| speeds.cases > 0) {
        let group = &speeds.group;
        // Hot before cold, few threads before many.
        let key = (group.cache != "hot", group.threads, group.cache.clone());
        grids.entry(key).or_default().push(speeds);
    }
    grids.into_values().filter_map(|speeds| grid(records, speeds, summary)).collect()
}

fn grid(records: &[Record], mut speeds: Vec<Speeds>, summary: &Summary) -> Option<Grid> {
    let widest_first = |s: &Speeds| (s.group.op.clone(), DTYPES.iter().position(|d| *d == s.group.dtype));
    speeds.sort_by_key(widest_first);
    let timed = |backend: &str| speeds.iter().any(|s| s.contenders.iter().any(|c| c.backend == backend));
    let backends: Vec<_> = summary.backends.iter().filter(|backend| timed(backend)).collect();
    let references = ordered(speeds.iter().map(|s| s.reference.as_str()), &[]);
    let group = &speeds.first()?.group;
    let title = format!(
        "{}: speed-up over {} by operation and type, {}",
        group.family,
        references.join(", "),
        group.conditions()
    );
    let mut headings = vec![Heading::words("operation"), Heading::words("type")];
    headings.extend(backends.iter().map(|backend| Heading::backend(*backend)));
    let note = "Geometric means over the cases that every backend in the row was timed on, with 95 % \
                intervals. The stronger the colour, the further from 1×: blue is faster, orange is slower. A \
                cell opens its slowest case.";
    let mut grid = Grid::new(title, note, headings);
    grid.threads = Some(group.threads);
    for speeds in &speeds {
        let cells = backends.iter().map(|backend| cell(records, speeds, backend));
        let names = [
            Cell { below: vec![speeds.extent()], ..Cell::new(&speeds.group.op) },
            Cell::new(&speeds.group.dtype),
        ];
        grid.rows.push(Row {
            cells: names.into_iter().chain(cells).collect(),
            subject: Subject {
                op: speeds.group.op.clone(),
                dtype: speeds.group.dtype.clone(),
                ..Subject::default()
            },
        });
    }
    grid.unless_empty()
}

fn cell(records: &[Record], speeds: &Speeds, backend: &str) -> Cell {
    let contender = speeds.contenders.iter().find(|c| c.backend == backend);
    let Some(mean) = contender.and_then(|c| c.mean) else { return Cell::absent() };
    Cell {
        text: times(mean.value),
        below: interval(&mean).into_iter().filter(|_| backend != speeds.reference).collect(),
        tone: Tone::Heat(level(mean.value)),
        record: slowest(records, speeds, backend),
    }
}

/// From −4 for a sixth and less, over 0 within a quarter of 1, to 4 for six times and more.
#[expect(clippy::cast_possible_truncation, reason = "clamped before")]
fn level(ratio: f64) -> i8 {
    (ratio.log2() * 1.5).round().clamp(-4.0, 4.0) as i8
}

/// The place of the case with the smallest speed-up.
fn slowest(records: &[Record], speeds: &Speeds, backend: &str) -> Option<usize> {
    let group = &speeds.group;
    let own = records.iter().enumerate().filter(|(_, r)| {
        r.is_timed()
            && r.backend == backend
            && r.op == group.op
            && r.dtype == group.dtype
            && r.threads == group.threads
            && r.cache == group.cache
    });
    let ratio = |r: &Record| speedup(r, &speeds.reference, None).map_or(f64::INFINITY, |ratio| ratio.value);
    own.min_by(|(_, a), (_, b)| ratio(a).total_cmp(&ratio(b))).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_the_same_both_ways() {
        let levels = [0.01, 0.5, 0.9, 1.0, 1.1, 2.0, 4.0, 100.0].map(level);
        assert_eq!(levels, [-4, -2, 0, 0, 0, 2, 3, 4]);
    }
}
