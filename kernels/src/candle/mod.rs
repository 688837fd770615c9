//! [Candle](https://github.com/huggingface/candle), judged as its users use it.
//!
//! Where candle has an operation of exactly the semantics asked for, that operation runs, with
//! whatever accuracy it has: its defects are findings, not ours to repair. Everything else is
//! composed of candle's primitives; such a path of ours widens f16 and bf16 to f32 once and
//! rounds once at the end. [`Declaration::path`] says which operations run.
//!
//! The code is the same for every device. Operands are uploaded when a problem is prepared, and
//! candle allocates the results in each run.
//!
//! Candle takes its threads from process-wide pools that are sized once, from the environment
//! variable `RAYON_NUM_THREADS`: a process that should use n threads must be started with it.

#[cfg(feature = "candle-cuda")]
mod events;
mod peaks;

use std::cell::RefCell;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};

use crate::backend::{Backend, BackendId, BackendInfo, Declaration, Prepared, Support};
use crate::device::{DevicePeaks, Probe, Stopwatch};
use crate::dtype::{ElementType, Scalar};
use crate::error::BackendError;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::registry::Registry;
use crate::table::kernel_table;
use crate::unstated::{Habit, Unstated};

kernel_table!(activation, attention, norm, residual, rope, softmax);

/// Why it refuses a problem without elements.
const EMPTY: &str = "candle's reductions and chunked kernels reject empty tensors";

/// An operation that this backend computes.
trait HasKernel {
    /// Whether it can there with these fields.
    fn supports(&self, place: Place) -> Support {
        let _ = place;
        Support::Yes
    }

    /// What is promised of a storage type.
    fn declares(&self, dtype: crate::DType, place: Place) -> Declaration;

    /// Uploads the operands and binds them.
    fn prepare(&self, operands: &Operands) -> candle_core::Result<Compute>;

    /// The result of candle's own function by its bare name, where it has the function on this device.
    fn unstated(&self, call: Unstated, operands: &Operands) -> candle_core::Result<Option<Tensor>> {
        let _ = (call, operands);
        Ok(None)
    }
}

/// The version of candle, which this crate's manifest pins.
const VERSION: &str = "0.11.1";

/// Adds a backend for each device, and the reason for each kind of device that is absent.
pub(crate) fn register(registry: &mut Registry, threads: usize) {
    registry.add(Candle::new(BackendId::new("candle/cpu"), Place::Cpu, threads));
    register_cuda(registry, threads);
    register_metal(registry, threads);
}

#[cfg(feature = "candle-cuda")]
fn register_cuda(registry: &mut Registry, threads: usize) {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;

    // Asking CUDA needs the driver's library: without one there is nobody to ask.
    if let Err(reason) = crate::registry::nvidia_driver() {
        return registry.add_absent("candle/cuda:0", reason);
    }
    match CudaContext::device_count() {
        Ok(0) => registry.add_absent("candle/cuda:0", "no CUDA device"),
        Ok(count) => {
            for ordinal in 0..count as usize {
                if let Ok(id) = format!("candle/cuda:{ordinal}").parse() {
                    registry.add(Candle::new(id, Place::Cuda(ordinal), threads));
                }
            }
        }
        Err(error) => registry.add_absent("candle/cuda:0", format!("no CUDA driver: {error}")),
    }
}

#[cfg(not(feature = "candle-cuda"))]
fn register_cuda(registry: &mut Registry, _threads: usize) {
    registry.add_absent("candle/cuda:0", "not compiled: build with --features candle-cuda");
}

#[cfg(feature = "candle-metal")]
fn register_metal(registry: &mut Registry, threads: usize) {
    match Device::new_metal(0) {
        Ok(_) => registry.add(Candle::new(BackendId::new("candle/metal"), Place::Metal, threads)),
        Err(error) => registry.add_absent("candle/metal", format!("no Metal device: {error}")),
    }
}

#[cfg(not(feature = "candle-metal"))]
fn register_metal(registry: &mut Registry, _threads: usize) {
    registry.add_absent("candle/metal", "not compiled: build with --features candle-metal");
}

