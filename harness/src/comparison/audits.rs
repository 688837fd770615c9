//! What speaks against the time of a kernel whose results are right.

use std::time::Duration;

use touchstone_kernels::{Allocation, Declaration, Operand, Outputs};

use super::entry::Question;
use crate::agreement::{Failure, Figures, judge};
use crate::oracle::{self, Expected};
use crate::outcome::Outcome;
use crate::recording::Who;
use crate::timing::audit::{Audit, JUDGED, Variants};
use crate::timing::honesty::{AUDITS, Evidence, MOST_AUDITS, PAUSES};
use crate::timing::sampler::{Here, Subject, Surroundings};
use crate::timing::{DriverError, Limit, Samples, Worker};

/// An audit, and what its last calls have to give, the last first.
pub(super) struct SharedAudit {
    plan: AuditPlan,
    expected: Option<[Expected; JUDGED]>,
}

impl SharedAudit {
    pub(super) fn draw() -> Self {
        SharedAudit { plan: AuditPlan::draw(), expected: None }
    }
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

impl Question<'_> {
    /// What the n-th last call of an audit has to give, from 0.
    fn expected_of(&self, plan: AuditPlan, back: usize) -> Expected {
        // The operands are the case's own, so that no step can fail.
        let inputs = Variants::after(&self.inputs, plan.seed, plan.calls - back);
        oracle::expect(&self.case.problem, inputs.as_ref().unwrap_or(&self.inputs))
    }

    /// Computes what the audit has to give that all backends share.
    pub(super) fn expect_audit(&mut self) {
        let Some(SharedAudit { plan, expected: None }) = self.audits.get(self.state) else { return };
        let expected = std::array::from_fn(|back| self.expected_of(*plan, back));
        self.audits[self.state].expected = Some(expected);
    }
}

/// The audits of one row.
#[derive(Default)]
pub(super) struct Audits {
    /// What the last calls of each gave, the last first.
    given: Vec<(AuditPlan, [Outputs; JUDGED])>,
    /// The audit that nothing speaks against.
    honest: Option<Audit>,
    /// What spoke against the last one, or against all.
    doubt: String,
    wrong: Option<Failure>,
}

/// What speaks against a time.
pub(super) enum Objection {
    Doubt(String),
    Wrong(Failure),
}

impl Objection {
    /// The outcome of a row whose results were right when they were judged.
    pub(super) fn against(self, figures: Figures) -> Outcome {
        let figures = Box::new(figures);
        match self {
            Objection::Doubt(why) => Outcome::Suspect { why, figures },
            Objection::Wrong(why) => Outcome::Failed { why, figures },
        }
    }
}

impl Audits {
    /// Looks for what speaks against the times of a kernel whose results are right.
    pub(super) fn go(
        &mut self,
        question: &Question,
        who: &Who,
        worker: &mut Worker,
        samples: &Samples,
        limit: Option<Limit>,
    ) -> Result<(), DriverError> {
        let Some(summary) = samples.summary() else {
            self.doubt = "no slice was measured".into();
            return Ok(());
        };
        let evidence = Evidence {
            steady_ns: (summary.median as f64).max(1.0),
            waits: who.info.threads > 1 || !who.info.is_on_cpu(),
            loaded: question.inputs.data().map(|(_, tensor)| tensor.bytes().len() as u64).sum(),
            allocated: match who.declaration.allocation {
                Allocation::PerCall => question.case.problem.results().iter().map(Operand::bytes).sum(),
                Allocation::Reused => 0,
            },
            share: limit.map(|limit| (least_share(&limit, samples), limit.name)),
            // On a processor the clock is ours, and a worker whose threads look out for work answers late.
            clock_share: samples
                .clock_share
                .filter(|_| !who.info.is_on_cpu())
                .map(|share| f64::from(share) / 1000.0),
            rest: rest(worker, samples.iterations)?,
        };
        if let Some(why) = evidence.suspicion() {
            self.doubt = why;
            return Ok(());
        }
        let mut plan = question.audits.get(question.state).map_or_else(AuditPlan::draw, |audit| audit.plan);
        let mut undisturbed = 0;
        for attempt in 0..MOST_AUDITS {
            match attempt {
                0 => {}
                1 => std::thread::sleep(PAUSES[0]),
                _ => std::thread::sleep(PAUSES[1]),
            }
            let stolen = Here::new().stolen_ticks();
            let audit = worker.audit(plan.calls, plan.seed)?;
            let mut outputs = || worker.outputs(&question.case.problem);
            self.given.push((plan, [outputs()?, outputs()?]));
            match evidence.against(&audit) {
                None => {
                    self.honest = Some(audit);
                    return Ok(());
                }
                Some(why) => self.doubt = why,
            }
            if Here::new().stolen_ticks() == stolen {
                undisturbed += 1;
            }
            if undisturbed == AUDITS {
                break;
            }
            plan = AuditPlan::draw();
        }
        Ok(())
    }

    pub(super) fn are_any(&self) -> bool {
        !self.given.is_empty()
    }

    /// Judges what the audits gave.
    pub(super) fn judge(&mut self, question: &Question, declaration: &Declaration) {
        let shared = question.audits.get(question.state);
        self.wrong = std::mem::take(&mut self.given).into_iter().find_map(|(plan, outputs)| {
            outputs.iter().enumerate().find_map(|(back, outputs)| {
                let shared = shared.filter(|shared| shared.plan == plan);
                let failure = match shared.and_then(|shared| shared.expected.as_ref()) {
                    Some(expected) => judge(&expected[back], declaration, outputs).failure,
                    None => judge(&question.expected_of(plan, back), declaration, outputs).failure,
                };
                failure.map(|failure| failure.in_another_run(|first| Failure::Stale { first }))
            })
        });
    }

    /// The audit that stands beside the time, or why there is no time.
    pub(super) fn verdict(self) -> Result<Audit, Objection> {
        match (self.wrong, self.honest) {
            (Some(wrong), _) => Err(Objection::Wrong(wrong)),
            (None, Some(audit)) => Ok(audit),
            (None, None) => Err(Objection::Doubt(self.doubt)),
        }
    }
}

/// The lower end of the interval of the share of the roofline.
pub(super) fn least_share(limit: &Limit, samples: &Samples) -> f64 {
    limit.share(samples.slowest_median().unwrap_or(f64::INFINITY).max(1.0))
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
