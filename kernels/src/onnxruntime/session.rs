//! From a [`Graph`] to a session whose operands and results lie in memory bound once.

use std::fmt;

use half::{bf16, f16};
use ort::editor::{Graph as OrtGraph, Model, Node as OrtNode, ONNX_DOMAIN, Opset};
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::operator::Attribute as OrtAttribute;
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, Outlet, PrimitiveTensorElementType, Tensor as OrtTensor};

use super::graph::{Attribute, Edge, Graph, Node, Role, Values};
use crate::dtype::{DType, ElementType};
use crate::error::BackendError;
use crate::op::Operand;
use crate::tensor::Tensor;

/// The version of ONNX's operators: the first whose attention caps the scores before it masks them.
const OPSET: u32 = 24;

/// A model with its operands and results.
pub(super) struct Bound {
    session: Session,
    binding: IoBinding,
    results: Vec<DynTensor>,
}

impl Bound {
    /// Makes a session of a graph, uploads the operands and allocates the results, with one edge of
    /// the graph for each.
    pub(super) fn new(
        environment: &Environment,
        threads: usize,
        graph: Graph,
        outputs: &[Edge],
        results: &[Operand],
    ) -> Result<Self, BackendError> {
        let (known, nodes) = graph.into_parts();
        let mut model_graph = OrtGraph::new()?;
        let mut inputs = Vec::new();
        for known in known {
            let (name, value) = (known.edge.name(), upload(&known.values)?);
            match known.role {
                Role::Input => inputs.push((name, value)),
                Role::Initializer => model_graph.add_initializer(name, value, false)?,
            }
        }
        for node in &nodes {
            model_graph.add_node(ort_node(node)?)?;
        }
        model_graph.set_inputs(
            inputs.iter().map(|(name, value)| Outlet::new(name.clone(), value.dtype().clone())),
        )?;
        let mut results: Vec<DynTensor> = results.iter().map(unwritten).collect::<Result<_, _>>()?;
        let named = outputs.iter().map(|edge| edge.name()).zip(&results);
        model_graph.set_outputs(named.map(|(name, value)| Outlet::new(name, value.dtype().clone())))?;

        let mut model = Model::new([Opset::new(ONNX_DOMAIN, OPSET)?, Opset::new("com.microsoft", 1)?])?;
        model.set_graph(model_graph)?;
        let options = Session::builder(environment)?
            .with_intra_threads(threads)
            .map_err(ort::Error::from)?
            .with_inter_threads(1)
            .map_err(ort::Error::from)?;
        let session = model.into_session(&options)?;

        let mut binding = session.create_binding()?;
        for (name, value) in &inputs {
            binding.bind_input(name.clone(), value)?;
        }
        for (edge, value) in outputs.iter().zip(&mut results) {
            binding.bind_output(edge.name(), value)?;
        }
        Ok(Bound { session, binding, results })
    }

    /// Computes the results.
    pub(super) fn run(&mut self) -> Result<(), BackendError> {
        // What it hands out are the results bound above.
        self.session.run_binding(&self.binding)?;
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
        ElementType::Bool => {
            let truths: Vec<bool> = tensor.as_slice::<u8>()?.iter().map(|&byte| byte != 0).collect();
            copied(shape, &truths)?
        }
    })
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
