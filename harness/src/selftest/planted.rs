//! Kernels whose verdict is known beforehand, and what they are made of.

use std::sync::Arc;

use touchstone_kernels::host::HostPrepared;
use touchstone_kernels::naive::Naive;
use touchstone_kernels::op::Family;
use touchstone_kernels::{
    Backend, BackendError, BackendId, BackendInfo, Contract, DType, Declaration, ElementType, InputError,
    Inputs, Moments, Op, Outputs, Prepared, Problem, Support, Tensor,
};

use crate::safeguard::{Safeguard, Safeguards};

/// The results of a plain function from problem and operands.
pub type Computed = Result<Outputs, BackendError>;

type Applies = Arc<dyn Fn(&Problem) -> bool + Send + Sync>;
type Plant = Box<dyn Fn() -> Prepare + Send + Sync>;
type Prepare =
    Box<dyn Fn(&Problem, &Inputs, Memory) -> Result<Box<dyn Prepared>, BackendError> + Send + Sync>;

/// What results hold before a kernel writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// NaN, as everywhere in Touchstone.
    Unwritten,
    /// 0, as fresh memory of the system.
    Zeroed,
}

/// A kernel in host memory.
pub(crate) fn hosted(
    memory: Memory,
    problem: &Problem,
    inputs: &Inputs,
    mut kernel: impl FnMut(&Inputs, &mut Outputs) -> Result<(), BackendError> + 'static,
) -> Box<dyn Prepared> {
    let mut fresh = memory == Memory::Zeroed;
    Box::new(HostPrepared::new(problem, inputs, move |inputs: &Inputs, outputs: &mut Outputs| {
        if std::mem::take(&mut fresh) {
            outputs.iter_mut().for_each(|(_, tensor)| tensor.bytes_mut().fill(0));
        }
        kernel(inputs, outputs)
    }))
}

/// A kernel whose verdict is known beforehand: a planted fault, or another right way.
pub struct Specimen {
    /// Its name: what is wrong, or which way it goes, in a few words.
    pub name: &'static str,
    /// The mistake as a person makes it, or the way in a sentence.
    pub about: &'static str,
    /// The family it belongs to; none for the machinery around every kernel.
    pub family: Option<&'static Family>,
    dtypes: &'static [DType],
    declaration: Declaration,
    stateful: bool,
    applies: Applies,
    plant: Plant,
}

/// The types below f32: where something is kept "in the storage type".
pub(crate) const SHORT: &[DType] = &[DType::F16, DType::BF16];
/// f32 alone: mistakes that vanish in the rounding to a shorter type.
pub(crate) const F32: &[DType] = &[DType::F32];
/// The types with the range of f32.
pub(crate) const WIDE: &[DType] = &[DType::F32, DType::BF16];

impl Specimen {
    /// A specimen that computes its results by a function of problem and operands.
    pub fn new(
        family: Option<&'static Family>,
        name: &'static str,
        about: &'static str,
        applies: impl Fn(&Problem) -> bool + Send + Sync + 'static,
        compute: impl Fn(&Problem, &Inputs) -> Computed + Send + Sync + 'static,
    ) -> Self {
        let compute = Arc::new(compute);
        let plant = move || -> Prepare {
            let compute = Arc::clone(&compute);
            Box::new(move |problem, inputs, memory| {
                let (compute, own) = (Arc::clone(&compute), problem.clone());
                Ok(hosted(memory, problem, inputs, move |inputs, outputs| {
                    *outputs = compute(&own, inputs)?;
                    Ok(())
                }))
            })
        };
        Specimen { stateful: false, ..Specimen::prepared(family, name, about, applies, plant) }
    }

    /// A specimen with a state of its own: `plant` makes what prepares its runs.
    pub(crate) fn prepared(
        family: Option<&'static Family>,
        name: &'static str,
        about: &'static str,
        applies: impl Fn(&Problem) -> bool + Send + Sync + 'static,
        plant: impl Fn() -> Prepare + Send + Sync + 'static,
    ) -> Self {
        Specimen {
            name,
            about,
            family,
            dtypes: &DType::ALL,
            declaration: Declaration::strict("planted"),
            stateful: true,
            applies: Arc::new(applies),
            plant: Box::new(plant),
        }
    }

    /// The same in a library that declares the normwise contract.
    pub(crate) fn normwise(self) -> Self {
        let declaration = Declaration { contract: Contract::Normwise, ..self.declaration };
        Specimen { declaration, ..self }
    }

    /// The same in a library that declares running moments.
    pub(crate) fn running(self) -> Self {
        let declaration = Declaration { moments: Moments::Running, ..self.declaration };
        Specimen { declaration, ..self }
    }

    /// The same, where it shows in some storage types only.
    pub(crate) fn only(self, dtypes: &'static [DType]) -> Self {
        Specimen { dtypes, ..self }
    }

