//! Every case on every backend: check, measure what passed, record.

mod workers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use touchstone_kernels::{Backend, BackendId, Clock, Declaration, Inputs, Registry, Support, Work};
use touchstone_reports::{Record, RowKey, RunWriter, Status, StoreError};

use crate::agreement::{Failure, Figures, judge};
use crate::case::Case;
use crate::check::{check, explained, weigh};
use crate::known::KnownIssues;
use crate::machine::Caches;
use crate::oracle::{self, Expected};
use crate::outcome::{Against, Measurement, OnDevice, Outcome};
use crate::progress;
use crate::recording::{Place, Run, Who};
use crate::safeguard::Safeguards;
use crate::suite::SuiteCase;
use crate::timing::audit::{Audit, Variants};
use crate::timing::honesty::{AUDITS, Evidence};
use crate::timing::protocol::Preparation;
use crate::timing::sampler::Subject;
use crate::timing::{DriverError, Effort, Health, Limit, Readiness, Samples, Worker, sample};

use self::workers::Workers;
pub use self::workers::device_peaks;

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Cases with the names of their suites.
    pub cases: Vec<(String, SuiteCase)>,
    /// Backends, by name.
    pub backends: Vec<BackendId>,
    /// Thread counts. Agreement is checked at the largest, times are taken at each.
    pub threads: Vec<usize>,
    /// Whether cases are timed that ask for it; otherwise they are only checked.
    pub timing: bool,
    /// How much to measure.
    pub effort: Effort,
    /// A kernel whose one iteration takes longer is checked, but not timed.
    pub slowest: Duration,
    /// The backend that speed-ups are against; by default the first present of
    /// [`REFERENCES`].
    pub reference: Option<BackendId>,
}

/// What speed-ups are against when nobody says otherwise: what most users run today.
pub const REFERENCES: [&str; 3] = ["libtorch/cpu", "candle/cpu", "naive"];

/// A comparison while it runs.
pub struct Comparison<'a> {
    /// Makes a registry for a thread count.
    pub registry: &'a dyn Fn(usize) -> Registry,
    /// What is the same in every row.
    pub run: Run,
    /// Defects that are known.
    pub known: &'a KnownIssues,
    /// Where rows go as they come, if anywhere.
    pub writer: Option<RunWriter>,
    /// Asked between cases and slices.
    pub stop: &'a AtomicBool,
    /// Whether rows that need attention are shown as they come, and a bar beside them.
    pub quiet: bool,
    /// What workers get on their command line besides backend and threads.
    pub worker_arguments: Vec<String>,
}

/// The rows of a comparison.
#[derive(Debug, Default)]
pub struct Compared {
    /// All rows, those of a resumed run included.
    pub records: Vec<Record>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl Comparison<'_> {
    /// Goes through the plan.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be kept. Whatever a backend does becomes a row.
    pub fn go(&mut self, plan: &Plan) -> Result<Compared, StoreError> {
        let registries: Vec<(usize, Registry)> =
            plan.threads.iter().map(|&threads| (threads, (self.registry)(threads))).collect();
        let mut compared = Compared {
            records: self.writer.as_ref().map(|writer| writer.earlier().to_vec()).unwrap_or_default(),
            stopped: false,
        };
        let mut workers = Workers::with(self.worker_arguments.clone());
        let bar = if self.quiet { ProgressBar::hidden() } else { progress::over_cases(plan.cases.len()) };
        for (suite, suite_case) in &plan.cases {
            if self.stop.load(Ordering::Relaxed) {
                compared.stopped = true;
                break;
            }
            bar.set_message(suite_case.case.problem.to_string());
            let rows = if plan.timing && !suite_case.timed.is_empty() {
                self.time(plan, &registries, suite, suite_case, &mut workers)?
            } else {
                self.check(plan, &registries, suite, suite_case)?
            };
            for row in rows.iter().filter(|row| row.status.needs_attention() && !self.quiet) {
                bar.suspend(|| eprintln!("{} {}: {}\n  {}", row.status, row.backend, row.reason, row.repro));
            }
            compared.records.extend(rows);
            bar.inc(1);
        }
        bar.finish_and_clear();
        compared.stopped |= self.stop.load(Ordering::Relaxed);
        Ok(compared)
    }

