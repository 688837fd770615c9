//! Normalizations: layer, rms, batch, group and instance.
//!
//! Variances are biased (divided by n), and eps stands inside the root, except where a field
//! says otherwise. A row of zero variance gives its bias; exactly so is a property that a kernel may
//! have, and no part of the promise.

use super::schema::{flag, number};
use super::{Family, Field, Kind, Operand, Operation, Schema, Unit};
use crate::dtype::DType;
use crate::error::{ParseError, ShapeError};
use crate::fields::{Dims, FieldWriter, Fields};

/// The family.
pub static FAMILY: Family = Family {
    name: "norm",
    title: "Normalization",
    unit: Unit::Byte,
    operations: &[
        Schema {
            name: "layer_norm",
            formula: "(x − mean)/√(var + eps)·weight + bias over the last axes",
            fields: &[SHAPE, Field::size("axes", "a number of trailing axes").or("1"), WEIGHT, BIAS, EPS],
            parse: |fields| Ok(LayerNorm::parse(fields)?.into()),
        },
        Schema {
            name: "rms_norm",
            formula: "x/√(mean(x²) + eps)·(weight_offset + weight) over the last axis",
            fields: &[
                SHAPE,
                WEIGHT,
                number("weight_offset").or("0"),
                EPS,
                flag("round_before_weight").or("false"),
            ],
            parse: |fields| Ok(RmsNorm::parse(fields)?.into()),
        },
        Schema {
            name: "batch_norm",
            formula: "(x − mean)/√(var + eps)·weight + bias of each channel over batch and space",
            fields: &[
                CHANNELS,
                Field::choice("mode", "train or infer").or("train"),
                WEIGHT,
                BIAS,
                EPS,
                number("momentum").or("0.1"),
            ],
            parse: |fields| Ok(BatchNorm::parse(fields)?.into()),
        },
        Schema {
            name: "group_norm",
            formula: "(x − mean)/√(var + eps)·weight + bias of each group of channels",
            fields: &[CHANNELS, Field::choice("groups", "a divisor of the channels"), WEIGHT, BIAS, EPS],
            parse: |fields| Ok(GroupNorm::parse(fields)?.into()),
        },
        Schema {
            name: "instance_norm",
            formula: "(x − mean)/√(var + eps)·weight + bias of each channel of each sample",
            fields: &[CHANNELS, WEIGHT, BIAS, EPS],
            parse: |fields| Ok(InstanceNorm::parse(fields)?.into()),
        },
    ],
};

const SHAPE: Field = Field::size("shape", "dimensions such as 4x1024");
const CHANNELS: Field = Field::size("shape", "dimensions such as 8x64x28x28");
const WEIGHT: Field = flag("weight").or("true");
const BIAS: Field = flag("bias").or("true");
const EPS: Field = number("eps").or("1e-5");

fn eps(fields: &mut Fields) -> Result<f32, ParseError> {
    fields.default("eps", 1e-5)
}

/// Whether weight and bias are operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affine {
    /// An operand `weight`.
    pub weight: bool,
    /// An operand `bias`.
    pub bias: bool,
}

impl Affine {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        Ok(Affine { weight: fields.default("weight", true)?, bias: fields.default("bias", true)? })
    }

    fn operands(self, dtype: DType, shape: &[usize]) -> impl Iterator<Item = Operand> {
        let weight = self.weight.then(|| Operand::float("weight", dtype, shape).of(Kind::Weight));
        let bias = self.bias.then(|| Operand::float("bias", dtype, shape).of(Kind::Bias));
        weight.into_iter().chain(bias)
    }

    fn write(self, fields: &mut FieldWriter) {
        fields.unless("weight", self.weight, true).unless("bias", self.bias, true);
    }
}

/// `out = (x − mean)/√(var + eps)·weight + bias` over the last `axes` axes together
/// (Ba et al. 2016).
///
/// Operands: `x`, `weight`? and `bias`? with the shape of the normalized axes. Result: `out`.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Dimensions of `x`.
    pub shape: Vec<usize>,
    /// How many trailing axes are normalized together.
    pub axes: usize,
    /// The affine operands.
    pub affine: Affine,
    /// Added to the variance; not negative. With 0 a group of equal numbers has no result.
    pub eps: f32,
}

