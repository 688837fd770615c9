//! What the cheats do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use touchstone_kernels::naive::Naive;
use touchstone_kernels::{
    Backend, BackendError, InputError, Inputs, Outputs, Prepared, Problem, Stopwatch, Tensor, named_enum,
};

use crate::case::Case;

/// A way to look fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Computes when the results are asked for.
    Lazy,
    /// The same, and sleeps a little in the run, so that its time is not impossible.
    LazyAndSleepy,
    /// Computes when the data are loaded.
    InLoad,
    /// Computes when the problem is prepared.
    InPrepare,
    /// Computes in the first run, and never again.
    Memoised,
    /// Computes again where the data lie elsewhere.
    MemoisedByAddress,
    /// Computes again where a hash of the data has changed.
    MemoisedByContent,
    /// Computes again where the first elements have changed.
    MemoisedBySample,
    /// Is honest for forty calls, and then remembers.
    Patient,
    /// Computes in a thread that outlives the run; the results wait for it.
    Background,
    /// The same, and neither sync nor the results wait for the thread.
    Racing,
    /// Computes in the sync, once for all runs before it.
    LastOfMany,
    /// Computes in every second run.
    EverySecond,
    /// Computes in every tenth run.
    EveryTenth,
    /// After twenty calls computes one half of the results, and leaves the other as it was.
    HalfLater,
    /// After twenty calls keeps eight bits of each result.
    RoughLater,
    /// Copies of the problem share one answer.
    AcrossCopies,
    /// Answers for hashes of data that were seen before are kept for the life of the process.
    AcrossCases,
    /// Knows the inputs of the suite, and has the answer ready.
    KnowsTheSeed,
    /// Has a clock of its own that counts half of the time.
    SlowClock,
    /// Has a clock of its own that hardly moves.
    StoppedClock,
    /// Computes, and keeps a thread busy that takes processors away from the others.
    Busy,
}

named_enum!(Trick, "trick", {
    Trick::Lazy => "lazy",
    Trick::LazyAndSleepy => "lazy-and-sleepy",
    Trick::InLoad => "in-load",
    Trick::InPrepare => "in-prepare",
    Trick::Memoised => "memoised",
    Trick::MemoisedByAddress => "memoised-by-address",
    Trick::MemoisedByContent => "memoised-by-content",
    Trick::MemoisedBySample => "memoised-by-sample",
    Trick::Patient => "patient",
    Trick::Background => "background",
    Trick::Racing => "racing",
    Trick::LastOfMany => "last-of-many",
    Trick::EverySecond => "every-second",
    Trick::EveryTenth => "every-tenth",
    Trick::HalfLater => "half-later",
    Trick::RoughLater => "rough-later",
    Trick::AcrossCopies => "across-copies",
    Trick::AcrossCases => "across-cases",
    Trick::KnowsTheSeed => "knows-the-seed",
    Trick::SlowClock => "slow-clock",
    Trick::StoppedClock => "stopped-clock",
    Trick::Busy => "busy",
});

impl Trick {
    /// What it does, in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Trick::Lazy => "Computes when the results are asked for.",
            Trick::LazyAndSleepy => "Sleeps in the run, and computes when the results are asked for.",
            Trick::InLoad => "Computes when the data are loaded.",
            Trick::InPrepare => "Computes when the problem is prepared.",
            Trick::Memoised => "Computes in the first run, and never again.",
            Trick::MemoisedByAddress => "Computes again only where the data lie at another address.",
            Trick::MemoisedByContent => "Computes again only where a hash of the data has changed.",
            Trick::MemoisedBySample => "Computes again only where the first elements have changed.",
            Trick::Patient => "Is honest for forty calls, and then remembers.",
            Trick::Background => "Computes in a thread that outlives the run.",
            Trick::Racing => "Computes in a thread for which neither sync nor results wait.",
            Trick::LastOfMany => "Computes in the sync, once for all runs before it.",
            Trick::EverySecond => "Computes in every second run.",
            Trick::EveryTenth => "Computes in every tenth run.",
            Trick::HalfLater => "After twenty calls computes one half, and leaves the other as it was.",
            Trick::RoughLater => "After twenty calls keeps eight bits of each result.",
            Trick::AcrossCopies => "Copies of the problem share one answer.",
            Trick::AcrossCases => "Keeps answers by the hash of the data for the life of the process.",
            Trick::KnowsTheSeed => "Knows the inputs of the suite, and has the answer ready.",
            Trick::SlowClock => "Brings a clock that counts half of the time.",
            Trick::StoppedClock => "Brings a clock that hardly moves.",
            Trick::Busy => "Computes, and keeps a thread spinning that disturbs all others.",
        }
    }

    pub(super) fn has_a_clock(self) -> bool {
        matches!(self, Trick::SlowClock | Trick::StoppedClock)
    }
}

