//! Preparation for kernels that read and write host memory.

use crate::backend::Prepared;
use crate::error::BackendError;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;

/// A [`Prepared`] around a function from inputs to outputs in host memory.
///
/// The results are allocated here, once, between guard zones and filled with NaN, so that a
/// kernel which forgets an element or writes past the end is found out.
pub struct HostPrepared<K> {
    inputs: Inputs,
    outputs: Outputs,
    kernel: K,
}

impl<K> HostPrepared<K>
where
    K: FnMut(&Inputs, &mut Outputs) -> Result<(), BackendError>,
{
    /// Results for `problem` and a kernel to fill them. The inputs are shared, not copied.
    pub fn new(problem: &Problem, inputs: &Inputs, kernel: K) -> Self {
        HostPrepared { inputs: inputs.clone(), outputs: Outputs::unwritten(problem), kernel }
    }
}

impl<K> Prepared for HostPrepared<K>
where
    K: FnMut(&Inputs, &mut Outputs) -> Result<(), BackendError>,
{
    fn run(&mut self) -> Result<(), BackendError> {
        (self.kernel)(&self.inputs, &mut self.outputs)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn outputs(&mut self) -> Result<Outputs, BackendError> {
        Ok(self.outputs.clone())
    }
}