impl LayerNorm {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        let axes = fields.default("axes", 1)?;
        Ok(LayerNorm { shape, axes, affine: Affine::parse(fields)?, eps: eps(fields)? })
    }

    /// Number of rows and length of each.
    pub fn rows_and_width(&self) -> (usize, usize) {
        let split = self.shape.len() - self.axes;
        (self.shape[..split].iter().product(), self.shape[split..].iter().product())
    }
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        if self.axes == 0 || self.axes > self.shape.len() {
            return Err(self.error(format!("axes={} of shape {:?}", self.axes, self.shape)));
        }
        self.check_eps(self.eps)
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        let normalized = &self.shape[self.shape.len() - self.axes..];
        std::iter::once(Operand::float("x", dtype, self.shape.clone()))
            .chain(self.affine.operands(dtype, normalized))
            .collect()
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("out", dtype, self.shape.clone())]
    }

    /// Per element: add; subtract, square, add; scale, weight, bias.
    fn flops(&self) -> u64 {
        7 * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields.field("shape", Dims(self.shape.clone())).unless("axes", self.axes, 1);
        self.affine.write(fields);
        fields.unless("eps", self.eps, 1e-5);
    }
}

/// `out = x/√(mean(x²) + eps)·(weight_offset + weight)` over the last axis
/// (Zhang & Sennrich 2019).
///
/// Operands: `x`, `weight? [N]`. Result: `out`.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNorm {
    /// Dimensions of `x`.
    pub shape: Vec<usize>,
    /// Whether there is an operand `weight`.
    pub weight: bool,
    /// Added to the weight: 0 in Llama, 1 in Gemma.
    pub weight_offset: f32,
    /// Added to the mean square; not negative.
    pub eps: f32,
    /// Whether the normalized value is rounded to the storage type before the weight (Llama's
    /// reference code does so).
    pub round_before_weight: bool,
}

impl RmsNorm {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        Ok(RmsNorm {
            shape,
            weight: fields.default("weight", true)?,
            weight_offset: fields.default("weight_offset", 0.0)?,
            eps: eps(fields)?,
            round_before_weight: fields.default("round_before_weight", false)?,
        })
    }

    /// Number of rows and length of each.
    pub fn rows_and_width(&self) -> (usize, usize) {
        let width = self.shape.last().copied().unwrap_or(1);
        (self.shape[..self.shape.len() - 1].iter().product(), width)
    }
}

impl Operation for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
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
        let width = self.shape.last().copied().unwrap_or(1);
        let kind = if self.weight_offset == 0.0 { Kind::Weight } else { Kind::OffsetWeight };
        let weight = self.weight.then(|| Operand::float("weight", dtype, [width]).of(kind));
        std::iter::once(Operand::float("x", dtype, self.shape.clone())).chain(weight).collect()
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("out", dtype, self.shape.clone())]
    }

    /// Per element: square, add; scale, weight.
    fn flops(&self) -> u64 {
        4 * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields
            .field("shape", Dims(self.shape.clone()))
            .unless("weight", self.weight, true)
            .unless("weight_offset", self.weight_offset, 0.0)
            .unless("eps", self.eps, 1e-5)
            .unless("round_before_weight", self.round_before_weight, false);
    }
}

/// Which statistics batch normalization uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchNormMode {
    /// Those of the batch (biased), and the running ones are updated with the *unbiased*
    /// variance: running ← (1 − momentum)·running + momentum·batch.
    Train,
    /// The running ones.
    Infer,
}

crate::named_enum!(BatchNormMode, "mode", {
    BatchNormMode::Train => "train",
    BatchNormMode::Infer => "infer",
});

/// Batch normalization over all axes but the second (Ioffe & Szegedy 2015).
///
/// Operands: `x [N,C,…]`, `weight`? `bias`? `running_mean` `running_var [C]`. Results: `out`,
/// and in training `running_mean` and `running_var` as updated.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// Dimensions of `x`.
    pub shape: Vec<usize>,
    /// Which statistics are used.
    pub mode: BatchNormMode,
    /// The affine operands.
    pub affine: Affine,
    /// Added to the variance; not negative. With 0 a group of equal numbers has no result.
    pub eps: f32,
    /// Weight of the new statistics.
    pub momentum: f32,
}

