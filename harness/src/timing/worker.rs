//! The worker: answers the requests of a driver with one backend.

use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use touchstone_kernels::{
    Backend, BackendError, BackendId, Clock, InputError, Inputs, Outputs, ParseError, Prepared, Registry,
    Stopwatch, Support, tensor,
};

use super::audit::{Audit, audit};
use super::canary::canary;
use super::exchange::{self, ExchangeError};
use super::memory;
use super::pool::footprint;
use super::protocol::{Greeting, Preparation, ProtocolError, Request, Response};
use crate::case::Case;
use crate::check::fingerprint;
use crate::check::panic_message;

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The registry has no such backend.
    #[error("no backend '{backend}' here; present: {present}")]
    Backend {
        /// The name asked for.
        backend: String,
        /// The names that exist.
        present: String,
    },
    /// The driver is gone.
    #[error("the driver cannot be reached: {0}")]
    Pipe(#[from] io::Error),
    /// The thread pool exists already.
    #[error("the thread pool cannot be set to {threads} threads: {source}")]
    Threads {
        /// The threads asked for.
        threads: usize,
        /// What rayon says.
        source: rayon::ThreadPoolBuildError,
    },
}

/// A request that a worker could not fulfil: the driver gets it as `error <message>`.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Case(#[from] ParseError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("nothing is prepared")]
    Nothing,
    #[error("no iteration has run since prepare")]
    NotRun,
    #[error("the kernel wrote outside its results")]
    Guards,
    #[error("the kernel changed its inputs")]
    InputChanged,
    #[error("the backend panicked: {0}")]
    Panic(String),
}

impl From<InputError> for Refusal {
    fn from(error: InputError) -> Self {
        Refusal::Backend(error.into())
    }
}

/// Gives this process `threads` threads. To be called once, first thing in `main`, on the thread
/// that will call [`serve`].
///
/// The calling thread becomes one of them: otherwise every parallel call of a one-thread backend
/// would pay for waking another thread.
///
/// # Errors
/// [`WorkerError::Threads`] when rayon's global pool is in use already.
pub fn configure_threads(threads: usize) -> Result<(), WorkerError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .use_current_thread()
        .build_global()
        .map_err(|source| WorkerError::Threads { threads, source })
}

/// Answers requests from `input` on `output` with the backend of that name until `quit` or the
/// end of the input. See [`protocol`](super::protocol).
///
/// # Errors
/// [`WorkerError::Backend`] when there is no such backend, [`WorkerError::Pipe`] when the driver
/// is gone. Whatever a request does wrong is answered, and the worker lives on.
pub fn serve(
    registry: &Registry,
    backend: &str,
    mut input: impl BufRead,
    mut output: impl Write,
) -> Result<(), WorkerError> {
    let backend = registry.find(backend).ok_or_else(|| {
        let present: Vec<&str> = registry.present().iter().map(|b| b.id().as_str()).collect();
        WorkerError::Backend { backend: backend.into(), present: present.join(", ") }
    })?;
    let mut say = |line: String| writeln!(output, "{line}").and_then(|()| output.flush());
    say(Greeting { backend: BackendId::clone(backend.id()), info: backend.info() }.to_string())?;

    let (mut rotation, mut scatter) = (None, None);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        // A backend may panic, or leave its state broken when it does: nothing prepared survives.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            answer(backend.as_ref(), &mut rotation, &mut scatter, &text.parse::<Request>()?)
        }))
        .unwrap_or_else(|panic| {
            rotation = None;
            Err(Refusal::Panic(panic_message(panic.as_ref())))
        });
        let response = answer.unwrap_or_else(|refusal| Response::Error { message: refusal.to_string() });
        say(response.to_string())?;
        if response == Response::Bye {
            return Ok(());
        }
    }
}

