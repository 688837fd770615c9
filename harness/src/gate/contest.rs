//! Rounds between two executables.
//!
//! ```text
//! round: copy both under fresh names → spawn in random order → pin → canary and cases in random order → kill → delete
//! case:  prepare on both, operands anywhere in a page → ten pairs of slices, either first by a coin
//!        → outputs of both judged
//! ```
//!
//! Every round has processes of its own, from files of their own. Where the pages of a file and of
//! a process's buffers lie stays as it is for their whole life, and can make one of two identical
//! executables 5 % slower for minutes; fresh ones draw anew, so that this becomes noise that
//! rounds average over. Where a buffer lies in its page is the same in every process of an executable,
//! and one more allocation before it moves it: that is drawn too
//! ([`scattered`](touchstone_kernels::tensor::scattered)). Nothing but a random name tells the system
//! which side is which.

mod duel;
mod error;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;
use tempfile::TempDir;
use touchstone_kernels::{Declaration, Outputs};
use touchstone_reports::statistics::{median, shuffle};

use self::duel::{Duel, Pairs, canary_ns};
pub use self::error::ContestError;
use self::error::{died, failure};
use super::decision::{Round, Rounds, Stage};
use super::pinning::Pinning;
use crate::agreement::judge;
use crate::case::Case;
use crate::oracle::{self, Expected};
use crate::timing::sampler::{Subject, iterations_for};
use crate::timing::{DriverError, Launch, Readiness, Worker};

/// One of the two executables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the candidate is held against.
    Base,
    /// What is judged.
    Candidate,
}

touchstone_kernels::named_enum!(Role, "side", {
    Role::Base => "the base",
    Role::Candidate => "the candidate",
});

/// In the order of everything that there are two of.
const BOTH: [Role; 2] = [Role::Base, Role::Candidate];

/// An executable that answers the timing protocol.
#[derive(Clone, Debug)]
pub struct Side {
    /// Where it is.
    pub exe: PathBuf,
    /// What follows `worker` on its command line.
    pub arguments: Vec<String>,
}

/// Time that a slice of the base takes.
const SLICE: Duration = Duration::from_millis(1);

/// Runs of the candidate before the first round.
const RUNS: u64 = 8;

/// Longest time for one answer of a worker.
const PATIENCE: Duration = Duration::from_secs(60);

/// One case of one round, for the record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundRow {
    /// `screen` or `confirm`.
    pub stage: String,
    /// Counted from 0 over both stages.
    pub round: usize,
    /// The problem, or `canary`.
    pub case: String,
    /// Valid pairs of slices.
    pub pairs: usize,
    /// Median nanoseconds of an iteration of the base.
    pub base_ns: f64,
    /// Median nanoseconds of an iteration of the candidate.
    pub candidate_ns: f64,
    /// Median over the pairs of ln(candidate ÷ base).
    pub log_ratio: f64,
}

/// What is known of a case before the first round.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Both sides are right on it.
    Ready {
        /// Nanoseconds of an iteration of the base.
        base_ns: u64,
    },
    /// The base computes it and the candidate does not: it panics, refuses, or has lost support.
    Lost {
        /// What the candidate says.
        why: String,
    },
    /// The base does not compute it, or is wrong: there is nothing to compare.
    Apart {
        /// Why.
        why: String,
    },
    /// The candidate is wrong.
    Wrong {
        /// How.
        why: String,
    },
}

/// A case between the two.
struct Contested {
    case: Case,
    expected: Expected,
    iterations: u64,
    /// Results of each side that were judged right: the same bits need no second verdict.
    right: [Option<Outputs>; 2],
}

/// Two executables, and what they are compared on.
pub struct Contest<'a> {
    sides: [Side; 2],
    cases: Vec<Contested>,
    /// Passes of the canary that take a slice; none where a side has no canary.
    canary: Option<u64>,
    /// Whether both sides draw where their operands lie.
    scattered: bool,
    directory: TempDir,
    random: Xoshiro256PlusPlus,
    pinning: Pinning,
    stop: &'a AtomicBool,
    bar: ProgressBar,
    round: usize,
    rows: Vec<RoundRow>,
    /// Whether the candidate has fallen silent before.
    was_silent: bool,
}

