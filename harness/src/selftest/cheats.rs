//! Kernels that cheat the stopwatch, planted: each returns right results where they are usually looked at,
//! and does its work where usually no clock runs, or not at all.
//!
//! They run as users' kernels do, in worker processes of a comparison, and every one has to end as anything
//! but `passed`. An honest kernel beside them has to pass. What a generated kernel does without its author's
//! knowing is among them: KernelBench and SOL-ExecBench list such reward hacks, GPU MODE draws secret seeds
//! because of them.

mod tricks;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use touchstone_kernels::{
    Backend, BackendError, BackendId, BackendInfo, Declaration, Inputs, Prepared, Problem, Registry, Support,
};
use touchstone_reports::{Status, StoreError};

pub use self::tricks::Trick;
use crate::comparison::{Comparison, Plan};
use crate::known::KnownIssues;
use crate::recording::Run;
use crate::suite::SuiteCase;
use crate::timing::roofline::Roofline;
use crate::timing::{CacheState, Effort};

/// The argument that gives a worker these backends.
pub const ARGUMENT: &str = "--cheats";

/// What they compute: less than a millisecond in plain code, so that a slice has many calls.
const PROBLEM: &str = "softmax f32 shape=32x1024";

/// The kernel beside them that does what it says.
const HONEST: &str = "honest";

/// What became of a cheat.
#[derive(Clone, Debug, PartialEq)]
pub struct Caught {
    /// Its name.
    pub name: String,
    /// What it does.
    pub about: &'static str,
    /// Its status, and why, in each cache state. Passed is a failure of the checker.
    pub rows: Vec<(Status, String)>,
}

impl Caught {
    /// Whether no row passed.
    pub fn is_caught(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|(status, _)| *status != Status::Passed)
    }
}

/// What came of all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cheats {
    /// Each cheat.
    pub caught: Vec<Caught>,
    /// Rows of the honest kernel that did not pass, with the reason.
    pub false_alarms: Vec<String>,
    /// Why a state of the caches was left out on this machine.
    pub left_out: Vec<String>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

impl Cheats {
    /// How many were caught.
    pub fn count(&self) -> usize {
        self.caught.iter().filter(|cheat| cheat.is_caught()).count()
    }

    /// Whether all were, and the honest kernel was not.
    pub fn is_perfect(&self) -> bool {
        !self.stopped && self.false_alarms.is_empty() && self.count() == Trick::ALL.len()
    }
}

/// The name of a backend that cheats.
fn id_of(name: &str) -> BackendId {
    // Names of tricks are legal ones.
    format!("cheat/{name}").parse().unwrap_or_else(|_| BackendId::new("cheat/unnamed"))
}

/// The backends that cheat, and the honest one.
pub fn registry() -> Registry {
    let mut registry = Registry::empty();
    registry.add(Cheater { id: id_of(HONEST), trick: None });
    for &trick in Trick::ALL {
        registry.add(Cheater { id: id_of(&trick.to_string()), trick: Some(trick) });
    }
    registry
}

/// Times all of them as any kernel, in workers of this program. Progress is told by how many are done.
///
/// # Errors
/// [`StoreError`], which does not happen: nothing is written.
pub fn run(stop: &AtomicBool, progress: &dyn Fn(usize, usize)) -> Result<Cheats, StoreError> {
    let (roofline, _) = Roofline::of_this_machine(false, || {});
    let case = match format!("{PROBLEM} fill=normal seed=1").parse() {
        Ok(case) => case,
        Err(_) => return Ok(Cheats::default()),
    };
    let timed = vec![CacheState::Hot, CacheState::Cold];
    let cases = vec![("cheats".to_string(), SuiteCase { case, timed })];
    let names: Vec<String> = registry().present().iter().map(|b| b.id().to_string()).collect();
    let mut cheats = Cheats::default();
    for (done, name) in names.iter().enumerate() {
        progress(done, names.len());
        let plan = Plan {
            cases: cases.clone(),
            backends: name.parse().into_iter().collect(),
            threads: vec![1],
            timing: true,
            effort: Effort { slices: 7, max_time: Duration::from_millis(300), ..Effort::default() },
            slowest: Duration::from_secs(5),
            reference: None,
        };
        let known = KnownIssues::default();
        let mut comparison = Comparison {
            registry: &|_| registry(),
            run: Run::new(Some(roofline.clone())),
            known: &known,
            writer: None,
            stop,
            quiet: true,
            worker_arguments: vec![ARGUMENT.into()],
        };
        let compared = comparison.go(&plan)?;
        if compared.stopped {
            cheats.stopped = true;
            break;
        }
        let short = name.trim_start_matches("cheat/").to_string();
        let rows: Vec<(Status, String)> =
            compared.records.into_iter().map(|record| (record.status, record.reason)).collect();
        match short.parse::<Trick>() {
            Ok(trick) => cheats.caught.push(Caught { name: short, about: trick.about(), rows }),
            Err(_) => {
                for (status, why) in &rows {
                    match status {
                        Status::Passed => {}
                        // A cache so large that no rotation of so small a problem leaves it.
                        Status::Unsupported => cheats.left_out.push(why.clone()),
                        status => cheats.false_alarms.push(format!("{status}: {why}")),
                    }
                }
                if !rows.iter().any(|(status, _)| *status == Status::Passed) {
                    cheats.false_alarms.push("the honest kernel was not timed".into());
                }
            }
        }
    }
    progress(names.len(), names.len());
    Ok(cheats)
}

/// A backend around plain code.
struct Cheater {
    id: BackendId,
    trick: Option<Trick>,
}

impl Backend for Cheater {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        // Only a device has a clock of its own.
        let device = if self.trick.is_some_and(Trick::has_a_clock) { "own:0" } else { "cpu" };
        BackendInfo { version: "1".into(), device: device.into(), isa: "as compiled".into(), threads: 1 }
    }

    fn supports(&self, _problem: &Problem) -> Support {
        Support::Yes
    }

    fn declares(&self, _problem: &Problem) -> Declaration {
        Declaration::strict("planted")
    }

    fn prepare(&self, problem: &Problem, bound: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        tricks::prepare(self.trick, problem, bound)
    }
}
