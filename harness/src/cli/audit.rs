//! `touchstone selftest --audit`: how near right kernels come to their bounds.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use touchstone_kernels::DType;
use touchstone_reports::evidence;
use touchstone_reports::plot::{Audit, bounds};
use touchstone_reports::store::write_whole;
use touchstone_reports::words::number;

use super::output::{markdown_table, plain, renew};
use super::{Verdict, stop_on_ctrl_c};
use crate::progress;
use crate::selftest::{self, Audited, LOOSE, Mistake, Specimen};
use crate::suite::SuiteCase;

/// Audits the bounds by all variants, prints the table, writes it with a picture, and puts what it says of f32
/// into a document.
pub(super) fn run(
    variants: &[Specimen],
    cases: &[SuiteCase],
    out: Option<&Path>,
    document: Option<&Path>,
) -> anyhow::Result<Verdict> {
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
    if let Some(document) = document {
        renew(document, &[("audit", of_f32(&wholes, variants.len()))])?;
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

/// What is known of the elements of a result, beside its name.
const FIGURES: [&str; 7] = ["elements", "rounding", "50 %", "99 %", "99.9 %", "max", "loosest"];

fn figures(row: &Audited) -> [String; FIGURES.len()] {
    [
        format!("{:.1e}", row.elements as f64),
        format!("{:.0} %", 100.0 * row.rounding),
        number(row.median),
        number(row.p99),
        number(row.p999),
        number(row.max),
        row.loosest.as_ref().map_or_else(String::new, |case| number(case.p999)),
    ]
}

/// The rows of f32 and what all types together came to, as Markdown.
fn of_f32(wholes: &[&Audited], variants: usize) -> String {
    let (of_f32, others): (Vec<&Audited>, Vec<&Audited>) =
        wholes.iter().partition(|row| row.dtype == DType::F32);
    let rows = of_f32.iter().map(|row| {
        let [elements, rounding, half, p99, p999, max, loosest] = figures(row);
        [place(row), elements, rounding, half, p99, p999, max, loosest]
    });
    let [elements, rounding, half, p99, p999, max, loosest] = FIGURES;
    let header = ["f32", elements, rounding, half, p99, p999, max, loosest];
    let table = markdown_table(header, &rows.collect::<Vec<_>>());
    let p999 = others.iter().map(|row| row.p999);
    let (low, high) = p999.fold((f64::INFINITY, 0.0f64), |(low, high), x| (low.min(x), high.max(x)));
    let loose = wholes.iter().filter(|row| row.loosest.as_ref().is_some_and(|case| case.p999 < LOOSE));
    format!(
        "{table}\n{} On {variants} correct variants, f16 and bf16 included, where 99.9 % of the errors lie at {} to {} \
         of the bound. In {} rows the loosest case by itself is below {LOOSE}.",
        totals(wholes),
        number(low),
        number(high),
        loose.count()
    )
}

fn totals(wholes: &[&Audited]) -> String {
    let count = |wanted| wholes.iter().filter(|row| row.mistake() == Some(wanted)).count();
    let elements: u64 = wholes.iter().map(|row| row.elements).sum();
    format!(
        "{} bounds, {elements} elements: {} exceeded, {} too loose (99.9 % of errors below {LOOSE} of it).",
        wholes.len(),
        count(Mistake::Exceeded),
        count(Mistake::Loose),
    )
}

fn print(wholes: &[&Audited]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let [elements, rounding, half, p99, p999, max, loosest] = FIGURES;
    let mut table = plain(["result", "in", elements, rounding, half, p99, p999, max, loosest, ""]);
    for row in wholes {
        let mistake = row.mistake().map_or_else(String::new, |mistake| mistake.to_string());
        table.add_row(
            [vec![place(row), row.dtype.to_string()], figures(row).to_vec(), vec![mistake]].concat(),
        );
    }
    writeln!(out, "{table}\n")?;
    let cases = wholes.iter().filter_map(|row| row.loosest.as_ref());
    if let Some(loosest) = cases.min_by(|a, b| a.p999.total_cmp(&b.p999)) {
        writeln!(
            out,
            "99.9 % of errors are nowhere smaller than {} of the bound, in {}.",
            number(loosest.p999),
            loosest.case
        )?;
    }
    writeln!(out, "{}", totals(wholes))?;
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