impl<'a> Contest<'a> {
    /// A contest between a base and a candidate, in that order. Copies are made in `directory`.
    /// Everything random follows from `seed`.
    pub fn new(
        sides: [Side; 2],
        cases: Vec<Case>,
        directory: TempDir,
        seed: u64,
        stop: &'a AtomicBool,
        bar: ProgressBar,
    ) -> Self {
        let contested = |case: Case| {
            let expected = oracle::expect(&case.problem, &case.inputs());
            Contested { case, expected, iterations: 1, right: [None, None] }
        };
        let cases = cases.into_iter().map(contested).collect();
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        // After the oracle, which takes all processors.
        let pinning = Pinning::of_driver();
        let (canary, scattered, round, rows) = (None, true, 0, Vec::new());
        Contest {
            sides,
            cases,
            canary,
            scattered,
            directory,
            random,
            pinning,
            stop,
            bar,
            round,
            rows,
            was_silent: false,
        }
    }

    /// Which processor is whose.
    pub fn pinning(&self) -> &Pinning {
        &self.pinning
    }

    /// Whether both sides have the loop that never changes.
    pub fn has_canary(&self) -> bool {
        self.canary.is_some()
    }

    /// Whether both sides have drawn where their operands lie, in each round so far. One that is older
    /// leaves them where its allocator puts them.
    pub fn is_scattered(&self) -> bool {
        self.scattered
    }

    /// The cases and rounds so far.
    pub fn rows(&self) -> &[RoundRow] {
        &self.rows
    }

    /// Lets both sides compute every case once, judges what they give, and measures how many
    /// iterations of the base fill a slice. Returns the backends of the two, and how each case
    /// stands; the rounds are over those that are ready, in their order.
    ///
    /// # Errors
    /// [`ContestError`], but not for wrong results: those are in what is returned.
    pub fn open(&mut self) -> Result<([String; 2], Vec<Standing>), ContestError> {
        self.twice_if_silent(Self::open_once)
    }

    /// Does something again with fresh processes where the candidate falls silent the first time: a
    /// machine may stand still for a minute. The second time it is the candidate's own fault.
    fn twice_if_silent<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, ContestError>,
    ) -> Result<T, ContestError> {
        match work(self) {
            Err(ContestError::Silent { .. }) if !self.was_silent => {
                self.was_silent = true;
                match work(self) {
                    Err(ContestError::Silent { case, source }) => Err(ContestError::Crashed { case, source }),
                    ended => ended,
                }
            }
            Err(ContestError::Silent { case, source }) => Err(ContestError::Crashed { case, source }),
            ended => ended,
        }
    }

    fn open_once(&mut self) -> Result<([String; 2], Vec<Standing>), ContestError> {
        let mut pair = self.spawn()?;
        self.canary = pair.calibrate_canary()?;
        let mut standings = Vec::with_capacity(self.cases.len());
        for contested in &mut self.cases {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ContestError::Stopped);
            }
            self.bar.set_message(contested.case.problem.to_string());
            standings.push(contested.open(&mut pair)?);
        }
        let mut standing = standings.iter();
        self.cases.retain(|_| matches!(standing.next(), Some(Standing::Ready { .. })));
        Ok((BOTH.map(|role| pair.worker(role).name().to_string()), standings))
    }

    /// Fresh processes from fresh copies.
    fn spawn(&mut self) -> Result<Duel, ContestError> {
        let first = self.random.next_u64();
        // Names of equal length, which differ.
        let names = [first, first ^ (self.random.next_u64() | 1)].map(|name| format!("{name:016x}"));
        let paths = names.map(|name| self.directory.path().join(name));
        let mut order = BOTH;
        shuffle(&mut order, &mut self.random);
        for role in order {
            let original = &self.sides[role as usize].exe;
            let failed = |source| ContestError::Copy { path: original.clone(), source };
            fs::copy(original, &paths[role as usize]).map_err(failed)?;
        }
        let [one, other] = [self.start(order[0], &paths)?, self.start(order[1], &paths)?];
        let mut workers = if order[0] == Role::Base { [one, other] } else { [other, one] };
        for role in BOTH {
            let scattered = workers[role as usize].scatter(self.random.next_u64());
            self.scattered &= scattered.map_err(|source| failure(role, source))?;
        }
        Ok(Duel { workers, paths })
    }

    fn start(&self, role: Role, paths: &[PathBuf; 2]) -> Result<Worker, ContestError> {
        let (side, exe) = (&self.sides[role as usize], &paths[role as usize]);
        let arguments = std::iter::once("worker").chain(side.arguments.iter().map(String::as_str));
        let mut launch = Launch::new(exe, arguments, 1);
        launch.timeout = PATIENCE;
        let worker = Worker::spawn(&launch).map_err(|source| failure(role, source))?;
        // Before it has any buffer: those then lie where this processor likes them.
        self.pinning.place(worker.pid()).map_err(|source| ContestError::Pin { source })?;
        Ok(worker)
    }
}

