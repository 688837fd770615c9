//! Preparation for kernels that read and write host memory.

use crate::backend::Prepared;
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