pub(super) fn prepare(
    trick: Option<Trick>,
    problem: &Problem,
    bound: &Inputs,
) -> Result<Box<dyn Prepared>, BackendError> {
    let inner = Naive.prepare(problem, bound)?;
    let Some(trick) = trick else { return Ok(inner) };
    let mut cheat = Cheat {
        trick,
        problem: problem.clone(),
        inner,
        held: Outputs::unwritten(problem),
        calls: 0,
        pending: false,
        key: 0,
        ready: None,
        helper: None,
    };
    match trick {
        Trick::InPrepare => cheat.compute()?,
        Trick::KnowsTheSeed => {
            let inputs = Case::plain(problem.clone(), Case::DEFAULT_SEED).inputs();
            let mut own = Naive.ready(problem, &inputs)?;
            own.run()?;
            cheat.ready = Some((hash(&inputs, usize::MAX), own.outputs()?));
        }
        Trick::Background | Trick::Racing => cheat.helper = Some(Helper::working(problem, bound)),
        Trick::Busy => cheat.helper = Some(Helper::spinning(problem)),
        _ => {}
    }
    Ok(Box::new(cheat))
}

/// Answers of this process, by problem and hash.
static ANSWERS: LazyLock<Mutex<HashMap<(String, u64), Outputs>>> = LazyLock::new(Mutex::default);

struct Cheat {
    trick: Trick,
    problem: Problem,
    inner: Box<dyn Prepared>,
    /// The results that it will say it has computed.
    held: Outputs,
    calls: u64,
    /// Whether there is something left to compute.
    pending: bool,
    /// The hash or address of what was computed last.
    key: u64,
    /// An answer made beforehand, for the data with this hash.
    ready: Option<(u64, Outputs)>,
    helper: Option<Helper>,
}

impl Cheat {
    fn compute(&mut self) -> Result<(), BackendError> {
        self.inner.run()?;
        self.held = self.inner.outputs()?;
        self.pending = false;
        Ok(())
    }

    fn key(&self, elements: usize) -> u64 {
        self.inner.operands().map_or(0, |operands| hash(operands, elements))
    }

    /// Computes unless the key is that of the last time.
    fn compute_unless(&mut self, key: u64) -> Result<(), BackendError> {
        if self.calls == 1 || key != self.key {
            self.key = key;
            self.compute()?;
        }
        Ok(())
    }

    fn compute_every(&mut self, n: u64) -> Result<(), BackendError> {
        if self.calls % n == 1 { self.compute() } else { Ok(()) }
    }

    fn answer_by(&mut self, key: u64) -> Result<(), BackendError> {
        let key = (self.problem.to_string(), key);
        let known = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        match known {
            Some(answer) => self.held = answer,
            None => {
                self.compute()?;
                let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
                answers.insert(key, self.held.clone());
            }
        }
        Ok(())
    }

    /// The results with a change to their numbers.
    fn changed(&self, change: impl Fn(&str, &mut [f64])) -> Result<Outputs, InputError> {
        let tensors = self.held.iter().map(|(name, tensor)| {
            let mut values = tensor.to_f64();
            change(name, &mut values);
            Tensor::from_f64(self.problem.dtype, tensor.shape(), &values)
        });
        Outputs::new(&self.problem, tensors.collect::<Result<_, _>>()?)
    }
}

/// Calls in a process after which the late ones change.
const LATE: u64 = 20;

/// Calls of all copies in this process.
static CALLS: AtomicU64 = AtomicU64::new(0);

