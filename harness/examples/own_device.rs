//! A device of your own: a backend whose work is enqueued, and done later by somebody else.
//!
//! The device here is a thread. Its queue is a channel, its memory is the thread's, and its clock is
//! read by the thread between two pieces of work, as CUDA events are. It computes relu in f32:
//!
//! ```text
//! cargo run --release --example own_device -- check --backend thread --op relu
//! cargo run --release --example own_device -- bench --device thread:0 --op relu
//! ```

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use touchstone_kernels::op::{Activation, Unary};
use touchstone_kernels::{
    Backend, BackendError, BackendId, BackendInfo, DType, Declaration, DevicePeaks, Inputs, Outputs,
    Prepared, Problem, Registry, Stopwatch, Support, Tensor,
};

/// What the host asks of the device.
enum Command {
    /// Compute.
    Launch(Arc<Mutex<Memory>>),
    /// Say what time it is when everything before has been done.
    Event(Sender<Instant>),
}

/// One problem in the device's memory.
struct Memory {
    x: Vec<f32>,
    out: Vec<f32>,
}

/// The device: it does one thing after the other until nobody can ask for more.
fn device(queue: &Receiver<Command>) {
    for command in queue {
        match command {
            Command::Launch(memory) => {
                if let Ok(mut memory) = memory.lock() {
                    let Memory { x, out } = &mut *memory;
                    // NaN stays NaN, which f32::max would drop.
                    out.iter_mut().zip(x).for_each(|(out, x)| *out = if *x < 0.0 { 0.0 } else { *x });
                }
            }
            // Nobody waits for this any more: fine.
            Command::Event(reply) => drop(reply.send(Instant::now())),
        }
    }
}

/// The host's end of the queue.
#[derive(Clone)]
struct Queue(Sender<Command>);

impl Queue {
    fn send(&self, command: Command) -> Result<(), BackendError> {
        self.0.send(command).map_err(|_| lost())
    }

    /// The time on the device when all that has been enqueued so far is done.
    fn event(&self) -> Result<Instant, BackendError> {
        let (reply, time) = channel();
        self.send(Command::Event(reply))?;
        time.recv().map_err(|_| lost())
    }
}

fn lost() -> BackendError {
    BackendError::Library { library: "thread", message: "the device is gone".into() }
}

/// The backend on that device.
struct OnThread {
    id: BackendId,
    queue: Queue,
}

impl Backend for OnThread {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        BackendInfo { version: "1".into(), device: self.id.place().into(), isa: "thread".into(), threads: 1 }
    }

    fn supports(&self, problem: &Problem) -> Support {
        match problem.get::<Activation>() {
            Some(spec) if spec.function == Unary::Relu && problem.dtype == DType::F32 => Support::Yes,
            _ => Support::No("only relu in f32".into()),
        }
    }

    fn declares(&self, _problem: &Problem) -> Declaration {
        Declaration::strict("one loop")
    }

    /// Allocates. The results are NaN until something is computed.
    fn prepare(&self, problem: &Problem, bound: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let x = bound.slice::<f32>("x")?.to_vec();
        let memory = Arc::new(Mutex::new(Memory { out: vec![f32::NAN; x.len()], x }));
        Ok(Box::new(Uploaded { problem: problem.clone(), queue: self.queue.clone(), memory }))
    }

    /// The roofline of this device. A real one has its library copy and multiply.
    fn peaks(&self) -> Result<Option<DevicePeaks>, BackendError> {
        let from = vec![1.0_f32; 1 << 24];
        let mut to = from.clone();
        let copy = |to: &mut Vec<f32>| {
            let start = Instant::now();
            black_box(to).copy_from_slice(black_box(&from));
            start.elapsed().as_secs_f64()
        };
        let best = (0..10).map(|_| copy(&mut to)).fold(f64::INFINITY, f64::min);
        let copy_gb_s = 8.0 * from.len() as f64 / best / 1e9;
        Ok(Some(DevicePeaks { copy_gb_s, f32_gflops: 1e3, f16_gflops: 1e3, bf16_gflops: 1e3 }))
    }
}

/// A problem on the device.
struct Uploaded {
    problem: Problem,
    queue: Queue,
    memory: Arc<Mutex<Memory>>,
}

impl Prepared for Uploaded {
    /// Uploads.
    fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        let mut memory = self.memory.lock().map_err(|_| lost())?;
        memory.x.copy_from_slice(data.slice("x")?);
        Ok(())
    }

    /// Returns at once.
    fn run(&mut self) -> Result<(), BackendError> {
        self.queue.send(Command::Launch(Arc::clone(&self.memory)))
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.queue.event().map(drop)
    }

    fn outputs(&mut self) -> Result<Outputs, BackendError> {
        let memory = self.memory.lock().map_err(|_| lost())?;
        let shape = self.problem.results()[0].shape.clone();
        Ok(Outputs::new(&self.problem, vec![Tensor::from_slice(&shape, &memory.out)?])?)
    }

    fn stopwatch(&self) -> Option<Box<dyn Stopwatch>> {
        Some(Box::new(Events { queue: self.queue.clone(), start: None }))
    }
}

/// Two readings of the device's clock.
struct Events {
    queue: Queue,
    start: Option<Instant>,
}

impl Stopwatch for Events {
    fn start(&mut self) -> Result<(), BackendError> {
        self.start = Some(self.queue.event()?);
        Ok(())
    }

    fn stop(&mut self) -> Result<Duration, BackendError> {
        let end = self.queue.event()?;
        Ok(self.start.take().map_or(Duration::ZERO, |start| end - start))
    }
}

fn main() -> ExitCode {
    touchstone_harness::cli::run(|threads| {
        let mut registry = Registry::standard(threads);
        let (host, queue) = channel();
        thread::spawn(move || device(&queue));
        registry.add(OnThread { id: BackendId::new("thread/thread:0"), queue: Queue(host) });
        registry
    })
}
