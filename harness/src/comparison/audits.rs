//! What speaks against the time of a kernel whose results are right.

use std::time::Duration;

use touchstone_kernels::{Allocation, Declaration, Operand};

use super::entry::{Entry, Question};
use crate::agreement::{Failure, judge};
use crate::oracle::{self, Expected};
use crate::timing::audit::{Audit, JUDGED, Variants};
use crate::timing::honesty::{AUDITS, Evidence};
use crate::timing::sampler::Subject;
use crate::timing::{DriverError, Limit, Samples, Worker};

/// An audit, and what its last calls have to give, the last first.
pub(super) struct SharedAudit {
    plan: AuditPlan,
    expected: [Option<Expected>; JUDGED],
}

impl SharedAudit {
    pub(super) fn draw() -> Self {
        SharedAudit::of(AuditPlan::draw())
    }

    fn of(plan: AuditPlan) -> Self {
        SharedAudit { plan, expected: Default::default() }
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
    /// Judges the results of an audit's last calls.
    fn judge_audit(
        &mut self,
        worker: &mut Worker,
        plan: AuditPlan,
        declaration: &Declaration,
    ) -> Result<Option<Failure>, DriverError> {
        let shared = self.audits.get_mut(self.state).filter(|audit| audit.plan == plan);
        let mut own = SharedAudit::of(plan);
        let expected = &mut shared.unwrap_or(&mut own).expected;
        for (back, expected) in expected.iter_mut().enumerate() {
            let outputs = worker.outputs(&self.case.problem)?;
            let expected = expected.get_or_insert_with(|| {
                // The operands are the case's own, so that no step can fail.
                let inputs = Variants::after(&self.inputs, plan.seed, plan.calls - back);
                oracle::expect(&self.case.problem, inputs.as_ref().unwrap_or(&self.inputs))
            });
            if let Some(failure) = judge(expected, declaration, &outputs).failure {
                return Ok(Some(failure.in_another_run(|first| Failure::Stale { first })));
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// Looks for what speaks against the times of a kernel whose results are right.
    pub(super) fn audit(
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
        let evidence = Evidence {
            steady_ns,
            waits: self.who.info.threads > 1 || !self.who.info.is_on_cpu(),
            loaded: question.inputs.data().map(|(_, tensor)| tensor.bytes().len() as u64).sum(),
            allocated: match self.who.declaration.allocation {
                Allocation::PerCall => question.case.problem.results().iter().map(Operand::bytes).sum(),
                Allocation::Reused => 0,
            },
            share: limit.map(|limit| (least_share(&limit, samples), limit.name)),
            // On a processor the clock is ours, and a worker whose threads look out for work answers late.
            clock_share: samples
                .clock_share
                .filter(|_| !self.who.info.is_on_cpu())
                .map(|share| f64::from(share) / 1000.0),
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

/// The lower end of the interval of the share of the roofline.
pub(super) fn least_share(limit: &Limit, samples: &Samples) -> f64 {
    limit.share(samples.slowest_median().unwrap_or(f64::INFINITY).max(1.0))
}

/// What an audit came to.
pub(super) enum Audited {
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
