//! Which pictures the page shows, and where.

use std::collections::BTreeMap;

use crate::environment::Environment;
use crate::evidence::Evidence;
use crate::growth::Sweep;
use crate::plot::{self, Palette, Plot, PlotError, is_cpu, place};
use crate::record::Record;
use crate::rivals::Rivals;
use crate::speed::Group;
use crate::summary::Summary;

/// A bound that is a thousand times what correct kernels need lets mistakes through.
const TOO_LOOSE: f64 = 1e-3;

/// A picture with what it is about, for filters.
pub(super) struct Figure {
    pub(super) svg: String,
    /// What it shows, in words.
    pub(super) label: String,
    /// The operation, or several with spaces between them; empty for all.
    pub(super) op: String,
    pub(super) dtype: String,
    pub(super) threads: String,
}

impl Figure {
    fn of(plot: &Plot) -> Self {
        Self {
            svg: plot.inline(),
            label: plot.label(),
            op: String::new(),
            dtype: String::new(),
            threads: String::new(),
        }
    }
}

/// The pictures that stand for the whole run: of each kind the first one, then, to be unfolded, the
/// others.
pub(super) fn overview(
    records: &[Record],
    summary: &Summary,
    environment: Option<&Environment>,
    palette: &Palette,
) -> Result<(Vec<Figure>, Vec<Figure>), PlotError> {
    let (mut first, mut more) = (Vec::new(), Vec::new());
    let mut kinds = Vec::new();
    for picture in plot::overview(records, summary, environment, palette)? {
        let figure = Figure {
            threads: picture.threads.map_or_else(String::new, |n| n.to_string()),
            ..Figure::of(&picture.plot)
        };
        let kind = picture.name.split('-').next().unwrap_or_default().to_owned();
        if kinds.contains(&kind) {
            more.push(figure);
        } else {
            kinds.push(kind);
            first.push(figure);
        }
    }
    Ok((first, more))
}

/// Pictures of one family: first the widest dtype on the fewest threads in a hot cache, then, to
/// be unfolded, all the others.
pub(super) fn of_family(
    records: &[Record],
    summary: &Summary,
    family: &str,
    environment: Option<&Environment>,
    palette: &Palette,
) -> Result<(Vec<Figure>, Vec<Figure>), PlotError> {
    let (mut first, mut more) = (Vec::new(), Vec::new());
    let mut series: BTreeMap<_, Vec<Record>> = BTreeMap::new();
    for record in records.iter().filter(|r| r.family == family && r.is_timed()) {
        let dtype = summary.dtypes.iter().position(|d| *d == record.dtype);
        // Hot before cold; the key is the order in which figures stand.
        let key = (record.cache != "hot", record.threads, dtype, record.op.clone());
        series.entry(key).or_default().push(record.clone());
    }
    let foremost = series.keys().next().map(|key| (key.0, key.1, key.2));
    for (key, rows) in &series {
        let row = &rows[0];
        let title = format!("{} {}, {}", row.op, row.dtype, Group::of(row).conditions());
        let Some(plot) = plot::throughput(&title, rows, palette)? else {
            continue;
        };
        let figure = Figure {
            op: row.op.clone(),
            dtype: row.dtype.clone(),
            threads: row.threads.to_string(),
            ..Figure::of(&plot)
        };
        if Some((key.0, key.1, key.2)) == foremost {
            first.push(figure);
        } else {
            more.push(figure);
        }
    }
    let own: Vec<Record> = records.iter().filter(|r| r.family == family).cloned().collect();
    let limits = environment.map_or(&[][..], |environment| &environment.roofline);
    for (i, limits) in limits.iter().enumerate() {
        let title = format!("{family}: roofline, {}", place(limits));
        let Some(plot) = plot::roofline(&title, &own, limits, palette)? else { continue };
        let threads = if is_cpu(limits) { limits.threads.to_string() } else { String::new() };
        let figure = Figure { threads, ..Figure::of(&plot) };
        if i == 0 { first.push(figure) } else { more.push(figure) }
    }
    let title = format!("{family}: error over bound, cases per backend");
    first.extend(plot::error_over_bound(&title, &own, palette)?.map(|plot| Figure::of(&plot)));
    Ok((first, more))
}

/// The subject against its fastest rival by class, a picture for each number of threads and cache
/// state.
pub(super) fn of_rivals(rivals: &Rivals<'_>, palette: &Palette) -> Result<Vec<Figure>, PlotError> {
    let mut figures = Vec::new();
    for conditions in rivals.conditions() {
        if let Some(plot) = plot::rival_classes(rivals, &conditions, palette)? {
            figures.push(Figure { threads: conditions.threads.to_string(), ..Figure::of(&plot) });
        }
    }
    Ok(figures)
}

/// Pictures of sweeps: those on the fewest threads first, the others to be unfolded.
pub(super) fn of_growth(
    sweeps: &[Sweep],
    palette: &Palette,
) -> Result<(Vec<Figure>, Vec<Figure>), PlotError> {
    let (mut first, mut more) = (Vec::new(), Vec::new());
    let fewest = sweeps.iter().map(|sweep| sweep.threads).min();
    for sweep in sweeps {
        let Some(plot) = plot::growth(sweep, palette)? else { continue };
        let figure = Figure {
            op: sweep.op.clone(),
            dtype: sweep.dtype.clone(),
            threads: sweep.threads.to_string(),
            ..Figure::of(&plot)
        };
        if Some(sweep.threads) == fewest { first.push(figure) } else { more.push(figure) }
    }
    Ok((first, more))
}

/// The error curves of the functions that were swept: f32 first, other types to be unfolded.
pub(super) fn of_curves(
    evidence: &Evidence,
    palette: &Palette,
) -> Result<(Vec<Figure>, Vec<Figure>), PlotError> {
    let (mut first, mut more) = (Vec::new(), Vec::new());
    let mut functions: Vec<(&str, &str)> = Vec::new();
    for curve in &evidence.curves {
        let function = (curve.op.as_str(), curve.dtype.as_str());
        if !functions.contains(&function) {
            functions.push(function);
        }
    }
    for (op, dtype) in functions {
        let curves: Vec<_> = evidence.curves.iter().filter(|c| c.op == op && c.dtype == dtype).collect();
        let Some(plot) = plot::ulp(op, dtype, &curves, palette)? else { continue };
        let figure = Figure { op: op.to_owned(), dtype: dtype.to_owned(), ..Figure::of(&plot) };
        if dtype == "f32" { first.push(figure) } else { more.push(figure) }
    }
    if first.is_empty() {
        std::mem::swap(&mut first, &mut more);
    }
    Ok((first, more))
}

/// How near correct kernels come to their bounds.
pub(super) fn of_audits(evidence: &Evidence) -> Result<Vec<Figure>, PlotError> {
    let plot = plot::bounds("How near correct kernels come to their bounds", &evidence.audits, TOO_LOOSE)?;
    Ok(plot.map(|plot| Figure::of(&plot)).into_iter().collect())
}
