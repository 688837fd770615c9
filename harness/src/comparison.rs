//! Every case on every backend: check, measure what passed, record.

mod workers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use touchstone_kernels::{Backend, BackendId, Declaration, Inputs, Registry, Support};
use touchstone_reports::{Record, RowKey, RunWriter, Status, StoreError};

use crate::agreement::judge;
use crate::case::Case;
use crate::check::{check, explained, weigh};
use crate::known::KnownIssues;
use crate::machine::Caches;
use crate::oracle::{self, Expected};
use crate::outcome::{Measurement, OnDevice, Outcome};
use crate::progress;
use crate::recording::{Place, Run, Who};
use crate::safeguard::Safeguards;
use crate::suite::SuiteCase;
use crate::timing::protocol::Preparation;
use crate::timing::sampler::Subject;
use crate::timing::{DriverError, Effort, Health, Readiness, Samples, Worker, sample};

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
        let mut workers = Workers::default();
        let bar = progress::over_cases(plan.cases.len());
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
            for row in rows.iter().filter(|row| row.status.needs_attention()) {
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
        let place = Place { suite, case, threads: *threads, cache: None };
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
            for &cache in &suite_case.timed {
                let place = Place { suite, case, threads: *threads, cache: Some(cache) };
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
                let question = question.get_or_insert_with(|| Question::of(case));
                let mut entries: Vec<Entry> = Vec::new();
                for backend in backends {
                    let mut who = Who::of(backend.as_ref(), case);
                    let state = match backend.supports(&case.problem) {
                        Support::No(reason) => State::Done(Outcome::Unsupported { reason: reason.into() }),
                        Support::Yes => match workers.take(backend.id(), *threads) {
                            Err(error) => State::Done(failed(&error)),
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
                    let outcome = entry.finish(question, reference.as_ref(), workers, *threads);
                    let outcome = match (outcome, registry.find(entry.who.id.as_str())) {
                        (outcome, Some(backend)) => explained(outcome, backend.as_ref(), case, self.known),
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
            fill: place.case.fill.to_string(),
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
}

impl<'a> Question<'a> {
    fn of(case: &'a Case) -> Self {
        let inputs = case.inputs();
        let expected = oracle::expect(&case.problem, &inputs);
        Question { case, inputs, expected }
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
    Ready { worker: Box<Worker>, preparation: Preparation },
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
        Err(error) => State::Done(failed(&error)),
        Ok(Err(outcome)) => State::Done(outcome),
        Ok(Ok((_, _, outcome))) if !outcome.is_right() => State::Untimed { worker, outcome },
        Ok(Ok((_, ns, outcome))) if Duration::from_nanos(ns) > slowest => State::Untimed { worker, outcome },
        Ok(Ok((preparation, ..))) => State::Ready { worker, preparation },
    }
}

/// Times all entries that are ready, interleaved.
fn measure(entries: &mut [Entry], plan: &Plan, seed: u64, stop: &AtomicBool) {
    let mut places = Vec::new();
    let mut subjects = Vec::new();
    for (at, entry) in entries.iter_mut().enumerate() {
        let idle = State::Done(Outcome::Error { message: "stopped".into() });
        match std::mem::replace(&mut entry.state, idle) {
            State::Ready { worker, preparation } => {
                places.push((at, preparation));
                subjects.push(*worker);
            }
            state => entry.state = state,
        }
    }
    let stop = || stop.load(Ordering::Relaxed);
    let (sampling, health) = Health::around(|| sample(&mut subjects, &plan.effort, seed, &stop));
    for (((at, preparation), worker), samples) in places.into_iter().zip(subjects).zip(sampling.samples) {
        let worker = Box::new(worker);
        entries[at].state = match samples {
            Ok(samples) => State::Timed { worker, preparation, samples, health },
            Err(error) => State::Done(failed(&error)),
        };
    }
}

/// The reference's name and samples.
fn reference(plan: &Plan, entries: &[Entry]) -> Option<(String, Samples)> {
    let samples = |id: &str| {
        entries.iter().find(|entry| entry.who.id.as_str() == id).and_then(|entry| match &entry.state {
            State::Timed { samples, .. } => Some((id.to_string(), samples.clone())),
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
    /// Judges the results again after timing, and hands the worker back.
    fn finish(
        &mut self,
        question: &Question,
        reference: Option<&(String, Samples)>,
        workers: &mut Workers,
        threads: usize,
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
                    Err(error) => return failed(&error),
                };
                let peak_memory = worker.peak_resident();
                let device = (!self.who.info.is_on_cpu()).then(|| OnDevice {
                    health: worker.device_health().cloned().unwrap_or_default(),
                    waiting: worker.waiting_share(),
                });
                workers.give_back(&self.who.id, threads, worker);
                match outcome {
                    Outcome::Passed(figures) => {
                        // One copy is what a hot row has; it stands for the cold one too.
                        let wanted = preparation.entries == 1 && self.who.info.is_on_cpu();
                        let memory = || workers.extra_memory(&self.who.id, threads, question.case);
                        let extra_memory = wanted.then(memory).flatten();
                        let against = reference.and_then(|(name, reference)| {
                            Some((name.clone(), samples.ratio_to(reference, question.case.seed)?))
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
                        };
                        Outcome::Measured(figures, Box::new(measurement))
                    }
                    outcome => outcome,
                }
            }
        }
    }
}

fn failed(error: &DriverError) -> Outcome {
    let message = error.to_string();
    match error {
        DriverError::Timeout { .. } => Outcome::Timeout { message },
        _ => Outcome::Error { message },
    }
}

/// Whether any row makes the run fail.
pub fn is_red(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record.status, Status::Failed | Status::Error | Status::Timeout))
}
