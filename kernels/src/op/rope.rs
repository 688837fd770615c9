//! Rotary position embedding.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use super::schema::{flag, number};
use super::{Family, Field, Kind, Operand, Operation, Schema, Unit};
use crate::dtype::{DType, ElementType};
use crate::error::{ParseError, ShapeError};
use crate::fields::{FieldWriter, Fields};

/// The family.
pub static FAMILY: Family = Family {
    name: "rope",
    title: "Rotary position embedding",
    unit: Unit::Byte,
    operations: &[Schema {
        name: "rope",
        formula: "(x₀, x₁) → (x₀·cos − x₁·sin, x₁·cos + x₀·sin) by the angle position·θ",
        fields: &[
            Field::size("b", "a batch size").or("1"),
            Field::size("h", "a number of heads"),
            Field::size("l", "a number of positions"),
            Field::size("d", "the head size"),
            Field::size("rotary_dim", "channels to rotate").or("d"),
            Field::choice("style", "half or interleaved").or("half"),
            number("base").or("10000"),
            Field::choice(
                "scaling",
                "none, linear:f, ntk:f, yarn:f,original,fast,slow or llama3:f,low,high,original",
            )
            .or("none"),
            flag("batched_positions").or("false"),
            flag("freq_factors").or("false"),
            Field::choice("tables", "prepared or timed").or("prepared"),
        ],
        parse: |fields| Ok(Rope::parse(fields)?.into()),
    }],
};

/// Which two channels make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// (i, i + rotary_dim/2): GPT-NeoX, Hugging Face.
    Half,
    /// (2i, 2i + 1): GPT-J, Meta's Llama.
    Interleaved,
}

crate::named_enum!(RopeStyle, "style", {
    RopeStyle::Half => "half",
    RopeStyle::Interleaved => "interleaved",
});

/// When the table of sines and cosines is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeTables {
    /// Before the timed run, like weights.
    Prepared,
    /// As part of the timed run.
    Timed,
}

crate::named_enum!(RopeTables, "tables", {
    RopeTables::Prepared => "prepared",
    RopeTables::Timed => "timed",
});

/// How the frequencies are stretched for contexts longer than those trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// θ/factor (position interpolation, Chen et al. 2023). Written `linear:factor`.
    Linear {
        /// The stretch.
        factor: f32,
    },
    /// base·factor^(r/(r − 2)) ("NTK-aware"). Written `ntk:factor`.
    Ntk {
        /// The stretch.
        factor: f32,
    },
    /// NTK by parts with a temperature (YaRN, Peng et al. 2023): between the pairs that turn
    /// `beta_fast` and `beta_slow` times in the original context, a ramp from θ to θ/factor;
    /// sine and cosine are multiplied by 0.1·ln(factor) + 1.
    /// Written `yarn:factor,original,beta_fast,beta_slow`.
    Yarn {
        /// The stretch.
        factor: f32,
        /// Context length trained on.
        original: f32,
        /// Turns above which a frequency is kept.
        beta_fast: f32,
        /// Turns below which a frequency is divided by the factor.
        beta_slow: f32,
    },
    /// Llama 3's ramp over wavelengths. Written `llama3:factor,low,high,original`.
    Llama3 {
        /// The stretch.
        factor: f32,
        /// Wavelengths above original/low are stretched wholly.
        low: f32,
        /// Wavelengths below original/high are kept.
        high: f32,
        /// Context length trained on.
        original: f32,
    },
}

impl fmt::Display for RopeScaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RopeScaling::None => f.write_str("none"),
            RopeScaling::Linear { factor } => write!(f, "linear:{factor}"),
            RopeScaling::Ntk { factor } => write!(f, "ntk:{factor}"),
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow } => {
                write!(f, "yarn:{factor},{original},{beta_fast},{beta_slow}")
            }
            RopeScaling::Llama3 { factor, low, high, original } => {
                write!(f, "llama3:{factor},{low},{high},{original}")
            }
        }
    }
}

