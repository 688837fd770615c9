//! `touchstone selftest`: the checker, tested.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use regex::Regex;
use touchstone_reports::{Status, evidence};

use super::explore::Exploring;
use super::output::{plain, renew};
use super::select::processors;
use super::{Verdict, alone, audit, stop_on_ctrl_c};
use crate::progress;
use crate::selftest::cheats::{self, Cheats};
use crate::selftest::{self, Need, Score, Specimen};

/// Prove on this machine that the checker can tell wrong kernels from right ones
///
/// Plants more than two hundred mistakes that people make in transformer kernels (a dropped last key,
/// eps outside the root, an online softmax that does not rescale, an angle in f32, a cached answer
/// …), shows each to the checker as a backend like any other, and demands a `failed` in every
/// storage type in which the mistake can be made. Other right ways to compute the same (summation
/// orders, blockings, exponentials within one unit in the last place, split-KV merges, Welford's
/// variance …) have to pass every case of their family.
///
/// Then each safeguard of the checker is taken away in turn, and something wrong has to get through
/// without it.
///
/// At last kernels that cheat the stopwatch (answers that are remembered, work done in `load`, in a thread
/// that outlives the run …) are timed like any other, and none of them may get a time.
///
/// Prints what survived and what was falsely failed, both counts, and what gets through without each
/// safeguard. Exits with 2 unless all faults and cheats were caught, no variant was failed and every
/// safeguard is needed. About four minutes on two cores.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  touchstone selftest\n  \
    touchstone selftest --suite smoke --fault '^rope-'\n  \
    touchstone selftest --out proof   # proof/kills.csv, proof/safeguards.csv\n  \
    touchstone selftest --alone --fault '^rope-'   # what each fill catches of RoPE's faults\n  \
    touchstone selftest --explore 20000   # variants on random problems")]