    /// Checks one case on every backend, in this process.
    fn check(
        &mut self,
        plan: &Plan,
        registries: &[(usize, Registry)],
        suite: &str,
        suite_case: &SuiteCase,
    ) -> Result<Vec<Record>, StoreError> {
        let case = &suite_case.case;
        let Some((threads, registry)) = registries.last() else { return Ok(Vec::new()) };
        let place = Place { suite, case, threads: *threads, cache: None, work: None };
        let backends: Vec<_> = plan
            .backends
            .iter()
            .filter_map(|id| registry.find(id.as_str()))
            .filter(|backend| !self.is_done(place, backend.as_ref()))
            .collect();
        if backends.is_empty() {
            return Ok(Vec::new());
        }
        let inputs = case.inputs();
        let expected = oracle::expect(&case.problem, &inputs);
        let mut naive_rmse = None;
        let mut records = Vec::new();
        for backend in backends {
            let outcome = check(backend.as_ref(), case, &inputs, &expected, self.known);
            if backend.id().as_str() == "naive" {
                naive_rmse = outcome.figures().map(|figures| figures.rmse);
            }
            records.push(self.keep(place, &Who::of(backend.as_ref(), case), &outcome, naive_rmse)?);
        }
        Ok(records)
    }

    /// Checks and times one case, in workers.
    fn time(
        &mut self,
        plan: &Plan,
        registries: &[(usize, Registry)],
        suite: &str,
        suite_case: &SuiteCase,
        workers: &mut Workers,
    ) -> Result<Vec<Record>, StoreError> {
        let case = &suite_case.case;
        let mut question = None;
        let mut naive_rmse = None;
        let mut records = Vec::new();
        for (threads, registry) in registries {
            for (state, &cache) in suite_case.timed.iter().enumerate() {
                let place = Place { suite, case, threads: *threads, cache: Some(cache), work: None };
                // A backend of one thread is timed with one thread only.
                let backends: Vec<_> = plan
                    .backends
                    .iter()
                    .filter_map(|id| registry.find(id.as_str()))
                    .filter(|backend| backend.info().threads == *threads)
                    .filter(|backend| !self.is_done(place, backend.as_ref()))
                    .collect();
                if backends.is_empty() || self.stop.load(Ordering::Relaxed) {
                    continue;
                }
                let question = question.get_or_insert_with(|| Question::of(case, suite_case.timed.len()));
                question.state = state;
                let place = Place { work: Some(question.work), ..place };
                let mut entries: Vec<Entry> = Vec::new();
                for backend in backends {
                    let mut who = Who::of(backend.as_ref(), case);
                    let state = match backend.supports(&case.problem) {
                        Support::No(reason) => State::Done(Outcome::Unsupported { reason: reason.into() }),
                        Support::Yes => match workers.take(backend.id(), *threads) {
                            Err(error) => State::Done(failed(&error, None)),
                            Ok(worker) => {
                                let caches =
                                    if who.info.is_on_cpu() { Caches::detect() } else { Caches::GPU };
                                let copies = cache.entries(&case.problem, &caches);
                                start(worker, question, copies, &who.declaration, plan.slowest)
                            }
                        },
                    };
                    if let State::Ready { preparation, .. } = &state {
                        // Which kernel runs may be known on the device alone.
                        who.declaration.path = preparation.declaration.path.clone();
                    }
                    entries.push(Entry { who, state });
                }
                measure(&mut entries, plan, case.seed, self.stop);
                if self.stop.load(Ordering::Relaxed) {
                    // Slices are missing: the case is measured again when the run is resumed.
                    break;
                }
                let reference = reference(plan, &entries);
                for entry in &mut entries {
                    let limit = |who: &Who, bytes| self.run.limit(place, who, bytes);
                    let outcome = entry.finish(question, reference.as_ref(), workers, *threads, &limit);
                    let outcome = match (outcome, registry.find(entry.who.id.as_str())) {
                        (outcome, Some(backend)) => {
                            explained(outcome, backend.as_ref(), case, &question.inputs, self.known)
                        }
                        (outcome, None) => outcome,
                    };
                    if entry.who.id.as_str() == "naive" {
                        naive_rmse = outcome.figures().map(|figures| figures.rmse);
                    }
                    records.push(self.keep(place, &entry.who, &outcome, naive_rmse)?);
                }
            }
        }
        Ok(records)
    }

    fn is_done(&self, place: Place, backend: &dyn Backend) -> bool {
        let key = RowKey {
            problem: place.case.problem.to_string(),
            fill: place.case.recipe(),
            seed: place.case.seed,
            backend: backend.id().to_string(),
            threads: backend.info().threads as u32,
            cache: place.cache.map_or_else(String::new, |state| state.to_string()),
        };
        self.writer.as_ref().is_some_and(|writer| writer.is_done(&key))
    }

