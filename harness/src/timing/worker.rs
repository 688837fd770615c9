//! The worker: answers the requests of a driver with one backend.

use std::any::Any;
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use touchstone_kernels::{
    Backend, BackendError, BackendId, InputError, Inputs, ParseError, Prepared, Registry, Support,
};

use super::exchange::{self, ExchangeError};
use super::pool::footprint;
use super::protocol::{Greeting, Preparation, ProtocolError, Request, Response};
use crate::case::Case;
use crate::check::fingerprint;

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

    let mut rotation = None;
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
            answer(backend.as_ref(), &mut rotation, &text.parse::<Request>()?)
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
            *rotation = Some(Rotation::prepare(backend, &case, *entries)?);
            Ok(Response::Prepared(Preparation {
                entries: *entries,
                bytes: footprint(&case.problem) * *entries as u64,
                declaration: backend.declares(&case.problem),
            }))
        }
        Request::Run { untimed, timed } => {
            let elapsed = rotation.as_mut().ok_or(Refusal::Nothing)?.run(*untimed, *timed)?;
            Ok(Response::Ran { ns: elapsed.as_nanos() as u64 })
        }
        Request::Outputs { path } => {
            let rotation = rotation.as_mut().ok_or(Refusal::Nothing)?;
            let outputs = rotation.last()?.outputs()?;
            if !outputs.guards_intact() || !rotation.inputs.guards_intact() {
                return Err(Refusal::Guards);
            }
            if fingerprint(&rotation.inputs) != rotation.fingerprint {
                return Err(Refusal::InputChanged);
            }
            Ok(Response::Wrote { tensors: exchange::write(Path::new(path), &outputs)? })
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
    next: usize,
    last: Option<usize>,
}

/// Longest time for running every copy once before the first slice. One run is always made: it
/// builds whatever the library builds on first use. The others touch their results' memory where
/// the library allocates it late, which a kernel this slow does not notice.
const FIRST_RUNS: Duration = Duration::from_millis(500);

impl Rotation {
    fn prepare(backend: &dyn Backend, case: &Case, entries: usize) -> Result<Self, Refusal> {
        let inputs = case.inputs();
        let fingerprint = fingerprint(&inputs);
        let prepared = (0..entries).map(|i| {
            // The first copy may share with the original, which nobody else reads.
            let own = if i == 0 { inputs.clone() } else { inputs.deep_clone() };
            backend.prepare(&case.problem, &own)
        });
        let entries_prepared = prepared.collect::<Result<_, _>>()?;
        let mut rotation = Rotation { entries: entries_prepared, inputs, fingerprint, next: 0, last: None };
        let start = Instant::now();
        for _ in 0..entries {
            rotation.step()?;
            if start.elapsed() > FIRST_RUNS {
                break;
            }
        }
        rotation.last()?.sync()?;
        Ok(rotation)
    }