impl FromStr for RopeScaling {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, numbers) = text.split_once(':').unwrap_or((text, ""));
        let numbers: Vec<f32> = numbers
            .split(',')
            .filter(|n| !n.is_empty())
            .map(|n| n.parse().map_err(|_| ()))
            .collect::<Result<_, _>>()?;
        match (name, numbers[..].as_ref()) {
            ("none", []) => Ok(RopeScaling::None),
            ("linear", &[factor]) => Ok(RopeScaling::Linear { factor }),
            ("ntk", &[factor]) => Ok(RopeScaling::Ntk { factor }),
            ("yarn", &[factor, original, beta_fast, beta_slow]) => {
                Ok(RopeScaling::Yarn { factor, original, beta_fast, beta_slow })
            }
            ("llama3", &[factor, low, high, original]) => {
                Ok(RopeScaling::Llama3 { factor, low, high, original })
            }
            _ => Err(()),
        }
    }
}

/// Rotary position embedding (Su et al. 2021): pair i of the first `rotary_dim` channels is
/// turned by position·θ_i with θ_i = base^(−2i/rotary_dim), the other channels are copied:
///
/// (x₀, x₁) → (x₀·cos − x₁·sin, x₁·cos + x₀·sin)
///
/// Angles, sines and cosines are computed in f64 and rounded once: an f32 angle is wrong by
/// 0.05 rad at position 10⁶.
///
/// Operands: `x [B,H,L,D]`, `positions [L]` or `[B,L]` (i64), `freq_factors? [rotary_dim/2]` (f32;
/// θ_i is divided by it). Result: `out [B,H,L,D]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// B.
    pub batch: usize,
    /// H.
    pub heads: usize,
    /// L.
    pub len: usize,
    /// D.
    pub head_dim: usize,
    /// Channels that are rotated; even, at most D.
    pub rotary_dim: usize,
    /// Which channels make a pair.
    pub style: RopeStyle,
    /// Base of the geometric series of frequencies.
    pub base: f32,
    /// Stretching of the frequencies.
    pub scaling: RopeScaling,
    /// Whether positions differ by batch.
    pub batched_positions: bool,
    /// Whether there are frequency factors.
    pub freq_factors: bool,
    /// When the table is built.
    pub tables: RopeTables,
}

impl Rope {
    fn parse(fields: &mut Fields) -> Result<Self, ParseError> {
        let head_dim = fields.required("d")?;
        let scaling = fields.default("scaling", RopeScaling::None)?;
        Ok(Rope {
            batch: fields.default("b", 1)?,
            heads: fields.required("h")?,
            len: fields.required("l")?,
            head_dim,
            rotary_dim: fields.default("rotary_dim", head_dim)?,
            style: fields.default("style", RopeStyle::Half)?,
            base: fields.default("base", 10_000.0)?,
            scaling,
            batched_positions: fields.default("batched_positions", false)?,
            freq_factors: fields.default("freq_factors", false)?,
            tables: fields.default("tables", RopeTables::Prepared)?,
        })
    }

    /// The two channels of pair i.
    #[inline]
    pub fn pair(&self, i: usize) -> (usize, usize) {
        match self.style {
            RopeStyle::Half => (i, i + self.rotary_dim / 2),
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
        }
    }