    fn keep(
        &mut self,
        place: Place,
        who: &Who,
        outcome: &Outcome,
        naive_rmse: Option<f64>,
    ) -> Result<Record, StoreError> {
        let record = self.run.record(place, who, outcome, naive_rmse);
        if let Some(writer) = &mut self.writer {
            writer.push(&record, &Run::samples(&record, outcome))?;
        }
        Ok(record)
    }
}

/// A case, and what is asked of every backend that is timed on it.
struct Question<'a> {
    case: &'a Case,
    inputs: Inputs,
    expected: Expected,
    /// What these inputs ask for.
    work: Work,
    /// The state of the caches that is timed.
    state: usize,
    /// For each state the first audit of each backend, which all of them share. A worker never sees one
    /// twice: it might remember the answer.
    audits: Vec<SharedAudit>,
}

/// An audit, and what its last call has to give.
struct SharedAudit {
    plan: AuditPlan,
    expected: Option<Expected>,
}

/// Which inputs an audit ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AuditPlan {
    calls: usize,
    seed: u64,
}

impl AuditPlan {
    /// Drawn anew in every run: no kernel can have been made for it.
    fn draw() -> Self {
        let seed = getrandom::u64().unwrap_or(0x5eed);
        AuditPlan { calls: MIN_CALLS + (seed % SOME_CALLS) as usize, seed }
    }
}

/// Calls of an audit: so many, and fewer than so many more, by a draw.
const MIN_CALLS: usize = 5;
const SOME_CALLS: u64 = 4;

impl<'a> Question<'a> {
    fn of(case: &'a Case, states: usize) -> Self {
        let inputs = case.inputs();
        let expected = oracle::expect(&case.problem, &inputs);
        let work = case.problem.work_on(&inputs);
        let draw = || SharedAudit { plan: AuditPlan::draw(), expected: None };
        let audits = std::iter::repeat_with(draw).take(states).collect();
        Question { case, inputs, expected, work, state: 0, audits }
    }

    /// Judges the results of an audit's last call.
    fn judge_audit(
        &mut self,
        worker: &mut Worker,
        plan: AuditPlan,
        declaration: &Declaration,
    ) -> Result<Option<Failure>, DriverError> {
        let outputs = worker.outputs(&self.case.problem)?;
        let expect = || {
            // The operands are the case's own, so that no step can fail.
            let inputs = Variants::after(&self.inputs, plan.seed, plan.calls);
            oracle::expect(&self.case.problem, inputs.as_ref().unwrap_or(&self.inputs))
        };
        let shared = self.audits.get_mut(self.state).filter(|audit| audit.plan == plan);
        let failure = match shared {
            Some(audit) => {
                let expected = audit.expected.get_or_insert_with(expect);
                judge(expected, declaration, &outputs).failure
            }
            None => judge(&expect(), declaration, &outputs).failure,
        };
        Ok(failure.map(|failure| match failure {
            Failure::Outside { worst: first, .. } | Failure::NonFinite { first, .. } => {
                Failure::Stale { first }
            }
            other => other,
        }))
    }

    /// Judges the results of a worker's last iteration.
    fn ask(&self, worker: &mut Worker, declaration: &Declaration) -> Result<Outcome, DriverError> {
        let agreement = judge(&self.expected, declaration, &worker.outputs(&self.case.problem)?);
        Ok(weigh(Safeguards::ALL, agreement, self.case, &self.inputs, &self.expected, declaration))
    }
}

/// A backend on its way through one measurement.
struct Entry {
    who: Who,
    state: State,
}

enum State {
    /// It has come to its end.
    Done(Outcome),
    /// It was right once, and waits to be timed.
    Ready { worker: Box<Worker>, preparation: Preparation, figures: Box<Figures> },
    /// It was not right, or is too slow to be timed.
    Untimed { worker: Box<Worker>, outcome: Outcome },
    /// It was timed.
    Timed { worker: Box<Worker>, preparation: Preparation, samples: Samples, health: Health },
}