pub(super) struct Arguments {
    /// Suites whose cases are posed: smoke, standard, models, or the path of a .toml file
    #[arg(long, value_name = "SUITE", value_delimiter = ',', default_values = ["smoke", "standard"])]
    suite: Vec<String>,
    /// Only faults whose name matches this regular expression; no variants, and all safeguards stand
    #[arg(long, value_name = "REGEX")]
    fault: Option<Regex>,
    #[command(flatten)]
    exploring: Exploring,
    /// Directory for kills.csv, for each fault and storage type the case that caught it, and
    /// safeguards.csv, for each safeguard what gets through without it
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Audit the error bounds instead: how near the correct variants and simd come to them, by
    /// operation and storage type. Exits with 2 when one is exceeded, or when 99.9 % of all errors are
    /// below a thousandth of it. With --out: bounds.csv and bounds.svg
    #[arg(long, conflicts_with = "fault")]
    audit: bool,
    /// Ask instead what the cases of each fill, and those with each class of size, catch by themselves,
    /// and what only they do. With --out: alone.csv. About four minutes on two cores
    #[arg(long, conflicts_with_all = ["audit", "explore"])]
    alone: bool,
    /// Put the counts between the markers `<!-- touchstone:selftest -->` and
    /// `<!-- /touchstone:selftest -->` of this document; with --alone the table between those of
    /// `touchstone:alone`, with --audit that between those of `touchstone:audit`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fault", "explore"])]
    splice: Option<PathBuf>,
    /// Only the kernels that cheat the stopwatch. About a minute
    #[arg(long, conflicts_with_all = ["fault", "audit", "explore", "alone", "splice"])]
    cheats: bool,
    /// List the faults and variants, and run nothing
    #[arg(long)]
    list: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let (mut faults, mut variants) = (selftest::faults(), selftest::variants());
    if let Some(regex) = &arguments.fault {
        faults.retain(|fault| regex.is_match(fault.name));
        variants.clear();
        if faults.is_empty() {
            bail!("no fault's name matches '{regex}' (see --list)");
        }
    }
    if arguments.list {
        return list(&faults, &variants);
    }
    let cases = match arguments.exploring.random()? {
        // The faults have their cases in the suites: what is asked of random ones is to fail nobody.
        Some((count, seed)) => {
            faults.clear();
            if variants.is_empty() {
                bail!("--fault: random problems are for the variants");
            }
            eprintln!("{count} random problems, --seed {seed}");
            selftest::random_cases(seed, count)
        }
        None => selftest::cases(&arguments.suite).context("cannot load the suite")?,
    };
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    }
    if arguments.cheats {
        faults.clear();
        variants.clear();
    }
    crate::timing::configure_threads(processors())?;
    let (out, document) = (arguments.out.as_deref(), arguments.splice.as_deref());
    if arguments.audit {
        return audit::run(&variants, &cases, out, document);
    }
    if arguments.alone {
        return alone::run(&faults, &variants, &cases, out, document);
    }
    let bar = progress::over_cases(cases.len());
    let score = selftest::run(
        &faults,
        &variants,
        &cases,
        &|done, of, at_large| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            if !faults.is_empty() {
                bar.set_message(format!("{at_large} faults still at large"));
            }
        },
        stop_on_ctrl_c(),
    );
    bar.finish_and_clear();
    let needs = match (&arguments.fault, score.stopped) {
        (None, false) if !faults.is_empty() => {
            progress::during(cases.len(), "without each safeguard", |progress| {
                selftest::needs(&faults, &cases, progress, stop_on_ctrl_c())
            })
        }
        _ => Some(Vec::new()),
    };
    let cheats = match (&arguments.fault, score.stopped || needs.is_none()) {
        (None, false) if !faults.is_empty() || arguments.cheats => {
            Some(progress::during(cases.len(), "kernels that cheat the stopwatch", |progress| {
                cheats::run(stop_on_ctrl_c(), &|done, of| progress(done, of))
            })?)
        }
        _ => None,
    };
    let stopped = score.stopped || needs.is_none() || cheats.as_ref().is_some_and(|cheats| cheats.stopped);
    let needs = needs.unwrap_or_default();
    print(&score, &needs, cheats.as_ref())?;
    if let (Some(document), false) = (&arguments.splice, stopped) {
        splice(document, &score, &needs, cheats.as_ref())?;
    }
    if let Some(out) = &arguments.out {
        if !faults.is_empty() {
            write_kills(&out.join("kills.csv"), &faults, &score)?;
        }
        if !needs.is_empty() {
            write_needs(&out.join("safeguards.csv"), &needs)?;
        }
        if let Some(cheats) = &cheats {
            write_cheats(&out.join("cheats.csv"), cheats)?;
        }
    }
    let honest = cheats.as_ref().is_none_or(Cheats::is_perfect);
    let is_right = arguments.cheats || score.is_perfect();
    Ok(match (stopped, is_right && needs.iter().all(Need::is_shown) && honest) {
        (true, _) => Verdict::Interrupted,
        (false, true) => Verdict::Ok,
        (false, false) => Verdict::Wrong,
    })
}

fn list(faults: &[Specimen], variants: &[Specimen]) -> anyhow::Result<Verdict> {
    let mut out = std::io::stdout().lock();
    for (heading, specimens) in [("fault", faults), ("variant", variants)] {
        if specimens.is_empty() {
            continue;
        }
        let mut table = plain([heading, "family", "in", "what"]);
        for specimen in specimens {
            let dtypes: Vec<String> = specimen.dtypes().iter().map(ToString::to_string).collect();
            table.add_row([specimen.name, &family(specimen), &dtypes.join(" "), specimen.about]);
        }
        writeln!(out, "{table}\n")?;
    }
    Ok(Verdict::Ok)
}

fn family(specimen: &Specimen) -> String {
    specimen.family.map_or_else(|| "any".into(), |family| family.to_string())
}

