//! Conversations with a worker on a thread.

use std::borrow::Cow;
use std::io::{BufReader, PipeReader, PipeWriter, pipe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use touchstone_kernels::host::HostPrepared;
use touchstone_kernels::{BackendInfo, Declaration, DevicePeaks, Problem};

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
            if runs.fetch_add(1, Ordering::Relaxed) == 0 && x.len() == SLOW_AT_FIRST {
                std::thread::sleep(FIRST_CALL);
            }
            Ok(())
        })))
    }
}

/// Elements of a problem whose first call builds something, as a library does, and how long that takes.
const SLOW_AT_FIRST: usize = 11;
const FIRST_CALL: Duration = Duration::from_millis(20);

/// A worker on a thread, and the driver's ends of its pipes.
struct Conversation {
    to: PipeWriter,
    from: BufReader<PipeReader>,
    runs: Arc<AtomicUsize>,
    thread: JoinHandle<Result<(), WorkerError>>,
}

impl Conversation {
    fn start() -> Self {
        let runs = Arc::new(AtomicUsize::new(0));
        let copying = Copying { id: BackendId::new("copying/cpu"), runs: Arc::clone(&runs) };
        Conversation::with(copying, runs)
    }

    fn with(backend: impl Backend + 'static, runs: Arc<AtomicUsize>) -> Self {
        let (input, to) = pipe().unwrap();
        let (from, output) = pipe().unwrap();
        let id = backend.id().clone();
        let name = id.clone();
        let mut registry = Registry::empty();
        registry.add(backend);
        let thread = std::thread::spawn(move || serve(&registry, id.as_str(), BufReader::new(input), output));
        let mut conversation = Conversation { to, from: BufReader::new(from), runs, thread };
        let greeting: Greeting = conversation.line().parse().unwrap();
        assert_eq!(greeting.backend, name);
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
fn the_first_call_is_the_very_first() {
    let mut worker = Conversation::start();
    let case: Case = format!("softmax f32 shape={SLOW_AT_FIRST}").parse().unwrap();
    let Response::Prepared(ready) = worker.say(&format!("prepare 2 {case}")) else { panic!() };
    assert!(ready.first_ns.unwrap() >= FIRST_CALL.as_nanos() as u64);
    assert_eq!(worker.runs(), 2, "each copy has run once");
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

    assert!(matches!(worker.say("run 1 10"), Response::Ran { ns: 1.., waited: Some(_) }));
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
fn scattering_changes_no_result() {
    let mut worker = Conversation::start();
    let directory = tempfile::tempdir().unwrap();
    let case: Case = "softmax f32 shape=4x16 fill=normal seed=7".parse().unwrap();
    assert_eq!(worker.say("scatter 18446744073709551615"), Response::Scattered);
    for name in ["first", "second"] {
        assert!(matches!(worker.say(&format!("prepare 2 {case}")), Response::Prepared(_)));
        let path = directory.path().join(name);
        let request = Request::Outputs { path: path.to_string_lossy().into_owned() };
        assert_eq!(worker.say(&request.to_string()), Response::Wrote { tensors: 1 });
        assert_eq!(exchange::read(&path, &case.problem).unwrap().get("out"), case.inputs().get("x"));
    }
    assert_eq!(worker.error("scatter -1"), "'scatter -1': expected scatter <seed>");
    drop(worker.to);
    worker.thread.join().unwrap().unwrap();
}

#[test]
fn errors_are_answers_and_the_worker_lives_on() {
    let mut worker = Conversation::start();
    assert_eq!(worker.error("run 0 1"), "nothing is prepared");
    assert!(worker.error("dance").contains("prepare, run, audit, outputs"));
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

/// A device that needs 100 µs for a problem and a host that needs none to ask for it, or the
/// other way round.
struct Simulated {
    id: BackendId,
    launch: Duration,
    kernel: Duration,
    queue: Arc<Mutex<Queue>>,
}

/// A problem on the simulated device, and its clock.
struct OnDevice {
    host: Box<dyn Prepared>,
    launch: Duration,
    kernel: Duration,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    /// Work that has been enqueued and not waited for.
    pending: Duration,
    /// Work done since the stopwatch was started.
    counted: Duration,
}

impl Queue {
    fn drain(&mut self) {
        std::thread::sleep(self.pending);
        self.counted += std::mem::take(&mut self.pending);
    }
}

struct QueueClock(Arc<Mutex<Queue>>);

impl Stopwatch for QueueClock {
    fn start(&mut self) -> Result<(), BackendError> {
        self.0.lock().unwrap().counted = Duration::ZERO;
        Ok(())
    }

    fn stop(&mut self) -> Result<Duration, BackendError> {
        let mut queue = self.0.lock().unwrap();
        queue.drain();
        Ok(queue.counted)
    }
}

impl Prepared for OnDevice {
    fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        self.host.load(data)
    }

    fn run(&mut self) -> Result<(), BackendError> {
        std::thread::sleep(self.launch);
        self.queue.lock().unwrap().pending += self.kernel;
        self.host.run()
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.queue.lock().unwrap().drain();
        Ok(())
    }

    fn outputs(&mut self) -> Result<touchstone_kernels::Outputs, BackendError> {
        self.host.outputs()
    }

    fn stopwatch(&self) -> Option<Box<dyn Stopwatch>> {
        Some(Box::new(QueueClock(Arc::clone(&self.queue))))
    }

    fn path(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed("chosen on the device"))
    }
}

impl Backend for Simulated {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        BackendInfo { version: "1 %".into(), device: "a b".into(), isa: "none".into(), threads: 1 }
    }

    fn supports(&self, _: &Problem) -> Support {
        Support::Yes
    }

    fn declares(&self, _: &Problem) -> Declaration {
        Declaration::strict("undecided")
    }

    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let host = Box::new(HostPrepared::new(problem, inputs, |_, _| Ok(())));
        let (launch, kernel) = (self.launch, self.kernel);
        Ok(Box::new(OnDevice { host, launch, kernel, queue: Arc::clone(&self.queue) }))
    }