/// Prepares a worker and judges its first results.
fn start(
    mut worker: Box<Worker>,
    question: &Question,
    entries: usize,
    declaration: &Declaration,
    slowest: Duration,
) -> State {
    let first = worker.prepare(question.case, entries).and_then(|readiness| match readiness {
        Readiness::Unsupported { reason } => Ok(Err(Outcome::Unsupported { reason })),
        Readiness::Ready(preparation) => {
            let ns = worker.run(0, 1)?;
            Ok(Ok((preparation, ns, question.ask(&mut worker, declaration)?)))
        }
    });
    match first {
        Err(error) => State::Done(failed(&error, None)),
        Ok(Err(outcome)) => State::Done(outcome),
        Ok(Ok((preparation, ns, Outcome::Passed(figures)))) if Duration::from_nanos(ns) <= slowest => {
            State::Ready { worker, preparation, figures: Box::new(figures) }
        }
        Ok(Ok((_, _, outcome))) => State::Untimed { worker, outcome },
    }
}

/// Times all entries that are ready, interleaved.
fn measure(entries: &mut [Entry], plan: &Plan, seed: u64, stop: &AtomicBool) {
    let mut places = Vec::new();
    let mut subjects = Vec::new();
    for (at, entry) in entries.iter_mut().enumerate() {
        let idle = State::Done(Outcome::Error { message: "stopped".into() });
        match std::mem::replace(&mut entry.state, idle) {
            State::Ready { worker, preparation, figures } => {
                places.push((at, preparation, figures));
                subjects.push(*worker);
            }
            state => entry.state = state,
        }
    }
    let stop = || stop.load(Ordering::Relaxed);
    let (sampling, health) = Health::around(|| sample(&mut subjects, &plan.effort, seed, &stop));
    for (((at, preparation, figures), worker), samples) in
        places.into_iter().zip(subjects).zip(sampling.samples)
    {
        let worker = Box::new(worker);
        entries[at].state = match samples {
            Ok(samples) => State::Timed { worker, preparation, samples, health },
            Err(error) => State::Done(failed(&error, Some(*figures))),
        };
    }
}

/// What times are compared with.
struct Reference {
    id: String,
    clock: Clock,
    samples: Samples,
}

/// The reference with its samples.
fn reference(plan: &Plan, entries: &[Entry]) -> Option<Reference> {
    let samples = |id: &str| {
        entries.iter().find(|entry| entry.who.id.as_str() == id).and_then(|entry| match &entry.state {
            State::Timed { samples, preparation, .. } => {
                Some(Reference { id: id.to_string(), clock: preparation.clock, samples: samples.clone() })
            }
            _ => None,
        })
    };
    match &plan.reference {
        Some(id) => samples(id.as_str()),
        // One reference for the whole run: a ratio to another one would not compare.
        None => REFERENCES
            .into_iter()
            .find(|id| plan.backends.iter().any(|b| b.as_str() == *id))
            .and_then(samples),
    }
}

impl Entry {
    /// Judges the results again after timing, audits the time, and hands the worker back.
    fn finish(
        &mut self,
        question: &mut Question,
        reference: Option<&Reference>,
        workers: &mut Workers,
        threads: usize,
        limit: &dyn Fn(&Who, u64) -> Option<Limit>,
    ) -> Outcome {
        let idle = State::Done(Outcome::Error { message: "not measured".into() });
        match std::mem::replace(&mut self.state, idle) {
            State::Done(outcome) => outcome,
            State::Ready { worker, .. } => {
                workers.give_back(&self.who.id, threads, worker);
                Outcome::Error { message: "not measured".into() }
            }
            State::Untimed { worker, outcome } => {
                workers.give_back(&self.who.id, threads, worker);
                outcome
            }
            State::Timed { mut worker, preparation, samples, health } => {
                let outcome = match question.ask(&mut worker, &self.who.declaration) {
                    Ok(outcome) => outcome,
                    Err(error) => return failed(&error, None),
                };
                let audit = match outcome {
                    Outcome::Passed(figures) => {
                        let limit = limit(&self.who, preparation.bytes);
                        match self.audit(question, &mut worker, &samples, limit) {
                            Err(error) => return failed(&error, Some(figures)),
                            Ok(Audited::Honest(audit)) => Ok((figures, audit)),
                            Ok(Audited::Wrong(why)) => {
                                Err(Outcome::Failed { why, figures: Box::new(figures) })
                            }
                            Ok(Audited::Suspect(why)) => {
                                Err(Outcome::Suspect { why, figures: Box::new(figures) })
                            }
                        }
                    }
                    outcome => Err(outcome),
                };
                let peak_memory = worker.peak_resident();
                let device = (!self.who.info.is_on_cpu()).then(|| OnDevice {
                    health: worker.device_health().cloned().unwrap_or_default(),
                    waiting: worker.waiting_share(),
                });
                workers.give_back(&self.who.id, threads, worker);
                match audit {
                    Ok((figures, audit)) => {
                        // One copy is what a hot row has; it stands for the cold one too.
                        let wanted = preparation.entries == 1 && self.who.info.is_on_cpu();
                        let memory = || workers.extra_memory(&self.who.id, threads, question.case);
                        let extra_memory = wanted.then(memory).flatten();
                        let against = reference.and_then(|Reference { id, clock, samples: theirs }| {
                            let ratio = samples.ratio_to(theirs, question.case.seed)?;
                            Some(Against { reference: id.clone(), clock: *clock, ratio })
                        });
                        let working_set = preparation.bytes;
                        let clock = preparation.clock;
                        let measurement = Measurement {
                            samples,
                            against,
                            health,
                            peak_memory,
                            extra_memory,
                            device,
                            clock,
                            working_set,
                            prepare_ns: preparation.prepare_ns,
                            audit,
                        };
                        Outcome::Measured(figures, Box::new(measurement))
                    }
                    Err(outcome) => outcome,
                }
            }
        }
    }
}