fn answer(
    backend: &dyn Backend,
    rotation: &mut Option<Rotation>,
    scatter: &mut Option<u64>,
    request: &Request,
) -> Result<Response, Refusal> {
    match request {
        Request::Prepare { entries, case } => {
            // First the old one goes: two do not always fit.
            *rotation = None;
            let case: Case = case.parse()?;
            if let Support::No(reason) = backend.supports(&case.problem) {
                return Ok(Response::Unsupported { reason: reason.into() });
            }
            let prepare = || Rotation::prepare(backend, &case, *entries);
            let prepared = match scatter {
                None => prepare(),
                Some(seed) => {
                    *seed = seed.wrapping_add(1);
                    tensor::scattered(*seed, prepare)
                }
            };
            let ready = match prepared {
                Ok(ready) => rotation.insert(ready),
                Err(Refusal::Backend(error @ BackendError::OutOfMemory { .. })) => {
                    return Ok(Response::Unsupported { reason: error.to_string() });
                }
                Err(refusal) => return Err(refusal),
            };
            let mut declaration = backend.declares(&case.problem);
            if let Some(path) = ready.entries.first().and_then(|entry| entry.path()) {
                declaration.path = path;
            }
            Ok(Response::Prepared(Preparation {
                entries: *entries,
                bytes: footprint(&case.problem) * *entries as u64,
                declaration,
                clock: ready.clock(),
                prepare_ns: Some(ready.prepare_ns),
                first_ns: Some(ready.first_ns),
            }))
        }
        Request::Run { untimed, timed } => {
            let lap = rotation.as_mut().ok_or(Refusal::Nothing)?.run(*untimed, *timed)?;
            let ns = |time: Duration| time.as_nanos() as u64;
            Ok(Response::Ran { ns: ns(lap.elapsed), waited: Some(ns(lap.waited)) })
        }
        Request::Audit { calls, seed } => {
            Ok(Response::Audited(rotation.as_mut().ok_or(Refusal::Nothing)?.audit(*calls, *seed)?))
        }
        Request::Memory { case } => {
            *rotation = None;
            let case: Case = case.parse()?;
            if let Support::No(reason) = backend.supports(&case.problem) {
                return Ok(Response::Unsupported { reason: reason.into() });
            }
            let none = || Response::Unsupported { reason: "this system does not tell".into() };
            Ok(memory::extra(backend, &case)?.map_or_else(none, |extra| Response::Memory { extra }))
        }
        Request::Peaks => {
            // The device's memory is wanted whole.
            *rotation = None;
            let none = || Response::Unsupported { reason: "this backend has no device of its own".into() };
            Ok(backend.peaks()?.map_or_else(none, Response::Peaks))
        }
        Request::Outputs { path } => {
            let rotation = rotation.as_mut().ok_or(Refusal::Nothing)?;
            let outputs = match rotation.handed_out.is_empty() {
                false => rotation.handed_out.remove(0),
                true => rotation.last()?.outputs()?,
            };
            rotation.verify(&outputs)?;
            Ok(Response::Wrote { tensors: exchange::write(Path::new(path), &outputs)? })
        }
        Request::Canary { passes } => {
            Ok(Response::Ran { ns: canary(*passes).as_nanos() as u64, waited: None })
        }
        Request::Scatter { seed } => {
            *scatter = Some(*seed);
            Ok(Response::Scattered)
        }
        Request::Release => {
            *rotation = None;
            Ok(Response::Released)
        }
        Request::Quit => Ok(Response::Bye),
    }
}

/// Copies of a prepared problem that take turns.
struct Rotation {
    entries: Vec<Box<dyn Prepared>>,
    /// What the first copy was prepared from, and reads unless it has taken a copy of its own.
    inputs: Inputs,
    /// Of these inputs before anything ran.
    fingerprint: u64,
    /// Of those that an audit has loaded into the copy that ran last.
    audited: Option<u64>,
    /// Results of the last calls of an audit, the last first, that no request has fetched yet.
    handed_out: Vec<Outputs>,
    /// Time of preparing the first copy.
    prepare_ns: u64,
    /// Time of the first call of the first copy, and its sync.
    first_ns: u64,
    /// The clock of the device's queue, if it has one.
    stopwatch: Option<Box<dyn Stopwatch>>,
    next: usize,
    last: Option<usize>,
}

/// The time of a slice.
struct Lap {
    /// From its start to its end.
    elapsed: Duration,
    /// What the host spent of that waiting for the device.
    waited: Duration,
}

/// Longest time for running every copy once before the first slice. One run is always made: it
/// builds whatever the library builds on first use. The others touch their results' memory where
/// the library allocates it late, which a kernel this slow does not notice.
const FIRST_RUNS: Duration = Duration::from_millis(500);

