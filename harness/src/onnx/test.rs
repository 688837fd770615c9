//! Reading node tests.

use std::path::{Path, PathBuf};

use prost::Message;

use super::error::{NodeTestError, NodeTestErrorKind};
use super::map::{self, Operator};
use super::node::{Node, Unmapped};
use super::value::Value;
use super::{Mapped, Outside, proto};

/// The model's file, and the directory of its tensors.
const MODEL: &str = "model.onnx";
const DATA: &str = "test_data_set_0";

/// A node test of ONNX.
#[derive(Clone, Debug)]
pub struct NodeTest {
    /// Its name: that of its directory without `test_`.
    pub name: String,
    /// The operator, or that of the first node where there are several.
    pub operator: String,
    /// What it comes to here.
    pub mapped: Result<Mapped, Outside>,
}

/// The node tests at a path: itself, or the directories in it, by name.
///
/// # Errors
/// [`NodeTestError`] when there is none.
pub fn directories(path: &Path) -> Result<Vec<PathBuf>, NodeTestError> {
    if path.join(MODEL).exists() {
        return Ok(vec![path.into()]);
    }
    let at = |kind| NodeTestError { path: path.into(), kind };
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| at(error.into()))?;
    let mut found: Vec<PathBuf> =
        entries.iter().map(|entry| entry.path()).filter(|path| path.join(MODEL).exists()).collect();
    if found.is_empty() {
        return Err(at(NodeTestErrorKind::Empty));
    }
    found.sort();
    Ok(found)
}

impl NodeTest {
    /// Reads a node test, and maps it if its operator is one of ours. The tensors of other
    /// operators are not read.
    ///
    /// # Errors
    /// [`NodeTestError`] naming the file and the tensor.
    pub fn read(directory: &Path) -> Result<Self, NodeTestError> {
        let file = directory.join(MODEL);
        let at = |kind| NodeTestError { path: file.clone(), kind };
        let bytes = std::fs::read(&file).map_err(|error| at(error.into()))?;
        let model = proto::Model::decode(bytes.as_slice()).map_err(|error| at(error.into()))?;
        let graph = model.graph.as_ref();
        let graph = graph.ok_or_else(|| at(NodeTestErrorKind::Model("the model has no graph".into())))?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_prefix("test_").unwrap_or(&name).to_string();
        let operator = graph.node.first().map(|node| node.op_type.clone()).unwrap_or_default();
        let mapped = match read_graph(directory, &model, graph) {
            Ok(mapped) => Ok(mapped),
            Err(NotRead::Outside(outside)) => Err(outside),
            Err(NotRead::Bad(error)) => return Err(*error),
        };
        Ok(NodeTest { name, operator, mapped })
    }
}

enum NotRead {
    Outside(Outside),
    Bad(Box<NodeTestError>),
}

impl From<NodeTestError> for NotRead {
    fn from(error: NodeTestError) -> Self {
        NotRead::Bad(Box::new(error))
    }
}

impl From<Unmapped> for NotRead {
    fn from(unmapped: Unmapped) -> Self {
        match unmapped {
            Unmapped::Outside(reason) => NotRead::Outside(Outside::Semantics(reason)),
            Unmapped::Bad(error) => NotRead::Bad(error),
        }
    }
}

fn read_graph(directory: &Path, model: &proto::Model, graph: &proto::Graph) -> Result<Mapped, NotRead> {
    let [message] = graph.node.as_slice() else {
        return Err(NotRead::Outside(Outside::Body { nodes: graph.node.len() }));
    };
    let Some(operator) = map::find(&message.domain, &message.op_type) else {
        return Err(NotRead::Outside(Outside::Operator));
    };
    let mut node = Node { directory, message, opset: 0, inputs: Vec::new(), outputs: Vec::new() };
    let version = model.opset_import.iter().find(|set| domain(&set.domain) == domain(&message.domain));
    node.opset = version.ok_or_else(|| node.wrong("the model names no version of its operators"))?.version;
    understood(operator, &node, graph)?;

    let files = |kind: &'static str| move |i: usize| directory.join(DATA).join(format!("{kind}_{i}.pb"));
    let mut inputs = values(&graph.input, files("input"))?;
    for constant in &graph.initializer {
        if !inputs.iter().any(|value| value.name == constant.name) {
            inputs.push(Value::from_message(&constant.name, &directory.join(MODEL), constant)?);
        }
    }
    let outputs = values(&graph.output, files("output"))?;
    node.inputs = by_place(&node, &message.input, &inputs)?;
    node.outputs = by_place(&node, &message.output, &outputs)?;
    Ok((operator.map)(&node)?)
}

/// The default domain has two names.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

/// Refuses what the mapping would not notice: another version, an attribute or a type that it
/// does not know.
fn understood(operator: &Operator, node: &Node, graph: &proto::Graph) -> Result<(), Unmapped> {
    if node.opset < operator.since {
        return Err(Unmapped::Outside(format!(
            "{} before version {} of the operator set means something else",
            node.message.op_type, operator.since
        )));
    }
    let attributes = &node.message.attribute;
    if let Some(unknown) = attributes.iter().find(|a| !operator.attributes.contains(&a.name.as_str())) {
        let op = &node.message.op_type;
        return Err(Unmapped::Outside(format!(
            "the attribute '{}' of {op} has no counterpart",
            unknown.name
        )));
    }
    for value in graph.input.iter().chain(&graph.output) {
        let tensor_type = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let tensor_type =
            tensor_type.ok_or_else(|| Unmapped::Outside("values that are not tensors".into()))?;
        if let (name, None) = proto::element_type(tensor_type.elem_type) {
            return Err(Unmapped::Outside(format!("tensors of {name}")));
        }
    }
    Ok(())
}

fn values(
    declared: &[proto::ValueInfo],
    file: impl Fn(usize) -> PathBuf,
) -> Result<Vec<Value>, NodeTestError> {
    declared.iter().enumerate().map(|(i, declared)| Value::read(&file(i), declared)).collect()
}

/// The values that a node names, by place.
fn by_place(node: &Node, names: &[String], values: &[Value]) -> Result<Vec<Option<Value>>, NodeTestError> {
    let find = |name: &String| {
        if name.is_empty() {
            return Ok(None);
        }
        let value = values.iter().find(|value| value.name == *name).cloned();
        value.map(Some).ok_or_else(|| node.wrong(format!("'{name}' is no input or output of the graph")))
    };
    names.iter().map(find).collect()
}