impl Rounds for Contest<'_> {
    type Error = ContestError;

    fn round(&mut self, stage: Stage, cases: &[usize]) -> Result<Round, ContestError> {
        let rows = self.rows.len();
        self.twice_if_silent(|contest| {
            contest.rows.truncate(rows);
            contest.round_once(stage, cases)
        })
    }
}

impl Contest<'_> {
    fn round_once(&mut self, stage: Stage, cases: &[usize]) -> Result<Round, ContestError> {
        let mut pair = self.spawn()?;
        self.bar.set_message(format!("{stage}ing, round {}", self.round + 1));
        // Digits beyond these are noise, and a recorded series has many rows.
        let rounded = |value: f64, digits: i32| (value * 10f64.powi(digits)).round() / 10f64.powi(digits);
        let mut row = |case: &dyn ToString, pairs: &Pairs, iterations: u64| {
            let per_iteration = |role: Role| {
                rounded(median(pairs.0.iter().map(|ns| ns[role as usize] / iterations as f64)), 1)
            };
            self.rows.push(RoundRow {
                stage: stage.to_string(),
                round: self.round,
                case: case.to_string(),
                pairs: pairs.0.len(),
                base_ns: per_iteration(Role::Base),
                candidate_ns: per_iteration(Role::Candidate),
                log_ratio: rounded(pairs.log_ratio().unwrap_or(f64::NAN), 6),
            });
        };
        let mut canary = None;
        if let Some(passes) = self.canary {
            let pairs = pair.take_turns(&mut self.random, |worker| canary_ns(worker, passes), &failure)?;
            row(&"canary", &pairs, passes);
            canary = pairs.log_ratio();
        }
        let mut order: Vec<usize> = (0..cases.len()).collect();
        shuffle(&mut order, &mut self.random);
        let mut data = vec![None; cases.len()];
        for at in order {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ContestError::Stopped);
            }
            let contested = &mut self.cases[cases[at]];
            let pairs = contested.measure(&mut pair, &mut self.random)?;
            row(&contested.case.problem, &pairs, contested.iterations);
            data[at] = pairs.log_ratio();
        }
        self.round += 1;
        self.bar.inc(1);
        Ok(Round { canary, cases: data })
    }
}