/// Where a backend computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Cpu,
    #[cfg_attr(not(feature = "candle-cuda"), expect(dead_code, reason = "made where CUDA is compiled in"))]
    Cuda(usize),
    Metal,
}

/// Candle on one device.
#[derive(Debug)]
pub struct Candle {
    id: BackendId,
    place: Place,
    threads: usize,
    /// Opened by the first problem: a CUDA context costs memory and time even when unused.
    device: OnceLock<Device>,
}

impl Candle {
    fn new(id: BackendId, place: Place, threads: usize) -> Self {
        Candle { id, place, threads, device: OnceLock::new() }
    }

    fn device(&self) -> Result<&Device, BackendError> {
        if let Some(device) = self.device.get() {
            return Ok(device);
        }
        let device = match self.place {
            Place::Cpu => Device::Cpu,
            Place::Cuda(ordinal) => Device::new_cuda(ordinal)?,
            Place::Metal => Device::new_metal(0)?,
        };
        Ok(self.device.get_or_init(|| device))
    }
}

impl Backend for Candle {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        let (device, isa) = match self.place {
            Place::Cpu if candle_core::utils::with_avx() => ("cpu".into(), "avx2"),
            Place::Cpu if candle_core::utils::with_neon() => ("cpu".into(), "neon"),
            Place::Cpu => ("cpu".into(), "scalar"),
            Place::Cuda(ordinal) => (format!("cuda:{ordinal}"), "cuda"),
            Place::Metal => ("metal".into(), "metal"),
        };
        BackendInfo { version: VERSION.into(), device, isa: isa.into(), threads: self.threads }
    }

    fn supports(&self, problem: &Problem) -> Support {
        if problem.operands().iter().any(|operand| operand.is_empty()) {
            return Support::No(EMPTY.into());
        }
        match kernel_of(&problem.op) {
            Some(kernel) => kernel.supports(self.place),
            None => Support::no_kernel("candle", problem.name()),
        }
    }

    fn declares(&self, problem: &Problem) -> Declaration {
        match kernel_of(&problem.op) {
            Some(kernel) => kernel.declares(problem.dtype, self.place),
            None => Declaration::library("none"),
        }
    }

    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        if let Support::No(reason) = self.supports(problem) {
            return Err(BackendError::Unsupported { reason: reason.into() });
        }
        let Some(kernel) = kernel_of(&problem.op) else {
            return Err(BackendError::no_kernel("candle", problem.name()));
        };
        let device = self.device()?;
        let operands = Operands::new(inputs, device, self.place, problem.dtype);
        let compute = kernel.prepare(&operands)?;
        Ok(Box::new(CandlePrepared {
            problem: problem.clone(),
            device: device.clone(),
            compute,
            data: operands.uploaded.into_inner(),
            results: Vec::new(),
        }))
    }

    fn peaks(&self) -> Result<Option<DevicePeaks>, BackendError> {
        match self.place {
            Place::Cpu => Ok(None),
            Place::Cuda(_) | Place::Metal => peaks::measure(self.device()?, Probe::DEVICE).map(Some),
        }
    }

    fn unstated(&self, call: Unstated, problem: &Problem, inputs: &Inputs) -> Result<Habit, BackendError> {
        let Some(kernel) = kernel_of(&problem.op) else { return Ok(Habit::Absent) };
        let operands = Operands::new(inputs, self.device()?, self.place, problem.dtype);
        let Some(out) = kernel.unstated(call, &operands)? else { return Ok(Habit::Absent) };
        Ok(Habit::Results(Outputs::new(problem, vec![download(&out)?])?))
    }
}

/// One run of a problem whose operands are on the device: its results, in order.
type Compute = Box<dyn Fn() -> candle_core::Result<Vec<Tensor>>>;

struct CandlePrepared {
    problem: Problem,
    device: Device,
    compute: Compute,
    /// The operands on the device, by name; `compute` shares their memory.
    data: Vec<(String, Tensor)>,
    results: Vec<Tensor>,
}