    /// θ_i of every pair, stretched and divided by the frequency factors, in f64.
    pub fn frequencies(&self, factors: Option<&[f32]>) -> Vec<f64> {
        let r = self.rotary_dim as f64;
        let base = self.base as f64;
        let power = |base: f64, i: usize| base.powf(-2.0 * i as f64 / r);
        let mut theta: Vec<f64> = (0..self.rotary_dim / 2).map(|i| power(base, i)).collect();
        match self.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => theta.iter_mut().for_each(|t| *t /= factor as f64),
            RopeScaling::Ntk { factor } => {
                let stretched = base * (factor as f64).powf(r / (r - 2.0));
                theta.iter_mut().enumerate().for_each(|(i, t)| *t = power(stretched, i));
            }
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow } => {
                let pair_turning =
                    |turns: f64| r * (original as f64 / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
                let low = pair_turning(beta_fast as f64).floor().max(0.0);
                let high = pair_turning(beta_slow as f64).ceil().min(r - 1.0);
                let width = if high > low { high - low } else { 0.001 };
                for (i, t) in theta.iter_mut().enumerate() {
                    let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
                    *t = *t / factor as f64 * ramp + *t * (1.0 - ramp);
                }
            }
            RopeScaling::Llama3 { factor, low, high, original } => {
                let (low, high, original) = (low as f64, high as f64, original as f64);
                for t in &mut theta {
                    let wavelength = 2.0 * PI / *t;
                    if wavelength > original / low {
                        *t /= factor as f64;
                    } else if wavelength >= original / high {
                        let smooth = (original / wavelength - low) / (high - low);
                        *t = (1.0 - smooth) * *t / factor as f64 + smooth * *t;
                    }
                }
            }
        }
        if let Some(factors) = factors {
            theta.iter_mut().zip(factors).for_each(|(t, &f)| *t /= f as f64);
        }
        theta
    }

    /// What sine and cosine are multiplied by: YaRN's temperature, else 1.
    pub fn magnitude(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { factor, .. } if factor > 1.0 => 0.1 * (factor as f64).ln() + 1.0,
            _ => 1.0,
        }
    }

    /// Cosines and sines, one row of rotary_dim/2 for each position, rounded once from f64.
    pub fn tables(&self, positions: &[i64], factors: Option<&[f32]>) -> (Vec<f32>, Vec<f32>) {
        let theta = self.frequencies(factors);
        let magnitude = self.magnitude();
        positions
            .iter()
            .flat_map(|&position| theta.iter().map(move |t| position as f64 * t))
            .map(|angle| ((angle.cos() * magnitude) as f32, (angle.sin() * magnitude) as f32))
            .unzip()
    }
}

impl Operation for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn check(&self) -> Result<(), ShapeError> {
        let r = self.rotary_dim;
        if r == 0 || r > self.head_dim || !r.is_multiple_of(2) {
            return Err(self.error(format!("rotary_dim={r} must be even and in 2..={}", self.head_dim)));
        }
        if self.base <= 1.0 || !self.base.is_finite() {
            return Err(self.error(format!("base={} must be finite and greater than 1", self.base)));
        }
        match self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => self.check_positive("factor", factor),
            RopeScaling::Ntk { factor } if r > 2 => self.check_positive("factor", factor),
            RopeScaling::Ntk { .. } => Err(self.error("ntk scaling needs rotary_dim > 2".into())),
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow } => {
                self.check_positive("factor", factor)?;
                self.check_positive("original", original)?;
                self.check_positive("beta_fast", beta_fast)?;
                self.check_positive("beta_slow", beta_slow)
            }
            RopeScaling::Llama3 { factor, low, high, original } => {
                self.check_positive("factor", factor)?;
                self.check_positive("low", low)?;
                self.check_positive("original", original)?;
                self.check_positive("high - low", high - low)
            }
        }
    }

    fn operands(&self, dtype: DType) -> Vec<Operand> {
        let positions = if self.batched_positions { vec![self.batch, self.len] } else { vec![self.len] };
        let positions = Operand::new("positions", Kind::Positions, ElementType::I64, positions);
        let mut operands = vec![
            Operand::float("x", dtype, [self.batch, self.heads, self.len, self.head_dim]),
            // A table that is built in every call is built from positions that are new in every call.
            if self.tables == RopeTables::Timed { positions.loaded() } else { positions },
        ];
        if self.freq_factors {
            let factors = Operand::float("freq_factors", DType::F32, [self.rotary_dim / 2]);
            operands.push(factors.of(Kind::FrequencyFactors));
        }
        operands
    }

    fn results(&self, dtype: DType) -> Vec<Operand> {
        vec![Operand::float("out", dtype, [self.batch, self.heads, self.len, self.head_dim])]
    }

    /// Four products and two sums for each pair.
    fn flops(&self) -> u64 {
        (3 * self.batch * self.heads * self.len * self.rotary_dim) as u64
    }

    fn write(&self, fields: &mut FieldWriter) {
        fields
            .unless("b", self.batch, 1)
            .field("h", self.heads)
            .field("l", self.len)
            .field("d", self.head_dim)
            .unless("rotary_dim", self.rotary_dim, self.head_dim)
            .unless("style", self.style, RopeStyle::Half)
            .unless("base", self.base, 10_000.0)
            .unless("scaling", self.scaling, RopeScaling::None)
            .unless("batched_positions", self.batched_positions, false)
            .unless("freq_factors", self.freq_factors, false)
            .unless("tables", self.tables, RopeTables::Prepared);
    }
}
