//! Every case on every backend: check, measure what passed, record.

mod audits;
mod entry;
mod verdicts;
mod workers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use rayon::{ThreadPool, ThreadPoolBuilder};
use touchstone_kernels::{Backend, BackendId, Registry, Support};
use touchstone_reports::{Record, RowKey, RunWriter, Status, StoreError};

use crate::check::explained;
use crate::known::KnownIssues;
use crate::machine::Caches;
use crate::outcome::Outcome;
use crate::progress;
use crate::recording::{Place, Run, Who};
use crate::safeguard::Safeguards;
use crate::suite::SuiteCase;
use crate::timing::Effort;
use crate::timing::honesty::AUDITS;

use self::entry::{
    Entry, Question, State, failed, judge_audits, judge_calls, judge_slices, measure, reference,
};
use self::verdicts::batch;
use self::workers::Workers;
pub use self::workers::device_peaks;

/// The backends with one of the thread counts.
struct Crew {
    threads: usize,
    registry: Registry,
    /// For backends that share rayon's pool, where the global one has another count.
    pool: Option<ThreadPool>,
}

impl Crew {
    /// A crew for each count; the global pool has the largest.
    fn all(counts: &[usize], registry: &dyn Fn(usize) -> Registry) -> Vec<Crew> {
        let pool = |&threads: &usize| {
            let own = (Some(&threads) != counts.last())
                .then(|| ThreadPoolBuilder::new().num_threads(threads).build().ok());
            Crew { threads, registry: registry(threads), pool: own.flatten() }
        };
        counts.iter().map(pool).collect()
    }

    /// Does `work` with its threads.
    fn work<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Cases with the names of their suites.
    pub cases: Vec<(String, SuiteCase)>,
    /// Backends, by name.
    pub backends: Vec<BackendId>,
    /// Thread counts, in ascending order. A backend is checked and timed at each that it can have.
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

/// Rows that are only suspect of which so many are shown as they come.
const MOST_BLUNT: usize = 8;

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
        let crews = Crew::all(&plan.threads, self.registry);
        let mut compared = Compared {
            records: self.writer.as_ref().map(|writer| writer.earlier().to_vec()).unwrap_or_default(),
            stopped: false,
        };
        let mut blunt = 0;
        let mut workers = Workers::with(self.worker_arguments.clone());
        let bar = if self.quiet { ProgressBar::hidden() } else { progress::over_cases(plan.cases.len()) };
        let is_timed = |case: &SuiteCase| plan.timing && !case.timed.is_empty();
        let mut cases = plan.cases.as_slice();
        while let Some((suite, first)) = cases.first() {
            if self.stop.load(Ordering::Relaxed) {
                compared.stopped = true;
                break;
            }
            bar.set_message(first.case.problem.to_string());
            let (rows, count) = if is_timed(first) {
                (self.time(plan, &crews, suite, first, &mut workers)?, 1)
            } else {
                let count = batch(cases, is_timed);
                (self.check(plan, &crews, &cases[..count])?, count)
            };
            cases = &cases[count..];
            for row in rows.iter().filter(|row| row.status.needs_attention() && !self.quiet) {
                // That a case cannot tell is as likely to be the case's fault; a time that is missing is not.
                let is_blunt = row.status == Status::Suspect && row.cache.is_empty();
                blunt += usize::from(is_blunt);
                match blunt {
                    n if is_blunt && n == MOST_BLUNT + 1 => bar.suspend(|| {
                        eprintln!("more cases are suspect on some backend: the summary counts them");
                    }),
                    n if is_blunt && n > MOST_BLUNT => {}
                    _ => bar.suspend(|| {
                        eprintln!("{} {}: {}\n  {}", row.status, row.backend, row.reason, row.repro);
                    }),
                }
            }
            compared.records.extend(rows);
            bar.inc(count as u64);
        }
        bar.finish_and_clear();
        compared.stopped |= self.stop.load(Ordering::Relaxed);
        Ok(compared)
    }

    /// Checks and times one case, in workers.
    fn time(
        &mut self,
        plan: &Plan,
        crews: &[Crew],
        suite: &str,
        suite_case: &SuiteCase,
        workers: &mut Workers,
    ) -> Result<Vec<Record>, StoreError> {
        let case = &suite_case.case;
        let mut question = None;
        let mut naive_rmse = None;
        let mut records = Vec::new();
        for Crew { threads, registry, .. } in crews {
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
                    let caches = if who.info.is_on_cpu() { Caches::detect() } else { Caches::GPU };
                    let copies = match backend.supports(&case.problem) {
                        Support::No(reason) => Err(reason.into()),
                        Support::Yes => cache.entries(&case.problem, &caches),
                    };
                    let state = match copies {
                        Err(reason) => State::Done(Outcome::Unsupported { reason }),
                        Ok(copies) => match workers.take(backend.id(), *threads) {
                            Err(error) => State::Done(failed(&error, None)),
                            Ok(worker) => State::call(worker, case, copies, plan.slowest),
                        },
                    };
                    if let State::Called { preparation, .. } = &state {
                        // Which kernel runs may be known on the device alone.
                        who.declaration.path = preparation.declaration.path.clone();
                    }
                    entries.push(Entry { who, state });
                }
                judge_calls(&mut entries, question, plan.slowest);
                measure(&mut entries, plan, case.seed, self.stop);
                if self.stop.load(Ordering::Relaxed) {
                    // Slices are missing: the case is measured again when the run is resumed.
                    break;
                }
                let reference = reference(plan, &entries);
                judge_slices(&mut entries, question, &workers.scales, *threads);
                for entry in &mut entries {
                    self.renew_limits_in_doubt(place, entry, workers);
                    entry.audit(question, &|who, bytes| self.run.limit(place, who, bytes));
                }
                judge_audits(&mut entries, question);
                for entry in &mut entries {
                    let outcome = entry.finish(question, reference.as_ref(), workers, *threads);
                    let outcome = match (outcome, registry.find(entry.who.id.as_str())) {
                        (outcome, Some(backend)) => explained(
                            Safeguards::ALL,
                            outcome,
                            backend.id(),
                            case,
                            &question.inputs,
                            self.known,
                        ),
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

    /// Measures a limit again that a kernel is a little faster than, as often as a doubtful kernel is audited:
    /// it may have been taken in a busy moment.
    fn renew_limits_in_doubt(&mut self, place: Place, entry: &Entry, workers: &Workers) {
        for _ in 0..AUDITS {
            if !entry.is_limit_in_doubt(&|who, bytes| self.run.limit(place, who, bytes)) {
                return;
            }
            if entry.who.info.is_on_cpu() {
                self.run.renew_limits();
            } else if let Ok(Some(peaks)) = workers.peaks(&entry.who.id, place.threads) {
                self.run.renew_device(&entry.who.info.device, peaks);
            }
        }
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

/// Whether any row makes the run fail.
pub fn is_red(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record.status, Status::Failed | Status::Error | Status::Timeout))
}
