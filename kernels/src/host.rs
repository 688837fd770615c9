//! Kernels that read and write host memory.

use crate::backend::{Backend, BackendId, BackendInfo, Declaration, Prepared, Support};
use crate::error::BackendError;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;

/// A [`Prepared`] around a function from inputs to outputs in host memory.
///
/// Data operands and results are allocated here, once, between guard zones and filled with NaN, so that
/// a kernel which forgets an element or writes past the end is found out.
pub struct HostPrepared<K> {
    inputs: Inputs,
    outputs: Outputs,
    is_empty: bool,
    kernel: K,
}

impl<K> HostPrepared<K>
where
    K: FnMut(&Inputs, &mut Outputs) -> Result<(), BackendError>,
{
    /// Results for `problem` and a kernel to fill them. Weights and plans are shared, not copied.
    pub fn new(problem: &Problem, bound: &Inputs, kernel: K) -> Self {
        let outputs = Outputs::unwritten(problem);
        let is_empty = outputs.iter().all(|(_, tensor)| tensor.is_empty());
        HostPrepared { inputs: bound.without_data(), outputs, is_empty, kernel }
    }
}

impl<K> Prepared for HostPrepared<K>
where
    K: FnMut(&Inputs, &mut Outputs) -> Result<(), BackendError>,
{
    fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        Ok(self.inputs.load(data)?)
    }

    fn run(&mut self) -> Result<(), BackendError> {
        // Shapes such as 4294967296x0: no kernel should have to count its rows.
        if self.is_empty {
            return Ok(());
        }
        (self.kernel)(&self.inputs, &mut self.outputs)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn outputs(&mut self) -> Result<Outputs, BackendError> {
        Ok(self.outputs.clone())
    }

    fn operands(&self) -> Option<&Inputs> {
        Some(&self.inputs)
    }
}

/// What a [`FunctionBackend`] computes: results of a problem from its operands.
pub type Function = fn(&Problem, &Inputs) -> Result<Outputs, BackendError>;

/// A backend of one plain function on one thread: the first step of a kernel, or an example of one. It promises
/// the strictest declaration.
#[derive(Clone, Debug)]
pub struct FunctionBackend {
    id: BackendId,
    computes: fn(&Problem) -> bool,
    function: Function,
}

impl FunctionBackend {
    /// A backend of that name for the problems of which `computes` is true.
    pub const fn new(id: &'static str, computes: fn(&Problem) -> bool, function: Function) -> Self {
        FunctionBackend { id: BackendId::new(id), computes, function }
    }
}

impl Backend for FunctionBackend {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        let (device, isa) = ("cpu".into(), std::env::consts::ARCH.into());
        BackendInfo { version: String::new(), device, isa, threads: 1 }
    }

    fn supports(&self, problem: &Problem) -> Support {
        if (self.computes)(problem) {
            Support::Yes
        } else {
            Support::no_kernel(self.id.as_str(), problem.name())
        }
    }

    fn declares(&self, _problem: &Problem) -> Declaration {
        Declaration::strict("a plain function")
    }

    fn prepare(&self, problem: &Problem, bound: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let (own, function) = (problem.clone(), self.function);
        let kernel = move |inputs: &Inputs, outputs: &mut Outputs| {
            *outputs = function(&own, inputs)?;
            Ok(())
        };
        Ok(Box::new(HostPrepared::new(problem, bound, kernel)))
    }
}
