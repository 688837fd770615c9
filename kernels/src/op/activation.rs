//! Point-wise functions and gated linear units.

use super::schema::number;
use super::{Family, Field, Operand, Operation, Schema, Unit};
use crate::dtype::DType;
use crate::error::{ParseError, ShapeError};
use crate::fields::{Dims, FieldWriter, Fields};

/// The family.
pub static FAMILY: Family = Family {
    name: "activation",
    title: "Activation",
    unit: Unit::Byte,
    operations: &[
        pointwise("relu", "max(x, 0)", &[SHAPE]),
        pointwise("leaky_relu", "x for x ≥ 0, slope·x below", &[SHAPE, number("slope").or("0.01")]),
        pointwise("sigmoid", "1/(1 + e^(−x))", &[SHAPE]),
        pointwise("tanh", "tanh x", &[SHAPE]),
        pointwise("gelu", "x·Φ(x)", &[SHAPE]),
        pointwise("gelu_tanh", "x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))", &[SHAPE]),
        pointwise("silu", "x·sigmoid(x)", &[SHAPE]),
        pointwise("swish", "x·sigmoid(β·x)", &[SHAPE, number("beta").or("1")]),
        pointwise("softplus", "log(1 + e^x)", &[SHAPE]),
        pointwise("elu", "x for x > 0, α·(e^x − 1) below", &[SHAPE, number("alpha").or("1")]),
        pointwise("hard_swish", "x·min(max(x + 3, 0), 6)/6", &[SHAPE]),
        pointwise("mish", "x·tanh(softplus(x))", &[SHAPE]),
        pointwise("erf", "the error function", &[SHAPE]),
        pointwise("exp", "e^x", &[SHAPE]),
        gated("glu", "sigmoid(gate)·up"),
        gated("reglu", "relu(gate)·up"),
        gated("geglu", "gelu(gate)·up"),
        gated("geglu_tanh", "gelu_tanh(gate)·up"),
        gated("swiglu", "silu(gate)·up"),
    ],
};

const SHAPE: Field = Field::size("shape", "dimensions such as 4x1024");

const GATED: &[Field] = &[
    Field::size("shape", "dimensions of the result, such as 4x1024"),
    Field::choice("layout", "split, gate_first or gate_last").or("split"),
];

const fn pointwise(name: &'static str, formula: &'static str, fields: &'static [Field]) -> Schema {
    Schema { name, formula, fields, parse: |fields| Ok(Activation::parse(fields)?.into()) }
}

const fn gated(name: &'static str, formula: &'static str) -> Schema {
    Schema { name, formula, fields: GATED, parse: |fields| Ok(Glu::parse(fields)?.into()) }
}

/// A function of one real variable.
///
/// At the ends they take their limits, not artefacts: gelu(−∞) = silu(−∞) = −0,
/// sigmoid(−∞) = 0, relu(NaN) = NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// max(x, 0).
    Relu,
    /// x for x ≥ 0, slope·x below.
    LeakyRelu {
        /// Factor of the negative side.
        slope: f32,
    },
    /// 1 / (1 + e^(−x)).
    Sigmoid,
    /// tanh x.
    Tanh,
    /// x·Φ(x) = x/2·erfc(−x/√2) (Hendrycks & Gimpel 2016).
    Gelu,
    /// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
    GeluTanh,
    /// x·sigmoid(x).
    Silu,
    /// x·sigmoid(β·x) (Ramachandran et al. 2017).
    Swish {
        /// Factor inside the sigmoid.
        beta: f32,
    },
    /// log(1 + e^x).
    Softplus,
    /// x for x > 0, α·(e^x − 1) below.
    Elu {
        /// Limit at −∞, negated.
        alpha: f32,
    },
    /// x·min(max(x + 3, 0), 6)/6.
    HardSwish,
    /// x·tanh(softplus(x)).
    Mish,
    /// The error function.
    Erf,
    /// e^x.
    Exp,
}

impl Unary {
    /// The names of all functions.
    pub const NAMES: [&'static str; 14] = [
        "relu",
        "leaky_relu",
        "sigmoid",
        "tanh",
        "gelu",
        "gelu_tanh",
        "silu",
        "swish",
        "softplus",
        "elu",
        "hard_swish",
        "mish",
        "erf",
        "exp",
    ];

    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        Ok(match fields.op() {
            "relu" => Unary::Relu,
            "leaky_relu" => Unary::LeakyRelu { slope: fields.default("slope", 0.01)? },
            "sigmoid" => Unary::Sigmoid,
            "tanh" => Unary::Tanh,
            "gelu" => Unary::Gelu,
            "gelu_tanh" => Unary::GeluTanh,
            "silu" => Unary::Silu,
            "swish" => Unary::Swish { beta: fields.default("beta", 1.0)? },
            "softplus" => Unary::Softplus,
            "elu" => Unary::Elu { alpha: fields.default("alpha", 1.0)? },
            "hard_swish" => Unary::HardSwish,
            "mish" => Unary::Mish,
            "erf" => Unary::Erf,
            "exp" => Unary::Exp,
            name => return Err(ParseError::choice("activation", name, &Unary::NAMES.join(", "))),
        })
    }

    /// The function's name.
    pub fn name(&self) -> &'static str {
        match self {
            Unary::Relu => "relu",
            Unary::LeakyRelu { .. } => "leaky_relu",
            Unary::Sigmoid => "sigmoid",
            Unary::Tanh => "tanh",
            Unary::Gelu => "gelu",
            Unary::GeluTanh => "gelu_tanh",
            Unary::Silu => "silu",
            Unary::Swish { .. } => "swish",
            Unary::Softplus => "softplus",
            Unary::Elu { .. } => "elu",
            Unary::HardSwish => "hard_swish",
            Unary::Mish => "mish",
            Unary::Erf => "erf",
            Unary::Exp => "exp",
        }
    }

    /// Nominal floating-point operations per element: one for each arithmetic operation and
    /// each elementary function of the defining formula.
    fn flops(&self) -> u64 {
        match self {
            Unary::Relu | Unary::Tanh | Unary::Erf | Unary::Exp => 1,
            Unary::LeakyRelu { .. } | Unary::Softplus => 2,
            Unary::Sigmoid | Unary::Elu { .. } => 3,
            Unary::Silu | Unary::Gelu | Unary::Mish => 4,
            Unary::Swish { .. } | Unary::HardSwish => 5,
            Unary::GeluTanh => 8,
        }
    }
}