impl Prepared for Cheat {
    fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        self.inner.load(data)?;
        if let Some(helper) = &self.helper {
            helper.load(data)?;
        }
        if self.trick == Trick::InLoad { self.compute() } else { Ok(()) }
    }

    fn run(&mut self) -> Result<(), BackendError> {
        self.calls += 1;
        let calls = CALLS.fetch_add(1, Ordering::Relaxed);
        match self.trick {
            Trick::InLoad | Trick::InPrepare => Ok(()),
            Trick::Lazy | Trick::LastOfMany => {
                self.pending = true;
                Ok(())
            }
            Trick::LazyAndSleepy => {
                self.pending = true;
                std::thread::sleep(Duration::from_millis(1));
                Ok(())
            }
            Trick::Memoised => self.compute_unless(0),
            Trick::MemoisedByAddress => {
                let address = self.inner.operands().and_then(|operands| operands.data().next());
                let address = address.map_or(0, |(_, tensor)| tensor.bytes().as_ptr() as u64);
                self.compute_unless(address)
            }
            Trick::MemoisedByContent => self.compute_unless(self.key(usize::MAX)),
            Trick::MemoisedBySample => self.compute_unless(self.key(64)),
            Trick::Patient if calls > 2 * LATE => Ok(()),
            Trick::EverySecond => self.compute_every(2),
            Trick::EveryTenth => self.compute_every(10),
            Trick::Background | Trick::Racing => {
                if let Some(helper) = &self.helper {
                    helper.ask();
                }
                Ok(())
            }
            Trick::AcrossCopies => self.answer_by(0),
            Trick::AcrossCases => self.answer_by(self.key(usize::MAX)),
            Trick::KnowsTheSeed => {
                let key = self.key(usize::MAX);
                match self.ready.take() {
                    Some((known, answer)) if known == key => {
                        self.held = answer.clone();
                        self.ready = Some((known, answer));
                        Ok(())
                    }
                    ready => {
                        self.ready = ready;
                        self.compute()
                    }
                }
            }
            Trick::HalfLater if calls > LATE => {
                let old: HashMap<String, Vec<f64>> =
                    self.held.iter().map(|(name, tensor)| (name.to_string(), tensor.to_f64())).collect();
                self.compute()?;
                self.held = self.changed(|name, values| {
                    let half = values.len() / 2;
                    values[half..].copy_from_slice(&old[name][half..]);
                })?;
                Ok(())
            }
            Trick::RoughLater if calls > LATE => {
                self.compute()?;
                self.held = self.changed(|_, values| {
                    values.iter_mut().for_each(|x| *x = f64::from_bits(x.to_bits() & !((1 << 44) - 1)));
                })?;
                Ok(())
            }
            Trick::Patient
            | Trick::HalfLater
            | Trick::RoughLater
            | Trick::SlowClock
            | Trick::StoppedClock
            | Trick::Busy => self.compute(),
        }
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        if self.trick == Trick::LastOfMany && self.pending { self.compute() } else { Ok(()) }
    }

    fn outputs(&mut self) -> Result<Outputs, BackendError> {
        match (self.trick, &self.helper) {
            (Trick::Lazy | Trick::LazyAndSleepy, _) if self.pending => self.compute()?,
            (Trick::Background, Some(helper)) => {
                helper.wait();
                self.held = helper.results();
            }
            (Trick::Racing, Some(helper)) => self.held = helper.results(),
            _ => {}
        }
        Ok(self.held.clone())
    }

    fn operands(&self) -> Option<&Inputs> {
        self.inner.operands()
    }

    fn stopwatch(&self) -> Option<Box<dyn Stopwatch>> {
        let slower = match self.trick {
            Trick::SlowClock => 2,
            Trick::StoppedClock => 1000,
            _ => return None,
        };
        Some(Box::new(Slow { start: None, slower }))
    }
}

struct Slow {
    start: Option<Instant>,
    slower: u32,
}

impl Stopwatch for Slow {
    fn start(&mut self) -> Result<(), BackendError> {
        self.start = Some(Instant::now());
        Ok(())
    }

    fn stop(&mut self) -> Result<Duration, BackendError> {
        Ok(self.start.take().map_or(Duration::ZERO, |start| start.elapsed() / self.slower))
    }
}

/// A thread beside the one that is timed.
struct Helper {
    problem: Problem,
    asks: Option<Sender<()>>,
    asked: AtomicU64,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    done: AtomicU64,
    inputs: Mutex<Option<Inputs>>,
    results: Mutex<Option<Outputs>>,
}

impl Helper {
    /// One that computes whenever it is asked.
    fn working(problem: &Problem, bound: &Inputs) -> Self {
        let shared = Arc::new(Shared::default());
        *shared.inputs.lock().unwrap_or_else(PoisonError::into_inner) = Some(bound.deep_clone());
        let (asks, asked) = channel();
        let own_problem = problem.clone();
        let (problem, own) = (problem.clone(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            while asked.recv().is_ok() && !own.over.load(Ordering::Relaxed) {
                let inputs = own.inputs.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let results = inputs.and_then(|inputs| {
                    let mut prepared = Naive.ready(&problem, &inputs).ok()?;
                    prepared.run().ok()?;
                    prepared.outputs().ok()
                });
                *own.results.lock().unwrap_or_else(PoisonError::into_inner) = results;
                own.done.fetch_add(1, Ordering::Release);
            }
        });
        Helper {
            problem: own_problem,
            asks: Some(asks),
            asked: AtomicU64::new(0),
            shared,
            thread: Some(thread),
        }
    }

    /// One that does nothing useful.
    fn spinning(problem: &Problem) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !own.over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Helper {
            problem: problem.clone(),
            asks: None,
            asked: AtomicU64::new(0),
            shared,
            thread: Some(thread),
        }
    }

    fn load(&self, data: &Inputs) -> Result<(), BackendError> {
        if let Some(own) = self.shared.inputs.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            own.load(data)?;
        }
        Ok(())
    }

    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(asks) = &self.asks {
            // It lives as long as this does.
            let _ = asks.send(());
        }
    }

    fn wait(&self) {
        while self.shared.done.load(Ordering::Acquire) < self.asked.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn results(&self) -> Outputs {
        let results = self.shared.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.clone().unwrap_or_else(|| Outputs::unwritten(&self.problem))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// FNV-1a over the first words of each data operand.
fn hash(inputs: &Inputs, elements: usize) -> u64 {
    inputs.data().fold(0xcbf2_9ce4_8422_2325, |hash, (_, tensor)| {
        let words = tensor.bytes().chunks_exact(8).take(elements / 2 + 1);
        words.fold(hash, |hash: u64, word| {
            let word = word.iter().fold(0, |word: u64, &byte| word << 8 | u64::from(byte));
            (hash ^ word).wrapping_mul(0x0100_0000_01b3)
        })
    })
}
