//! [ONNX Runtime](https://onnxruntime.ai) on the CPU, through the `ort` crate.
//!
//! Each family writes its specs as a graph of ONNX's operators: the one operator with the semantics of
//! the spec where there is one, several where there is not. The graph becomes a model in memory, a
//! session with ONNX Runtime's default optimizations, and operands and results bound once, so that a
//! run copies and allocates nothing of them. What the graph says, runs: [`Declaration::path`] names its
//! operators, and none of the optimizations finds anything in it to fuse.
//!
//! A kernel that ONNX Runtime has for f16 or bf16 is used with the accuracy it has. Where it has none,
//! the operator works on f32 between two casts, which is what ONNX Runtime itself does with f16.
//!
//! The library is loaded when the first backend is asked for, and there is one environment for the
//! process: `ort` allows no other. `ORT_DYLIB_PATH` says where the library is, when the program runs or
//! else when it was built.

mod graph;
mod session;

use std::ffi::OsString;
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::backend::{Allocation, Backend, BackendId, BackendInfo, Declaration, Prepared, Support};
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::Operand;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::registry::Registry;
use crate::table::kernel_table;
use crate::unstated::{Habit, Unstated};
use graph::{Edge, Graph};
use session::{Bound, Latest};

kernel_table!(activation, attention, norm, residual, rope, softmax);

/// The version that scripts/setup-onnxruntime fetches, and that the known issues are about.
const VERSION: &str = "1.31.1";

/// The commit that this version is built from: what a library says of its build names no version.
const COMMIT: &str = "6af1a93";

const ID: &str = "onnxruntime/cpu";

/// Why it refuses a problem without elements.
const EMPTY: &str = "ONNX Runtime's kernels are not made for empty tensors";

/// Adds the backend, or the reason why the library cannot be used.
pub(crate) fn register(registry: &mut Registry, threads: usize) {
    match environment() {
        Ok(environment) => registry.add(OnnxRuntime::new(environment, threads)),
        Err(reason) => registry.add_absent(ID, reason),
    }
}

/// The environment of this process.
fn environment() -> Result<&'static Environment, String> {
    static ENVIRONMENT: OnceLock<Result<Environment, String>> = OnceLock::new();
    ENVIRONMENT.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<Environment, String> {
    const REMEDY: &str = "run scripts/setup-onnxruntime, or set ORT_DYLIB_PATH";
    let set = |path: &OsString| !path.is_empty();
    let when_built = || option_env!("ORT_DYLIB_PATH").map(OsString::from);
    let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(set).or_else(when_built).filter(set) else {
        return Err(format!("no library: {REMEDY}"));
    };
    let path = path.to_string_lossy().into_owned();
    let environment = ort::init_from(&path).map_err(|error| format!("no library: {error}; {REMEDY}"))?;
    let found = commit(ort::info());
    if found != COMMIT {
        return Err(format!(
            "{path} is built from commit {found}, and ONNX Runtime {VERSION} from {COMMIT} is expected: {REMEDY}"
        ));
    }
    let environment =
        environment.with_telemetry(false).build().map_err(|error| format!("{path}: {error}"))?;
    // What goes wrong comes back as an error, and need not stand on the terminal as well.
    environment.set_log_level(LogLevel::Fatal);
    Ok(environment)
}

/// The commit in what the library says of its build: `… git-commit-id=6af1a93, …`.
fn commit(build: &str) -> &str {
    let commit = build.split([' ', ',']).find_map(|word| word.strip_prefix("git-commit-id="));
    commit.unwrap_or("unknown")
}

/// ONNX Runtime with its provider for CPUs.
struct OnnxRuntime {
    id: BackendId,
    environment: &'static Environment,
    threads: usize,
    latest: Latest,
}

impl OnnxRuntime {
    fn new(environment: &'static Environment, threads: usize) -> Self {
        OnnxRuntime { id: BackendId::new(ID), environment, threads, latest: Latest::default() }
    }