/// A [`Unary`] function of every element.
///
/// Operand: `x` of any shape. Result: `out` of the same shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// Dimensions of `x`.
    pub shape: Vec<usize>,
    /// The function.
    pub function: Unary,
}

impl Activation {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        Ok(Activation { shape, function: Unary::parse(fields)? })
    }
}

impl Operation for Activation {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        match self.function {
            Unary::LeakyRelu { slope: p } | Unary::Swish { beta: p } | Unary::Elu { alpha: p } => {
                if p.is_finite() { Ok(()) } else { Err(self.error(format!("parameter {p} must be finite"))) }
            }
            _ => Ok(()),
        }
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("x", dtype, self.shape.clone())]
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("out", dtype, self.shape.clone())]
    }

    fn flops(&self) -> u64 {
        self.function.flops() * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields.field("shape", Dims(self.shape.clone()));
        match self.function {
            Unary::LeakyRelu { slope } => fields.unless("slope", slope, 0.01),
            Unary::Swish { beta } => fields.unless("beta", beta, 1.0),
            Unary::Elu { alpha } => fields.unless("alpha", alpha, 1.0),
            _ => fields,
        };
    }
}

/// Where gate and value of a gated linear unit lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GluLayout {
    /// Two tensors, `gate` and `up`.
    Split,
    /// One tensor `x`, the gate in the first half of the last axis (SwiGLU as packed by Llama
    /// ports).
    GateFirst,
    /// One tensor `x`, the gate in the second half of the last axis (PyTorch's `glu`).
    GateLast,
}

crate::named_enum!(GluLayout, "layout", {
    GluLayout::Split => "split",
    GluLayout::GateFirst => "gate_first",
    GluLayout::GateLast => "gate_last",
});

/// `out = g(gate) · up` with g one of sigmoid, relu, gelu, gelu_tanh, silu (Shazeer 2020).
///
/// Operands: `gate` and `up` of `shape`, or `x` with twice the last dimension. Result: `out` of
/// `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct Glu {
    /// Dimensions of the result.
    pub shape: Vec<usize>,
    /// The gate function.
    pub gate: Unary,
    /// Where gate and value lie.
    pub layout: GluLayout,
}

impl Glu {
    /// The names of the gated linear units, by gate.
    pub const NAMES: [&'static str; 5] = ["glu", "reglu", "geglu", "geglu_tanh", "swiglu"];
    const GATES: [Unary; 5] = [Unary::Sigmoid, Unary::Relu, Unary::Gelu, Unary::GeluTanh, Unary::Silu];

    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let Dims(shape) = fields.required("shape")?;
        let index = Glu::NAMES.iter().position(|name| *name == fields.op());
        let Some(index) = index else {
            return Err(ParseError::choice("gated unit", fields.op(), &Glu::NAMES.join(", ")));
        };
        let layout = fields.default("layout", GluLayout::Split)?;
        Ok(Glu { shape, gate: Glu::GATES[index], layout })
    }

    /// The last dimension of the result and the number of rows.
    pub fn rows_and_width(&self) -> (usize, usize) {
        let width = self.shape.last().copied().unwrap_or(1);
        (self.shape.iter().product::<usize>() / width.max(1), width)
    }
}

impl Operation for Glu {
    fn name(&self) -> &'static str {
        match self.gate {
            Unary::Relu => "reglu",
            Unary::Gelu => "geglu",
            Unary::GeluTanh => "geglu_tanh",
            Unary::Silu => "swiglu",
            _ => "glu",
        }
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        if !Glu::GATES.contains(&self.gate) {
            return Err(self.error(format!("{} is not a gate of a gated linear unit", self.gate.name())));
        }
        if self.shape.is_empty() {
            return Err(self.error("a scalar has no last axis to gate".into()));
        }
        if !super::is_addressable(&self.shape) {
            return Err(self.error(format!("out of shape {:?} is too large", self.shape)));
        }
        Ok(())
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        if self.layout == GluLayout::Split {
            return vec![
                Operand::float("gate", dtype, self.shape.clone()),
                Operand::float("up", dtype, self.shape.clone()),
            ];
        }
        let mut packed = self.shape.clone();
        if let Some(last) = packed.last_mut() {
            *last *= 2;
        }
        vec![Operand::float("x", dtype, packed)]
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("out", dtype, self.shape.clone())]
    }

    fn flops(&self) -> u64 {
        (self.gate.flops() + 1) * self.shape.iter().product::<usize>() as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields.field("shape", Dims(self.shape.clone())).unless("layout", self.layout, GluLayout::Split);
    }
}
