//! The messages of ONNX files, as far as a node test needs them: field numbers as in `onnx.proto`
//! of ONNX 1.22. Fields that are not named here are skipped.

use prost::Message;

/// `ModelProto`: a graph, and the versions of the operator sets it is written in.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// The graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// The operator sets.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Whose operators; empty is ONNX itself.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// The nodes.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Constant inputs.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What is fed: the i-th comes from `input_<i>.pb`.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What comes out: the i-th is to be `output_<i>.pb`.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// `NodeProto`: an operator applied to named values.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of its inputs; empty where an optional one is left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of its outputs, likewise.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// The operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Its attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// Whose operator; empty is ONNX itself.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// `AttributeProto`, of one number or text.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value of a [`FLOAT`](Attribute::FLOAT).
    #[prost(float, tag = "2")]
    pub f: f32,
    /// The value of an [`INT`](Attribute::INT).
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// The value of a [`STRING`](Attribute::STRING).
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// Which of them it is.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

impl Attribute {
    /// A number.
    pub const FLOAT: i32 = 1;
    /// An integer.
    pub const INT: i32 = 2;
    /// A text.
    pub const STRING: i32 = 3;
}

/// `ValueInfoProto`: a named value and its type.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

/// `TypeProto`, of a tensor; nothing for sequences, maps and the like.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// The type of a tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// The type of the elements, as in [`Tensor::data_type`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// The dimensions; nothing where not even their number is known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    /// The dimensions.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`: a number, or nothing where it is left open.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// The number.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
}

/// `TensorProto`, with its data in the raw form.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// The dimensions.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// The type of the elements: 1 is f32, 7 i64, 9 bool, 10 f16, 16 bf16.
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Its name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// The elements in row-major order, little-endian.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

/// The name of an element type, and ours where we have it.
pub fn element_type(data_type: i32) -> (&'static str, Option<touchstone_kernels::ElementType>) {
    use touchstone_kernels::{DType, ElementType};
    match data_type {
        1 => ("FLOAT", Some(ElementType::Float(DType::F32))),
        2 => ("UINT8", None),
        3 => ("INT8", None),
        6 => ("INT32", None),
        7 => ("INT64", Some(ElementType::I64)),
        9 => ("BOOL", Some(ElementType::Bool)),
        10 => ("FLOAT16", Some(ElementType::Float(DType::F16))),
        11 => ("DOUBLE", None),
        16 => ("BFLOAT16", Some(ElementType::Float(DType::BF16))),
        _ => ("another type", None),
    }
}
