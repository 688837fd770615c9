//! `touchstone selftest --audit`: how near right kernels come to their bounds.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use touchstone_reports::evidence;
use touchstone_reports::plot::{Audit, bounds};
use touchstone_reports::store::write_whole;
use touchstone_reports::words::number;

use super::output::plain;
use super::{Verdict, stop_on_ctrl_c};
use crate::progress;
use crate::selftest::{self, Audited, LOOSE, Mistake, Specimen};
use crate::suite::SuiteCase;

/// Audits the bounds by all variants, prints the table and writes it with a picture.
pub(super) fn run(variants: &[Specimen], cases: &[SuiteCase], out: Option<&Path>) -> anyhow::Result<Verdict> {
    let audited = progress::during(cases.len(), "", |progress| {
        selftest::audit(variants, cases, progress, stop_on_ctrl_c())
    });
    let Some(audited) = audited else { return Ok(Verdict::Interrupted) };
    let wholes: Vec<&Audited> = audited.iter().filter(|row| row.subject.is_none()).collect();
    print(&wholes)?;
    if let Some(out) = out {
        evidence::write(&out.join("bounds.csv"), &HEADER, audited.iter().map(cells))
            .context("cannot write the audit")?;
        let rows: Vec<Audit> = wholes.iter().map(|row| drawn(row)).collect();
        if let Some(plot) = bounds("How near correct kernels come to their bounds", &rows, LOOSE)? {
            write_whole(&out.join("bounds.svg"), plot.file().as_bytes())
                .context("cannot write the picture")?;
        }
    }
    Ok(if wholes.iter().any(|row| row.mistake().is_some()) { Verdict::Wrong } else { Verdict::Ok })
}

/// `softmax`, or `attention lse` for what is not the main result.
fn place(row: &Audited) -> String {
    if row.result == "out" { row.op.clone() } else { format!("{} {}", row.op, row.result) }
}

fn drawn(row: &Audited) -> Audit {
    let quantiles = [row.median, row.p99, row.p999, row.max];
    Audit { result: place(row), dtype: row.dtype.to_string(), quantiles }
}

fn print(wholes: &[&Audited]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut table =
        plain(["result", "in", "elements", "rounding", "50 %", "99 %", "99.9 %", "max", "loosest", ""]);
    for row in wholes {
        table.add_row([
            place(row),
            row.dtype.to_string(),
            format!("{:.1e}", row.elements as f64),
            format!("{:.0} %", 100.0 * row.rounding),
            number(row.median),
            number(row.p99),
            number(row.p999),
            number(row.max),
            row.loosest.as_ref().map_or_else(String::new, |case| number(case.p999)),
            row.mistake().map_or_else(String::new, |mistake| mistake.to_string()),
        ]);
    }
    writeln!(out, "{table}\n")?;
    let count = |wanted| wholes.iter().filter(|row| row.mistake() == Some(wanted)).count();
    let elements: u64 = wholes.iter().map(|row| row.elements).sum();
    let cases = wholes.iter().filter_map(|row| row.loosest.as_ref());
    if let Some(loosest) = cases.min_by(|a, b| a.p999.total_cmp(&b.p999)) {
        writeln!(
            out,
            "99.9 % of errors are nowhere smaller than {} of the bound, in {}.",
            number(loosest.p999),
            loosest.case
        )?;
    }
    writeln!(
        out,
        "{} bounds, {elements} elements: {} exceeded, {} too loose (99.9 % of errors below {LOOSE} of it).",
        wholes.len(),
        count(Mistake::Exceeded),
        count(Mistake::Loose),
    )?;
    Ok(())
}

const HEADER: [&str; 12] = [
    "op",
    "result",
    "dtype",
    "subject",
    "elements",
    "rounding_share",
    "p50",
    "p99",
    "p99_9",
    "max",
    "loosest_case_p99_9",
    "loosest_case",
];

fn cells(row: &Audited) -> [String; HEADER.len()] {
    let figure = |x: f64| format!("{x:.3e}");
    let (own, case) =
        row.loosest.as_ref().map_or_else(Default::default, |l| (figure(l.p999), l.case.to_string()));
    [
        row.op.to_string(),
        row.result.to_string(),
        row.dtype.to_string(),
        row.subject.clone().unwrap_or_else(|| "all".into()),
        row.elements.to_string(),
        format!("{:.4}", row.rounding),
        figure(row.median),
        figure(row.p99),
        figure(row.p999),
        figure(row.max),
        own,
        case,
    ]
}