    /// The time of `timed` iterations and one sync, after `untimed` iterations and one sync.
    fn run(&mut self, untimed: u64, timed: u64) -> Result<Duration, Refusal> {
        for _ in 0..untimed {
            self.step()?;
        }
        // Copies on a device share its queue: a sync of one is a sync of all.
        self.last()?.sync()?;
        let start = Instant::now();
        for _ in 0..timed {
            self.step()?;
        }
        self.last()?.sync()?;
        Ok(start.elapsed())
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

    /// The copy that ran last.
    fn last(&mut self) -> Result<&mut Box<dyn Prepared>, Refusal> {
        let index = self.last.ok_or(Refusal::NotRun)?;
        Ok(&mut self.entries[index])
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::io::{BufReader, PipeReader, PipeWriter, pipe};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::JoinHandle;

    use touchstone_kernels::host::HostPrepared;
    use touchstone_kernels::{BackendInfo, Declaration, Problem};

    use super::*;

    /// Copies its first operand and counts its runs; answers for softmax f32 only.
    struct Copying {
        id: BackendId,
        runs: Arc<AtomicUsize>,
    }

    impl Backend for Copying {
        fn id(&self) -> &BackendId {
            &self.id
        }

        fn info(&self) -> BackendInfo {
            BackendInfo { version: "1 %".into(), device: "a b".into(), isa: "none".into(), threads: 1 }
        }

        fn supports(&self, problem: &Problem) -> Support {
            if problem.name() == "softmax" {
                return Support::Yes;
            }
            Support::No(Cow::Borrowed("only softmax"))
        }

        fn declares(&self, _: &Problem) -> Declaration {
            Declaration::strict("copy")
        }

        fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
            let runs = Arc::clone(&self.runs);
            Ok(Box::new(HostPrepared::new(problem, inputs, move |inputs, outputs| {
                let x = inputs.slice::<f32>("x")?;
                assert!(x.len() != 13, "thirteen elements");
                outputs.slice_mut::<f32>("out")?.copy_from_slice(x);
                runs.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })))
        }
    }

    /// A worker on a thread, and the driver's ends of its pipes.
    struct Conversation {
        to: PipeWriter,
        from: BufReader<PipeReader>,
        runs: Arc<AtomicUsize>,
        thread: JoinHandle<Result<(), WorkerError>>,
    }

    impl Conversation {
        fn start() -> Self {
            let (input, to) = pipe().unwrap();
            let (from, output) = pipe().unwrap();
            let runs = Arc::new(AtomicUsize::new(0));
            let mut registry = Registry::empty();
            registry.add(Copying { id: BackendId::new("copying/cpu"), runs: Arc::clone(&runs) });
            let thread =
                std::thread::spawn(move || serve(&registry, "copying", BufReader::new(input), output));
            let mut conversation = Conversation { to, from: BufReader::new(from), runs, thread };
            let greeting: Greeting = conversation.line().parse().unwrap();
            assert_eq!(greeting.backend.as_str(), "copying/cpu");
            assert_eq!((greeting.info.version.as_str(), greeting.info.device.as_str()), ("1 %", "a b"));
            conversation
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            self.from.read_line(&mut line).unwrap();
            assert_eq!(line.pop(), Some('\n'));
            line
        }

        fn say(&mut self, request: &str) -> Response {
            writeln!(self.to, "{request}").unwrap();
            self.line().parse().unwrap()
        }

        fn error(&mut self, request: &str) -> String {
            match self.say(request) {
                Response::Error { message } => message,
                response => panic!("{request}: {response}"),
            }
        }

        fn runs(&self) -> usize {
            self.runs.swap(0, Ordering::Relaxed)
        }
    }

    #[test]
    fn a_whole_conversation() {
        let mut worker = Conversation::start();
        let directory = tempfile::tempdir().unwrap();
        let case: Case = "softmax f32 shape=4x16 fill=normal seed=7".parse().unwrap();

        let Response::Prepared(ready) = worker.say(&format!("prepare 3 {case}")) else { panic!() };
        assert_eq!((ready.entries, ready.bytes), (3, 3 * 2 * 4 * 16 * 4));
        assert_eq!(ready.declaration, Declaration::strict("copy"));
        assert_eq!(worker.runs(), 3, "every copy has run once");

        assert!(matches!(worker.say("run 1 10"), Response::Ran { ns: 1.. }));
        assert_eq!(worker.runs(), 11);

        let path = directory.path().join("a%b c.safetensors");
        let request = Request::Outputs { path: path.to_string_lossy().into_owned() };
        assert_eq!(worker.say(&request.to_string()), Response::Wrote { tensors: 1 });
        let outputs = exchange::read(&path, &case.problem).unwrap();
        assert_eq!(outputs.get("out"), case.inputs().get("x"), "the inputs follow from the text");

        assert_eq!(worker.say("release"), Response::Released);
        assert_eq!(worker.error("run 1 10"), "nothing is prepared");
        assert_eq!(worker.say("quit"), Response::Bye);
        worker.thread.join().unwrap().unwrap();
    }

    #[test]
    fn errors_are_answers_and_the_worker_lives_on() {
        let mut worker = Conversation::start();
        assert_eq!(worker.error("run 0 1"), "nothing is prepared");
        assert!(worker.error("dance").contains("prepare, run, outputs"));
        assert!(worker.error("prepare 1 softmax f32").contains("'shape' is missing"));
        assert!(worker.error("prepare 1 softmax f99 shape=4").contains("f99"));
        assert!(worker.error("prepare 1 softmax f16 shape=4").contains("expected"), "wrong operand type");
        let unsupported = Response::Unsupported { reason: "only softmax".into() };
        assert_eq!(worker.say("prepare 1 silu f32 shape=4"), unsupported);
        worker.to.write_all(b"\xff\xfe\n").unwrap();
        assert!(matches!(worker.line().parse(), Ok(Response::Error { .. })));

        assert!(worker.error("prepare 1 softmax f32 shape=13").contains("panicked: thirteen elements"));
        assert_eq!(worker.error("run 0 1"), "nothing is prepared");
        assert!(matches!(worker.say("prepare 1 softmax f32 shape=4x4"), Response::Prepared(_)));
        assert!(worker.error("outputs /no/such/place/x").contains("/no/such/place/x"));
        assert!(matches!(worker.say("run 0 1"), Response::Ran { .. }));

        drop(worker.to);
        worker.thread.join().unwrap().unwrap();
    }

    #[test]
    fn copies_take_turns_across_slices() {
        let registry = {
            let mut registry = Registry::empty();
            registry.add(Copying { id: BackendId::new("copying"), runs: Arc::default() });
            registry
        };
        let case: Case = "softmax f32 shape=4".parse().unwrap();
        let backend = registry.find("copying").unwrap();
        let mut rotation = Rotation::prepare(backend.as_ref(), &case, 3).unwrap();
        let mut last = Vec::new();
        for _ in 0..4 {
            rotation.run(1, 1).unwrap();
            last.push(rotation.last);
        }
        assert_eq!(last, [Some(1), Some(0), Some(2), Some(1)]);
    }

    #[test]
    fn an_unknown_backend_is_named_with_those_present() {
        let mut registry = Registry::empty();
        registry.add(Copying { id: BackendId::new("copying"), runs: Arc::default() });
        let error = serve(&registry, "missing", &b""[..], io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "no backend 'missing' here; present: copying");
    }
}