impl Rotation {
    fn prepare(backend: &dyn Backend, case: &Case, entries: usize) -> Result<Self, Refusal> {
        let inputs = case.inputs();
        let fingerprint = fingerprint(&inputs);
        let mut prepare_ns = 0;
        let prepared = (0..entries).map(|i| {
            // The first copy may share with the original, which nobody else reads.
            let own = if i == 0 { inputs.clone() } else { inputs.deep_clone() };
            let bound = own.without_data();
            let start = Instant::now();
            let mut prepared = backend.prepare(&case.problem, &bound)?;
            if i == 0 {
                prepare_ns = start.elapsed().as_nanos() as u64;
            }
            prepared.load(&own)?;
            Ok::<_, BackendError>(prepared)
        });
        let prepared: Vec<_> = prepared.collect::<Result<_, _>>()?;
        // A processor has the host's clock, whatever its backend brings.
        let stopwatch = prepared.first().filter(|_| !backend.info().is_on_cpu());
        let stopwatch = stopwatch.and_then(|entry| entry.stopwatch());
        let mut rotation = Rotation {
            entries: prepared,
            inputs,
            fingerprint,
            audited: None,
            handed_out: Vec::new(),
            prepare_ns,
            first_ns: 0,
            stopwatch,
            next: 0,
            last: None,
        };
        let start = Instant::now();
        rotation.step()?;
        rotation.last()?.sync()?;
        rotation.first_ns = start.elapsed().as_nanos() as u64;
        while rotation.next != 0 && start.elapsed() <= FIRST_RUNS {
            rotation.step()?;
        }
        rotation.last()?.sync()?;
        Ok(rotation)
    }

    fn clock(&self) -> Clock {
        if self.stopwatch.is_some() { Clock::Device } else { Clock::Wall }
    }

    /// The time of `timed` iterations and one sync, after `untimed` iterations and one sync.
    fn run(&mut self, untimed: u64, timed: u64) -> Result<Lap, Refusal> {
        self.handed_out.clear();
        for _ in 0..untimed {
            self.step()?;
        }
        // Copies on a device share its queue: a sync of one is a sync of all.
        self.last()?.sync()?;
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch.start()?;
        }
        let start = Instant::now();
        for _ in 0..timed {
            self.step()?;
        }
        let enqueued = start.elapsed();
        let of_device = self.stopwatch.as_mut().map(|stopwatch| stopwatch.stop()).transpose()?;
        self.last()?.sync()?;
        let of_host = start.elapsed();
        Ok(Lap { elapsed: of_device.unwrap_or(of_host), waited: of_host - enqueued })
    }

    /// One iteration. The black box stands for a caller that may have changed the inputs and may
    /// read the results, so that no iteration can be merged with another or dropped.
    #[inline]
    fn step(&mut self) -> Result<(), BackendError> {
        let index = self.next;
        self.last = Some(index);
        self.next = if index + 1 == self.entries.len() { 0 } else { index + 1 };
        let entry = black_box(&mut self.entries[index]);
        black_box(entry.run())
    }

    /// Audits one copy, which then holds the inputs of the audit's last call.
    fn audit(&mut self, calls: usize, seed: u64) -> Result<Audit, Refusal> {
        self.last = Some(0);
        let entry = self.entries.first_mut().ok_or(Refusal::Nothing)?;
        let audited = audit(entry.as_mut(), &mut self.stopwatch, &self.inputs, calls, seed)?;
        self.audited = Some(fingerprint(&audited.inputs));
        self.handed_out = audited.outputs;
        Ok(audited.audit)
    }

    /// Checks the guard zones of results and operands, and that no operand has changed: of those that
    /// were prepared from, and of those that the kernel read.
    fn verify(&mut self, outputs: &Outputs) -> Result<(), Refusal> {
        let loaded = self.audited.unwrap_or(self.fingerprint);
        let own = self.last()?.operands();
        let own_intact = own.is_none_or(Inputs::guards_intact);
        let own_unchanged = own.is_none_or(|operands| fingerprint(operands) == loaded);
        if !outputs.guards_intact() || !own_intact || !self.inputs.guards_intact() {
            return Err(Refusal::Guards);
        }
        if !own_unchanged || fingerprint(&self.inputs) != self.fingerprint {
            return Err(Refusal::InputChanged);
        }
        Ok(())
    }

    /// The copy that ran last.
    fn last(&mut self) -> Result<&mut Box<dyn Prepared>, Refusal> {
        let index = self.last.ok_or(Refusal::NotRun)?;
        Ok(&mut self.entries[index])
    }
}

#[cfg(test)]
mod tests;
