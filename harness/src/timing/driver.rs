//! A worker process, seen from the driver.

mod error;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use touchstone_kernels::{Outputs, Problem};

pub use self::error::DriverError;
use super::audit::Audit;
use super::exchange;
use super::protocol::{Greeting, Preparation, ProtocolError, Request, Response};
use super::sampler::Subject;
use crate::accelerator::{DeviceHealth, Sensors, Throttle};
use crate::case::Case;
use crate::machine;

/// How to start a worker.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The executable.
    pub exe: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to its environment.
    pub env: Vec<(OsString, OsString)>,
    /// Threads it may use.
    pub threads: usize,
    /// Longest time for one answer.
    pub timeout: Duration,
}

impl Launch {
    /// A worker of `exe` with `args` on `threads` threads and a minute for each answer.
    pub fn new(
        exe: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        threads: usize,
    ) -> Self {
        Launch {
            exe: exe.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            threads,
            timeout: Duration::from_secs(60),
        }
    }
}

/// How libraries are told their number of threads: OpenMP (libtorch), MKL, rayon (candle), OpenBLAS,
/// Accelerate.
const THREAD_VARIABLES: [&str; 5] = [
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
];

/// Keeps glibc from handing freed memory back to the system: a result allocated in each call
/// would otherwise cost a page fault per 4 KiB, more than many kernels. 16 GiB stands for "never".
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_TRIM_THRESHOLD_", "17179869184"), ("MALLOC_MMAP_THRESHOLD_", "17179869184")];

/// Keeps NVIDIA's libraries from rounding the operands of products of f32 to 19 bits (TF32), and
/// numbers devices as their sensors do.
const CUDA: [(&str, &str); 2] = [("NVIDIA_TF32_OVERRIDE", "0"), ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")];

/// What a worker says to a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is prepared.
    Ready(Preparation),
    /// Its backend does not compute exactly this problem.
    Unsupported {
        /// Why.
        reason: String,
    },
}

/// A running worker. Dropping it kills the process.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Vec<u8>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    stderr_reader: JoinHandle<()>,
    greeting: Option<Greeting>,
    name: String,
    timeout: Duration,
    sensors: Option<Arc<dyn Sensors>>,
    device: Watch,
    /// How long it was at work after the last slice.
    rest: Duration,
    /// How long it took to answer the last slice.
    answered_in: Duration,
}

/// What a worker's slices say about its device since the last `prepare`.
#[derive(Debug, Default)]
struct Watch {
    health: DeviceHealth,
    throttled: bool,
    /// Nanoseconds of all slices, and those that the host waited for the device.
    ns: u64,
    waited: u64,
}

/// Bytes of standard error that are kept.
const STDERR_TAIL: usize = 4096;

/// Longest line that a worker may write. Longer ones are cut, and then do not parse.
const LONGEST_LINE: u64 = 1 << 16;

/// Longest time to wait for a worker to come to rest. Threads of libraries look out for more work for up to
/// 40 ms.
const RESTLESS: Duration = Duration::from_secs(2);

/// The same where a device does the work.
const DEVICE_RESTLESS: Duration = Duration::from_millis(100);

/// Time for a dying process to be reaped and its last words to arrive.
const DYING: Duration = Duration::from_secs(2);

