//! The page: one HTML file with everything in it, readable without a network.
//!
//! The template (`templates/`) holds the structure and escapes every value; style and script are
//! files of their own beside this one and are copied into the page. A content security policy in
//! the page forbids it to load anything.

mod data;
mod figures;

use askama::Template;

use crate::environment::Environment;
use crate::evidence::Evidence;
use crate::grid::{self, Grid};
use crate::growth::{Cost, sweeps};
use crate::lead::{Part, against, lead};
use crate::plot::{Palette, PlotError};
use crate::record::Record;
use crate::rivals::Rivals;
use crate::status::Status;
use crate::summary::{Summary, ordered};
use figures::Figure;

/// A page that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A picture failed.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The template failed.
    #[error("cannot render the page")]
    Template(#[from] askama::Error),
    /// The records could not be packed.
    #[error("cannot pack the records")]
    Pack(#[from] std::io::Error),
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    style: &'static str,
    script: &'static str,
    lead: Vec<Part>,
    facts: Vec<(String, String)>,
    overview: (Vec<Figure>, Vec<Figure>),
    matrix: Vec<Grid>,
    means: Vec<Grid>,
    rivals: Option<Against>,
    growth: Vec<Growth>,
    families: Vec<Family>,
    problems: Vec<Grid>,
    unsupported: Vec<Grid>,
    curves: (Vec<Figure>, Vec<Figure>),
    audits: Vec<Figure>,
    evidence: &'a [Grid],
    environment: Option<&'a Environment>,
    machine: Vec<Grid>,
    filters: Vec<Filter>,
    rows: usize,
    data: String,
}

/// The subject against its fastest rival.
struct Against {
    lead: Part,
    figures: Vec<Figure>,
    totals: Vec<Grid>,
    classes: Vec<Grid>,
    cases: Vec<Grid>,
}

impl Against {
    fn of(rivals: &Rivals<'_>, palette: &Palette) -> Result<Option<Self>, PlotError> {
        let Some(lead) = against(rivals) else { return Ok(None) };
        Ok(Some(Self {
            lead,
            figures: figures::of_rivals(rivals, palette)?,
            totals: grid::rival_totals(rivals).into_iter().collect(),
            classes: grid::rival_classes(rivals),
            cases: grid::rival_cases(rivals),
        }))
    }
}

/// How one cost grows.
struct Growth {
    id: &'static str,
    title: &'static str,
    first: Vec<Figure>,
    more: Vec<Figure>,
    exponents: Vec<Grid>,
    tables: Vec<Grid>,
}

impl Growth {
    /// Time and memory, as far as there is anything to show.
    fn all(records: &[Record], palette: &Palette) -> Result<Vec<Self>, PlotError> {
        let mut all = Vec::new();
        for (cost, id, title) in
            [(Cost::Time, "growth", "How time grows"), (Cost::Memory, "memory", "Extra memory")]
        {
            let sweeps = sweeps(records, cost);
            let (first, more) = figures::of_growth(&sweeps, palette)?;
            let tables = if cost == Cost::Memory { grid::extra_memory(records) } else { Vec::new() };
            let exponents: Vec<_> = grid::growth(&sweeps, cost).into_iter().collect();
            if !exponents.is_empty() || !tables.is_empty() {
                all.push(Self { id, title, first, more, exponents, tables });
            }
        }
        Ok(all)
    }
}

struct Family {
    name: String,
    /// Its operations, with spaces between them: what the filter looks at.
    ops: String,
    first: Vec<Figure>,
    more: Vec<Figure>,
    heat: Vec<Grid>,
    grids: Vec<Grid>,
}

impl Family {
    fn is_timed(&self) -> bool {
        !self.grids.is_empty()
    }
}

struct Filter {
    name: &'static str,
    choices: Vec<Choice>,
}

struct Choice {
    name: String,
    /// In pictures, marks are known by the colour of their backend.
    colour: String,
}

/// Makes the page of merged records, and of a subject against its rivals if there is one. Write it with [`crate::store::write_whole`].
///
/// # Errors
/// A picture or the template fails; there is then no page, not half of one.
pub fn page(
    records: &[Record],
    environment: Option<&Environment>,
    evidence: &Evidence,
    rivals: Option<&Rivals<'_>>,
) -> Result<String, PageError> {
    let summary = Summary::of(records);
    let palette = Palette::new(&summary.backends);
    let mut families = Vec::new();
    for name in &summary.families {
        let (first, more) = figures::of_family(records, &summary, name, environment, &palette)?;
        families.push(Family {
            name: name.clone(),
            ops: ops(records, name),
            first,
            more,
            heat: grid::heat(records, name, &summary),
            grids: grid::family_speeds(records, name, &summary.backends),
        });
    }
    let mut matrix = vec![grid::verdicts(&summary)];
    matrix.extend(grid::accuracy(&summary));
    matrix.iter_mut().for_each(|matrix| grid::open_worst(matrix, records));
    let mut means = grid::mean_speeds(&summary);
    means.iter_mut().for_each(|means| grid::open_slowest(means, &summary, records));
    let mut problems = Vec::new();
    problems.extend(grid::failures(records));
    problems.extend(grid::known_issues(records));
    let page = Page {
        style: include_str!("page.css"),
        script: include_str!("page.js"),
        lead: lead(records, &summary),
        facts: facts(records, &summary),
        overview: figures::overview(records, &summary, environment, &palette)?,
        matrix,
        means: means.into_iter().collect(),
        rivals: rivals.map(|rivals| Against::of(rivals, &palette)).transpose()?.flatten(),
        growth: Growth::all(records, &palette)?,
        families,
        problems,
        unsupported: grid::unsupported(records).into_iter().collect(),
        curves: figures::of_curves(evidence, &palette)?,
        audits: figures::of_audits(evidence)?,
        evidence: &evidence.grids,
        environment,
        machine: environment
            .into_iter()
            .flat_map(|e| [grid::backends(e), grid::limits(e)])
            .flatten()
            .collect(),
        filters: filters(records, &summary, &palette),
        rows: records.len(),
        data: data::address(records)?,
    };
    Ok(page.render()?)
}

/// The operations of a family, with spaces between them.
fn ops(records: &[Record], family: &str) -> String {
    ordered(records.iter().filter(|r| r.family == family).map(|r| r.op.as_str()), &[]).join(" ")
}

/// The figures at the top of the page.
fn facts(records: &[Record], summary: &Summary) -> Vec<(String, String)> {
    let total = summary.total();
    let share = |count: usize, noun: &str| (count.to_string(), noun.to_owned());
    let mut facts = vec![
        share(summary.backends.len(), "backends"),
        share(summary.cases, "cases"),
        share(total.of(Status::Passed), "verdicts passed"),
        share(total.needing_attention(), "need attention"),
        share(total.of(Status::Known), "known issues"),
        share(records.iter().filter(|r| r.is_timed()).count(), "timings"),
    ];
    let runs = ordered(records.iter().map(|r| r.run_id.as_str()), &[]);
    if runs.len() > 1 {
        facts.push((runs.len().to_string(), "runs merged".to_owned()));
    }
    facts
}

fn filters(records: &[Record], summary: &Summary, palette: &Palette) -> Vec<Filter> {
    let mut threads: Vec<u32> = records.iter().map(|r| r.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    let present = |status: &Status| records.iter().any(|r| r.status == *status);
    let plain = |names: Vec<String>| -> Vec<Choice> {
        names.into_iter().map(|name| Choice { name, colour: String::new() }).collect()
    };
    let backends = summary.backends.iter();
    let backends = backends.map(|name| Choice { name: name.clone(), colour: palette.look(name).hex() });
    let statuses = Status::ALL.into_iter().filter(present).map(|status| status.to_string());
    vec![
        Filter { name: "op", choices: plain(ordered(records.iter().map(|r| r.op.as_str()), &[])) },
        Filter { name: "dtype", choices: plain(summary.dtypes.clone()) },
        Filter { name: "backend", choices: backends.collect() },
        Filter { name: "threads", choices: plain(threads.iter().map(u32::to_string).collect()) },
        Filter { name: "status", choices: plain(statuses.collect()) },
    ]
}