impl BatchNorm {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        Ok(BatchNorm {
            shape,
            mode: fields.default("mode", BatchNormMode::Train)?,
            affine: Affine::parse(fields)?,
            eps: eps(fields)?,
            momentum: fields.default("momentum", 0.1)?,
        })
    }

    /// The tensor as (N, C, spatial).
    pub fn dims(&self) -> (usize, usize, usize) {
        (self.shape[0], self.shape[1], self.shape[2..].iter().product())
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        check_channels(self, &self.shape)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(self.error(format!("momentum={} is not in 0..=1", self.momentum)));
        }
        let (n, _, spatial) = self.dims();
        if self.mode == BatchNormMode::Train && n * spatial < 2 {
            return Err(self.error("training needs more than one value per channel".into()));
        }
        self.check_eps(self.eps)
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        let channels = [self.shape[1]];
        let running = |name, kind| Operand::float(name, dtype, channels).of(kind);
        std::iter::once(Operand::float("x", dtype, self.shape.clone()))
            .chain(self.affine.operands(dtype, &channels))
            .chain([running("running_mean", Kind::Bias), running("running_var", Kind::Variance)])
            .collect()
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        let mut results = vec![Operand::float("out", dtype, self.shape.clone())];
        if self.mode == BatchNormMode::Train {
            results.push(Operand::float("running_mean", dtype, [self.shape[1]]));
            results.push(Operand::float("running_var", dtype, [self.shape[1]]));
        }
        results
    }

    /// As layer norm in training; subtract, scale, weight, bias in inference.
    fn flops(&self) -> u64 {
        let per_element = if self.mode == BatchNormMode::Train { 7 } else { 4 };
        per_element * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields.field("shape", Dims(self.shape.clone())).unless("mode", self.mode, BatchNormMode::Train);
        self.affine.write(fields);
        fields.unless("eps", self.eps, 1e-5).unless("momentum", self.momentum, 0.1);
    }
}

/// Normalization of each group of channels of each sample (Wu & He 2018). With one group it is
/// layer norm over C·spatial, with C groups instance norm.
///
/// Operands: `x [N,C,…]`, `weight`? `bias? [C]`. Result: `out`.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNorm {
    /// Dimensions of `x`.
    pub shape: Vec<usize>,
    /// Number of groups; divides C.
    pub groups: usize,
    /// The affine operands.
    pub affine: Affine,
    /// Added to the variance; not negative. With 0 a group of equal numbers has no result.
    pub eps: f32,
}

impl GroupNorm {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        let groups = fields.required("groups")?;
        Ok(GroupNorm { shape, groups, affine: Affine::parse(fields)?, eps: eps(fields)? })
    }

    /// The tensor as (N, C, spatial).
    pub fn dims(&self) -> (usize, usize, usize) {
        (self.shape[0], self.shape[1], self.shape[2..].iter().product())
    }
}

impl Operation for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        check_channels(self, &self.shape)?;
        if self.groups == 0 || !self.shape[1].is_multiple_of(self.groups) {
            return Err(
                self.error(format!("groups={} does not divide {} channels", self.groups, self.shape[1]))
            );
        }
        self.check_eps(self.eps)
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        channel_operands(dtype, &self.shape, self.affine)
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("out", dtype, self.shape.clone())]
    }

    fn flops(&self) -> u64 {
        7 * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields.field("shape", Dims(self.shape.clone())).field("groups", self.groups);
        self.affine.write(fields);
        fields.unless("eps", self.eps, 1e-5);
    }
}

/// Normalization of each channel of each sample over its spatial axes (Ulyanov et al. 2016).
///
/// Operands: `x [N,C,…]`, `weight`? `bias? [C]`. Result: `out`.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceNorm {
    /// Dimensions of `x`.
    pub shape: Vec<usize>,
    /// The affine operands.
    pub affine: Affine,
    /// Added to the variance; not negative. With 0 a group of equal numbers has no result.
    pub eps: f32,
}

impl InstanceNorm {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        Ok(InstanceNorm { shape, affine: Affine::parse(fields)?, eps: eps(fields)? })
    }

    /// The tensor as (N, C, spatial).
    pub fn dims(&self) -> (usize, usize, usize) {
        (self.shape[0], self.shape[1], self.shape[2..].iter().product())
    }
}

impl Operation for InstanceNorm {
    fn name(&self) -> &'static str {
        "instance_norm"
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        check_channels(self, &self.shape)?;
        self.check_eps(self.eps)
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        channel_operands(dtype, &self.shape, self.affine)
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("out", dtype, self.shape.clone())]
    }

    fn flops(&self) -> u64 {
        7 * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields.field("shape", Dims(self.shape.clone()));
        self.affine.write(fields);
        fields.unless("eps", self.eps, 1e-5);
    }
}

fn check_channels(spec: &dyn Operation, shape: &[usize]) -> Result<(), ShapeError> {
    if shape.len() < 2 {
        return Err(spec.error(format!("shape {shape:?} has no channel axis (expected N x C x …)")));
    }
    if !super::is_addressable(shape) {
        return Err(spec.error(format!("x of shape {shape:?} is too large")));
    }
    Ok(())
}

fn channel_operands(dtype: DType, shape: &[usize], affine: Affine) -> Vec<Operand> {
    std::iter::once(Operand::float("x", dtype, shape)).chain(affine.operands(dtype, &[shape[1]])).collect()
}