    /// The storage types in which it is to be judged.
    pub fn dtypes(&self) -> &'static [DType] {
        self.dtypes
    }

    /// Whether the mistake can be made on this problem, or whether the way leads through it.
    pub fn applies(&self, problem: &Problem) -> bool {
        self.dtypes.contains(&problem.dtype) && is_meant(self.family, problem) && (self.applies)(problem)
    }

    /// Whether it may behave otherwise when it runs again.
    pub(crate) fn is_stateful(&self) -> bool {
        self.stateful
    }

    /// A fresh backend, which remembers nothing.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.backend_under(Safeguards::ALL)
    }

    /// The same where some safeguards stand: the one at the kernel's own end is what its results hold
    /// before it writes them.
    pub(crate) fn backend_under(&self, safeguards: Safeguards) -> Arc<dyn Backend> {
        let memory = if safeguards.have(Safeguard::Unwritten) { Memory::Unwritten } else { Memory::Zeroed };
        let prepare = (self.plant)();
        let (dtypes, family, applies) = (self.dtypes, self.family, Arc::clone(&self.applies));
        let supports = Box::new(move |problem: &Problem| {
            dtypes.contains(&problem.dtype) && is_meant(family, problem) && applies(problem)
        });
        let (id, declaration) = (BackendId::new(self.name), self.declaration.clone());
        Arc::new(Planted { id, declaration, memory, supports, prepare })
    }
}

/// Whether a problem is of the family. Mistakes of the machinery are made around what `naive` computes.
fn is_meant(family: Option<&'static Family>, problem: &Problem) -> bool {
    match family {
        Some(family) => family == problem.family(),
        None => Naive.supports(problem) == Support::Yes,
    }
}

struct Planted {
    id: BackendId,
    declaration: Declaration,
    memory: Memory,
    supports: Box<dyn Fn(&Problem) -> bool + Send + Sync>,
    prepare: Prepare,
}

impl Backend for Planted {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn info(&self) -> BackendInfo {
        BackendInfo { version: String::new(), device: "cpu".into(), isa: String::new(), threads: 1 }
    }

    fn supports(&self, problem: &Problem) -> Support {
        if (self.supports)(problem) { Support::Yes } else { Support::No("not what was planted".into()) }
    }

    fn declares(&self, _problem: &Problem) -> Declaration {
        self.declaration.clone()
    }

    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        (self.prepare)(problem, inputs, self.memory)
    }
}

/// What the naive backend answers.
pub(crate) fn naive(problem: &Problem, inputs: &Inputs) -> Computed {
    let mut prepared = Naive.ready(problem, inputs)?;
    prepared.run()?;
    prepared.outputs()
}

/// What the naive backend answers to another operation over the same operands.
pub(crate) fn naive_on(op: impl Into<Op>, dtype: DType, inputs: &Inputs) -> Computed {
    naive(&Problem { op: op.into(), dtype }, inputs)
}

/// The numbers of an operand; none where the problem does not have it.
pub(crate) fn optional(inputs: &Inputs, name: &str) -> Option<Vec<f32>> {
    inputs.get(name).map(|tensor| tensor.to_f64().into_iter().map(|x| x as f32).collect())
}

/// The numbers of an operand.
pub(crate) fn operand(inputs: &Inputs, name: &str) -> Result<Vec<f32>, BackendError> {
    Ok(optional(inputs, name).ok_or_else(|| InputError::Missing { name: name.into() })?)
}

/// A tensor of numbers, each rounded once.
pub(crate) fn tensor(element: ElementType, shape: &[usize], values: &[f64]) -> Result<Tensor, BackendError> {
    Ok(match element {
        ElementType::Float(dtype) => Tensor::from_f64(dtype, shape, values)?,
        ElementType::I64 => Tensor::from_slice(shape, &values.iter().map(|&x| x as i64).collect::<Vec<_>>())?,
        ElementType::Bool => Tensor::from_slice(shape, &values.iter().map(|&x| x as u8).collect::<Vec<_>>())?,
    })
}

/// The results of a problem from f32 numbers, each rounded once.
pub(crate) fn results(problem: &Problem, values: &[Vec<f32>]) -> Computed {
    let tensors = problem.results().into_iter().zip(values).map(|(result, values)| {
        let values: Vec<f64> = values.iter().map(|&x| x as f64).collect();
        tensor(result.element, &result.shape, &values)
    });
    Ok(Outputs::new(problem, tensors.collect::<Result<_, _>>()?)?)
}

/// The operands with one of them changed, which is what a kernel sees that misreads it. `problem`
/// is the one they are for afterwards.
pub(crate) fn misread(
    problem: &Problem,
    inputs: &Inputs,
    name: &str,
    change: impl FnOnce(&mut Vec<f64>),
) -> Result<Inputs, BackendError> {
    let mut tensors: Vec<(&'static str, Tensor)> =
        inputs.iter().map(|(name, tensor)| (name, tensor.clone())).collect();
    if let (Some((_, old)), Some(new)) =
        (tensors.iter_mut().find(|(n, _)| *n == name), problem.operands().iter().find(|o| o.name == name))
    {
        let mut values = old.to_f64();
        change(&mut values);
        *old = tensor(new.element, &new.shape, &values)?;
    }
    Ok(Inputs::new(problem, tensors)?)
}

/// Results with their numbers changed, as by a kernel that stores them wrongly.
pub(crate) fn mistaken(
    problem: &Problem,
    outputs: &Outputs,
    mut change: impl FnMut(&str, &mut Vec<f64>),
) -> Computed {
    let tensors = outputs.iter().map(|(name, old)| {
        let mut values = old.to_f64();
        change(name, &mut values);
        tensor(old.element(), old.shape(), &values)
    });
    Ok(Outputs::new(problem, tensors.collect::<Result<_, _>>()?)?)
}

/// The answer to a problem of another operation than a specimen is for.
pub(crate) fn unsupported() -> BackendError {
    BackendError::Unsupported { reason: "another family".into() }
}
