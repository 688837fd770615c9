//! Rotary position embedding.

use super::graph::{Attribute, Edge, Graph, Role, Values};
use super::{Entry, HasKernel, of};
use crate::backend::{Declaration, Rounded};
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::rope::RopeTables;
use crate::op::{Rope, RopeStyle};
use crate::tensor::Tensor;
use crate::unstated::Unstated;

pub(super) const KERNELS: &[Entry] = &[of::<Rope>];

impl HasKernel for Rope {
    fn write(&self, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
        rope(self, graph)
    }

    fn declared(&self, dtype: DType, declaration: Declaration) -> Declaration {
        Declaration { tables: tables_are(dtype), ..declaration }
    }

    fn unstated(&self, call: Unstated, graph: &mut Graph) -> Result<Option<Edge>, BackendError> {
        if call != Unstated::Rotation {
            return Ok(None);
        }
        let x = graph.operand("x")?;
        let [cos, sin] = prepared(self, graph)?;
        Ok(Some(graph.node("RotaryEmbedding", &[x, cos, sin], &[])))
    }
}

/// The kernel takes its tables in the type of x, of which there are f32 and f16.
fn tables_are(dtype: DType) -> Rounded {
    if dtype == DType::F16 { Rounded::Storage } else { Rounded::F32 }
}

fn rope(spec: &Rope, graph: &mut Graph) -> Result<Vec<Edge>, BackendError> {
    let x = graph.operand("x")?;
    let is_wide = tables_are(graph.dtype) == Rounded::F32;
    let x = if is_wide { graph.widen(x) } else { x };
    let [cos, sin] = match spec.tables {
        RopeTables::Prepared => prepared(spec, graph)?,
        RopeTables::Timed => timed(spec, graph)?,
    };
    let mut attributes = vec![("interleaved", Attribute::Int((spec.style == RopeStyle::Interleaved).into()))];
    if spec.rotary_dim < spec.head_dim {
        attributes.push(("rotary_embedding_dim", Attribute::Int(spec.rotary_dim as i64)));
    }
    let out = graph.node("RotaryEmbedding", &[x, cos, sin], &attributes);
    Ok(vec![if is_wide { graph.round(out) } else { out }])
}

/// Cosines and sines [B, L, rotary_dim/2], bound like the caches of a model.
fn prepared(spec: &Rope, graph: &mut Graph) -> Result<[Edge; 2], BackendError> {
    let dtype = if tables_are(graph.dtype) == Rounded::Storage { graph.dtype } else { DType::F32 };
    let mut table = |is_sine: bool| {
        graph.known(Role::Input, |operands| {
            let tables = spec.tables(operands.slice("positions")?, operands.optional("freq_factors")?);
            let table = if is_sine { tables.1 } else { tables.0 };
            // Positions that are the same for all samples have one table.
            let copies = if spec.batched_positions { 1 } else { spec.batch };
            let numbers: Vec<f64> = table.iter().map(|&x| f64::from(x)).collect();
            let shape = [spec.batch, spec.len, spec.rotary_dim / 2];
            Ok(Tensor::from_f64(dtype, &shape, &numbers.repeat(copies))?.into())
        })
    };
    Ok([table(false)?, table(true)?])
}

/// The same, computed from the positions in each run: the angles in f64.
fn timed(spec: &Rope, graph: &mut Graph) -> Result<[Edge; 2], BackendError> {
    let positions = graph.operand("positions")?;
    let positions = graph.cast(positions, DOUBLE);
    let samples = if spec.batched_positions { spec.batch } else { 1 };
    let positions = graph.reshape(positions, &[samples, spec.len, 1])?;
    let theta = graph.known(Role::Initializer, |operands| {
        Ok(Values::F64(spec.frequencies(operands.optional("freq_factors")?)))
    })?;
    let angles = graph.node("Mul", &[positions, theta], &[]);
    let tables = [graph.node("Cos", &[angles], &[]), graph.node("Sin", &[angles], &[])];
    let mut finish = |mut table: Edge| -> Result<Edge, BackendError> {
        if spec.magnitude() != 1.0 {
            let magnitude = graph.known(Role::Initializer, |_| Ok(Values::F64(vec![spec.magnitude()])))?;
            table = graph.node("Mul", &[table, magnitude], &[]);
        }
        table = graph.cast(table, FLOAT);
        if tables_are(graph.dtype) == Rounded::Storage {
            table = graph.round(table);
        }
        if samples < spec.batch {
            let shape = graph.integers(&[spec.batch, spec.len, spec.rotary_dim / 2])?;
            table = graph.node("Expand", &[table, shape], &[]);
        }
        Ok(table)
    };
    let [cos, sin] = tables.map(&mut finish);
    Ok([cos?, sin?])
}

/// Types by their numbers in ONNX's `TensorProto.DataType`.
const FLOAT: i64 = 1;
const DOUBLE: i64 = 11;
