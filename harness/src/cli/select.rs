//! Which cases, which backends, how many threads.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use regex::Regex;
use touchstone_kernels::op::{self, Family};
use touchstone_kernels::{BackendId, DType, Registry};

use crate::case::Case;
use crate::explore::{Indices, Numbers, Space};
use crate::known::KnownIssues;
use crate::machine::memory;
use crate::suite::{Suite, SuiteCase};

/// Which backends, on how many threads.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct Who {
    /// Backends by name: `simd` is the best instruction set present, `simd/avx2` that one, `all`
    /// every one [default: the best of each to be timed, every one to be checked]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    backend: Vec<String>,
    /// Only backends on these devices: cpu, cuda, cuda:1, metal
    #[arg(long, value_name = "DEVICE", value_delimiter = ',')]
    device: Vec<String>,
    /// Thread counts, `all` for every processor [default: 1 and all; where only one is taken, all]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = threads)]
    threads: Vec<usize>,
    /// A file of known issues, instead of the one built in
    #[arg(long, value_name = "FILE")]
    known_issues: Option<PathBuf>,
}

/// Filters that every command over suites understands alike.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct Selection {
    #[command(flatten)]
    pub(super) who: Who,
    /// Operations (softmax, gelu …) or families (attention, softmax, norm, activation, rope)
    #[arg(long, value_name = "OP", value_delimiter = ',')]
    op: Vec<String>,
    /// Storage types: f32, f16, bf16
    #[arg(long, value_name = "DTYPE", value_delimiter = ',')]
    dtype: Vec<DType>,
    /// Suites: smoke, standard, models, growth, gpu, gate, or the path of a .toml file
    #[arg(long, value_name = "SUITE", value_delimiter = ',')]
    suite: Vec<String>,
    /// Only cases whose text matches this regular expression
    #[arg(long, value_name = "REGEX")]
    case: Option<Regex>,
    /// Leave out cases whose text matches this regular expression
    #[arg(long, value_name = "REGEX")]
    skip: Option<Regex>,
    /// The k-th of n equal parts of the cases, such as 1/4
    #[arg(long, value_name = "K/N", value_parser = shard)]
    shard: Option<Shard>,
}

/// The k-th (from 1) of n parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    k: usize,
    n: usize,
}

fn shard(text: &str) -> Result<Shard, String> {
    let expected = || "expected k/n with 1 ≤ k ≤ n, such as 1/4".to_string();
    let (k, n) = text.split_once('/').ok_or_else(expected)?;
    match (k.parse(), n.parse()) {
        (Ok(k), Ok(n)) if (1..=n).contains(&k) => Ok(Shard { k, n }),
        _ => Err(expected()),
    }
}

/// Whether a place such as `cuda:1` is meant by `cuda:1` or `cuda`.
fn is_on(place: &str, device: &str) -> bool {
    place == device || place.split_once(':').is_some_and(|(kind, _)| kind == device)
}

/// Processors that this process may use.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A number of threads, or `all`.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(processors()),
        (_, Ok(n @ 1..=1024)) => Ok(n),
        _ => Err("expected a number from 1 to 1024, or all".into()),
    }
}

impl Who {
    /// The thread counts, in ascending order.
    pub(super) fn threads(&self, default: &[usize]) -> Vec<usize> {
        let mut threads = if self.threads.is_empty() { default.to_vec() } else { self.threads.clone() };
        threads.sort_unstable();
        threads.dedup();
        threads
    }

    /// The thread count of a command that takes only one: by default all processors.
    pub(super) fn one_thread_count(&self) -> anyhow::Result<usize> {
        match self.threads(&[processors()])[..] {
            [threads] => Ok(threads),
            _ => bail!("--threads: expected one number here, found {}", self.threads.len()),
        }
    }