impl Entry {
    /// Looks for what speaks against the times of a kernel whose results are right.
    fn audit(
        &self,
        question: &mut Question,
        worker: &mut Worker,
        samples: &Samples,
        limit: Option<Limit>,
    ) -> Result<Audited, DriverError> {
        let Some(summary) = samples.summary() else {
            return Ok(Audited::Suspect("no slice was measured".into()));
        };
        let steady_ns = (summary.median as f64).max(1.0);
        let slowest = samples.slowest_median().unwrap_or(steady_ns).max(1.0);
        let evidence = Evidence {
            steady_ns,
            waits: self.who.info.threads > 1 || !self.who.info.is_on_cpu(),
            share: limit.map(|limit| (limit.share(slowest), limit.name)),
            clock_share: samples.clock_share.map(|share| f64::from(share) / 1000.0),
            rest: rest(worker, samples.iterations)?,
        };
        if let Some(why) = evidence.suspicion() {
            return Ok(Audited::Suspect(why));
        }
        let mut plan = question.audits.get(question.state).map_or_else(AuditPlan::draw, |audit| audit.plan);
        let mut doubt = None;
        for _ in 0..AUDITS {
            let audit = worker.audit(plan.calls, plan.seed)?;
            if let Some(why) = question.judge_audit(worker, plan, &self.who.declaration)? {
                return Ok(Audited::Wrong(why));
            }
            doubt = evidence.against(&audit);
            if doubt.is_none() {
                return Ok(Audited::Honest(audit));
            }
            plan = AuditPlan::draw();
        }
        Ok(Audited::Suspect(doubt.unwrap_or_default()))
    }
}

/// What an audit came to.
enum Audited {
    Honest(Audit),
    Suspect(String),
    Wrong(Failure),
}

/// Nanoseconds by which a worker is longer at work after a slice than after one call: the least of some
/// trials of each. Nothing where a slice is one call.
fn rest(worker: &mut Worker, iterations: u64) -> Result<Option<(f64, u64)>, DriverError> {
    const TRIALS: usize = 3;
    if iterations < 2 {
        return Ok(None);
    }
    let mut least = [Duration::MAX; 2];
    for _ in 0..TRIALS {
        for (least, calls) in least.iter_mut().zip([1, iterations]) {
            worker.run(0, calls)?;
            *least = worker.rest().min(*least);
        }
    }
    let more = least[1].saturating_sub(least[0]);
    Ok(Some((more.as_nanos() as f64, iterations)))
}

/// What the end of a worker means. With figures the results were right, and one that does not come to rest
/// is suspect.
fn failed(error: &DriverError, figures: Option<Figures>) -> Outcome {
    let message = error.to_string();
    match (error, figures) {
        (DriverError::Restless { .. }, Some(figures)) => {
            Outcome::Suspect { why: message, figures: Box::new(figures) }
        }
        (DriverError::Timeout { .. }, _) => Outcome::Timeout { message },
        _ => Outcome::Error { message },
    }
}

/// Whether any row makes the run fail.
pub fn is_red(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record.status, Status::Failed | Status::Error | Status::Timeout))
}
