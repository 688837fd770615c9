//! The measurement behind a figure that sums up several: what a cell of the page opens.

use super::Grid;
use crate::record::Record;
use crate::summary::{Summary, severity};

/// Lets each cell of a table with families and types down and backends across open the worst of its
/// cases: of the gravest status, the one with the largest error for its bound.
pub(crate) fn open_worst(grid: &mut Grid, records: &[Record]) {
    let size = |r: &Record| (severity(r.status), r.error_over_bound.unwrap_or(-1.0));
    let worse = |a: &Record, b: &Record| size(a).0.cmp(&size(b).0).then(size(a).1.total_cmp(&size(b).1));
    for row in &mut grid.rows {
        let [family, dtype] = [0, 1].map(|i| row.cells[i].text.clone());
        for (cell, heading) in row.cells.iter_mut().zip(&grid.headings) {
            let own = records.iter().enumerate().filter(|(_, r)| {
                heading.backend && r.backend == heading.text && r.family == family && r.dtype == dtype
            });
            cell.record = own.max_by(|(_, a), (_, b)| worse(a, b)).map(|(place, _)| place);
        }
    }
}

/// Lets each cell of the mean speed-ups open the slowest of its cases, by its speed-up.
pub(crate) fn open_slowest(grid: &mut Grid, summary: &Summary, records: &[Record]) {
    for (row, speeds) in grid.rows.iter_mut().zip(&summary.speeds) {
        let group = &speeds.group;
        for (cell, heading) in row.cells.iter_mut().zip(&grid.headings) {
            let own = records.iter().enumerate().filter(|(_, r)| {
                heading.backend
                    && r.backend == heading.text
                    && r.family == group.family
                    && r.threads == group.threads
                    && r.cache == group.cache
                    && r.is_timed()
            });
            let ratio = |r: &Record| r.speedup.unwrap_or(f64::INFINITY);
            cell.record = own.min_by(|(_, a), (_, b)| ratio(a).total_cmp(&ratio(b))).map(|(place, _)| place);
        }
    }
}
