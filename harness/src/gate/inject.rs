//! Faults on request: a backend that is slow, wrong or deadly on one problem.
//!
//! A gate that has never been seen to close proves nothing. `touchstone gate --inject` and its kin
//! start the candidate's workers with one of these around their backend.

use std::fmt;
use std::hint::spin_loop;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use touchstone_kernels::{
    Backend, BackendError, BackendId, BackendInfo, Declaration, InputError, Inputs, Outputs, Prepared,
    Problem, Registry, Support, Tensor,
};

/// What is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Every slice takes so many times as long.
    Slow(f64),
    /// The last number of each result is another one.
    Wrong,
    /// The process is killed in the middle of a slice, as from outside.
    Death,
    /// The process aborts in the middle of a slice, by its own fault.
    Crash,
    /// The kernel panics.
    Panic,
    /// The backend does not support the problem.
    Refusal,
}

/// A fault and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// The text of the problem.
    pub problem: String,
    /// What goes wrong there.
    pub fault: Fault,
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Slow(factor) => write!(f, "slow:{factor} {}", self.problem),
            Fault::Wrong => write!(f, "wrong {}", self.problem),
            Fault::Death => write!(f, "death {}", self.problem),
            Fault::Crash => write!(f, "crash {}", self.problem),
            Fault::Panic => write!(f, "panic {}", self.problem),
            Fault::Refusal => write!(f, "refusal {}", self.problem),
        }
    }
}

impl FromStr for Injection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (fault, problem) = text.split_once(' ').unwrap_or((text, ""));
        let factor = |text: &str| text.parse().ok().filter(|factor| (1.0..=1000.0).contains(factor));
        let fault = match (fault, fault.strip_prefix("slow:").and_then(factor)) {
            (_, Some(factor)) => Fault::Slow(factor),
            ("wrong", _) => Fault::Wrong,
            ("death", _) => Fault::Death,
            ("crash", _) => Fault::Crash,
            ("panic", _) => Fault::Panic,
            ("refusal", _) => Fault::Refusal,
            _ => {
                let expected = "slow:<factor from 1 to 1000>, wrong, death, crash, panic or refusal";
                return Err(format!("expected {expected}, and a problem"));
            }
        };
        Ok(Injection { problem: problem.into(), fault })
    }
}

/// A registry with the one backend of that name, which has these faults. The registry itself where
/// there are none.
pub fn injected(registry: Registry, backend: &str, injections: &[Injection]) -> Registry {
    let Some(inner) = registry.find(backend).filter(|_| !injections.is_empty()) else { return registry };
    let mut only = Registry::empty();
    only.add(Faulty { inner: Arc::clone(inner), injections: injections.to_vec() });
    only
}

struct Faulty {
    inner: Arc<dyn Backend>,
    injections: Vec<Injection>,
}

impl Backend for Faulty {
    fn id(&self) -> &BackendId {
        self.inner.id()
    }

    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    fn supports(&self, problem: &Problem) -> Support {
        match self.fault(problem) {
            Some(Fault::Refusal) => Support::No("refused on request".into()),
            _ => self.inner.supports(problem),
        }
    }

    fn declares(&self, problem: &Problem) -> Declaration {
        self.inner.declares(problem)
    }

    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let inner = self.inner.prepare(problem, inputs)?;
        Ok(match self.fault(problem) {
            Some(fault) => {
                Box::new(FaultyRun { inner, problem: problem.clone(), fault, calls: 0, since: None })
            }
            None => inner,
        })
    }
}

impl Faulty {
    fn fault(&self, problem: &Problem) -> Option<Fault> {
        let text = problem.to_string();
        self.injections.iter().find(|injection| injection.problem == text).map(|injection| injection.fault)
    }
}

struct FaultyRun {
    inner: Box<dyn Prepared>,
    problem: Problem,
    fault: Fault,
    calls: u64,
    /// When the first call since the last sync began.
    since: Option<Instant>,
}

/// Calls before the process ends: beyond those that are made to check the results.
const LAST_CALL: u64 = 5;

