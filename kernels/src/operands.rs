//! The named tensors that go into a problem and come out of it.

use std::sync::Arc;

use crate::dtype::Scalar;
use crate::error::InputError;
use crate::op::{Binding, Operand};
use crate::problem::Problem;
use crate::tensor::Tensor;

/// The operands of a problem: complete, of the right shapes and types, shared and read-only.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs(Vec<Input>);

#[derive(Clone, Debug, PartialEq)]
struct Input {
    name: &'static str,
    binding: Binding,
    tensor: Arc<Tensor>,
}

impl Inputs {
    /// Takes the operands of `problem`, in any order, and checks each against it.
    ///
    /// # Errors
    /// [`InputError`] naming the operand that is missing, unknown or does not fit.
    pub fn new(
        problem: &Problem,
        tensors: impl IntoIterator<Item = (impl Into<String>, Tensor)>,
    ) -> Result<Self, InputError> {
        let operands = problem.operands();
        let mut given: Vec<(String, Tensor)> =
            tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
        let mut checked = Vec::with_capacity(operands.len());
        for operand in &operands {
            let index = given
                .iter()
                .position(|(name, _)| name == operand.name)
                .ok_or_else(|| InputError::Missing { name: operand.name.into() })?;
            let (_, tensor) = given.swap_remove(index);
            operand.check(&tensor)?;
            checked.push(Input { name: operand.name, binding: operand.binding, tensor: Arc::new(tensor) });
        }
        if let Some((name, _)) = given.into_iter().next() {
            let known = operands.iter().map(|o| o.name).collect::<Vec<_>>().join(", ");
            return Err(InputError::Unknown { name, known });
        }
        Ok(Inputs(checked))
    }

    /// The operand of that name, when the problem has it.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|input| input.name == name).map(|input| input.tensor.as_ref())
    }

    /// The elements of an operand that the problem is known to have.
    ///
    /// # Errors
    /// [`InputError::Missing`] or [`InputError::Type`].
    pub fn slice<T: Scalar>(&self, name: &str) -> Result<&[T], InputError> {
        self.get(name).ok_or_else(|| InputError::Missing { name: name.into() })?.as_slice()
    }

    /// The elements of an operand that the problem may have.
    ///
    /// # Errors
    /// [`InputError::Type`].
    pub fn optional<T: Scalar>(&self, name: &str) -> Result<Option<&[T]>, InputError> {
        self.get(name).map(Tensor::as_slice).transpose()
    }

    /// Names and tensors in the order of [`Problem::operands`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        self.0.iter().map(|input| (input.name, input.tensor.as_ref()))
    }

    /// Names and tensors of the operands that are new in every call.
    pub fn data(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        self.0.iter().filter(|i| i.binding == Binding::Load).map(|i| (i.name, i.tensor.as_ref()))
    }

    /// A copy that shares no memory with this one.
    pub fn deep_clone(&self) -> Self {
        self.map(|input| Arc::new(input.tensor.as_ref().clone()))
    }

    /// A copy that lies as [`tensor`](crate::tensor) places tensors on this thread at the moment; a
    /// [`deep_clone`](Inputs::deep_clone) lies as the original does.
    pub fn placed_anew(&self) -> Self {
        self.map(|input| {
            let mut tensor = Tensor::zeros(input.tensor.element(), input.tensor.shape());
            tensor.bytes_mut().copy_from_slice(input.tensor.bytes());
            Arc::new(tensor)
        })
    }

    /// What [`Backend::prepare`](crate::Backend::prepare) gets to see: the data operands have their
    /// shapes and types, and hold NaN in memory of their own. The others are shared.
    #[must_use]
    pub fn without_data(&self) -> Self {
        self.map(|input| match input.binding {
            Binding::Prepare => Arc::clone(&input.tensor),
            Binding::Load => {
                let mut tensor = Tensor::zeros(input.tensor.element(), input.tensor.shape());
                tensor.poison();
                Arc::new(tensor)
            }
        })
    }

    /// Copies the data operands of `data` into those of this one.
    ///
    /// # Errors
    /// [`InputError::Missing`] where `data` has another set of operands, [`InputError::Length`] where one
    /// is of another size.
    pub fn load(&mut self, data: &Inputs) -> Result<(), InputError> {
        for input in self.0.iter_mut().filter(|input| input.binding == Binding::Load) {
            let new = data.get(input.name).ok_or_else(|| InputError::Missing { name: input.name.into() })?;
            // The memory is shared only if a caller has cloned the tensor; then it is copied.
            let own = Arc::make_mut(&mut input.tensor);
            if own.bytes().len() != new.bytes().len() {
                return Err(InputError::Length {
                    shape: own.shape().to_vec(),
                    expected: own.bytes().len(),
                    found: new.bytes().len(),
                });
            }
            own.bytes_mut().copy_from_slice(new.bytes());
        }
        Ok(())
    }

    /// Changes the bits of an operand; copies of these inputs keep theirs.
    ///
    /// # Errors
    /// [`InputError::Missing`] where there is none of this name, or whatever `change` says.
    pub fn change(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Tensor) -> Result<(), InputError>,
    ) -> Result<(), InputError> {
        let input = self.0.iter_mut().find(|input| input.name == name);
        let input = input.ok_or_else(|| InputError::Missing { name: name.into() })?;
        change(Arc::make_mut(&mut input.tensor))
    }

    fn map(&self, tensor: impl Fn(&Input) -> Arc<Tensor>) -> Self {
        Inputs(self.0.iter().map(|input| Input { tensor: tensor(input), ..input.clone() }).collect())
    }

    /// Whether nothing wrote around any operand.
    pub fn guards_intact(&self) -> bool {
        self.iter().all(|(_, tensor)| tensor.guards_intact())
    }
}

