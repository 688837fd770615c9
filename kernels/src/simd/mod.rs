//! Blocked kernels, one source for every instruction set.
//!
//! | file | holds |
//! |---|---|
//! | [`isa`] | instruction sets as values: holding a token proves the CPU has it |
//! | [`lanes`], `lanes_*` | vectors of f32 lanes |
//! | [`tiles`], [`pairs`] | products of bf16 by AMX and AVX512-BF16; with `lanes_*` the only `unsafe` of our own kernels |
//! | `buffer`, `cut` | memory of a kernel's own, and pieces of a caller's |
//! | `threads`, `seats` | sharing rows out among threads, and a processor for each of these |
//! | `math` | elementary functions over lanes |
//! | `activation`, `attention`, `norm`, `residual`, `rope`, `softmax` | one file per family |
//! | [`peaks`] | the machine's own limits: FMA, read, copy |
//!
//! Storage types below f32 are converted on load and store; everything is computed in f32.

mod buffer;
mod cut;
pub mod isa;
pub mod lanes;
#[cfg(target_arch = "x86_64")]
mod lanes_avx2;
#[cfg(target_arch = "x86_64")]
mod lanes_avx512;
#[cfg(target_arch = "aarch64")]
mod lanes_neon;
mod lanes_scalar;
mod math;
pub mod pairs;
pub mod peaks;
mod seats;
mod sum;
#[cfg(test)]
mod tests;
mod threads;
pub mod tiles;

use std::sync::Arc;

use self::isa::Isa;
use self::threads::Threads;
use crate::backend::{Backend, BackendId, BackendInfo, Declaration, Prepared, Support};
use crate::error::BackendError;
use crate::operands::Inputs;
use crate::problem::Problem;
use crate::registry::Registry;
use crate::table::kernel_table;

kernel_table!(activation, attention, norm, residual, rope, softmax);

/// An operation that this backend computes.
trait HasKernel {
    /// Whether it can with these fields.
    fn supports(&self) -> Support {
        Support::Yes
    }

    /// Which kernel it is.
    fn path(&self) -> &'static str;

    /// Binds the operands.
    fn prepare(
        &self,
        engine: &Arc<Engine>,
        problem: &Problem,
        inputs: &Inputs,
    ) -> Result<Box<dyn Prepared>, BackendError>;
}

/// What a prepared kernel runs on. It is shared with every run, which may outlive the backend.
#[derive(Debug)]
struct Engine {
    isa: Isa,
    threads: Threads,
}

/// The kernels at one instruction set and thread count.
#[derive(Debug)]
pub struct Simd {
    id: BackendId,
    engine: Arc<Engine>,
}

impl Simd {
    /// The kernels for an instruction set, on `threads` threads.
    pub fn new(isa: Isa, threads: usize) -> Self {
        let engine = Engine { isa, threads: Threads::new(threads) };
        Simd { id: BackendId::new(isa.id()), engine: Arc::new(engine) }
    }
}

/// Adds the kernels at every instruction set of this CPU, the best first, and the reason for
/// each one that is absent.
pub(crate) fn register(registry: &mut Registry, threads: usize) {
    for isa in Isa::present() {
        registry.add(Simd::new(isa, threads));
    }
    for (id, reason) in Isa::absent() {
        registry.add_absent(id, reason);
    }
}

impl Backend for Simd {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        BackendInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            device: "cpu".into(),
            isa: self.engine.isa.to_string(),
            threads: self.engine.threads.count(),
        }
    }

    fn supports(&self, problem: &Problem) -> Support {
        match kernel_of(&problem.op) {
            Some(kernel) => kernel.supports(),
            None => Support::no_kernel("simd", problem.name()),
        }
    }

    fn declares(&self, problem: &Problem) -> Declaration {
        Declaration::strict(kernel_of(&problem.op).map_or("none", HasKernel::path))
    }

    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        match kernel_of(&problem.op) {
            Some(kernel) => kernel.prepare(&self.engine, problem, inputs),
            None => Err(BackendError::no_kernel("simd", problem.name())),
        }
    }
}
