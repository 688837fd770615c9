//! libtorch, PyTorch's C++ library, through the `tch` crate.
//!
//! One file per family turns a spec into a `Step`: a call of the library's own operation where
//! its semantics are those of the spec, a composition of its primitives where they are not; the
//! [`Declaration::path`] of each problem says which. The same code serves every device: operands
//! are uploaded by `prepare`, results downloaded by `outputs`.
//!
//! What a user of PyTorch gets is what is measured and judged here. A fused operation that is
//! inexact, or leaks a NaN from a masked key, is a finding about the library; it is not repaired.
//! What is composed here has exactly the semantics of the spec, with f32 between the primitives
//! and one rounding at the end.
//!
//! Results go to memory allocated once wherever libtorch has a kernel that writes into given
//! memory. Some of its `_out` functions are generated wrappers that allocate, compute and copy
//! (layer norm, group norm, relu); these are not used.
//!
//! Not here: Apple's `mps` device, which `tch` cannot synchronize.

mod convert;
mod peaks;

use std::borrow::Cow;
use std::panic::catch_unwind;
use std::sync::{Once, OnceLock};

use tch::{Cuda, Device, TchError, Tensor as Torch};

use crate::backend::{Allocation, Backend, BackendId, BackendInfo, Declaration, Prepared, Support};
use crate::device::{DevicePeaks, Probe};
use crate::dtype::DType;
use crate::error::BackendError;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::registry::{Registry, nvidia_driver};
use crate::table::kernel_table;
use crate::unstated::{Habit, Unstated};
use attention::Kernel;
use convert::Operands;

kernel_table!(activation, attention, norm, residual, rope, softmax);

/// The version that `tch` 0.24 is made for; its build fails with any other. The library itself
/// cannot be asked through `tch`.
const VERSION: &str = "2.11.0";

/// What one run does: computes the results from operands that it owns, into tensors that were
/// allocated for it or in place of them.
type Step = Box<dyn FnMut(&mut [Torch]) -> Result<(), TchError>>;

/// A step, and the kernel that runs where only libtorch knows it.
struct Bound {
    step: Step,
    path: Option<&'static str>,
}

impl From<Step> for Bound {
    fn from(step: Step) -> Self {
        Bound { step, path: None }
    }
}

/// What a backend is for.
#[derive(Clone, Copy)]
struct Target {
    device: Device,
    /// The one kernel of SDPA that it is for.
    kernel: Option<Kernel>,
}

/// An operation that this backend computes.
trait HasKernel {
    /// Whether single kernels of the library are backends of their own for it.
    fn has_choices(&self) -> bool {
        false
    }

    /// Whether it can there with these fields. Nearly everything is there or can be composed.
    fn supports(&self, dtype: DType, target: Target) -> Support {
        let _ = (dtype, target);
        Support::Yes
    }

    /// What is promised of a storage type.
    fn declares(&self, dtype: DType, target: Target) -> Declaration;

    /// Uploads the operands and binds them.
    fn prepare(&self, operands: &Operands, target: Target) -> Result<Bound, BackendError>;

    /// What libtorch's own function gives by its bare name.
    fn unstated(
        &self,
        call: Unstated,
        problem: &Problem,
        operands: &Operands,
    ) -> Result<Habit, BackendError> {
        let _ = (call, problem, operands);
        Ok(Habit::Absent)
    }
}

/// The declaration of a path whose results are written into memory allocated once.
fn reused(path: &'static str) -> Declaration {
    Declaration { allocation: Allocation::Reused, ..Declaration::library(path) }
}

/// libtorch on one device.
pub struct LibTorch {
    id: BackendId,
    threads: usize,
    target: Target,
}

impl LibTorch {
    /// libtorch on the CPU with that many threads.
    pub fn cpu(threads: usize) -> Self {
        let target = Target { device: Device::Cpu, kernel: None };
        LibTorch { id: BackendId::new("libtorch/cpu"), threads, target }
    }

    /// This, and each kernel of its SDPA by itself.
    fn with_choices(self) -> impl Iterator<Item = Self> {
        let LibTorch { target, threads, .. } = self;
        let choices = Kernel::of(target.device).map(|kernel| {
            let id = format!("{}/{}", self.id, kernel.name()).parse().ok()?;
            Some(LibTorch { id, threads, target: Target { kernel: Some(kernel), ..target } })
        });
        std::iter::once(self).chain(choices.into_iter().flatten())
    }

