//! A backend on its way through one measurement.
//!
//! Everything that is timed happens in turns, one worker after the other. Judging is arithmetic of this
//! process, and memory is measured in workers that nothing is timed in: both are done for several entries at
//! once, between the turns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rayon::prelude::*;
use touchstone_kernels::{Clock, Inputs, Work};

use super::audits::{Audits, SharedAudit, least_share};
use super::workers::{Scales, Workers};
use super::{Plan, REFERENCES};
use crate::agreement::{Figures, judge};
use crate::case::Case;
use crate::check::weigh;
use crate::oracle::{self, Expected};
use crate::outcome::{Against, Measurement, OnDevice, Outcome};
use crate::recording::Who;
use crate::suspicion::Suspicions;
use crate::timing::honesty;
use crate::timing::protocol::Preparation;
use crate::timing::sampler::Subject;
use crate::timing::{DriverError, Health, Limit, Readiness, Samples, Worker, sample};

/// A case, and what is asked of every backend that is timed on it.
pub(super) struct Question<'a> {
    pub(super) case: &'a Case,
    pub(super) inputs: Inputs,
    expected: Expected,
    suspicions: Suspicions,
    /// What these inputs ask for.
    pub(super) work: Work,
    /// The state of the caches that is timed.
    pub(super) state: usize,
    /// For each state the first audit of each backend, which all of them share. A worker never sees one
    /// twice: it might remember the answer.
    pub(super) audits: Vec<SharedAudit>,
}

impl<'a> Question<'a> {
    pub(super) fn of(case: &'a Case, states: usize) -> Self {
        let inputs = case.inputs();
        let expected = oracle::expect(&case.problem, &inputs);
        let work = case.problem.work_on(&inputs);
        let audits = std::iter::repeat_with(SharedAudit::draw).take(states).collect();
        Question { case, inputs, expected, suspicions: Suspicions::none_yet(), work, state: 0, audits }
    }

    /// Judges the results of a worker's last call.
    fn ask(&self, worker: &mut Worker, who: &Who) -> Result<Outcome, DriverError> {
        let agreement = judge(&self.expected, &who.declaration, &worker.outputs(&self.case.problem)?);
        let suspicion =
            || self.suspicions.about(&self.case.problem, &self.inputs, &self.expected, &who.declaration);
        Ok(weigh(agreement, suspicion))
    }
}

/// A backend on its way through one measurement.
pub(super) struct Entry {
    pub(super) who: Who,
    pub(super) state: State,
}

pub(super) enum State {
    /// It has come to its end.
    Done(Outcome),
    /// It has been called, and its results were not looked at yet.
    Called { worker: Box<Worker>, preparation: Preparation, call: Duration },
    /// It was right once, and waits to be timed.
    Ready { worker: Box<Worker>, preparation: Preparation, figures: Box<Figures> },
    /// It was not right, or is too slow to be timed.
    Untimed { worker: Box<Worker>, outcome: Outcome },
    /// It was timed.
    Timed(Box<Timed>),
}

/// What was measured, and what was found about it since.
pub(super) struct Timed {
    pub(super) worker: Box<Worker>,
    preparation: Preparation,
    pub(super) samples: Samples,
    health: Health,
    /// Of the results of the last slice.
    outcome: Outcome,
    extra_memory: Option<u64>,
    pub(super) audits: Audits,
}

/// What a library may need, in a first call, for what it builds on first use. Where a first call was longer than
/// the slowest that is timed, a second one decides; where it was longer by more than this, the kernel is too slow
/// without one. A choice: with half, a device that compiles for two seconds is not timed; with twice, more kernels
/// that take seconds are called a second time.
const FIRST_USE: Duration = Duration::from_secs(2);

impl State {
    /// Prepares a worker, which calls the kernel.
    pub(super) fn call(mut worker: Box<Worker>, case: &Case, copies: usize, slowest: Duration) -> State {
        let called = worker.prepare(case, copies).and_then(|readiness| match readiness {
            Readiness::Unsupported { reason } => Ok(Err(reason)),
            Readiness::Ready(preparation) => {
                let first = preparation.first_ns.map(Duration::from_nanos);
                let is_known =
                    |first: &Duration| *first <= slowest || *first > slowest.saturating_add(FIRST_USE);
                let call = match first.filter(is_known) {
                    Some(first) => first,
                    None => Duration::from_nanos(worker.run(0, 1)?),
                };
                Ok(Ok((preparation, call)))
            }
        });
        match called {
            Err(error) => State::Done(failed(&error, None)),
            Ok(Err(reason)) => State::Done(Outcome::Unsupported { reason }),
            Ok(Ok((preparation, call))) => State::Called { worker, preparation, call },
        }
    }

    fn take(&mut self) -> State {
        std::mem::replace(self, State::Done(Outcome::Error { message: "not measured".into() }))
    }
}

/// Judges what the entries gave when they were called.
pub(super) fn judge_calls(entries: &mut [Entry], question: &Question, slowest: Duration) {
    entries.par_iter_mut().for_each(|Entry { who, state }| {
        *state = match state.take() {
            State::Called { mut worker, preparation, call } => match question.ask(&mut worker, who) {
                Err(error) => State::Done(failed(&error, None)),
                Ok(Outcome::Passed(figures)) if call <= slowest => {
                    State::Ready { worker, preparation, figures: Box::new(figures) }
                }
                Ok(outcome) => State::Untimed { worker, outcome },
            },
            state => state,
        };
    });
}

