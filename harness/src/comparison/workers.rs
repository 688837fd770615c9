//! The worker processes of a comparison.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use touchstone_kernels::{BackendId, DevicePeaks, Registry};

use crate::accelerator::sensors_of;
use crate::case::Case;
use crate::timing::memory::RETURNING;
use crate::timing::protocol::{Request, Response};
use crate::timing::{DriverError, Launch, Worker};

/// Longest time for one answer of a worker: preparing a rotation of large tensors, or one
/// iteration of the slowest kernel on the largest case of a suite.
const PATIENCE: Duration = Duration::from_secs(120);

/// Workers that live on from case to case: starting one costs a tenth of a second, loading
/// libtorch a whole one.
#[derive(Default)]
pub(super) struct Workers {
    timed: HashMap<(BackendId, usize), Box<Worker>>,
    /// Others, whose memory is measured.
    pub(super) scales: Scales,
    /// What they get on their command line besides.
    arguments: Arguments,
}

/// What workers get on their command line besides backend and threads.
type Arguments = Arc<[String]>;

/// Workers that measure memory, several at once.
#[derive(Default)]
pub(super) struct Scales {
    workers: Mutex<HashMap<(BackendId, usize), Box<Worker>>>,
    arguments: Arguments,
}

impl Workers {
    /// Workers that get these arguments besides backend and threads.
    pub(super) fn with(arguments: Vec<String>) -> Self {
        let arguments = Arguments::from(arguments);
        let scales = Scales { arguments: Arc::clone(&arguments), ..Scales::default() };
        Workers { scales, arguments, ..Workers::default() }
    }

    pub(super) fn take(&mut self, backend: &BackendId, threads: usize) -> Result<Box<Worker>, DriverError> {
        match self.timed.remove(&(backend.clone(), threads)) {
            Some(worker) => Ok(worker),
            None => start(backend, threads, &self.arguments, &[]),
        }
    }

    /// Keeps a worker that still answers.
    pub(super) fn give_back(&mut self, backend: &BackendId, threads: usize, mut worker: Box<Worker>) {
        if worker.release().is_ok() {
            self.timed.insert((backend.clone(), threads), worker);
        }
    }

    /// The rates of the device that a backend runs on, as its library reaches them, from a worker of its
    /// own.
    pub(super) fn peaks(
        &self,
        backend: &BackendId,
        threads: usize,
    ) -> Result<Option<DevicePeaks>, DriverError> {
        match start(backend, threads, &self.arguments, &[])?.request(&Request::Peaks)? {
            Response::Peaks(peaks) => Ok(Some(peaks)),
            _ => Ok(None),
        }
    }
}

impl Scales {
    /// The memory that one call needs beyond its operands and results, from a worker of its own: a
    /// figure beside the time, without which the row is complete.
    pub(super) fn extra_memory(&self, backend: &BackendId, threads: usize, case: &Case) -> Option<u64> {
        let key = (backend.clone(), threads);
        let workers = || self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = workers().remove(&key).map(Ok);
        let mut worker = kept.unwrap_or_else(|| start(backend, threads, &self.arguments, &RETURNING)).ok()?;
        let extra = worker.extra_memory(case).ok()?;
        workers().insert(key, worker);
        extra
    }
}

/// Starts a worker.
fn start(
    backend: &BackendId,
    threads: usize,
    arguments: &[String],
    env: &[(&str, &str)],
) -> Result<Box<Worker>, DriverError> {
    // The worker runs the same program as this process. On Linux, /proc/self/exe names it even
    // after a build has replaced the file.
    let link = PathBuf::from("/proc/self/exe");
    let exe = if link.exists() { link } else { std::env::current_exe().unwrap_or(link) };
    let args = ["worker", "--backend", backend.as_str(), "--threads", &threads.to_string()].map(String::from);
    let args = args.into_iter().chain(arguments.iter().cloned());
    let mut launch = Launch::new(exe, args, threads);
    launch.timeout = PATIENCE;
    launch.env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mut worker = Worker::spawn(&launch)?;
    if let Some(sensors) = sensors_of(backend) {
        worker.watch(sensors);
    }
    Ok(Box::new(worker))
}

/// The rates of each device that one of `backends` runs on, by the name of the device: the best of
/// what their libraries reach there, each in a worker. Beside them stands what went wrong.
pub fn device_peaks(
    registry: &Registry,
    backends: &[BackendId],
) -> (BTreeMap<String, DevicePeaks>, Vec<DriverError>) {
    let mut devices = BTreeMap::new();
    let mut problems = Vec::new();
    for backend in backends.iter().filter_map(|id| registry.find(id.as_str())) {
        let info = backend.info();
        if info.is_on_cpu() || backend.id().is_choice() {
            continue;
        }
        match Workers::default().peaks(backend.id(), info.threads) {
            Ok(Some(peaks)) => {
                let known: DevicePeaks = devices.get(&info.device).copied().unwrap_or(peaks);
                devices.insert(info.device, known.best_of(peaks));
            }
            Ok(None) => {}
            Err(error) => problems.push(error),
        }
    }
    (devices, problems)
}
