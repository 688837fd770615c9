//! softmax and log_softmax.

use super::schema::number;
use super::{Family, Field, Operand, Operation, Schema, Unit};
use crate::dtype::DType;
use crate::error::{ParseError, ShapeError};
use crate::fields::{Dims, FieldWriter, Fields};

/// The family.
pub static FAMILY: Family = Family {
    name: "softmax",
    title: "Softmax",
    unit: Unit::Byte,
    operations: &[
        Schema {
            name: "softmax",
            formula: "exp(s·x − m)/Σ exp(s·x − m), m = max s·x along one axis",
            fields: FIELDS,
            parse: |fields| Ok(Softmax::parse(fields)?.into()),
        },
        Schema {
            name: "log_softmax",
            formula: "s·x − m − log Σ exp(s·x − m), m = max s·x along one axis",
            fields: FIELDS,
            parse: |fields| Ok(Softmax::parse(fields)?.into()),
        },
    ],
};

const FIELDS: &[Field] = &[
    Field::size("shape", "dimensions such as 4x1024"),
    Field::choice("axis", "an axis, negative from the end").or("-1"),
    number("scale").or("1"),
];

/// `softmax(s·x)_i = exp(s·x_i − m) / Σ_j exp(s·x_j − m)` with `m = max_j s·x_j` along one axis,
/// or its logarithm `s·x_i − m − log Σ_j exp(s·x_j − m)`.
///
/// Operands: `x` of any shape. Result: `out` of the same shape.
///
/// A row of −∞ gives NaN, and so does +∞ anywhere in a row (the convention of torch, jax and
/// scipy). A row of one element gives exactly 1 (0 for the logarithm).
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// Dimensions of `x`.
    pub shape: Vec<usize>,
    /// The axis of the sum.
    pub axis: usize,
    /// Whether the logarithm is asked for.
    pub log: bool,
    /// Factor s applied before the maximum (1/temperature).
    pub scale: f32,
}

impl Softmax {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        let axis: i64 = fields.default("axis", -1)?;
        let from_start = if axis < 0 { axis + shape.len() as i64 } else { axis };
        if !(0..shape.len() as i64).contains(&from_start) {
            return Err(ParseError::Value {
                key: "axis".into(),
                found: axis.to_string(),
                expected: format!("an axis of a tensor with {} dimensions", shape.len()),
            });
        }
        Ok(Softmax {
            axis: from_start as usize,
            log: fields.op() == "log_softmax",
            scale: fields.default("scale", 1.0)?,
            shape,
        })
    }

    /// The tensor as (outer, length of the axis, inner): element (o, a, i) lies at
    /// `(o·axis + a)·inner + i`.
    pub fn dims(&self) -> (usize, usize, usize) {
        let outer = self.shape[..self.axis].iter().product();
        let inner = self.shape[self.axis + 1..].iter().product();
        (outer, self.shape[self.axis], inner)
    }
}

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        if self.axis >= self.shape.len() {
            return Err(self.error(format!("axis {} of shape {:?}", self.axis, self.shape)));
        }
        if !self.scale.is_finite() {
            return Err(self.error(format!("scale={} must be finite", self.scale)));
        }
        Ok(())
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("x", dtype, self.shape.clone())]
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("out", dtype, self.shape.clone())]
    }

    /// Per element: compare, subtract, exp, add, divide (or subtract).
    fn flops(&self) -> u64 {
        5 * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        let axis = self.axis as i64 - self.shape.len() as i64;
        fields.field("shape", Dims(self.shape.clone())).unless("axis", axis, -1);
        fields.unless("scale", self.scale, 1.0);
    }
}