/// The results of a problem, in the order of [`Problem::results`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs(Vec<(&'static str, Tensor)>);

impl Outputs {
    /// Results of `problem` that no kernel has written yet: every element is NaN.
    pub fn unwritten(problem: &Problem) -> Self {
        Outputs(problem.results().iter().map(|r| (r.name, r.unwritten())).collect())
    }

    /// Takes the results of `problem` in order and checks each against it.
    ///
    /// # Errors
    /// [`InputError`] naming the result that is missing or does not fit.
    pub fn new(problem: &Problem, tensors: Vec<Tensor>) -> Result<Self, InputError> {
        let results = problem.results();
        if let Some(missing) = results.get(tensors.len()) {
            return Err(InputError::Missing { name: missing.name.into() });
        }
        results
            .iter()
            .zip(tensors)
            .map(|(result, tensor)| result.check(&tensor).map(|()| (result.name, tensor)))
            .collect::<Result<_, _>>()
            .map(Outputs)
    }

    /// The result of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, tensor)| tensor)
    }

    /// The elements of a result, to be written.
    ///
    /// # Errors
    /// [`InputError::Missing`] or [`InputError::Type`].
    pub fn slice_mut<T: Scalar>(&mut self, name: &str) -> Result<&mut [T], InputError> {
        self.0
            .iter_mut()
            .find(|(n, _)| *n == name)
            .ok_or_else(|| InputError::Missing { name: name.into() })?
            .1
            .as_mut_slice()
    }

    /// Names and tensors.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (*name, tensor))
    }

    /// The same, to be written.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Tensor)> {
        self.0.iter_mut().map(|(name, tensor)| (*name, tensor))
    }

    /// Whether nothing wrote around any result.
    pub fn guards_intact(&self) -> bool {
        self.iter().all(|(_, tensor)| tensor.guards_intact())
    }
}

impl Operand {
    /// Checks that a tensor has this operand's shape, type and range of values.
    ///
    /// # Errors
    /// [`InputError`] with what was expected and found.
    pub fn check(&self, tensor: &Tensor) -> Result<(), InputError> {
        let name = || self.name.to_string();
        if tensor.element() != self.element {
            return Err(InputError::Type { name: name(), expected: self.element, found: tensor.element() });
        }
        if tensor.shape() != self.shape {
            return Err(InputError::Shape {
                name: name(),
                expected: self.shape.clone(),
                found: tensor.shape().to_vec(),
            });
        }
        let Some(limit) = self.limit else { return Ok(()) };
        match tensor.as_slice::<i64>()?.iter().position(|x| !(0..=limit).contains(x)) {
            None => Ok(()),
            Some(index) => Err(InputError::Value {
                name: name(),
                index,
                found: tensor.as_slice::<i64>()?[index],
                expected: format!("0..={limit}"),
            }),
        }
    }
}