    /// libtorch on each CUDA device.
    ///
    /// # Errors
    /// Why there is none.
    fn cuda(threads: usize) -> Result<Vec<Self>, String> {
        nvidia_driver()?;
        load_cuda_half()?;
        if !tch::utils::has_cudart() {
            return Err("this libtorch is built without CUDA: point LIBTORCH at one that has it".into());
        }
        if !Cuda::is_available() {
            return Err("no device: libtorch and the NVIDIA driver are here, but no GPU is visible".into());
        }
        let backend = |n| {
            let id = format!("libtorch/cuda:{n}").parse().ok()?;
            Some(LibTorch { id, threads, target: Target { device: Device::Cuda(n), kernel: None } })
        };
        Ok((0..Cuda::device_count() as usize).filter_map(backend).collect())
    }
}

pub(crate) fn register(registry: &mut Registry, threads: usize) {
    // Operations run one at a time. libtorch takes this number once, before its first use, and tch
    // panics where another part of the program has been first: then theirs stays.
    static INTEROP: Once = Once::new();
    INTEROP.call_once(|| {
        if tch::get_num_interop_threads() != 1 {
            let _ = catch_unwind(|| tch::set_num_interop_threads(1));
        }
    });
    LibTorch::cpu(threads).with_choices().for_each(|backend| registry.add(backend));
    match LibTorch::cuda(threads) {
        Ok(backends) => {
            backends.into_iter().flat_map(LibTorch::with_choices).for_each(|backend| registry.add(backend));
        }
        Err(reason) => registry.add_absent("libtorch/cuda:0", reason),
    }
}

impl Backend for LibTorch {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        let libraries = [
            (tch::utils::has_mkl(), "MKL"),
            (tch::utils::has_mkldnn(), "oneDNN"),
            (tch::utils::has_openmp(), "OpenMP"),
        ];
        let cpu_libraries: Vec<_> =
            libraries.iter().filter(|(present, _)| *present).map(|(_, name)| *name).collect();
        let (device, isa, with) = match self.target.device {
            Device::Cuda(n) => (format!("cuda:{n}"), "cuda", cuda_libraries()),
            _ => ("cpu".into(), cpu_capability(), cpu_libraries.join(", ")),
        };
        BackendInfo { version: format!("{VERSION} ({with})"), device, isa: isa.into(), threads: self.threads }
    }

    fn supports(&self, problem: &Problem) -> Support {
        let Some(kernel) = kernel_of(&problem.op) else {
            return Support::no_kernel("libtorch", problem.name());
        };
        if self.target.kernel.is_some() && !kernel.has_choices() {
            return Support::No("this backend is one kernel of libtorch's attention".into());
        }
        kernel.supports(problem.dtype, self.target)
    }

    fn declares(&self, problem: &Problem) -> Declaration {
        match kernel_of(&problem.op) {
            Some(kernel) => kernel.declares(problem.dtype, self.target),
            None => Declaration::library("none"),
        }
    }

    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let Some(kernel) = kernel_of(&problem.op) else {
            return Err(BackendError::no_kernel("libtorch", problem.name()));
        };
        let _no_grad = tch::no_grad_guard();
        use_threads(self.threads);
        let device = self.target.device;
        let operands = Operands::new(inputs, device, problem.dtype);
        let Bound { step, path } = kernel.prepare(&operands, self.target)?;
        let results = problem.results();
        let results =
            results.iter().map(|r| convert::unwritten(r, device)).collect::<Result<_, TchError>>()?;
        Ok(Box::new(OnDevice {
            problem: problem.clone(),
            device,
            threads: self.threads,
            path,
            step,
            data: operands.into_uploaded(),
            results,
        }))
    }

    fn peaks(&self) -> Result<Option<DevicePeaks>, BackendError> {
        match self.target.device {
            device @ Device::Cuda(_) => peaks::measure(device, Probe::DEVICE).map(Some),
            _ => Ok(None),
        }
    }

    fn unstated(&self, call: Unstated, problem: &Problem, inputs: &Inputs) -> Result<Habit, BackendError> {
        let Some(kernel) = kernel_of(&problem.op) else { return Ok(Habit::Absent) };
        let _no_grad = tch::no_grad_guard();
        use_threads(self.threads);
        let operands = Operands::new(inputs, self.target.device, problem.dtype);
        kernel.unstated(call, problem, &operands)
    }
}

