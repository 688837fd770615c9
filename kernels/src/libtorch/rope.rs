//! Rotary position embedding, which libtorch does not have: composed in f32.

use tch::{Kind, TchError, Tensor as Torch};

use super::convert::{Operands, sizes};
use super::{Bound, Entry, HasKernel, Step, Target, of, reused};
use crate::backend::Declaration;
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::rope::RopeTables;
use crate::op::{Rope, RopeStyle};

pub(super) const KERNELS: &[Entry] = &[of::<Rope>];

impl HasKernel for Rope {
    fn declares(&self, dtype: DType, _target: Target) -> Declaration {
        reused(match (self.style, dtype) {
            (RopeStyle::Half, DType::F32) => "composed: mul, addcmul of halves",
            (RopeStyle::Half, _) => "composed: to f32, mul, addcmul of halves, round",
            (RopeStyle::Interleaved, DType::F32) => "composed: complex mul",
            (RopeStyle::Interleaved, _) => "composed: to f32, complex mul, round",
        })
    }

    fn prepare(&self, operands: &Operands, _target: Target) -> Result<Bound, BackendError> {
        prepare(self, operands).map(Bound::from)
    }
}

/// What the pairs are multiplied by, with rotary_dim/2 numbers in each of [1 or B, 1, L] rows.
enum Tables {
    /// cos, sin and −sin: `addcmul` as tch binds it has no factor.
    Half(Torch, Torch, Torch),
    /// cos + i·sin, as in Meta's Llama.
    Interleaved(Torch),
}

impl Tables {
    /// The angles in f64, and each table rounded once.
    fn new(spec: &Rope, positions: &Torch, factors: Option<&[f32]>) -> Result<Self, TchError> {
        let theta = spec.frequencies(factors);
        let bytes: Vec<u8> = theta.iter().flat_map(|t| t.to_ne_bytes()).collect();
        let theta = Torch::f_from_data_size(&bytes, &[theta.len() as i64], Kind::Double)?;
        let angle = positions.f_to_kind(Kind::Double)?.f_mul(&theta.f_to_device(positions.device())?)?;
        let cos = angle.f_cos()?.f_mul_scalar_(spec.magnitude())?.f_to_kind(Kind::Float)?;
        let sin = angle.f_sin()?.f_mul_scalar_(spec.magnitude())?.f_to_kind(Kind::Float)?;
        Ok(match spec.style {
            RopeStyle::Half => Tables::Half(cos, sin.f_neg()?, sin),
            RopeStyle::Interleaved => Tables::Interleaved(Torch::f_complex(&cos, &sin)?),
        })
    }

    /// Turns every pair of `x [B, H, L, rotary_dim]` into `out`.
    fn rotate(&self, x: &Torch, out: &Torch) -> Result<(), TchError> {
        let (b, h, l, r) = x.size4()?;
        match self {
            Tables::Half(cos, minus_sin, sin) => {
                let half = |x: &Torch, n| x.f_narrow(-1, n * r / 2, r / 2);
                let (x0, x1, mut y0, mut y1) = (half(x, 0)?, half(x, 1)?, half(out, 0)?, half(out, 1)?);
                let _ = x0.f_mul_out(&y0, cos)?;
                let _ = y0.f_addcmul_(&x1, minus_sin)?;
                let _ = x1.f_mul_out(&y1, cos)?;
                y1.f_addcmul_(&x0, sin).map(drop)
            }
            Tables::Interleaved(turn) => {
                let complex = |x: &Torch| x.f_view([b, h, l, r / 2, 2])?.f_view_as_complex();
                complex(x)?.f_mul_out(&complex(out)?, turn).map(drop)
            }
        }
    }
}

fn prepare(spec: &Rope, operands: &Operands) -> Result<Step, BackendError> {
    let spec = spec.clone();
    let x = operands.get("x")?;
    let batches = if spec.batched_positions { spec.batch } else { 1 };
    let positions = operands.get("positions")?;
    let positions = positions.f_view([batches as i64, 1, spec.len as i64, 1])?;
    let factors = operands.host.optional::<f32>("freq_factors")?.map(<[f32]>::to_vec);
    let prepared = match spec.tables {
        RopeTables::Prepared => Some(Tables::new(&spec, &positions, factors.as_deref())?),
        RopeTables::Timed => None,
    };
    // Pairs are complex numbers in place only where each row begins at an even element.
    let in_place = spec.style == RopeStyle::Half || spec.head_dim.is_multiple_of(2);
    let mut scratch = None;
    if !(operands.dtype == DType::F32 && in_place) {
        let size = sizes(&[spec.batch, spec.heads, spec.len, spec.rotary_dim]);
        scratch = Some((operands.scratch(&size)?, operands.scratch(&size)?));
    }

    Ok(Box::new(move |out| {
        let built;
        let tables = match &prepared {
            Some(tables) => tables,
            None => {
                built = Tables::new(&spec, &positions, factors.as_deref())?;
                &built
            }
        };
        let r = spec.rotary_dim as i64;
        let rest = spec.head_dim as i64 - r;
        if rest > 0 {
            out[0].f_narrow(-1, r, rest)?.f_copy_(&x.f_narrow(-1, r, rest)?)?;
        }
        let (x, mut out) = (x.f_narrow(-1, 0, r)?, out[0].f_narrow(-1, 0, r)?);
        match &mut scratch {
            None => tables.rotate(&x, &out),
            Some((wide, rotated)) => {
                wide.f_copy_(&x)?;
                tables.rotate(wide, rotated)?;
                out.f_copy_(rotated)
            }
        }
    }))
}