/// Times all entries that are ready, interleaved.
pub(super) fn measure(entries: &mut [Entry], plan: &Plan, seed: u64, stop: &AtomicBool) {
    let mut places = Vec::new();
    let mut subjects = Vec::new();
    for (at, entry) in entries.iter_mut().enumerate() {
        match entry.state.take() {
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
            Ok(samples) => State::Timed(Box::new(Timed {
                worker,
                preparation,
                samples,
                health,
                outcome: Outcome::Passed(*figures),
                extra_memory: None,
                audits: Audits::default(),
            })),
            Err(error) => State::Done(failed(&error, Some(*figures))),
        };
    }
}

/// What times are compared with.
pub(super) struct Reference {
    id: String,
    clock: Clock,
    samples: Samples,
}

/// The reference with its samples.
pub(super) fn reference(plan: &Plan, entries: &[Entry]) -> Option<Reference> {
    let samples = |id: &str| {
        entries.iter().find(|entry| entry.who.id.as_str() == id).and_then(|entry| match &entry.state {
            State::Timed(timed) => Some(Reference {
                id: id.to_string(),
                clock: timed.preparation.clock,
                samples: timed.samples.clone(),
            }),
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

/// Judges the results of the last slice of each entry that was timed, and measures what memory a call needs.
pub(super) fn judge_slices(entries: &mut [Entry], question: &Question, scales: &Scales, threads: usize) {
    entries.par_iter_mut().for_each(|Entry { who, state }| {
        let State::Timed(timed) = state else { return };
        match question.ask(&mut timed.worker, who) {
            Err(error) => *state = State::Done(failed(&error, None)),
            Ok(outcome) => {
                // Measured for hot rows, which have one copy; cold rows show none.
                if timed.preparation.entries == 1 && who.info.is_on_cpu() {
                    timed.extra_memory = scales.extra_memory(&who.id, threads, question.case);
                }
                timed.outcome = outcome;
            }
        }
    });
}

/// Judges what the audits gave.
pub(super) fn judge_audits(entries: &mut [Entry], question: &mut Question) {
    let is_audited = |entry: &Entry| matches!(&entry.state, State::Timed(timed) if timed.audits.are_any());
    if entries.iter().any(is_audited) {
        question.expect_audit();
    }
    let question = &*question;
    entries.par_iter_mut().for_each(|entry| {
        if let State::Timed(timed) = &mut entry.state {
            timed.audits.judge(question, &entry.who.declaration);
        }
    });
}

impl Entry {
    /// Whether it is faster than `limit` allows, by so little that the limit may be wrong.
    pub(super) fn is_limit_in_doubt(&self, limit: &dyn Fn(&Who, u64) -> Option<Limit>) -> bool {
        let State::Timed(timed) = &self.state else { return false };
        limit(&self.who, timed.preparation.bytes)
            .is_some_and(|limit| honesty::is_limit_in_doubt(least_share(&limit, &timed.samples)))
    }

    /// Audits the times of results that are right.
    pub(super) fn audit(&mut self, question: &Question, limit: &dyn Fn(&Who, u64) -> Option<Limit>) {
        let State::Timed(timed) = &mut self.state else { return };
        if !matches!(timed.outcome, Outcome::Passed(_)) {
            return;
        }
        let limit = limit(&self.who, timed.preparation.bytes);
        if let Err(error) = timed.audits.go(question, &self.who, &mut timed.worker, &timed.samples, limit) {
            let figures = timed.outcome.figures().cloned();
            self.state = State::Done(failed(&error, figures));
        }
    }

    /// What it came to. Its worker goes back.
    pub(super) fn finish(
        &mut self,
        question: &Question,
        reference: Option<&Reference>,
        workers: &mut Workers,
        threads: usize,
    ) -> Outcome {
        match self.state.take() {
            State::Done(outcome) => outcome,
            State::Called { worker, .. } | State::Ready { worker, .. } => {
                workers.give_back(&self.who.id, threads, worker);
                Outcome::Error { message: "not measured".into() }
            }
            State::Untimed { worker, outcome } => {
                workers.give_back(&self.who.id, threads, worker);
                outcome
            }
            State::Timed(timed) => {
                let Timed { worker, preparation, samples, health, outcome, extra_memory, audits } = *timed;
                let peak_memory = worker.peak_resident();
                let device = (!self.who.info.is_on_cpu()).then(|| OnDevice {
                    health: worker.device_health().cloned().unwrap_or_default(),
                    waiting: worker.waiting_share(),
                });
                workers.give_back(&self.who.id, threads, worker);
                let figures = match outcome {
                    Outcome::Passed(figures) => figures,
                    outcome => return outcome,
                };
                let audit = match audits.verdict() {
                    Ok(audit) => audit,
                    Err(objection) => return objection.against(figures),
                };
                let against = reference.and_then(|Reference { id, clock, samples: theirs }| {
                    let ratio = samples.ratio_to(theirs, question.case.seed)?;
                    Some(Against { reference: id.clone(), clock: *clock, ratio })
                });
                let measurement = Measurement {
                    samples,
                    against,
                    health,
                    peak_memory,
                    extra_memory,
                    device,
                    clock: preparation.clock,
                    working_set: preparation.bytes,
                    prepare_ns: preparation.prepare_ns,
                    first_ns: preparation.first_ns,
                    audit,
                };
                Outcome::Measured(figures, Box::new(measurement))
            }
        }
    }
}

/// What the end of a worker means. With figures the results were right, and one that does not come to rest
/// is suspect.
pub(super) fn failed(error: &DriverError, figures: Option<Figures>) -> Outcome {
    let message = error.to_string();
    match (error, figures) {
        (DriverError::Restless { .. }, Some(figures)) => {
            Outcome::Suspect { why: message, figures: Box::new(figures) }
        }
        (DriverError::Timeout { .. }, _) => Outcome::Timeout { message },
        _ => Outcome::Error { message },
    }
}