/// A problem whose operands lie on the device.
struct OnDevice {
    problem: Problem,
    device: Device,
    threads: usize,
    path: Option<&'static str>,
    step: Step,
    /// The operands on the device, by name; `step` shares their memory.
    data: Vec<(String, Torch)>,
    results: Vec<Torch>,
}

impl Prepared for OnDevice {
    /// Into the memory that `step` reads.
    fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        let _no_grad = tch::no_grad_guard();
        for (name, new) in data.data() {
            for (_, own) in self.data.iter_mut().filter(|(own, _)| own == name) {
                own.f_copy_(&convert::to_torch(new)?)?;
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), BackendError> {
        let _no_grad = tch::no_grad_guard();
        use_threads(self.threads);
        Ok((self.step)(&mut self.results)?)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        synchronize(self.device)
    }

    fn outputs(&mut self) -> Result<Outputs, BackendError> {
        let results = self.problem.results();
        let tensors = results.iter().zip(&self.results).map(|(r, tensor)| convert::download(r, tensor));
        Ok(Outputs::new(&self.problem, tensors.collect::<Result<_, _>>()?)?)
    }

    fn path(&self) -> Option<Cow<'static, str>> {
        self.path.map(Cow::Borrowed)
    }
}

/// Returns when all that has been enqueued on a device is done.
fn synchronize(device: Device) -> Result<(), BackendError> {
    let Device::Cuda(n) = device else { return Ok(()) };
    // tch has no version of this that returns its error: it panics when a kernel has failed.
    catch_unwind(|| Cuda::synchronize(n as i64)).map_err(|_| BackendError::Library {
        library: "libtorch",
        message: format!("synchronizing cuda:{n} failed: an earlier kernel went wrong"),
    })
}

/// Loads libtorch's kernels for CUDA, which register themselves. They are a library of their own, several
/// times as large as all the rest, which wants cuDNN, NCCL and more: a program linked to it would not
/// start without these.
fn load_cuda_half() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    let load = || {
        let name = libloading::library_filename("torch_cuda");
        // SAFETY: its initializers register kernels with the libtorch loaded already, whose other
        // half of the same version it is; it is never unloaded.
        let library = unsafe { libloading::Library::new(name) };
        match library {
            Ok(library) => {
                std::mem::forget(library);
                Ok(())
            }
            Err(error) => Err(format!("this libtorch has no CUDA half: {error}")),
        }
    };
    LOADED.get_or_init(load).clone()
}

/// Sets the number of threads of libtorch's loops for the calling thread, if it is another. It is
/// a setting of the process and, through OpenMP, of each thread, so every run asks again; asking
/// costs nanoseconds.
fn use_threads(threads: usize) {
    let threads = i32::try_from(threads).unwrap_or(i32::MAX).max(1);
    if tch::get_num_threads() != threads {
        tch::set_num_threads(threads);
    }
}

/// The versions that libtorch was built with: CUDA's is 1000·major + 10·minor, cuDNN's from 9 on
/// 10000·major + 100·minor + patch.
fn cuda_libraries() -> String {
    let cuda = tch::utils::version_cudart();
    let mut text = format!("CUDA {}.{}", cuda / 1000, cuda % 1000 / 10);
    if Cuda::cudnn_is_available() {
        let cudnn = tch::utils::version_cudnn();
        text += &format!(", cuDNN {}.{}.{}", cudnn / 10_000, cudnn % 10_000 / 100, cudnn % 100);
    }
    text
}

/// The level of its CPU kernels that libtorch chooses when it starts, by the rule in its
/// `DispatchStub.cpp`: the library cannot be asked through `tch`.
fn cpu_capability() -> &'static str {
    match std::env::var("ATEN_CPU_CAPABILITY").as_deref() {
        Ok("default") => return "baseline",
        Ok("avx2") => return "avx2",
        Ok("avx512") => return "avx512",
        _ => {}
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512vl") && has!("avx512bw") && has!("avx512dq") && has!("fma") {
            return "avx512";
        }
        if has!("avx2") && has!("fma") {
            return "avx2";
        }
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "baseline" }
}

#[cfg(test)]
mod tests;
