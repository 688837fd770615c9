//! Captures: problems with their tensors, in a safetensors file.
//!
//! The file's metadata holds `touchstone` (the version of this form, `1`), `problem` (the
//! operation and its parameters as a JSON object) and `source` (where the tensors come from). The
//! tensors are the operands by name; the dimensions of the problem are read from them. An
//! `expected` tensor in f64 may stand beside them: the oracle is held against it.
//!
//! The `problem` object is `{"op": …}` with the fields of a problem text, or in the words of
//! other libraries: `"mask": "boolean"`, `"kind": "gelu", "approximate": "none"`,
//! `"op": "glu", "gate": "silu"`, `"theta"` for RoPE's base.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use touchstone_kernels::fields::Fields;
use touchstone_kernels::op::{self, Schema};
use touchstone_kernels::{DType, ElementType, InputError, Inputs, ParseError, Problem, Tensor};

/// A problem with its operands, and what its result should be.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The problem.
    pub problem: Problem,
    /// Its operands.
    pub inputs: Inputs,
    /// The result as the file has it, in f64.
    pub expected: Option<Vec<f64>>,
    /// Where the tensors come from.
    pub source: String,
}

/// A file that is not a capture.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct CaptureError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: CaptureErrorKind,
}

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureErrorKind {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is not a safetensors file, or a damaged one.
    #[error("not a whole safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// The metadata lack something or hold something else.
    #[error("metadata '{key}': {message}")]
    Metadata {
        /// The key.
        key: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The problem does not make sense.
    #[error("metadata 'problem': {0}")]
    Problem(#[from] ParseError),
    /// A tensor holds f64, and no other type was asked for.
    #[error("tensor '{name}' holds F64, which no kernel computes in: round it with --as f32, f16 or bf16")]
    Double {
        /// The tensor.
        name: String,
    },
    /// A tensor has a type that no operand has.
    #[error("tensor '{name}' holds {found:?}, expected F32, F16, BF16, I64 or BOOL, or F64 with --as")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        found: Dtype,
    },
    /// A tensor that the problem needs is not there, or has too few dimensions.
    #[error("tensor '{name}' {message}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The operands do not fit the problem.
    #[error(transparent)]
    Input(#[from] InputError),
}

impl Capture {
    /// Reads a capture; `dtype` rounds its floating-point operands to another storage type first.
    ///
    /// # Errors
    /// [`CaptureError`] naming the file and the tensor or metadata.
    pub fn read(path: &Path, dtype: Option<DType>) -> Result<Self, CaptureError> {
        let bytes = std::fs::read(path).map_err(CaptureErrorKind::from);
        bytes
            .and_then(|bytes| Capture::parse(&bytes, dtype))
            .map_err(|kind| CaptureError { path: path.into(), kind })
    }

    fn parse(bytes: &[u8], dtype: Option<DType>) -> Result<Self, CaptureErrorKind> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let text = |key: &'static str| {
            metadata.get(key).ok_or_else(|| CaptureErrorKind::Metadata { key, message: "is missing".into() })
        };
        let version = text("touchstone")?;
        if version != "1" {
            let message = format!("version {version}, expected 1");
            return Err(CaptureErrorKind::Metadata { key: "touchstone", message });
        }
        let description: Map<String, Value> = serde_json::from_str(text("problem")?)
            .map_err(|error| CaptureErrorKind::Metadata { key: "problem", message: error.to_string() })?;

        let file = SafeTensors::deserialize(bytes)?;
        let mut tensors = Vec::new();
        let (mut expected, mut was_double) = (None, false);
        for (name, view) in file.tensors() {
            if name == "expected" {
                expected = Some((view.shape().to_vec(), doubles(&name, &view)?));
            } else {
                let tensor = match (view.dtype(), dtype) {
                    (Dtype::F64, None) => return Err(CaptureErrorKind::Double { name }),
                    // Rounded once, from what the file holds.
                    (Dtype::F64, Some(dtype)) => {
                        was_double = true;
                        Tensor::from_f64(dtype, view.shape(), &doubles(&name, &view)?)?
                    }
                    (found, _) => Tensor::from_bytes(element(&name, found)?, view.shape(), view.data())?,
                };
                tensors.push((name, tensor));
            }
        }
        if was_double {
            // The expectation belongs to the tensors as they were.
            expected = None;
        }
        let stored = stored_dtype(&tensors)?;
        let problem = problem(&description, &tensors, dtype.unwrap_or(stored))?;
        if let (Some((found, _)), Some(result)) = (&expected, problem.results().first())
            && *found != result.shape
        {
            let message = format!("has shape {found:?}, expected {:?}", result.shape);
            return Err(CaptureErrorKind::Tensor { name: "expected".into(), message });
        }
        if problem.dtype != stored {
            let data: Vec<&str> = problem
                .operands()
                .iter()
                .filter(|o| o.element == ElementType::Float(problem.dtype))
                .map(|o| o.name)
                .collect();
            for (_, tensor) in tensors.iter_mut().filter(|(name, _)| data.contains(&name.as_str())) {
                *tensor = Tensor::from_f64(problem.dtype, tensor.shape(), &tensor.to_f64())?;
            }
            // The expectation belongs to the tensors as they were.
            expected = None;
        }
        Ok(Capture {
            inputs: Inputs::new(&problem, tensors)?,
            problem,
            expected: expected.map(|(_, values)| values),
            source: text("source").cloned().unwrap_or_default(),
        })
    }
}

