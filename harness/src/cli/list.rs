//! `touchstone list`: what there is.

use std::io::Write;
use std::iter;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use touchstone_kernels::{Registry, op};
use touchstone_reports::evidence;

use super::output::plain;
use super::select::processors;
use super::{MakeRegistry, Verdict};
use crate::conventions::{self, Probe, Row};
use crate::fill::Fill;
use crate::suite::{BUILT_IN, Suite, SuiteCase};

/// List backends (absent ones with the reason), operations, fills and suites
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which conventions the best backends follow instead, found by asking each
    #[arg(long)]
    conventions: bool,
    /// The cases of this suite, one text a line: smoke, standard, models … or the path of a .toml file
    #[arg(long, value_name = "SUITE", conflicts_with_all = ["conventions", "json"])]
    cases: Option<String>,
    /// Write the conventions to conventions.csv in this directory, where the page of a run finds them
    #[arg(long, short, value_name = "DIR", requires = "conventions")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    if let Some(name) = &arguments.cases {
        let suite = Suite::load(name).context("cannot load the suite")?;
        let mut out = std::io::stdout().lock();
        for SuiteCase { case, timed } in &suite.cases {
            let timed: Vec<String> = timed.iter().map(ToString::to_string).collect();
            let note =
                if timed.is_empty() { String::new() } else { format!("  # timed {}", timed.join(", ")) };
            writeln!(out, "{case}{note}")?;
        }
        return Ok(Verdict::Ok);
    }
    let registry = registry(processors());
    if arguments.conventions {
        return list_conventions(&registry, arguments);
    }
    let suites: Vec<Suite> = BUILT_IN.iter().map(|(name, _)| Suite::load(name)).collect::<Result<_, _>>()?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let backends = registry.present().iter().map(|backend| {
            let info = backend.info();
            serde_json::json!({
                "id": backend.id().as_str(), "present": true, "version": info.version,
                "device": info.device, "isa": info.isa, "threads": info.threads,
            })
        });
        let absent = registry.absent().iter().map(|absent| {
            serde_json::json!({ "id": absent.id.as_str(), "present": false, "reason": absent.reason })
        });
        let all = serde_json::json!({
            "backends": backends.chain(absent).collect::<Vec<_>>(),
            "operations": op::names().collect::<Vec<_>>(),
            "fills": Fill::ALL.iter().map(Fill::to_string).collect::<Vec<_>>(),
            "suites": suites.iter().map(|suite| serde_json::json!({
                "name": suite.name, "description": suite.description, "cases": suite.cases.len(),
            })).collect::<Vec<_>>(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(Verdict::Ok);
    }

    let mut table = plain(["backend", "version", "device", "instructions", "threads"]);
    for backend in registry.present() {
        let info = backend.info();
        table.add_row([
            backend.id().to_string(),
            info.version,
            info.device,
            info.isa,
            info.threads.to_string(),
        ]);
    }
    writeln!(out, "{table}\n")?;
    if !registry.absent().is_empty() {
        let mut table = plain(["absent", "reason"]);
        for absent in registry.absent() {
            table.add_row([absent.id.as_str(), &absent.reason]);
        }
        writeln!(out, "{table}\n")?;
    }
    writeln!(out, "operations: {}\n", op::names().collect::<Vec<_>>().join(", "))?;
    writeln!(out, "fills: {}\n", Fill::ALL.iter().map(Fill::to_string).collect::<Vec<_>>().join(", "))?;
    let mut table = plain(["suite", "cases", "timed", "what for"]);
    for suite in &suites {
        let timed = suite.cases.iter().filter(|case| !case.timed.is_empty()).count();
        table.add_row([
            suite.name.clone(),
            suite.cases.len().to_string(),
            timed.to_string(),
            suite.description.clone(),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(Verdict::Ok)
}

/// A row for each question, a column for each backend.
fn list_conventions(registry: &Registry, arguments: &Arguments) -> anyhow::Result<Verdict> {
    let backends = registry.best();
    let probes = conventions::built_in()?;
    let asked: Vec<Vec<_>> =
        probes.iter().map(|probe| backends.iter().map(|b| probe.ask(b.as_ref())).collect()).collect();
    let ids = || backends.iter().map(|backend| backend.id().to_string());
    let answers = |rows: &[Row]| -> Vec<String> {
        let answer = |row: &Row| match row.answer.as_str() {
            "other" => format!("other: {}", row.observed),
            answer => answer.to_string(),
        };
        rows.iter().map(answer).collect()
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&asked.concat())?)?;
    } else {
        // In two lines, a long name leaves room for the questions.
        let headings = ids().map(|id| id.replacen('/', "/\n", 1));
        let mut table = plain(iter::once("question".to_string()).chain(headings));
        for (probe, rows) in probes.iter().zip(&asked) {
            table.add_row(iter::once(probe.question.clone()).chain(answers(rows)));
        }
        writeln!(out, "{table}")?;
    }
    if let Some(directory) = &arguments.out {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let header: Vec<String> = ["question", "exact"].map(String::from).into_iter().chain(ids()).collect();
        let row = |(probe, rows): (&Probe, &Vec<Row>)| {
            [vec![probe.question.clone(), probe.exact().into()], answers(rows)].concat()
        };
        evidence::write(&directory.join("conventions.csv"), &header, probes.iter().zip(&asked).map(row))
            .context("cannot write the conventions")?;
    }
    Ok(Verdict::Ok)
}
