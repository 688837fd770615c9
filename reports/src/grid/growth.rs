//! How cost grows with one size, and what memory a call takes.

use std::collections::BTreeMap;

use super::{Cell, Grid, Heading, Row, Subject};
use crate::growth::{Cost, Sweep, fit};
use crate::record::Record;
use crate::speed::case;
use crate::summary::ordered_backends;
use crate::words::{bytes, number};

/// Sweeps down, backends across: the fitted exponents.
#[must_use]
pub fn growth(sweeps: &[Sweep], cost: Cost) -> Option<Grid> {
    let sweeps: Vec<_> = sweeps.iter().filter(|sweep| sweep.cost == cost).collect();
    let mut backends: Vec<&str> = Vec::new();
    for (backend, _) in sweeps.iter().flat_map(|sweep| &sweep.series) {
        if !backends.contains(&backend.as_str()) {
            backends.push(backend);
        }
    }
    let mut headings = vec![Heading::words("sweep")];
    headings.extend(backends.iter().map(|backend| Heading::backend(*backend)));
    let note = format!(
        "The power of the size that {} grows with: least squares over the logarithms, with its 95 % \
         interval, which is wide where the growth is no power law; then the power between the two largest \
         sizes.",
        cost.as_str()
    );
    let mut grid = Grid::new(format!("Exponents of {}", cost.as_str()), note, headings);
    for sweep in sweeps {
        let (low, high) = sweep.range();
        let mut cells = vec![Cell {
            text: sweep.problem.clone(),
            below: vec![format!("{} {low} to {high}", sweep.size), sweep.conditions.clone()],
            ..Cell::default()
        }];
        cells.extend(backends.iter().map(|backend| {
            let points = sweep.series.iter().find(|(name, _)| name == backend);
            points.and_then(|(_, points)| fit(points)).map_or_else(Cell::absent, |fit| Cell {
                below: vec![fit.span(), format!("end {:.2}", fit.end)],
                ..Cell::new(format!("{:.2}", fit.exponent))
            })
        }));
        grid.rows.push(Row {
            cells,
            subject: Subject { op: sweep.op.clone(), dtype: sweep.dtype.clone(), ..Subject::default() },
        });
    }
    grid.unless_empty()
}

/// One grid for each number of threads: problems down, backends across, the memory of one call
/// beyond its operands and results.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "sizes lie far below 2^53")]
pub fn extra_memory(records: &[Record]) -> Vec<Grid> {
    let mut threads: Vec<u32> = Vec::new();
    let measured = || records.iter().enumerate().filter(|(_, record)| record.extra_memory.is_some());
    threads.extend(measured().map(|(_, record)| record.threads));
    threads.sort_unstable();
    threads.dedup();
    let grids = threads.into_iter().map(|threads| {
        let rows = || measured().filter(move |(_, record)| record.threads == threads);
        let backends = ordered_backends(&rows().map(|(_, record)| record.clone()).collect::<Vec<_>>());
        let mut headings = vec![Heading::words("problem"), Heading::figures("operands and results")];
        headings.extend(backends.iter().map(Heading::backend));
        let plural = if threads == 1 { "" } else { "s" };
        let mut grid = Grid::new(
            format!("Extra memory of one call, {threads} thread{plural}"),
            "Resident memory at the peak of one call beyond operands and results, and as a multiple of \
             them. Scratch and tables made before the call count, and so do results that a library \
             allocates anew while it still holds those of the call before.",
            headings,
        );
        grid.threads = Some(threads);
        let (mut order, mut cases) = (Vec::new(), BTreeMap::new());
        for (place, record) in rows() {
            let here: &mut BTreeMap<&str, usize> = cases.entry(case(record)).or_insert_with(|| {
                order.push(record);
                BTreeMap::new()
            });
            here.entry(&record.backend).or_insert(place);
        }
        for first in order {
            let here = &cases[&case(first)];
            let mut cells = vec![Cell::new(&first.problem), Cell::new(bytes(first.bytes))];
            cells.extend(backends.iter().map(|backend| {
                let place = here.get(backend.as_str()).copied();
                let extra = place.and_then(|place| records[place].extra_memory);
                extra.map_or_else(Cell::absent, |extra| Cell {
                    below: vec![format!("{}×", number(extra as f64 / first.bytes.max(1) as f64))],
                    record: place,
                    ..Cell::new(bytes(extra))
                })
            }));
            grid.rows.push(Row {
                cells,
                subject: Subject { op: first.op.clone(), dtype: first.dtype.clone(), ..Subject::default() },
            });
        }
        grid
    });
    grids.filter_map(Grid::unless_empty).collect()
}