impl Worker {
    /// Starts a worker and waits for its greeting.
    ///
    /// # Errors
    /// [`DriverError`] when it cannot be started, dies, is silent or speaks another version.
    pub fn spawn(launch: &Launch) -> Result<Worker, DriverError> {
        let threads = launch.threads.to_string();
        let mut command = Command::new(&launch.exe);
        command
            .args(&launch.args)
            .envs(THREAD_VARIABLES.map(|name| (name, &threads)))
            .envs(ALLOCATOR)
            .envs(CUDA)
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // In a process group of its own, Ctrl-C on the terminal reaches the driver alone, which then
        // ends in good order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let spawn = |source| DriverError::Spawn { exe: launch.exe.clone(), source };
        let mut child = command.spawn().map_err(spawn)?;
        let missing = || spawn(std::io::Error::other("no pipe"));
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;

        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let mut line = Vec::new();
                match (&mut stdout).take(LONGEST_LINE).read_until(b'\n', &mut line) {
                    Ok(1..) if sender.send(line).is_ok() => {}
                    _ => break,
                }
            }
        });
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let stderr_reader = thread::spawn({
            let kept = Arc::clone(&kept);
            move || keep_tail(stderr, &kept)
        });
        let mut worker = Worker {
            child,
            stdin,
            lines,
            stderr: kept,
            stderr_reader,
            greeting: None,
            name: launch.exe.display().to_string(),
            timeout: launch.timeout,
            sensors: None,
            device: Watch::default(),
            rest: Duration::ZERO,
            answered_in: Duration::ZERO,
        };
        let line = worker.line("greeting")?;
        let greeting: Greeting = line.parse().map_err(|source| worker.broken(source))?;
        worker.name = greeting.backend.to_string();
        worker.greeting = Some(greeting);
        Ok(worker)
    }

    /// Who it is. Nothing only while it starts.
    pub fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }

    /// Its backend.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sets the longest time for one answer.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Asks, and waits for the answer. `error` replies become [`DriverError::Refused`].
    ///
    /// # Errors
    /// [`DriverError`]; after all but `Refused` the worker is dead.
    pub fn request(&mut self, request: &Request) -> Result<Response, DriverError> {
        let text = request.to_string();
        // A dead worker's pipe breaks; its end is found and explained when no line comes.
        let _ = writeln!(self.stdin, "{text}").and_then(|()| self.stdin.flush());
        let line = self.line(&text)?;
        match line.parse().map_err(|source| self.broken(source))? {
            Response::Error { message } => Err(DriverError::Refused { worker: self.name.clone(), message }),
            response => Ok(response),
        }
    }

    /// Prepares `entries` copies of a case.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn prepare(&mut self, case: &Case, entries: usize) -> Result<Readiness, DriverError> {
        // Where this is refused, the peak is that of the process.
        machine::reset_peak_resident(self.pid());
        self.device = Watch::default();
        let request = Request::Prepare { entries, case: case.to_string() };
        match self.request(&request)? {
            Response::Prepared(preparation) => Ok(Readiness::Ready(preparation)),
            Response::Unsupported { reason } => Ok(Readiness::Unsupported { reason }),
            response => Err(self.unexpected(&request, &response)),
        }
    }

    /// Audits what is prepared, in so many calls. The results are then those of the last of them.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn audit(&mut self, calls: usize, seed: u64) -> Result<Audit, DriverError> {
        let request = Request::Audit { calls, seed };
        match self.request(&request)? {
            Response::Audited(audit) => Ok(audit),
            response => Err(self.unexpected(&request, &response)),
        }
    }

    /// The results of the last iteration.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn outputs(&mut self, problem: &Problem) -> Result<Outputs, DriverError> {
        let directory = tempfile::tempdir()
            .map_err(|source| DriverError::Directory { worker: self.name.clone(), source })?;
        let path = directory.path().join("outputs.safetensors");
        let request = Request::Outputs { path: path.to_string_lossy().into_owned() };
        match self.request(&request)? {
            Response::Wrote { .. } => exchange::read(&path, problem)
                .map_err(|source| DriverError::Outputs { worker: self.name.clone(), source }),
            response => Err(self.unexpected(&request, &response)),
        }
    }

    /// Lets the operands and results of what is prepared from now on lie anywhere in a page, as `seed`
    /// has it. False where the worker is older than this request.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn scatter(&mut self, seed: u64) -> Result<bool, DriverError> {
        let request = Request::Scatter { seed };
        match self.request(&request) {
            Ok(Response::Scattered) => Ok(true),
            Ok(response) => Err(self.unexpected(&request, &response)),
            Err(DriverError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Frees what was prepared.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn release(&mut self) -> Result<(), DriverError> {
        match self.request(&Request::Release)? {
            Response::Released => Ok(()),
            response => Err(self.unexpected(&Request::Release, &response)),
        }
    }

    /// Largest resident memory of the process since the last `prepare`, in bytes.
    pub fn peak_resident(&self) -> Option<u64> {
        machine::peak_resident(self.pid())
    }

    /// The memory that one call needs beyond its operands and results, in bytes. Whatever was prepared is
    /// freed. Nothing where the worker cannot tell. See [`memory`](super::memory) for how it has to have
    /// been started.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn extra_memory(&mut self, case: &Case) -> Result<Option<u64>, DriverError> {
        let request = Request::Memory { case: case.to_string() };
        match self.request(&request)? {
            Response::Memory { extra } => Ok(Some(extra)),
            Response::Unsupported { .. } => Ok(None),
            response => Err(self.unexpected(&request, &response)),
        }
    }

    /// Reads these sensors after each slice.
    pub fn watch(&mut self, sensors: Arc<dyn Sensors>) {
        self.sensors = Some(sensors);
    }

    /// How its device was since the last `prepare`. Nothing where no sensors are read.
    pub fn device_health(&self) -> Option<&DeviceHealth> {
        self.sensors.is_some().then_some(&self.device.health)
    }

    /// The share of its slices that the host spent waiting for the device, since the last `prepare`.
    pub fn waiting_share(&self) -> Option<f64> {
        (self.device.ns > 0).then(|| self.device.waited as f64 / self.device.ns as f64)
    }

    /// How long its threads were still running after the last slice.
    pub fn rest(&self) -> Duration {
        self.rest
    }

    fn line(&mut self, request: &str) -> Result<String, DriverError> {
        match self.lines.recv_timeout(self.timeout) {
            Ok(line) => Ok(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_string()),
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                Err(DriverError::Timeout {
                    worker: self.name.clone(),
                    request: request.into(),
                    timeout: self.timeout,
                })
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.reap();
                Err(DriverError::Died {
                    worker: self.name.clone(),
                    request: request.into(),
                    status: status.map_or_else(|| "still running".into(), |status| status.to_string()),
                    killed: error::was_killed(status),
                    stderr: self.last_words(),
                })
            }
        }
    }

    fn broken(&mut self, source: ProtocolError) -> DriverError {
        self.kill();
        DriverError::Protocol { worker: self.name.clone(), source }
    }

    fn unexpected(&mut self, request: &Request, response: &Response) -> DriverError {
        self.kill();
        DriverError::Answer {
            worker: self.name.clone(),
            request: request.to_string(),
            response: response.to_string(),
        }
    }

    /// The status of a process that has closed its output; it is killed when it does not end by itself.
    fn reap(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + DYING;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        self.child.try_wait().ok().flatten()
    }

    fn last_words(&self) -> String {
        let deadline = Instant::now() + DYING;
        while !self.stderr_reader.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_string()
    }

    fn kill(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Subject for Worker {
    type Error = DriverError;

    /// Returns when the worker is at rest. Threads of a library go on looking out for work for
    /// milliseconds after they have done it (libtorch's for 5 to 7), and would take a processor away
    /// from whoever has the next turn.
    fn run(&mut self, untimed: u64, timed: u64) -> Result<u64, DriverError> {
        let request = Request::Run { untimed, timed };
        let asked = Instant::now();
        let response = self.request(&request)?;
        self.answered_in = asked.elapsed();
        let answer = match response {
            Response::Ran { ns, waited } => {
                self.device.ns += ns;
                self.device.waited += waited.unwrap_or(0);
                Ok(ns)
            }
            response => Err(self.unexpected(&request, &response)),
        };
        if let Some(sensors) = &self.sensors {
            let reading = sensors.read();
            self.device.throttled = reading.throttle.iter().any(|why| Throttle::is_disturbance(*why));
            self.device.health.note(&reading);
        }
        let start = Instant::now();
        while machine::is_at_rest(self.pid()) == Some(false) {
            let on_cpu = self.greeting.as_ref().is_some_and(|greeting| greeting.info.is_on_cpu());
            if !on_cpu && start.elapsed() > DEVICE_RESTLESS {
                // A driver of a device has threads that poll it, whatever the kernel does.
                break;
            }
            if start.elapsed() > RESTLESS {
                return Err(DriverError::Restless {
                    worker: self.name.clone(),
                    calls: timed,
                    waited: RESTLESS,
                });
            }
            thread::sleep(Duration::from_micros(100));
        }
        self.rest = start.elapsed();
        answer
    }

    fn involuntary_switches(&self) -> Option<u64> {
        machine::involuntary_switches(self.pid())
    }

    fn waited_ns(&self) -> Option<u64> {
        // Several threads may be in each other's way, which is the backend's own doing.
        let alone = self.greeting.as_ref().is_some_and(|greeting| greeting.info.threads == 1);
        alone.then(|| machine::waited_ns(self.pid())).flatten()
    }

    fn is_throttled(&self) -> bool {
        self.device.throttled
    }

    fn answered_in(&self) -> Option<Duration> {
        Some(self.answered_in)
    }
}

fn keep_tail(mut stderr: impl Read, kept: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&buffer[..count]);
        let surplus = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..surplus);
    }
}

#[cfg(all(test, unix))]
mod tests;