    /// The backends asked for, or `default`, on the devices asked for.
    pub(super) fn backends(&self, registry: &Registry, default: Backends) -> anyhow::Result<Vec<BackendId>> {
        let mut chosen = self.named_backends(registry, default)?;
        if self.device.is_empty() {
            return Ok(chosen);
        }
        let wanted = |place: &str| self.device.iter().any(|device| is_on(place, device));
        chosen.retain(|id| registry.find(id.as_str()).is_some_and(|backend| wanted(&backend.info().device)));
        if chosen.is_empty() {
            let absent = registry.absent().iter().filter(|absent| wanted(absent.id.place()));
            let reasons: Vec<String> = absent.map(|a| format!("{} ({})", a.id, a.reason)).collect();
            let mut here: Vec<String> = registry.present().iter().map(|b| b.info().device).collect();
            here.sort();
            here.dedup();
            let others = match reasons.is_empty() {
                true => format!("devices here are {}", here.join(", ")),
                false => reasons.join(", "),
            };
            bail!("no backend chosen is on {}: {others}", self.device.join(", "));
        }
        Ok(chosen)
    }

    fn named_backends(&self, registry: &Registry, default: Backends) -> anyhow::Result<Vec<BackendId>> {
        let names = |backends: &mut dyn Iterator<Item = BackendId>| backends.collect::<Vec<_>>();
        // A single kernel of a library is there for those who name it.
        let every = || names(&mut registry.whole().map(|b| b.id().clone()));
        if self.backend.is_empty() {
            return Ok(match default {
                Backends::Every => every(),
                Backends::Best => names(&mut registry.best().into_iter().map(|b| b.id().clone())),
            });
        }
        let mut chosen = Vec::new();
        for name in &self.backend {
            if name == "all" {
                chosen.extend(every());
            } else if let Some(backend) = registry.find(name) {
                chosen.push(backend.id().clone());
            } else if let Some(absent) =
                registry.absent().iter().find(|a| a.id.as_str() == name || a.id.implementation() == name)
            {
                bail!("backend {} is not here: {}", absent.id, absent.reason);
            } else {
                let present: Vec<&str> = registry.present().iter().map(|b| b.id().as_str()).collect();
                bail!("there is no backend '{name}': expected all, {}", present.join(", "));
            }
        }
        let mut seen = std::collections::HashSet::new();
        chosen.retain(|id| seen.insert(id.clone()));
        Ok(chosen)
    }

    /// The known issues.
    pub(super) fn known_issues(&self) -> anyhow::Result<KnownIssues> {
        let known = match &self.known_issues {
            Some(path) => KnownIssues::load(path),
            None => KnownIssues::built_in(),
        };
        known.context("cannot load the known issues")
    }
}

impl Selection {
    /// The cases asked for, of the suites asked for or of `default`.
    pub(super) fn cases(
        &self,
        default: &[&str],
        only_timed: bool,
    ) -> anyhow::Result<Vec<(String, SuiteCase)>> {
        let mut cases = self.whole(default, only_timed)?;
        if let Some(Shard { k, n }) = self.shard {
            cases = cases.into_iter().skip(k - 1).step_by(n).collect();
        }
        if cases.is_empty() {
            let what = if only_timed { "timed case" } else { "case" };
            bail!("no {what} of {} matches the filters", self.suites(default).join(", "));
        }
        for (_, suite_case) in &cases {
            ensure_it_fits(&suite_case.case)?;
        }
        Ok(cases)
    }

    fn suites(&self, default: &[&str]) -> Vec<String> {
        match self.suite.is_empty() {
            true => default.iter().map(ToString::to_string).collect(),
            false => self.suite.clone(),
        }
    }

    /// The cases of every shard.
    fn whole(&self, default: &[&str], only_timed: bool) -> anyhow::Result<Vec<(String, SuiteCase)>> {
        let suites = &self.suites(default);
        self.check_operations()?;
        let mut cases: Vec<(String, SuiteCase)> = Vec::new();
        let mut places = HashMap::new();
        for name in suites {
            let suite = Suite::load(name).context("cannot load the suite")?;
            for case in suite.cases.into_iter().filter(|case| self.wants(case, only_timed)) {
                // A case of two suites is run once, timed if either asks for it.
                match places.entry(case.case.to_string()) {
                    Entry::Occupied(place) => {
                        let index: usize = *place.get();
                        let old: &mut SuiteCase = &mut cases[index].1;
                        if old.timed.is_empty() {
                            old.timed = case.timed;
                        }
                    }
                    Entry::Vacant(place) => {
                        place.insert(cases.len());
                        cases.push((suite.name.clone(), case));
                    }
                }
            }
        }
        Ok(cases)
    }

