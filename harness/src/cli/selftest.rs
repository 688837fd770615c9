//! `touchstone selftest`: the checker, tested.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use regex::Regex;

use super::explore::Exploring;
use super::output::plain;
use super::select::processors;
use super::{Verdict, stop_on_ctrl_c};
use crate::comparison::progress;
use crate::selftest::{self, Score, Specimen};

/// Prove on this machine that the checker can tell wrong kernels from right ones
///
/// Plants more than a hundred mistakes that people make in transformer kernels (a dropped last key,
/// eps outside the root, an online softmax that does not rescale, an angle in f32, a cached answer
/// …), shows each to the checker as a backend like any other, and demands a `failed` in every
/// storage type in which the mistake can be made. Other right ways to compute the same (summation
/// orders, blockings, exponentials within one unit in the last place, split-KV merges, Welford's
/// variance …) have to pass every case of their family.
///
/// Prints what survived and what was falsely failed, and both counts. Exits with 2 unless all faults
/// were caught and no variant was failed. About a minute on two cores.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  touchstone selftest\n  \
    touchstone selftest --suite smoke --fault '^rope-'\n  touchstone selftest --out proof   # proof/kills.csv\n  \
    touchstone selftest --explore 20000   # variants on random problems")]
pub(super) struct Arguments {
    /// Suites whose cases are posed: smoke, standard, models, or the path of a .toml file
    #[arg(long, value_name = "SUITE", value_delimiter = ',', default_values = ["smoke", "standard"])]
    suite: Vec<String>,
    /// Only faults whose name matches this regular expression, and no variants
    #[arg(long, value_name = "REGEX")]
    fault: Option<Regex>,
    #[command(flatten)]
    exploring: Exploring,
    /// Directory for kills.csv: for each fault and storage type the case that caught it
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
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
    crate::timing::configure_threads(processors())?;
    let bar = progress(cases.len());
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
    print(&score)?;
    if let Some(out) = &arguments.out {
        write_kills(&out.join("kills.csv"), &faults, &score)?;
    }
    Ok(match (score.stopped, score.is_perfect()) {
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

fn print(score: &Score) -> anyhow::Result<()> {
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
    writeln!(out, "{score}")?;
    Ok(())
}

/// The kill matrix, a row for each fault and storage type; survivors have no case.
fn write_kills(path: &Path, faults: &[Specimen], score: &Score) -> anyhow::Result<()> {
    let mut text = String::from("fault,family,mistake,dtype,case,why,passed_before\n");
    for fault in faults {
        for dtype in fault.dtypes() {
            let kill = score.kills.iter().find(|kill| kill.fault == fault.name && kill.dtype == *dtype);
            let (case, why) = kill.map_or(("", ""), |kill| (&kill.case, &kill.why));
            let survivor = score.survivors.iter().find(|s| s.fault == fault.name && s.dtype == *dtype);
            let passed = kill.map(|kill| kill.passed).or(survivor.map(|survivor| survivor.passed));
            let family = family(fault);
            let texts = [fault.name, &family, fault.about, &dtype.to_string(), case, why].map(quoted);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{},{}", texts.join(","), passed.unwrap_or(0));
        }
    }
    touchstone_reports::store::write_whole(path, text.as_bytes()).context("cannot write the kill matrix")
}

/// A field of a CSV file (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}
