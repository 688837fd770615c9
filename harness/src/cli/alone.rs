//! `touchstone selftest --alone`: what each fill and each class of size catches by itself.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use touchstone_reports::evidence;

use super::output::{markdown_table, plain, renew};
use super::{Verdict, stop_on_ctrl_c};
use crate::progress;
use crate::selftest::{self, Alone, Specimen, Trait};
use crate::suite::SuiteCase;

const HEADER: [&str; 7] = [
    "cases with",
    "how many",
    "faults asked",
    "caught",
    "only here",
    "verdicts on right ones",
    "false alarms",
];

/// Poses all faults, prints the table, writes it and puts it into a document.
pub(super) fn run(
    faults: &[Specimen],
    variants: &[Specimen],
    cases: &[SuiteCase],
    out: Option<&Path>,
    document: Option<&Path>,
) -> anyhow::Result<Verdict> {
    let all = progress::during(cases.len(), "", |progress| {
        selftest::alone(faults, variants, cases, progress, stop_on_ctrl_c())
    });
    let Some(all) = all else { return Ok(Verdict::Interrupted) };
    let rows: Vec<[String; HEADER.len()]> = all.iter().map(cells).collect();
    let mut table = plain(HEADER);
    for row in &rows {
        table.add_row(row);
    }
    writeln!(std::io::stdout().lock(), "{table}")?;
    if let Some(out) = out {
        evidence::write(&out.join("alone.csv"), &HEADER, rows.iter().cloned())
            .context("cannot write the table")?;
    }
    if let Some(document) = document {
        renew(document, &[("alone", markdown_table(HEADER, &rows))])?;
    }
    let alarms: usize = all.values().map(|alone| alone.false_alarms).sum();
    Ok(if alarms > 0 { Verdict::Wrong } else { Verdict::Ok })
}

fn cells(((factor, level), alone): (&Trait, &Alone)) -> [String; HEADER.len()] {
    let share = 100.0 * alone.caught as f64 / alone.concerned.max(1) as f64;
    [
        format!("{factor} {level}"),
        alone.cases.to_string(),
        alone.concerned.to_string(),
        format!("{} ({share:.0} %)", alone.caught),
        alone.only.to_string(),
        alone.judgements.to_string(),
        alone.false_alarms.to_string(),
    ]
}
