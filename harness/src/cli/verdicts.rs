//! The verdicts on one case, as `repro` and `eval` print them.

use std::io::Write;

use anyhow::bail;
use touchstone_reports::Status;

use super::Verdict;
use super::output::plain;
use crate::agreement::Figures;
use crate::outcome::Outcome;
use crate::recording;

/// What became of a case on one backend.
pub(super) struct Judged {
    pub(super) backend: String,
    pub(super) status: Status,
    pub(super) why: String,
    pub(super) figures: Option<Figures>,
}

impl Judged {
    /// By the oracle alone.
    pub(super) fn new(backend: impl ToString, outcome: &Outcome) -> Self {
        Judged::with(backend, outcome, (outcome.status(), recording::reason(outcome)))
    }

    /// By the oracle and somebody else.
    pub(super) fn with(backend: impl ToString, outcome: &Outcome, (status, why): (Status, String)) -> Self {
        Judged { backend: backend.to_string(), status, why, figures: outcome.figures().cloned() }
    }

    /// Whether this makes the command fail.
    pub(super) fn is_red(&self) -> bool {
        matches!(self.status, Status::Failed | Status::Error | Status::Timeout)
    }

    /// As JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        let figures = self.figures.as_ref();
        serde_json::json!({
            "backend": self.backend,
            "status": self.status.as_str(),
            "why": self.why,
            "max_abs": figures.map(|figures| figures.max_abs),
            "max_ulp": figures.map(|figures| figures.ulp_max),
            "error_over_bound": figures.map(|figures| figures.error_over_bound),
        })
    }
}

/// A line for each backend.
pub(super) fn print_verdicts(out: &mut impl Write, judged: &[Judged]) -> anyhow::Result<()> {
    let mut table = plain(["backend", "verdict", "max abs", "max ulp", "error/bound", "why"]);
    for judged in judged {
        let verdict = if judged.status == Status::Failed { "FAILED" } else { judged.status.as_str() };
        let figure = |figure: fn(&Figures) -> f64| {
            judged.figures.as_ref().map_or(String::new(), |figures| format!("{:.2e}", figure(figures)))
        };
        table.add_row([
            judged.backend.clone(),
            verdict.to_string(),
            figure(|f| f.max_abs),
            figure(|f| f.ulp_max),
            figure(|f| f.error_over_bound),
            judged.why.clone(),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

/// Whether any outcome is wrong. Nothing executed is an error.
pub(super) fn verdict(judged: &[Judged]) -> anyhow::Result<Verdict> {
    if !judged.iter().any(|judged| judged.status.was_executed()) {
        bail!("nothing was executed: the chosen backends do not support this problem");
    }
    Ok(if judged.iter().any(Judged::is_red) { Verdict::Wrong } else { Verdict::Ok })
}