    fn peaks(&self) -> Result<Option<DevicePeaks>, BackendError> {
        Ok(Some(PEAKS))
    }
}

const PEAKS: DevicePeaks =
    DevicePeaks { copy_gb_s: 4000.5, f32_gflops: 5e4, f16_gflops: 7e5, bf16_gflops: 7.5e5 };

/// Nanoseconds of ten iterations, and those that the host waited.
fn ten_iterations(launch: u64, kernel: u64) -> (u64, u64) {
    let [launch, kernel] = [launch, kernel].map(Duration::from_micros);
    let backend = Simulated { id: BackendId::new("simulated/cuda:0"), launch, kernel, queue: Arc::default() };
    let mut worker = Conversation::with(backend, Arc::default());
    let Response::Prepared(ready) = worker.say("prepare 2 softmax f32 shape=4") else { panic!() };
    assert_eq!((ready.clock, &*ready.declaration.path), (Clock::Device, "chosen on the device"));
    assert_eq!(worker.say("peaks"), Response::Peaks(PEAKS));
    assert_eq!(worker.error("run 0 1"), "nothing is prepared", "the device's memory was needed");
    worker.say("prepare 2 softmax f32 shape=4");
    let Response::Ran { ns, waited: Some(waited) } = worker.say("run 3 10") else { panic!() };
    (ns, waited)
}

#[test]
fn a_device_is_timed_by_its_own_clock() {
    let (ns, waited) = ten_iterations(0, 1000);
    assert_eq!(ns, 10_000_000, "what the queue says, and not the host");
    assert!(waited >= 9_000_000, "the host waits for the device: {waited}");
    let (ns, waited) = ten_iterations(1000, 1);
    assert_eq!(ns, 10_000);
    assert!(waited < 10_000_000 / 2, "the device waits for the host: {waited}");
}

#[test]
fn a_cpu_has_no_peaks_of_its_own() {
    let mut worker = Conversation::start();
    assert!(matches!(worker.say("peaks"), Response::Unsupported { .. }));
    let Response::Prepared(ready) = worker.say("prepare 1 softmax f32 shape=4") else { panic!() };
    assert_eq!(ready.clock, Clock::Wall);
}