impl Prepared for CandlePrepared {
    /// Into the memory that `compute` reads.
    fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        for (name, new) in data.data().filter(|(_, tensor)| !tensor.is_empty()) {
            for (_, own) in self.data.iter().filter(|(own, _)| own == name) {
                let new = to_device(new, &self.device)?.flatten_all()?;
                own.flatten_all()?.slice_set(&new, 0, 0)?;
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), BackendError> {
        // As in a model, the memory of the last results is free again before the next ones.
        self.results.clear();
        self.results = (self.compute)()?;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(self.device.synchronize()?)
    }

    fn outputs(&mut self) -> Result<Outputs, BackendError> {
        let tensors = self.results.iter().map(download).collect::<Result<_, _>>()?;
        Ok(Outputs::new(&self.problem, tensors)?)
    }

    fn stopwatch(&self) -> Option<Box<dyn Stopwatch>> {
        #[cfg(feature = "candle-cuda")]
        if let Device::Cuda(device) = &self.device {
            return Some(Box::new(events::Events::new(device)));
        }
        None
    }
}

/// The operands of a problem, on their way to the device.
struct Operands<'a> {
    inputs: &'a Inputs,
    device: &'a Device,
    place: Place,
    /// The storage type of the problem.
    storage: crate::DType,
    /// The same as candle has it.
    dtype: DType,
    /// What has been uploaded so far, by name.
    uploaded: RefCell<Vec<(String, Tensor)>>,
}

impl<'a> Operands<'a> {
    fn new(inputs: &'a Inputs, device: &'a Device, place: Place, storage: crate::DType) -> Self {
        let dtype = candle_dtype(storage);
        Operands { inputs, device, place, storage, dtype, uploaded: RefCell::default() }
    }

    /// Uploads an operand that the problem has.
    fn upload(&self, name: &str) -> candle_core::Result<Tensor> {
        match self.upload_optional(name)? {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("operand '{name}' is missing"),
        }
    }

    /// Uploads an operand that the problem may have.
    fn upload_optional(&self, name: &str) -> candle_core::Result<Option<Tensor>> {
        let Some(tensor) = self.inputs.get(name) else { return Ok(None) };
        let tensor = to_device(tensor, self.device)?;
        self.uploaded.borrow_mut().push((name.to_string(), tensor.clone()));
        Ok(Some(tensor))
    }

    /// Uploads a vector operand, or one of `len` equal elements where the problem has none.
    fn upload_or(&self, name: &str, value: f64, len: usize) -> candle_core::Result<Tensor> {
        match self.upload_optional(name)? {
            Some(tensor) => Ok(tensor),
            None => Tensor::full(value, len, self.device)?.to_dtype(self.dtype),
        }
    }
}

fn to_device(tensor: &crate::Tensor, device: &Device) -> candle_core::Result<Tensor> {
    let dtype = match tensor.element() {
        ElementType::Float(dtype) => candle_dtype(dtype),
        ElementType::I64 => DType::I64,
        ElementType::Bool => DType::U8,
    };
    Tensor::from_raw_buffer(tensor.bytes(), dtype, tensor.shape(), device)
}

fn candle_dtype(dtype: crate::DType) -> DType {
    match dtype {
        crate::DType::F32 => DType::F32,
        crate::DType::F16 => DType::F16,
        crate::DType::BF16 => DType::BF16,
    }
}

fn download(tensor: &Tensor) -> Result<crate::Tensor, BackendError> {
    fn read<T: Scalar + candle_core::WithDType>(tensor: &Tensor) -> Result<crate::Tensor, BackendError> {
        Ok(crate::Tensor::from_slice(tensor.dims(), &tensor.flatten_all()?.to_vec1::<T>()?)?)
    }
    match tensor.dtype() {
        DType::F16 => read::<half::f16>(tensor),
        DType::BF16 => read::<half::bf16>(tensor),
        _ => read::<f32>(tensor),
    }
}

impl From<candle_core::Error> for BackendError {
    fn from(error: candle_core::Error) -> Self {
        let message = error.to_string();
        let lower = message.to_lowercase();
        if lower.contains("out of memory") || lower.contains("out_of_memory") {
            BackendError::OutOfMemory { message }
        } else {
            BackendError::Library { library: "candle", message }
        }
    }
}