impl Prepared for FaultyRun {
    fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        self.inner.load(data)
    }

    fn run(&mut self) -> Result<(), BackendError> {
        self.calls += 1;
        match self.fault {
            Fault::Slow(_) => _ = self.since.get_or_insert_with(Instant::now),
            Fault::Crash if self.calls > LAST_CALL => std::process::abort(),
            Fault::Death if self.calls > LAST_CALL => die(),
            Fault::Panic => panic!("index out of bounds: on request"),
            Fault::Crash | Fault::Death | Fault::Wrong | Fault::Refusal => {}
        }
        self.inner.run()
    }

    /// The time since the first call, `factor` times. A worker's clock runs from just before the
    /// first call of a slice to just after this, so the slice takes `factor` times as long as it
    /// would, to within one reading of the clock. Spinning in every call instead would add two
    /// readings to each, which is several percent of a kernel of a microsecond.
    fn sync(&mut self) -> Result<(), BackendError> {
        self.inner.sync()?;
        if let (Fault::Slow(factor), Some(since)) = (self.fault, self.since.take()) {
            let end = since.elapsed().mul_f64(factor);
            while since.elapsed() < end {
                spin_loop();
            }
        }
        Ok(())
    }

    fn outputs(&mut self) -> Result<Outputs, BackendError> {
        let outputs = self.inner.outputs()?;
        if self.fault != Fault::Wrong {
            return Ok(outputs);
        }
        let spoilt = |(_, tensor): (_, &Tensor)| -> Result<Tensor, InputError> {
            let mut numbers = tensor.to_f64();
            if let Some(last) = numbers.last_mut() {
                *last = 2.0 * *last + 1.0;
            }
            Tensor::from_f64(self.problem.dtype, tensor.shape(), &numbers)
        };
        let tensors = outputs.iter().map(spoilt).collect::<Result<Vec<_>, _>>()?;
        Ok(Outputs::new(&self.problem, tensors)?)
    }
}

/// Ends this process by a signal as one from outside would.
fn die() {
    #[cfg(unix)]
    {
        use rustix::process::{Signal, getpid, kill_process};
        // A process may always signal itself.
        let _ = kill_process(getpid(), Signal::KILL);
    }
    #[cfg(not(unix))]
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::case::Case;

    #[test]
    fn texts_go_around() {
        for text in [
            "slow:1.1 softmax f32 shape=4x8",
            "wrong softmax f32 shape=4x8",
            "death gelu f32 shape=4",
            "crash gelu f32 shape=4",
            "panic gelu f32 shape=4",
            "refusal gelu f32 shape=4",
        ] {
            assert_eq!(text.parse::<Injection>().unwrap().to_string(), text);
        }
        for bad in ["", "slow softmax", "slow:0.5 softmax", "slow:nan softmax", "late softmax"] {
            assert!(bad.parse::<Injection>().is_err(), "{bad}");
        }
    }

    fn prepared(fault: &str) -> Box<dyn Prepared> {
        let case: Case = "softmax f32 shape=64x1024".parse().unwrap();
        let injection = format!("{fault} {}", case.problem).parse().unwrap();
        let registry = injected(Registry::standard(1), "naive", &[injection]);
        registry.find("naive").unwrap().ready(&case.problem, &case.inputs()).unwrap()
    }

    #[test]
    fn slow_is_as_slow_as_said() {
        let mut slow = prepared("slow:3");
        // The kernel's own time is known only by asking when the call is over.
        let start = Instant::now();
        slow.run().unwrap();
        let own = start.elapsed();
        slow.sync().unwrap();
        let all = start.elapsed();
        assert!(all >= own.mul_f64(2.9), "{own:?} became {all:?}");
        // Nothing is owed any more.
        let start = Instant::now();
        slow.sync().unwrap();
        assert!(start.elapsed() < own.max(Duration::from_millis(1)));
    }

    #[test]
    fn wrong_is_wrong_in_one_place() {
        let (mut right, mut wrong) = (prepared("slow:1"), prepared("wrong"));
        let mut outputs = [&mut right, &mut wrong].map(|prepared| {
            prepared.run().unwrap();
            prepared.sync().unwrap();
            prepared.outputs().unwrap().get("out").unwrap().to_f64()
        });
        let last = outputs.each_mut().map(|numbers| numbers.pop().unwrap());
        assert_eq!(outputs[0], outputs[1]);
        assert!(last[1] > last[0] + 0.9);
    }
}
