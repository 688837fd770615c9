//! From a [`Graph`] to a session whose operands and results lie in memory bound once.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use half::{bf16, f16};
use ort::editor::{Graph as OrtGraph, Model as OrtModel, Node as OrtNode, ONNX_DOMAIN, Opset};
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::operator::Attribute as OrtAttribute;
use ort::session::builder::SessionBuilder;
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, Outlet, PrimitiveTensorElementType, Tensor as OrtTensor};

use super::graph::{Attribute, Edge, Graph, Known, Loaded, Node, Role, Values};
use crate::dtype::{DType, ElementType};
use crate::error::BackendError;
use crate::op::Operand;
use crate::operands::Inputs;
use crate::problem::Problem;
use crate::tensor::Tensor;

/// The version of ONNX's operators: the first whose attention caps the scores before it masks them.
const OPSET: u32 = 24;

/// How long ONNX Runtime's threads look out for more work before they sleep, in microseconds. By default
/// they do so for a number of turns that takes from 40 ms to more than a second, during which they would
/// have a processor that somebody else is timed on. The calls of a slice follow each other within
/// microseconds, so that nobody falls asleep in it; when it ends, the harness waits until all have.
const SPIN_MICROSECONDS: &str = "1000";

/// A session with what it was made of.
pub(super) struct Model {
    problem: Problem,
    nodes: Vec<Node>,
    initializers: Vec<Known<'static>>,
    session: Mutex<Session>,
}

/// The model that was made last, while it is in use.
///
/// A session has threads of its own. Copies of a problem therefore share one, as the calls in a program
/// share a model: a few hundred of them, which is what it takes to get out of the caches, would otherwise
/// be as many pools of threads at odds with each other.
pub(super) type Latest = Mutex<Weak<Model>>;