    fn bind(&self, problem: &Problem, graph: Graph, outputs: &[Edge]) -> Result<Bound, BackendError> {
        Bound::new(self.environment, self.threads, &self.latest, problem, graph, outputs)
    }
}

/// An operation that this backend computes.
trait HasKernel {
    /// Writes it into a graph, and gives the edges of its results.
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError>;

    /// The declaration with what its kernel promises otherwise for a storage type.
    fn declared(&self, dtype: DType, declaration: Declaration) -> Declaration {
        let _ = dtype;
        declaration
    }

    /// Writes a call of f32 as ONNX has it: by the operator's bare name, with the defaults of its attributes.
    fn unstated(&self, call: Unstated, graph: &mut Graph) -> Result<Option<Edge>, BackendError> {
        let _ = (call, graph);
        Ok(None)
    }
}

/// Writes a problem into a graph, and gives the edges of its results.
fn write(problem: &Problem, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    if problem.operands().iter().any(Operand::is_empty) {
        return Err(BackendError::Unsupported { reason: EMPTY.into() });
    }
    match kernel_of(&problem.op) {
        Some(kernel) => kernel.write(graph),
        None => Err(BackendError::no_kernel("ONNX Runtime", problem.name())),
    }
}

impl Backend for OnnxRuntime {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        BackendInfo {
            version: VERSION.into(),
            device: "cpu".into(),
            isa: cpu_capability().into(),
            threads: self.threads,
        }
    }

    fn supports(&self, problem: &Problem) -> Support {
        match write(problem, &mut Graph::sketch(problem.dtype)) {
            Err(BackendError::Unsupported { reason }) => Support::No(reason.into()),
            _ => Support::Yes,
        }
    }

    fn declares(&self, problem: &Problem) -> Declaration {
        let mut sketch = Graph::sketch(problem.dtype);
        // A problem that is refused has no path.
        let _ = write(problem, &mut sketch);
        let declaration =
            Declaration { allocation: Allocation::Reused, ..Declaration::library(sketch.path()) };
        match kernel_of(&problem.op) {
            Some(kernel) => kernel.declared(problem.dtype, declaration),
            None => declaration,
        }
    }

    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let mut graph = Graph::new(problem.dtype, inputs);
        let outputs = write(problem, &mut graph)?;
        let bound = self.bind(problem, graph, &outputs)?;
        Ok(Box::new(InSession { problem: problem.clone(), bound }))
    }

    fn unstated(&self, call: Unstated, problem: &Problem, inputs: &Inputs) -> Result<Habit, BackendError> {
        let mut graph = Graph::new(problem.dtype, inputs);
        let Some(kernel) = kernel_of(&problem.op) else { return Ok(Habit::Absent) };
        let Some(output) = kernel.unstated(call, &mut graph)? else { return Ok(Habit::Absent) };
        let mut bound = self.bind(problem, graph, &[output])?;
        bound.load(inputs)?;
        bound.run()?;
        Ok(Habit::Results(Outputs::new(problem, bound.download(&problem.results())?)?))
    }
}

/// A problem whose operands and results are bound to a session.
struct InSession {
    problem: Problem,
    bound: Bound,
}

impl Prepared for InSession {
    fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        self.bound.load(data)
    }

    fn run(&mut self) -> Result<(), BackendError> {
        self.bound.run()
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn outputs(&mut self) -> Result<Outputs, BackendError> {
        Ok(Outputs::new(&self.problem, self.bound.download(&self.problem.results())?)?)
    }
}

/// The level of its CPU kernels that ONNX Runtime chooses when it starts, by the rule in its
/// `platform.cpp`: the library cannot be asked.
fn cpu_capability() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx2") && has!("fma") {
            let is_avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            return if is_avx512 { "avx512" } else { "avx2" };
        }
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "baseline" }
}

#[cfg(test)]
mod tests;
