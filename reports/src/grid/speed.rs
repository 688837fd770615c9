//! Who is fast: throughput and speed-up per case, and means per family.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cell, Grid, Heading, Row, Subject, Tone};
use crate::record::Record;
use crate::speed::{CaseKey, Group, Ratio, case, reference_of, speedup};
use crate::status::Status;
use crate::summary::Summary;
use crate::words::{DISTURBED, interval, number, times};

/// Families down, backends across: the geometric mean of the speed-ups.
#[must_use]
pub fn mean_speeds(summary: &Summary) -> Option<Grid> {
    let timed: Vec<_> = summary
        .backends
        .iter()
        .filter(|b| summary.speeds.iter().any(|s| s.contenders.iter().any(|c| c.backend == **b)))
        .collect();
    let references: BTreeSet<_> = summary.speeds.iter().map(|s| s.reference.as_str()).collect();
    let over: Vec<_> = references.into_iter().collect();
    let mut headings = vec![Heading::words("family")];
    headings.extend(timed.iter().map(|backend| Heading::backend(*backend)));
    let mut grid = Grid::new(
        format!("Speed-up over {}", over.join(", ")),
        "Geometric mean over the cases that every backend in the row was timed on, with its \
         95 % interval. Bold: the fastest, and whatever cannot be told apart from it.",
        headings,
    );
    for speeds in &summary.speeds {
        let best = speeds.contenders.first().and_then(|c| c.mean);
        let mut row = vec![Cell {
            text: speeds.group.family.clone(),
            below: vec![speeds.group.conditions(), speeds.extent()],
            ..Cell::default()
        }];
        row.extend(timed.iter().map(|backend| {
            let contender = speeds.contenders.iter().find(|c| c.backend == **backend);
            let Some(mean) = contender.and_then(|c| c.mean) else {
                return Cell::absent();
            };
            Cell {
                text: times(mean.value),
                below: interval(&mean).into_iter().filter(|_| **backend != speeds.reference).collect(),
                tone: standing(&mean, best),
                record: None,
            }
        }));
        grid.rows.push(Row::new(row));
    }
    grid.unless_empty()
}

fn standing(ratio: &Ratio, best: Option<Ratio>) -> Tone {
    match best {
        Some(best) if ratio.value >= best.value || ratio.overlaps(&best) => Tone::Best,
        _ => Tone::Plain,
    }
}

/// Whether the family is measured by operations (attention) or by bytes (all others).
#[must_use]
pub fn counts_flops(family: &str) -> bool {
    family == "attention"
}

/// GFLOP/s or GB/s of a timed row: as recorded, or from its work and median.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a relative error of 2^-53 is of no interest here")]
pub fn throughput(record: &Record) -> Option<f64> {
    let (recorded, work) = if counts_flops(&record.family) {
        (record.gflops, record.flops)
    } else {
        (record.gb_per_s, record.bytes)
    };
    let median = record.median_ns.filter(|ns| *ns > 0)?;
    recorded.or_else(|| (work > 0).then(|| work as f64 / median as f64))
}

/// One grid per thread count and cache state of a family: problems down, backends across.
#[must_use]
pub fn family_speeds(records: &[Record], family: &str, backends: &[String]) -> Vec<Grid> {
    let mut groups: BTreeMap<(u32, bool, String), Vec<usize>> = BTreeMap::new();
    for (i, record) in records.iter().enumerate() {
        if record.family == family && record.is_timed() {
            // Hot before cold.
            let key = (record.threads, record.cache != "hot", record.cache.clone());
            groups.entry(key).or_default().push(i);
        }
    }
    groups.into_values().map(|rows| group_grid(records, &rows, family, backends)).collect()
}

fn group_grid(records: &[Record], rows: &[usize], family: &str, backends: &[String]) -> Grid {
    let timed: Vec<&Record> = rows.iter().map(|&i| &records[i]).collect();
    let reference = reference_of(&timed);
    let present: Vec<_> =
        backends.iter().filter(|b| timed.iter().any(|record| record.backend == **b)).collect();
    let unit = if counts_flops(family) { "GFLOP/s" } else { "GB/s" };
    let mut headings = vec![Heading::words("problem")];
    headings.extend(present.iter().map(|backend| Heading::backend(*backend)));
    let conditions = Group::of(timed[0]).conditions();
    let mut grid = Grid::new(
        format!("{family}, {conditions}: {unit}"),
        format!(
            "{unit}, then the speed-up over {reference} and its 95 % interval. \
             Bold: the fastest, and whatever cannot be told apart from it."
        ),
        headings,
    );
    grid.threads = Some(timed[0].threads);

    let mut order: Vec<CaseKey<'_>> = Vec::new();
    let mut cases: BTreeMap<CaseKey<'_>, BTreeMap<&str, usize>> = BTreeMap::new();
    for &i in rows {
        let key = case(&records[i]);
        let row = cases.entry(key).or_insert_with(|| {
            order.push(key);
            BTreeMap::new()
        });
        row.insert(&records[i].backend, i);
    }
    // A backend that could not be timed on a case says why in its place.
    let mut verdicts: BTreeMap<(CaseKey<'_>, &str), (Status, usize)> = BTreeMap::new();
    for (i, record) in records.iter().enumerate() {
        if record.family == family && record.status != Status::Passed {
            verdicts.insert((case(record), &record.backend), (record.status, i));
        }
    }
    for key in order {
        let here = &cases[&key];
        let base = here.get(reference.as_str()).map(|&i| &records[i]);
        let ratio = |i: usize| speedup(&records[i], &reference, base);
        let best = here.values().filter_map(|&i| ratio(i)).max_by(|a, b| a.value.total_cmp(&b.value));
        let mut row = vec![Cell::problem(key.0, key.1)];
        row.extend(present.iter().map(|backend| {
            if let Some(&i) = here.get(backend.as_str()) {
                return timed_cell(i, &records[i], &reference, ratio(i), best);
            }
            match verdicts.get(&(key, backend.as_str())) {
                Some((status, i)) => {
                    Cell { record: Some(*i), ..Cell::new(status.as_str()).tone(status_tone(*status)) }
                }
                None => Cell::absent(),
            }
        }));
        let any = here.values().next().map(|&i| &records[i]);
        grid.rows.push(Row {
            cells: row,
            subject: any.map_or_else(Subject::default, |record| Subject {
                op: record.op.clone(),
                dtype: record.dtype.clone(),
                ..Subject::default()
            }),
        });
    }
    grid
}

fn timed_cell(i: usize, record: &Record, reference: &str, ratio: Option<Ratio>, best: Option<Ratio>) -> Cell {
    let against = ratio.filter(|_| record.backend != reference);
    let figures = against.map(|ratio| std::iter::once(times(ratio.value)).chain(interval(&ratio)));
    let mark = record.disturbed.then(|| DISTURBED.to_owned());
    Cell {
        text: throughput(record).map_or_else(|| "?".to_owned(), number),
        below: figures.into_iter().flatten().chain(mark).collect(),
        tone: ratio.map_or(Tone::Plain, |ratio| standing(&ratio, best)),
        record: Some(i),
    }
}

/// How a status stands out.
#[must_use]
pub const fn status_tone(status: Status) -> Tone {
    match status {
        Status::Passed => Tone::Good,
        Status::Unsupported => Tone::Muted,
        Status::Known => Tone::Note,
        Status::Failed | Status::Suspect | Status::Error | Status::Timeout => Tone::Bad,
    }
}
