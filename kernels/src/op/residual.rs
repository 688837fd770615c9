//! A residual added, and the norm that follows it, in one.
//!
//! Pre-norm blocks need the sum twice, normalized and as the next residual; post-norm blocks need the
//! normalized sum only. A kernel that does both reads each operand once.

use super::norm::Affine;
use super::schema::{flag, number};
use super::{Family, Field, Kind, Operand, Operation, Schema, Unit};
use crate::dtype::DType;
use crate::error::{ParseError, ShapeError};
use crate::fields::{Dims, FieldWriter, Fields};

/// The family.
pub static FAMILY: Family = Family {
    name: "residual",
    title: "Residual and norm",
    unit: Unit::Byte,
    operations: &[
        Schema {
            name: "add_rms_norm",
            formula: "s = x + residual; s/√(mean(s²) + eps)·(weight_offset + weight) over the last axis",
            fields: &[
                SHAPE,
                flag("weight").or("true"),
                number("weight_offset").or("0"),
                number("eps").or("1e-5"),
                ROUND_SUM,
                SUM,
            ],
            parse: |fields| Ok(AddRmsNorm::parse(fields)?.into()),
        },
        Schema {
            name: "add_layer_norm",
            formula: "s = x + residual; (s − mean)/√(var + eps)·weight + bias over the last axis",
            fields: &[
                SHAPE,
                flag("weight").or("true"),
                flag("bias").or("true"),
                number("eps").or("1e-5"),
                ROUND_SUM,
                SUM,
            ],
            parse: |fields| Ok(AddLayerNorm::parse(fields)?.into()),
        },
    ],
};

const SHAPE: Field = Field::size("shape", "dimensions such as 4x1024");
const ROUND_SUM: Field = flag("round_sum").or("true");
const SUM: Field = flag("sum").or("true");

/// What both have besides their norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// Whether the sum is rounded to the storage type before the norm, as in a model that adds first and
    /// normalizes then. A sum beyond the largest number of the type is infinite then.
    pub round_sum: bool,
    /// Whether the sum is a second result, always in the storage type.
    pub sum: bool,
}

impl Residual {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        Ok(Residual { round_sum: fields.default("round_sum", true)?, sum: fields.default("sum", true)? })
    }

    fn write(self, fields: &mut FieldWriter) {
        fields.unless("round_sum", self.round_sum, true).unless("sum", self.sum, true);
    }

    fn results(self, dtype: DType, shape: &[usize]) -> Vec<Operand> {
        let sum = self.sum.then(|| Operand::float("sum", dtype, shape));
        std::iter::once(Operand::float("out", dtype, shape)).chain(sum).collect()
    }
}

/// `s = x + residual; out = s/√(mean(s²) + eps)·(weight_offset + weight)` over the last axis.
///
/// Operands: `x`, `residual`, `weight? [N]`. Results: `out`, `sum?`.
#[derive(Clone, Debug, PartialEq)]
pub struct AddRmsNorm {
    /// Dimensions of `x`.
    pub shape: Vec<usize>,
    /// Whether there is an operand `weight`.
    pub weight: bool,
    /// Added to the weight: 0 in Llama, 1 in Gemma.
    pub weight_offset: f32,
    /// Added to the mean square; not negative.
    pub eps: f32,
    /// The sum.
    pub residual: Residual,
}

impl AddRmsNorm {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        Ok(AddRmsNorm {
            shape,
            weight: fields.default("weight", true)?,
            weight_offset: fields.default("weight_offset", 0.0)?,
            eps: fields.default("eps", 1e-5)?,
            residual: Residual::parse(fields)?,
        })
    }

    /// Number of rows and length of each.
    pub fn rows_and_width(&self) -> (usize, usize) {
        rows_and_width(&self.shape)
    }
}

/// `s = x + residual; out = (s − mean)/√(var + eps)·weight + bias` over the last axis.
///
/// Operands: `x`, `residual`, `weight?` and `bias? [N]`. Results: `out`, `sum?`.
#[derive(Clone, Debug, PartialEq)]
pub struct AddLayerNorm {
    /// Dimensions of `x`.
    pub shape: Vec<usize>,
    /// The affine operands.
    pub affine: Affine,
    /// Added to the variance; not negative.
    pub eps: f32,
    /// The sum.
    pub residual: Residual,
}

impl AddLayerNorm {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        Ok(AddLayerNorm {
            shape,
            affine: Affine { weight: fields.default("weight", true)?, bias: fields.default("bias", true)? },
            eps: fields.default("eps", 1e-5)?,
            residual: Residual::parse(fields)?,
        })
    }

    /// Number of rows and length of each.
    pub fn rows_and_width(&self) -> (usize, usize) {
        rows_and_width(&self.shape)
    }
}

fn rows_and_width(shape: &[usize]) -> (usize, usize) {
    let (&width, rows) = shape.split_last().unwrap_or((&1, &[]));
    (rows.iter().product(), width)
}

fn operands(dtype: DType, shape: &[usize], weight: Option<Kind>, bias: bool) -> Vec<Operand> {
    let width = [shape.last().copied().unwrap_or(1)];
    let weight = weight.map(|kind| Operand::float("weight", dtype, width).of(kind));
    let bias = bias.then(|| Operand::float("bias", dtype, width).of(Kind::Bias));
    let data = ["x", "residual"].map(|name| Operand::float(name, dtype, shape));
    data.into_iter().chain(weight).chain(bias).collect()
}

impl Operation for AddRmsNorm {
    fn name(&self) -> &'static str {
        "add_rms_norm"
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        if self.shape.is_empty() {
            return Err(self.error("a scalar has no last axis to normalize".into()));
        }
        if !self.weight_offset.is_finite() {
            return Err(self.error(format!("weight_offset={} must be finite", self.weight_offset)));
        }
        if !self.weight && self.weight_offset != 0.0 {
            return Err(self.error(format!(
                "weight_offset={} has no weight to be added to: expected weight=true",
                self.weight_offset
            )));
        }
        self.check_eps(self.eps)
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        let kind = if self.weight_offset == 0.0 { Kind::Weight } else { Kind::OffsetWeight };
        operands(dtype, &self.shape, self.weight.then_some(kind), false)
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        self.residual.results(dtype, &self.shape)
    }

    /// Per element: the sum; square, add; scale, weight.
    fn flops(&self) -> u64 {
        5 * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields
            .field("shape", Dims(self.shape.clone()))
            .unless("weight", self.weight, true)
            .unless("weight_offset", self.weight_offset, 0.0)
            .unless("eps", self.eps, 1e-5);
        self.residual.write(fields);
    }
}

impl Operation for AddLayerNorm {
    fn name(&self) -> &'static str {
        "add_layer_norm"
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        if self.shape.is_empty() {
            return Err(self.error("a scalar has no last axis to normalize".into()));
        }
        self.check_eps(self.eps)
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        operands(dtype, &self.shape, self.affine.weight.then_some(Kind::Weight), self.affine.bias)
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        self.residual.results(dtype, &self.shape)
    }

    /// Per element: the sum; add; subtract, square, add; scale, weight, bias.
    fn flops(&self) -> u64 {
        8 * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields
            .field("shape", Dims(self.shape.clone()))
            .unless("weight", self.affine.weight, true)
            .unless("bias", self.affine.bias, true)
            .unless("eps", self.eps, 1e-5);
        self.residual.write(fields);
    }
}