    /// The texts of all cases asked for, whatever the shard.
    pub(super) fn every_case(&self, default: &[&str]) -> anyhow::Result<HashSet<String>> {
        Ok(self
            .whole(default, false)?
            .into_iter()
            .map(|(_, suite_case)| suite_case.case.to_string())
            .collect())
    }

    /// Whether a case of a suite is asked for, be it there or not. A text that is no case
    /// any more is.
    pub(super) fn asks_for(&self, default: &[&str], suite: &str, case: &str) -> bool {
        let is_chosen = self.suites(default).iter().any(|name| {
            // A suite in a file has its name without the ending.
            Path::new(name).file_stem().is_some_and(|stem| stem == suite)
        });
        let is_wanted = match case.parse() {
            Ok(case) => self.wants(&SuiteCase { case, timed: Vec::new() }, false),
            Err(_) => true,
        };
        is_chosen && is_wanted
    }

    /// Refuses operations that do not exist.
    fn check_operations(&self) -> anyhow::Result<()> {
        for op in &self.op {
            let families: Vec<&str> = op::families().map(|family| family.name).collect();
            if !families.contains(&op.as_str()) && op::schema(op).is_none() {
                bail!(
                    "there is no operation or family '{op}': expected {} or {}",
                    families.join(", "),
                    op::names().collect::<Vec<_>>().join(", ")
                );
            }
        }
        Ok(())
    }

    /// The random problems asked for, but for `--case`.
    pub(super) fn space(&self) -> anyhow::Result<Space> {
        self.check_operations()?;
        let dtypes = if self.dtype.is_empty() { &DType::ALL[..] } else { &self.dtype };
        Ok(Space::of(&|name, family| self.wants_operation(name, family), dtypes, Numbers::Moderate))
    }

    /// The numbers below `count` that belong to the shard asked for.
    pub(super) fn part(&self, count: u64) -> Indices {
        let Shard { k, n } = self.shard.unwrap_or(Shard { k: 1, n: 1 });
        Indices { first: k as u64 - 1, step: n as u64, end: count }
    }

    /// Whether a case matches `--case`, and not `--skip`.
    pub(super) fn matches(&self, case: &Case) -> bool {
        let text = case.to_string();
        self.case.as_ref().is_none_or(|regex| regex.is_match(&text))
            && self.skip.as_ref().is_none_or(|regex| !regex.is_match(&text))
    }

    fn wants_operation(&self, name: &str, family: &Family) -> bool {
        self.op.is_empty() || self.op.iter().any(|op| op == name || op == family.name)
    }

    fn wants(&self, suite_case: &SuiteCase, only_timed: bool) -> bool {
        let problem = &suite_case.case.problem;
        self.wants_operation(problem.name(), problem.family())
            && (self.dtype.is_empty() || self.dtype.contains(&problem.dtype))
            && self.matches(&suite_case.case)
            && !(only_timed && suite_case.timed.is_empty())
    }
}

/// What the oracle computes in a second on one processor, in FLOPs of the problem: f64, with the bounds.
const ORACLE_RATE: f64 = 2.5e8;

/// Says how long a case takes that takes long.
pub(super) fn announce_if_long(case: &Case) {
    let seconds = case.problem.work().flops as f64 / ORACLE_RATE / processors() as f64;
    if seconds > 10.0 {
        eprintln!(
            "this is a large case: the oracle takes about {seconds:.0} s, and each backend its own time"
        );
    }
}

/// Refuses a case that this machine's memory cannot hold.
pub(super) fn ensure_it_fits(case: &Case) -> anyhow::Result<()> {
    let needed = case.memory();
    match memory() {
        Some(present) if needed > present as f64 => bail!(
            "'{case}' needs about {:.0} GB of memory, and this machine has {:.0}",
            needed / 1e9,
            present as f64 / 1e9
        ),
        _ => Ok(()),
    }
}

/// The backends of a command where none are named.
#[derive(Clone, Copy, Debug)]
pub(super) enum Backends {
    /// Every one present: each instruction set is checked.
    Every,
    /// The best of each implementation: a comparison is between those.
    Best,
}