impl Contested {
    fn open(&mut self, pair: &mut Duel) -> Result<Standing, ContestError> {
        let mut prepare = |role| match pair.worker(role).prepare(&self.case, 1) {
            Ok(Readiness::Ready(preparation)) => Ok(Ok(preparation.declaration)),
            Ok(Readiness::Unsupported { reason: why }) | Err(DriverError::Refused { message: why, .. }) => {
                Ok(Err(why))
            }
            Err(source) => Err(died(role, &self.case, source)),
        };
        let (base, candidate) = (prepare(Role::Base)?, prepare(Role::Candidate)?);
        let candidate = match (candidate, &base) {
            (Ok(declaration), _) => declaration,
            (Err(why), Err(_)) => {
                return Ok(Standing::Apart { why: format!("neither side computes it: {why}") });
            }
            (Err(why), Ok(declaration)) => {
                return Ok(match self.verify(pair, Role::Base, declaration) {
                    Ok(()) => {
                        Standing::Lost { why: format!("the base computes it, the candidate says: {why}") }
                    }
                    Err(ContestError::Wrong { why, .. }) => {
                        Standing::Apart { why: format!("the base is wrong: {why}") }
                    }
                    Err(error) => return Err(error),
                });
            }
        };
        match self.verify(pair, Role::Candidate, &candidate) {
            Err(ContestError::Wrong { why, .. }) => return Ok(Standing::Wrong { why }),
            verified => verified?,
        }
        let base = match base {
            Ok(declaration) => declaration,
            Err(why) => return Ok(Standing::Apart { why: format!("the base says: {why}") }),
        };
        match self.verify(pair, Role::Base, &base) {
            Err(ContestError::Wrong { why, .. }) => {
                return Ok(Standing::Apart { why: format!("the base is wrong: {why}") });
            }
            verified => verified?,
        }
        // A candidate that dies of being run a few times is found here, and not in some round.
        let again = pair.worker(Role::Candidate).run(0, RUNS);
        match again {
            Ok(_) => {}
            Err(DriverError::Refused { message, .. }) => return Ok(Standing::Wrong { why: message }),
            Err(source) => return Err(died(Role::Candidate, &self.case, source)),
        }
        let calibrated = iterations_for(pair.worker(Role::Base), SLICE);
        let (iterations, base_ns) = calibrated.map_err(|source| failure(Role::Base, source))?;
        self.iterations = iterations;
        Ok(Standing::Ready { base_ns })
    }

    /// The pairs of a round, with right results at its end.
    fn measure(&mut self, pair: &mut Duel, random: &mut impl RngCore) -> Result<Pairs, ContestError> {
        let mut order = BOTH;
        shuffle(&mut order, random);
        let mut declared = Vec::with_capacity(order.len());
        for role in order {
            match pair.worker(role).prepare(&self.case, 1) {
                Ok(Readiness::Ready(preparation)) => declared.push((role, preparation.declaration)),
                Ok(Readiness::Unsupported { reason: why }) => return Err(self.wrong(role, why)),
                Err(source) => return Err(self.failure(role, source)),
            }
        }
        let iterations = self.iterations;
        let case = &self.case;
        let pairs =
            pair.take_turns(random, |worker| worker.run(1, iterations), &|role, source| match source {
                DriverError::Refused { message: why, .. } => {
                    ContestError::Wrong { role, case: case.problem.to_string(), why }
                }
                source => died(role, case, source),
            })?;
        for (role, declaration) in &declared {
            self.verify(pair, *role, declaration)?;
        }
        Ok(pairs)
    }

    /// Judges the results of the last iteration.
    fn verify(&mut self, pair: &mut Duel, role: Role, declaration: &Declaration) -> Result<(), ContestError> {
        let outputs = pair.worker(role).outputs(&self.case.problem);
        let outputs = outputs.map_err(|source| self.failure(role, source))?;
        if self.right[role as usize].as_ref() == Some(&outputs) {
            return Ok(());
        }
        match judge(&self.expected, declaration, &outputs).failure {
            Some(failure) => Err(self.wrong(role, failure.to_string())),
            None => {
                self.right[role as usize] = Some(outputs);
                Ok(())
            }
        }
    }

    /// A worker that refuses what it did before says that something is wrong with it.
    fn failure(&self, role: Role, source: DriverError) -> ContestError {
        match source {
            DriverError::Refused { message, .. } => self.wrong(role, message),
            source => died(role, &self.case, source),
        }
    }

    fn wrong(&self, role: Role, why: String) -> ContestError {
        ContestError::Wrong { role, case: self.case.problem.to_string(), why }
    }
}
