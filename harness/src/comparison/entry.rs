//! A backend on its way through one measurement.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use touchstone_kernels::{Clock, Declaration, Inputs, Work};

use super::audits::{Audited, SharedAudit, least_share};
use super::workers::Workers;
use super::{Plan, REFERENCES};
use crate::agreement::{Figures, judge};
use crate::case::Case;
use crate::check::weigh;
use crate::oracle::{self, Expected};
use crate::outcome::{Against, Measurement, OnDevice, Outcome};
use crate::recording::Who;
use crate::safeguard::Safeguards;
use crate::timing::honesty;
use crate::timing::protocol::Preparation;
use crate::timing::sampler::Subject;
use crate::timing::{DriverError, Health, Limit, Readiness, Samples, Worker, sample};

/// A case, and what is asked of every backend that is timed on it.
pub(super) struct Question<'a> {
    pub(super) case: &'a Case,
    pub(super) inputs: Inputs,
    pub(super) expected: Expected,
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
        Question { case, inputs, expected, work, state: 0, audits }
    }

    /// Judges the results of a worker's last iteration.
    pub(super) fn ask(&self, worker: &mut Worker, declaration: &Declaration) -> Result<Outcome, DriverError> {
        let agreement = judge(&self.expected, declaration, &worker.outputs(&self.case.problem)?);
        Ok(weigh(Safeguards::ALL, agreement, self.case, &self.inputs, &self.expected, declaration))
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
    /// It was right once, and waits to be timed.
    Ready { worker: Box<Worker>, preparation: Preparation, first_ns: u64, figures: Box<Figures> },
    /// It was not right, or is too slow to be timed.
    Untimed { worker: Box<Worker>, outcome: Outcome },
    /// It was timed.
    Timed { worker: Box<Worker>, preparation: Preparation, first_ns: u64, samples: Samples, health: Health },
}

/// Prepares a worker and judges its first results.
pub(super) fn start(
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
        Ok(Ok((preparation, first_ns, Outcome::Passed(figures))))
            if Duration::from_nanos(first_ns) <= slowest =>
        {
            State::Ready { worker, preparation, first_ns, figures: Box::new(figures) }
        }
        Ok(Ok((_, _, outcome))) => State::Untimed { worker, outcome },
    }
}

/// Times all entries that are ready, interleaved.
pub(super) fn measure(entries: &mut [Entry], plan: &Plan, seed: u64, stop: &AtomicBool) {
    let mut places = Vec::new();
    let mut subjects = Vec::new();
    for (at, entry) in entries.iter_mut().enumerate() {
        let idle = State::Done(Outcome::Error { message: "stopped".into() });
        match std::mem::replace(&mut entry.state, idle) {
            State::Ready { worker, preparation, first_ns, figures } => {
                places.push((at, preparation, first_ns, figures));
                subjects.push(*worker);
            }
            state => entry.state = state,
        }
    }
    let stop = || stop.load(Ordering::Relaxed);
    let (sampling, health) = Health::around(|| sample(&mut subjects, &plan.effort, seed, &stop));
    for (((at, preparation, first_ns, figures), worker), samples) in
        places.into_iter().zip(subjects).zip(sampling.samples)
    {
        let worker = Box::new(worker);
        entries[at].state = match samples {
            Ok(samples) => State::Timed { worker, preparation, first_ns, samples, health },
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
    /// Whether it is faster than `limit` allows, by so little that the limit may be wrong.
    pub(super) fn is_limit_in_doubt(&self, limit: &dyn Fn(&Who, u64) -> Option<Limit>) -> bool {
        let State::Timed { preparation, samples, .. } = &self.state else { return false };
        limit(&self.who, preparation.bytes)
            .is_some_and(|limit| honesty::is_limit_in_doubt(least_share(&limit, samples)))
    }

    /// Judges the results again after timing, audits the time, and hands the worker back.
    pub(super) fn finish(
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
            State::Timed { mut worker, preparation, first_ns, samples, health } => {
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
                            first_ns,
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
