//! `touchstone gate`: is this executable slower than its base?

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use regex::Regex;
use touchstone_reports::words::plural;

use super::output::style;
use super::{Verdict, stop_on_ctrl_c};
use crate::case::Case;
use crate::gate::base::{BaseError, Build, Repository};
use crate::gate::contest::{Contest, ContestError, RoundRow, Side, Standing};
use crate::gate::decision::{Rules, decide};
use crate::gate::inject::{Fault, Injection};
use crate::gate::pinning::Pinning;
use crate::gate::report::{Outcome, Report, SCHEMA, Verdict as CaseVerdict, cases_before};
use crate::suite::Suite;

/// Hold this build against a git revision: is any kernel slower?
///
/// Builds the base in a worktree under target/gate, with the same toolchain, features and flags, and
/// lets both executables take turns: fresh processes in every round, on one processor, on one
/// thread. A case is called slower when an exact test says so in rounds made for it, at an error
/// rate of 1 % for all cases together. The candidate is the running executable, so build it first:
/// scripts/gate does.
///
/// A slowdown that is meant is accepted by a trailer of a commit since the base:
/// `Perf-Accepted: <problem> <reason>`. A problem that the candidate no longer supports is declared by
/// `Support-Removed: <problem> <reason>`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 no case is slower, or the machine was too noisy to tell (said first), \
    2 wrong results, or the candidate panics, refuses, crashes or hangs where the base computes, 3 slower, \
    4 a worker was killed from outside, 5 not comparable, 1 anything else.\n\n\
    Proof of itself: --inject 'CASE=1.10' makes the candidate slower on a case, --inject-wrong CASE wrong, \
    --inject-death CASE has its worker killed, --inject-crash CASE aborts it, --inject-panic CASE panics, \
    --inject-refusal CASE refuses. CASE is a part of a problem's text that only one case has."
)]
pub(super) struct Arguments {
    /// The revision to compare with [default: where this work left the main branch; on it, the last
    /// commit, or with nothing uncommitted the one before]
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// The suite of cases, or the path of a .toml file
    #[arg(long, value_name = "SUITE", default_value = "gate")]
    cases: String,
    /// Only cases whose text matches this regular expression
    #[arg(long, value_name = "REGEX")]
    case: Option<Regex>,
    /// A slowdown up to so many percent is none
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = percent)]
    margin: f64,
    /// Inconclusive is exit status 4
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown, for a pull request
    #[arg(long)]
    markdown: bool,
    /// Directory for gate.json, gate.md and rounds.csv
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    fine: Fine,
    #[command(flatten)]
    proof: Proof,
}

/// What is seldom asked for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Details")]
struct Fine {
    /// An executable to take for the base instead of building one
    #[arg(long, value_name = "PATH", conflicts_with = "base")]
    base_binary: Option<PathBuf>,
    /// An executable to take for the candidate instead of this one
    #[arg(long, value_name = "PATH")]
    candidate_binary: Option<PathBuf>,
    /// The backend
    #[arg(long, value_name = "NAME", default_value = "simd")]
    backend: String,
    /// Rounds of the screen
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(15..=1000))]
    rounds: u16,
    /// Rounds of the confirmation [default: 60 to 150, by how much the screen's rounds spread]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(15..=1000))]
    confirm_rounds: Option<u16>,
    /// Replays the random choices of an earlier gate
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Faults for the candidate.
#[derive(Debug, Args)]
struct Proof {
    #[arg(long, value_name = "CASE=FACTOR", hide = true, value_parser = slowdown)]
    inject: Vec<(String, f64)>,
    #[arg(long, value_name = "CASE", hide = true)]
    inject_wrong: Vec<String>,
    #[arg(long, value_name = "CASE", hide = true)]
    inject_death: Vec<String>,
    #[arg(long, value_name = "CASE", hide = true)]
    inject_crash: Vec<String>,
    #[arg(long, value_name = "CASE", hide = true)]
    inject_panic: Vec<String>,
    #[arg(long, value_name = "CASE", hide = true)]
    inject_refusal: Vec<String>,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("expected percent from 0 to 100".into()),
    }
}

