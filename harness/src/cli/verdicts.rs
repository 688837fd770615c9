//! The verdicts on one case, as `repro` and `eval` print them.

use std::io::Write;

use anyhow::bail;

use super::Verdict;
use super::output::plain;
use crate::outcome::Outcome;

/// The outcome of one backend.
pub(super) struct Judged {
    pub(super) backend: String,
    pub(super) outcome: Outcome,
}

/// A line for each backend, and what they come to together.
pub(super) fn print_verdicts(out: &mut impl Write, judged: &[Judged]) -> anyhow::Result<Verdict> {
    let mut table = plain(["backend", "verdict", "max abs", "max ulp", "error/bound", "why"]);
    for Judged { backend, outcome } in judged {
        let (verdict, why) = match outcome {
            Outcome::Passed(_) | Outcome::Measured(..) => ("passed", String::new()),
            Outcome::Failed { why, .. } => ("FAILED", why.to_string()),
            Outcome::Suspect { why, .. } => ("suspect", why.clone()),
            Outcome::Unsupported { reason } => ("unsupported", reason.clone()),
            Outcome::Known { issue, why, .. } => ("known", format!("{issue}: {why}")),
            Outcome::NoLongerFails { issue, .. } => ("FAILED", format!("{issue} no longer fails")),
            Outcome::Error { message } => ("error", message.clone()),
            Outcome::Timeout { message } => ("timeout", message.clone()),
        };
        let figure = |figure: fn(&crate::agreement::Figures) -> f64| {
            outcome.figures().map_or(String::new(), |figures| format!("{:.2e}", figure(figures)))
        };
        table.add_row([
            backend.clone(),
            verdict.to_string(),
            figure(|f| f.max_abs),
            figure(|f| f.ulp_max),
            figure(|f| f.error_over_bound),
            why,
        ]);
    }
    writeln!(out, "{table}")?;
    verdict(judged)
}

/// Whether any outcome is wrong. Nothing executed is an error.
pub(super) fn verdict(judged: &[Judged]) -> anyhow::Result<Verdict> {
    let executed = judged.iter().any(|j| !matches!(j.outcome, Outcome::Unsupported { .. }));
    if !executed {
        bail!("nothing was executed: the chosen backends do not support this problem");
    }
    Ok(if judged.iter().any(|judged| judged.outcome.is_red()) { Verdict::Wrong } else { Verdict::Ok })
}