impl Model {
    fn new(
        environment: &Environment,
        threads: usize,
        problem: &Problem,
        (nodes, initializers): (Vec<Node>, Vec<Known<'static>>),
        inputs: &[(String, DynTensor)],
        outputs: &[(String, DynTensor)],
    ) -> Result<Self, BackendError> {
        let mut graph = OrtGraph::new()?;
        for known in &initializers {
            graph.add_initializer(known.edge.name(), upload(&known.values)?, false)?;
        }
        for node in &nodes {
            graph.add_node(ort_node(node)?)?;
        }
        let outlets = |edges: &[(String, DynTensor)]| {
            let outlets = edges.iter().map(|(name, value)| Outlet::new(name.clone(), value.dtype().clone()));
            outlets.collect::<Vec<_>>()
        };
        graph.set_inputs(outlets(inputs))?;
        graph.set_outputs(outlets(outputs))?;

        let mut model = OrtModel::new([Opset::new(ONNX_DOMAIN, OPSET)?, Opset::new("com.microsoft", 1)?])?;
        model.set_graph(graph)?;
        let options = options(environment, threads)?;
        let session = Mutex::new(model.into_session(&options)?);
        Ok(Model { problem: problem.clone(), nodes, initializers, session })
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `threads` threads that share each operator, and one operator at a time.
fn options(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    let options = Session::builder(environment)?;
    let options = options.with_intra_threads(threads)?.with_inter_threads(1)?;
    Ok(options.with_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)?)
}

/// A model with its operands and results.
pub(super) struct Bound {
    model: Arc<Model>,
    binding: IoBinding,
    /// The inputs that are loaded anew, with the memory that is bound to them.
    loaded: Vec<(Loaded, DynTensor)>,
    scratch: Vec<DynTensor>,
    results: Vec<DynTensor>,
}

impl Bound {
    /// Makes a session of a graph, or takes that of an equal one, uploads the operands and allocates the
    /// results, with one edge of the graph for each.
    pub(super) fn new(
        environment: &Environment,
        threads: usize,
        latest: &Latest,
        problem: &Problem,
        graph: Graph,
        outputs: &[Edge],
    ) -> Result<Self, BackendError> {
        let (known, loaded, nodes) = graph.into_parts();
        let (mut initializers, mut inputs, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for known in known {
            match known.role {
                Role::Initializer => initializers.push(known.into_owned()),
                Role::Input => inputs.push((known.edge.name(), upload(&known.values)?)),
                Role::Scratch => scratch.push((known.edge.name(), upload(&known.values)?)),
            }
        }
        let is_scratch = inputs.len();
        inputs.append(&mut scratch);
        let results = outputs.iter().zip(problem.results());
        let mut results = results
            .map(|(edge, result)| Ok((edge.name(), unwritten(&result)?)))
            .collect::<Result<Vec<_>, BackendError>>()?;

        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        let equal = latest.upgrade().filter(|model| {
            (&model.problem, &model.nodes, &model.initializers) == (problem, &nodes, &initializers)
        });
        let model = match equal {
            Some(model) => model,
            None => {
                let parts = (nodes, initializers);
                Arc::new(Model::new(environment, threads, problem, parts, &inputs, &results)?)
            }
        };
        *latest = Arc::downgrade(&model);

        let mut binding = model.session().create_binding()?;
        for (name, value) in &inputs {
            binding.bind_input(name.clone(), value)?;
        }
        for (name, value) in &mut results {
            binding.bind_output(name.clone(), value)?;
        }
        let values = |named: Vec<(String, DynTensor)>| named.into_iter().map(|(_, value)| value).collect();
        let scratch = values(inputs.split_off(is_scratch));
        let mut own = |loaded: Loaded| {
            let at = inputs.iter().position(|(name, _)| *name == loaded.edge.name())?;
            Some((loaded, inputs.swap_remove(at).1))
        };
        let loaded = loaded.into_iter().filter_map(&mut own).collect();
        Ok(Bound { model, binding, loaded, scratch, results: values(results) })
    }

    /// Copies data operands into the memory that is bound.
    pub(super) fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        for (loaded, memory) in &mut self.loaded {
            let tensor = (loaded.make)(data)?;
            match tensor.element() {
                ElementType::Float(DType::F32) => copy_into(memory, tensor.as_slice::<f32>()?)?,
                ElementType::Float(DType::F16) => copy_into(memory, tensor.as_slice::<f16>()?)?,
                ElementType::Float(DType::BF16) => copy_into(memory, tensor.as_slice::<bf16>()?)?,
                ElementType::I64 => copy_into(memory, tensor.as_slice::<i64>()?)?,
                ElementType::Bool => copy_into(memory, &truths(&tensor)?)?,
            }
        }
        Ok(())
    }

    /// Computes the results.
    pub(super) fn run(&mut self) -> Result<(), BackendError> {
        for scratch in &mut self.scratch {
            scratch.try_extract_tensor_mut::<f32>()?.1.fill(0.0);
        }
        // What it hands out are the results bound above.
        self.model.session().run_binding(&self.binding)?;
        Ok(())
    }

    /// The results of the last run.
    pub(super) fn download(&self, results: &[Operand]) -> Result<Vec<Tensor>, BackendError> {
        results.iter().zip(&self.results).map(|(result, value)| download(result, value)).collect()
    }
}

fn ort_node(node: &Node) -> ort::Result<OrtNode> {
    let (operator, domain) = node.operator_and_domain();
    let attributes = node.attributes.iter().map(|&(name, attribute)| match attribute {
        Attribute::Int(value) => OrtAttribute::new(name, value),
        Attribute::Float(value) => OrtAttribute::new(name, value),
        Attribute::Text(value) => OrtAttribute::new(name, value.to_string()),
    });
    let names = |edges: &[Edge]| edges.iter().map(|edge| edge.name()).collect::<Vec<_>>();
    let outputs = names(&node.outputs);
    let name = format!("{operator}_{}", outputs.join("_"));
    let attributes = attributes.collect::<ort::Result<Vec<_>>>()?;
    OrtNode::new(operator, domain, name, names(&node.inputs), outputs, attributes)
}

/// A type of element that ONNX Runtime has, too.
trait Number: PrimitiveTensorElementType + fmt::Debug + Copy + 'static {}

impl<T: PrimitiveTensorElementType + fmt::Debug + Copy + 'static> Number for T {}

fn upload(values: &Values) -> Result<DynTensor, BackendError> {
    let tensor = match values {
        Values::Tensor(tensor) => tensor,
        Values::F64(numbers) => return Ok(copied(&[numbers.len()], numbers)?),
    };
    let shape = tensor.shape();
    Ok(match tensor.element() {
        ElementType::Float(DType::F32) => copied(shape, tensor.as_slice::<f32>()?)?,
        ElementType::Float(DType::F16) => copied(shape, tensor.as_slice::<f16>()?)?,
        ElementType::Float(DType::BF16) => copied(shape, tensor.as_slice::<bf16>()?)?,
        ElementType::I64 => copied(shape, tensor.as_slice::<i64>()?)?,
        ElementType::Bool => copied(shape, &truths(tensor)?)?,
    })
}

fn truths(tensor: &Tensor) -> Result<Vec<bool>, BackendError> {
    Ok(tensor.as_slice::<u8>()?.iter().map(|&byte| byte != 0).collect())
}

fn copy_into<T: Number>(memory: &mut DynTensor, data: &[T]) -> ort::Result<()> {
    memory.try_extract_tensor_mut::<T>()?.1.copy_from_slice(data);
    Ok(())
}

/// A tensor in memory of ONNX Runtime's own, aligned as it wants.
fn copied<T: Number>(shape: &[usize], data: &[T]) -> ort::Result<DynTensor> {
    let mut tensor = OrtTensor::<T>::new(&Allocator::default(), shape)?;
    tensor.try_extract_tensor_mut::<T>()?.1.copy_from_slice(data);
    Ok(tensor.upcast())
}

/// A result that no kernel has written: NaN everywhere.
fn unwritten(result: &Operand) -> Result<DynTensor, BackendError> {
    upload(&result.unwritten().into())
}

fn download(result: &Operand, value: &DynTensor) -> Result<Tensor, BackendError> {
    let shape = &result.shape;
    Ok(match result.element {
        ElementType::Float(DType::F16) => Tensor::from_slice(shape, value.try_extract_tensor::<f16>()?.1)?,
        ElementType::Float(DType::BF16) => Tensor::from_slice(shape, value.try_extract_tensor::<bf16>()?.1)?,
        _ => Tensor::from_slice(shape, value.try_extract_tensor::<f32>()?.1)?,
    })
}

/// Only the first line of a message: others quote the source.
impl From<ort::Error> for BackendError {
    fn from(error: ort::Error) -> Self {
        let message = error.message().lines().next().unwrap_or_default().trim().to_string();
        let lower = message.to_lowercase();
        if lower.contains("failed to allocate memory") || lower.contains("bad_alloc") {
            BackendError::OutOfMemory { message }
        } else {
            BackendError::Library { library: "ONNX Runtime", message }
        }
    }
}