fn slowdown(text: &str) -> Result<(String, f64), String> {
    let expected = "expected a case and a factor from 1 to 1000, such as 'softmax f32 shape=64x1024=1.10'";
    let (case, factor) = text.rsplit_once('=').ok_or(expected)?;
    match factor.parse() {
        Ok(factor) if (1.0..=1000.0).contains(&factor) => Ok((case.into(), factor)),
        _ => Err(expected.into()),
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let cases = arguments.chosen()?;
    let problems: Vec<String> = cases.iter().map(|case| case.problem.to_string()).collect();
    let injections = arguments.proof.injections(&problems)?;
    let sides = match arguments.sides(&injections) {
        Ok(sides) => sides,
        Err(error) => return not_comparable(error),
    };
    let seed = match arguments.fine.seed {
        Some(seed) => seed,
        None => getrandom::u32().map(u64::from).context("the system has no random numbers (give --seed)")?,
    };
    let rules = arguments.rules();
    let mut report = Report {
        schema: SCHEMA,
        outcome: Outcome::NotComparable,
        summary: String::new(),
        base: sides.names[0].clone(),
        candidate: sides.names[1].clone(),
        backend: arguments.fine.backend.clone(),
        seed,
        rules,
        pinning: Pinning::Free { why: "nothing was measured".into() },
        rounds: (0, 0),
        seconds: 0.0,
        canary: None,
        notes: injections.iter().map(|injection| format!("injected: {injection}")).collect(),
        cases: cases_before(&problems, &[], &[]),
    };
    // Building the base does not count.
    let start = Instant::now();
    let bar = rounds_bar(u64::from(arguments.fine.rounds));
    let scratch = tempfile::Builder::new().prefix("gate-").tempdir_in(&sides.scratch);
    let scratch = scratch.with_context(|| format!("no place for copies in {}", sides.scratch.display()))?;
    let mut contest = Contest::new(sides.both, cases, scratch, seed, stop_on_ctrl_c(), bar.clone());
    report.pinning = contest.pinning().clone();
    let ended = compare(&mut contest, &problems, &sides.trailers, &mut report);
    bar.finish_and_clear();
    report.seconds = start.elapsed().as_secs_f64();
    match ended {
        Ok(()) => {}
        Err(ContestError::Stopped) => return Ok(Verdict::Interrupted),
        Err(error) => {
            report.outcome = match error {
                ContestError::Wrong { .. } | ContestError::Crashed { .. } => Outcome::Wrong,
                ContestError::Died { .. } => Outcome::Died,
                ContestError::Protocol { .. } => Outcome::NotComparable,
                // Its text has its causes already.
                error => bail!("{error}"),
            };
            report.summary = error.to_string();
            if let ContestError::Crashed { case, source } = &error
                && let Some(row) = report.cases.iter_mut().find(|row| row.problem == *case)
            {
                (row.verdict, row.why) = (CaseVerdict::Wrong, source.to_string());
            }
        }
    }
    if let Some(directory) = &arguments.out {
        keep(directory, &report, contest.rows())?;
    }
    arguments.print(&report)?;
    Ok(match report.outcome {
        Outcome::Steady => Verdict::Ok,
        Outcome::Inconclusive if !arguments.strict => Verdict::Ok,
        Outcome::Inconclusive | Outcome::Died => Verdict::Inconclusive,
        Outcome::Slower => Verdict::Slower,
        Outcome::Wrong => Verdict::Wrong,
        Outcome::NotComparable => Verdict::NotComparable,
    })
}

/// The contest, entered into the report as it goes.
fn compare(
    contest: &mut Contest,
    problems: &[String],
    trailers: &Trailers,
    report: &mut Report,
) -> Result<(), ContestError> {
    let ([base, candidate], standings) = contest.open()?;
    report.cases = cases_before(problems, &standings, &trailers.removed);
    if base != candidate {
        report.notes.push(format!("the base computes with {base}"));
    }
    report.backend = candidate;
    if let Pinning::Free { why } = contest.pinning() {
        report.notes.push(format!("not pinned to a processor: {why}"));
    }
    if !contest.has_canary() {
        report.notes.push("no canary: a side is older than it".into());
    }
    if !contest.is_scattered() {
        let why = "operands lie where allocators put them: a side is older than drawing that";
        report.notes.push(why.into());
    }
    let count = |wanted: fn(&Standing) -> bool| standings.iter().filter(|standing| wanted(standing)).count();
    let wrong = report.cases.iter().filter(|case| case.verdict == CaseVerdict::Wrong).count();
    if wrong > 0 {
        // A wrong kernel gets no time.
        report.outcome = Outcome::Wrong;
        report.summary = format!(
            "The candidate is WRONG on {wrong} of {}. Nothing was timed. (Where it no longer supports what \
             the base computes and this is intended, a commit trailer says so: Support-Removed: <problem> \
             <reason>.)",
            plural(problems.len(), "case")
        );
        return Ok(());
    }
    let ready = count(|standing| matches!(standing, Standing::Ready { .. }));
    if ready == 0 {
        report.outcome = Outcome::NotComparable;
        report.summary = "Not one case can be compared.".into();
        return Ok(());
    }
    let decision = decide(contest, ready, &report.rules)?;
    report.decide(&decision, &trailers.accepted);
    Ok(())
}

/// Texts of trailers of the commits since the base.
#[derive(Default)]
struct Trailers {
    /// Slowdowns that are meant.
    accepted: Vec<String>,
    /// Problems that are no longer supported.
    removed: Vec<String>,
}

/// Two executables with what is known of them.
struct Sides {
    both: [Side; 2],
    names: [String; 2],
    trailers: Trailers,
    /// Where copies go.
    scratch: PathBuf,
}

impl Arguments {
    fn rules(&self) -> Rules {
        let fixed = self.fine.confirm_rounds.map(usize::from);
        let default = Rules::default();
        Rules {
            margin: self.margin / 100.0,
            screen_rounds: usize::from(self.fine.rounds),
            confirm_rounds: fixed.map_or(default.confirm_rounds, |rounds| (rounds, rounds)),
        }
    }

    fn chosen(&self) -> anyhow::Result<Vec<Case>> {
        let suite = Suite::load(&self.cases).context("cannot load the cases")?;
        let wanted = |case: &Case| self.case.as_ref().is_none_or(|regex| regex.is_match(&case.to_string()));
        let mut cases: Vec<Case> = Vec::new();
        for case in suite.cases.into_iter().map(|case| case.case).filter(wanted) {
            // A problem names its case in reports and trailers.
            if cases.iter().any(|other| other.problem == case.problem) {
                bail!(
                    "the suite {} has '{}' twice: the gate wants each problem once",
                    suite.name,
                    case.problem
                );
            }
            cases.push(case);
        }
        if cases.is_empty() {
            bail!("no case of {} matches the filter", suite.name);
        }
        Ok(cases)
    }

    fn sides(&self, injections: &[Injection]) -> Result<Sides, BaseError> {
        // Linux's own link to this executable leads to it even when a build has replaced the file.
        let own = || {
            let link = PathBuf::from("/proc/self/exe");
            if link.exists() { link } else { std::env::current_exe().unwrap_or(link) }
        };
        let worker = ["--backend", &self.fine.backend, "--threads", "1"].map(String::from).to_vec();
        let injected = injections.iter().flat_map(|injection| ["--inject".into(), injection.to_string()]);
        let candidate = Side {
            exe: self.fine.candidate_binary.clone().unwrap_or_else(own),
            arguments: worker.iter().cloned().chain(injected).collect(),
        };
        let name = |path: &Path| path.display().to_string();
        if let Some(exe) = &self.fine.base_binary {
            let candidate_name = self.fine.candidate_binary.as_deref().map_or("this executable".into(), name);
            let base = Side { exe: exe.clone(), arguments: worker };
            let names = [name(exe), candidate_name];
            return Ok(Sides {
                both: [base, candidate],
                names,
                trailers: Trailers::default(),
                scratch: std::env::temp_dir(),
            });
        }
        let repository = Repository::here()?;
        let base = repository.base(self.base.as_deref())?;
        let short = base.commit.get(..12).unwrap_or(&base.commit);
        eprintln!("the base is {short} ({})", base.choice);
        let exe = repository.build(&base.commit, &Build::own()?)?;
        Ok(Sides {
            names: [format!("{short} ({})", base.choice), repository.candidate()?],
            trailers: Trailers {
                accepted: repository.accepted(&base.commit)?,
                removed: repository.removed(&base.commit)?,
            },
            both: [Side { exe, arguments: worker }, candidate],
            scratch: repository.target().join("gate"),
        })
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let text = if self.json {
            serde_json::to_string_pretty(report)? + "\n"
        } else if self.markdown {
            report.markdown()
        } else {
            report.text(style(true))
        };
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .context("cannot write to standard output")?;
        if report.outcome == Outcome::Inconclusive && !self.is_human() {
            eprintln!("touchstone: {}", report.summary);
        }
        Ok(())
    }

    fn is_human(&self) -> bool {
        !self.json && !self.markdown
    }
}

impl Proof {
    /// The faults asked for, each on the one case that is meant.
    fn injections(&self, problems: &[String]) -> anyhow::Result<Vec<Injection>> {
        let slow = self.inject.iter().map(|(case, factor)| (case, Fault::Slow(*factor)));
        let wrong = self.inject_wrong.iter().map(|case| (case, Fault::Wrong));
        let ends = [
            (&self.inject_death, Fault::Death),
            (&self.inject_crash, Fault::Crash),
            (&self.inject_panic, Fault::Panic),
            (&self.inject_refusal, Fault::Refusal),
        ];
        let ends = ends.into_iter().flat_map(|(cases, fault)| cases.iter().map(move |case| (case, fault)));
        let meant = |case: &String| match problems.iter().find(|problem| *problem == case) {
            Some(problem) => Ok(problem.clone()),
            None => {
                let parts: Vec<_> =
                    problems.iter().filter(|problem| problem.contains(case.as_str())).collect();
                match parts[..] {
                    [problem] => Ok(problem.clone()),
                    _ => bail!("'{case}' names {} cases here, expected one", parts.len()),
                }
            }
        };
        let injections = slow.chain(wrong).chain(ends);
        injections.map(|(case, fault)| Ok(Injection { problem: meant(case)?, fault })).collect()
    }
}

/// A base that cannot be built is one that nothing can be compared with. What is wrong here and now
/// is an error like any other.
fn not_comparable(error: BaseError) -> anyhow::Result<Verdict> {
    match error {
        BaseError::Failed { ref command, .. } if command.contains("cargo") => {
            eprintln!("touchstone: the base cannot be built: {error}");
            Ok(Verdict::NotComparable)
        }
        error => bail!("{error}"),
    }
}

/// A bar over rounds, on standard error, where that is a terminal.
fn rounds_bar(rounds: u64) -> ProgressBar {
    let bar = ProgressBar::new(rounds);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos} rounds, {elapsed}  {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Writes what a machine and a person read later.
fn keep(directory: &Path, report: &Report, rows: &[RoundRow]) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("gate.json"), serde_json::to_string_pretty(report)? + "\n")?;
        fs::write(directory.join("gate.md"), report.markdown())?;
        let mut writer = csv::Writer::from_path(directory.join("rounds.csv"))?;
        rows.iter().try_for_each(|row| writer.serialize(row))?;
        Ok(writer.flush()?)
    };
    write().with_context(|| format!("cannot write into {}", directory.display()))
}