fn element(name: &str, dtype: Dtype) -> Result<ElementType, CaptureErrorKind> {
    Ok(match dtype {
        Dtype::F32 => ElementType::Float(DType::F32),
        Dtype::F16 => ElementType::Float(DType::F16),
        Dtype::BF16 => ElementType::Float(DType::BF16),
        Dtype::I64 => ElementType::I64,
        Dtype::BOOL => ElementType::Bool,
        found => return Err(CaptureErrorKind::Type { name: name.into(), found }),
    })
}

fn doubles(name: &str, view: &safetensors::tensor::TensorView) -> Result<Vec<f64>, CaptureErrorKind> {
    if view.dtype() != Dtype::F64 {
        let message = format!("holds {:?}, expected F64", view.dtype());
        return Err(CaptureErrorKind::Tensor { name: name.into(), message });
    }
    let (chunks, _) = view.data().as_chunks::<8>();
    Ok(chunks.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
}

/// The storage type: that of the first data operand.
fn stored_dtype(tensors: &[(String, Tensor)]) -> Result<DType, CaptureErrorKind> {
    ["x", "q", "gate"]
        .iter()
        .find_map(|name| tensors.iter().find(|(n, _)| n == name))
        .and_then(|(_, tensor)| match tensor.element() {
            ElementType::Float(dtype) => Some(dtype),
            ElementType::I64 | ElementType::Bool => None,
        })
        .ok_or_else(|| CaptureErrorKind::Tensor {
            name: "x, q or gate".into(),
            message: "is missing, or not floating-point".into(),
        })
}

/// The problem that a description and the shapes of its tensors make.
fn problem(
    description: &Map<String, Value>,
    tensors: &[(String, Tensor)],
    dtype: DType,
) -> Result<Problem, CaptureErrorKind> {
    let mut words: Vec<(String, String)> = Vec::new();
    let mut op = String::new();
    for (key, value) in description {
        match (key.as_str(), word(key, value)?) {
            (_, None) => {}
            ("op", Some(text)) => op = text,
            (_, Some(text)) => words.push((key.clone(), text)),
        }
    }
    let mut take = |key: &str| {
        let at = words.iter().position(|(k, _)| k == key)?;
        Some(words.remove(at).1)
    };
    match op.as_str() {
        "activation" => {
            op = take("kind").unwrap_or_default();
            if take("approximate").as_deref() == Some("tanh") {
                op.push_str("_tanh");
            }
        }
        "glu" => {
            op = match take("gate").as_deref() {
                Some("relu") => "reglu",
                Some("gelu") => "geglu",
                Some("gelu_tanh") => "geglu_tanh",
                Some("silu") => "swiglu",
                Some("sigmoid") | None => "glu",
                Some(gate) => gate,
            }
            .into();
        }
        "softmax" if take("log").as_deref() == Some("true") => op = "log_softmax".into(),
        _ => {}
    }
    let has_layout = |schema: &Schema| schema.fields.iter().any(|field| field.key == "layout");
    let gated = op::schema(&op).is_some_and(has_layout);
    if let Some(base) = take("theta") {
        words.push(("base".into(), base));
    }

    let shape = |name: &str, rank: usize| -> Result<&[usize], CaptureErrorKind> {
        let wrong = |message: String| CaptureErrorKind::Tensor { name: name.into(), message };
        let tensor = tensors.iter().find(|(n, _)| n == name);
        let (_, tensor) = tensor.ok_or_else(|| wrong("is missing".into()))?;
        if rank != 0 && tensor.shape().len() != rank {
            return Err(wrong(format!("has {} dimensions, expected {rank}", tensor.shape().len())));
        }
        Ok(tensor.shape())
    };
    let has = |name: &str| tensors.iter().any(|(n, _)| n == name);
    let mut set = |key: &str, value: String| {
        if !words.iter().any(|(k, _)| k == key) {
            words.push((key.into(), value));
        }
    };
    match op.as_str() {
        "attention" => {
            let (q, k, v) = (shape("q", 4)?, shape("k", 4)?, shape("v", 4)?);
            for (key, value) in [
                ("b", q[0]),
                ("h", q[1]),
                ("lq", q[2]),
                ("d", q[3]),
                ("hkv", k[1]),
                ("lk", k[2]),
                ("dv", v[3]),
            ] {
                set(key, value.to_string());
            }
            for optional in ["slopes", "sinks"].into_iter().filter(|name| has(name)) {
                set(if optional == "slopes" { "alibi" } else { optional }, "true".into());
            }
            if let Some((_, mask)) = words.iter_mut().find(|(key, _)| key == "mask") {
                let kind = match mask.as_str() {
                    "boolean" => Some("bool"),
                    "additive" => Some("float"),
                    _ => None,
                };
                if let Some(kind) = kind {
                    let full: Vec<char> = shape("mask", 4)?
                        .iter()
                        .zip("bhqk".chars())
                        .map(|(&n, c)| if n == 1 && c != 'k' { '1' } else { c })
                        .collect();
                    *mask = format!("{kind}:{}", full.into_iter().collect::<String>());
                }
            }
        }
        "rope" => {
            let x = shape("x", 4)?;
            for (key, value) in [("b", x[0]), ("h", x[1]), ("l", x[2]), ("d", x[3])] {
                set(key, value.to_string());
            }
            set("batched_positions", (shape("positions", 0)?.len() == 2).to_string());
            set("freq_factors", has("freq_factors").to_string());
        }
        _ => {
            let data = if has("gate") { "gate" } else { "x" };
            let mut dims = shape(data, 0)?.to_vec();
            if let (true, Some(last)) = (gated && data == "x", dims.last_mut()) {
                if !last.is_multiple_of(2) {
                    let message = format!("has a last axis of {last}, which is not two halves");
                    return Err(CaptureErrorKind::Tensor { name: "x".into(), message });
                }
                *last /= 2;
            }
            let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
            set("shape", if dims.is_empty() { "scalar".into() } else { dims.join("x") });
            // A field that says whether there is an operand of its name.
            for name in ["weight", "bias"] {
                let is_field = |schema: &Schema| schema.fields.iter().any(|field| field.key == name);
                if op::schema(&op).is_some_and(is_field) {
                    set(name, has(name).to_string());
                }
            }
        }
    }
    Ok(Problem::from_fields(Fields::new(&op, words)?, dtype)?)
}

/// A JSON value as the text of a field; nothing for null.
fn word(key: &str, value: &Value) -> Result<Option<String>, CaptureErrorKind> {
    Ok(match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            Some(items.join(","))
        }
        Value::Object(_) => {
            let message = format!("{key} is an object, expected a text, number or list");
            return Err(CaptureErrorKind::Metadata { key: "problem", message });
        }
    })
}