fn print(score: &Score, needs: &[Need], cheats: Option<&Cheats>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if !score.survivors.is_empty() {
        let mut table = plain(["survived", "in", "cases passed", "mistake"]);
        for survivor in &score.survivors {
            table.add_row([
                survivor.fault,
                &survivor.dtype.to_string(),
                &survivor.passed.to_string(),
                survivor.about,
            ]);
        }
        writeln!(out, "{table}\n")?;
    }
    if !score.false_alarms.is_empty() {
        let mut table = plain(["falsely failed", "case", "why"]);
        for alarm in &score.false_alarms {
            table.add_row([alarm.variant, &alarm.case, &alarm.why]);
        }
        writeln!(out, "{table}\n")?;
    }
    if !needs.is_empty() {
        let mut table = plain(["without", "get through", "such as"]);
        for need in needs {
            let example = need.escapes.first().map_or("nothing: this safeguard is not needed", |e| e.what);
            table.add_row([&need.safeguard.to_string(), &need.mistakes().to_string(), example]);
        }
        writeln!(out, "{table}\n")?;
    }
    if let Some(cheats) = cheats {
        let mut table = plain(["cheat", "status", "why"]);
        for cheat in &cheats.caught {
            for (status, why) in &cheat.rows {
                table.add_row([cheat.name.as_str(), status.as_str(), why]);
            }
        }
        writeln!(out, "{table}\n")?;
        for alarm in &cheats.false_alarms {
            writeln!(out, "the honest kernel beside them: {alarm}")?;
        }
    }
    if score.planted + score.variants > 0 {
        writeln!(out, "{score}")?;
    }
    if !needs.is_empty() {
        writeln!(out, "{}", needed(needs))?;
    }
    if let Some(cheats) = cheats {
        writeln!(out, "{}", cheated(cheats))?;
    }
    Ok(())
}

fn cheated(cheats: &Cheats) -> String {
    let left_out: String = cheats.left_out.iter().map(|why| format!(" Left out here: {why}.")).collect();
    format!(
        "{} of {} kernels that cheat the stopwatch got no time; {} false alarms on the honest one beside \
         them.{left_out}",
        cheats.count(),
        cheats.caught.len(),
        cheats.false_alarms.len()
    )
}

/// A row for each cheat and cache state.
fn write_cheats(path: &Path, cheats: &Cheats) -> anyhow::Result<()> {
    let rows = cheats.caught.iter().flat_map(|cheat| {
        let row = |(status, why): &(Status, String)| {
            [cheat.name.clone(), cheat.about.to_string(), status.to_string(), why.clone()]
        };
        cheat.rows.iter().map(row)
    });
    evidence::write(path, &["cheat", "what", "status", "why"], rows).context("cannot write the cheats")
}

fn needed(needs: &[Need]) -> String {
    let shown = needs.iter().filter(|need| need.is_shown()).count();
    format!("{shown} of {} safeguards are needed: something wrong gets through without.", needs.len())
}

/// Renews the counts in a document.
fn splice(document: &Path, score: &Score, needs: &[Need], cheats: Option<&Cheats>) -> anyhow::Result<()> {
    let cheated = cheats.map(|cheats| format!(" {}", cheated(cheats))).unwrap_or_default();
    renew(document, &[("selftest", format!("{score} {}{cheated}", needed(needs)))])
}

/// A row for each safeguard and each mistake that gets through without it.
fn write_needs(path: &Path, needs: &[Need]) -> anyhow::Result<()> {
    let rows = needs.iter().flat_map(|need| {
        need.escapes.iter().map(|escape| {
            let dtype = escape.dtype.map_or_else(String::new, |dtype| dtype.to_string());
            [need.safeguard.to_string(), escape.what.to_string(), escape.about.to_string(), dtype]
        })
    });
    evidence::write(path, &["safeguard", "fault", "mistake", "dtype"], rows)
        .context("cannot write the safeguards")
}

/// The kill matrix, a row for each fault and storage type; survivors have no case.
fn write_kills(path: &Path, faults: &[Specimen], score: &Score) -> anyhow::Result<()> {
    let of_fault = |fault: &Specimen| {
        let (name, about, family) = (fault.name, fault.about, family(fault));
        fault.dtypes().iter().map(move |dtype| {
            let kill = score.kills.iter().find(|kill| kill.fault == name && kill.dtype == *dtype);
            let (case, why) = kill.map_or(("", ""), |kill| (&kill.case, &kill.why));
            let survivor = score.survivors.iter().find(|s| s.fault == name && s.dtype == *dtype);
            let passed = kill.map(|kill| kill.passed).or(survivor.map(|survivor| survivor.passed));
            let (dtype, passed) = (dtype.to_string(), passed.unwrap_or(0).to_string());
            [name.into(), family.clone(), about.into(), dtype, case.into(), why.into(), passed]
        })
    };
    let header = ["fault", "family", "mistake", "dtype", "case", "why", "passed_before"];
    let rows: Vec<_> = faults.iter().flat_map(of_fault).collect();
    evidence::write(path, &header, rows).context("cannot write the kill matrix")
}
