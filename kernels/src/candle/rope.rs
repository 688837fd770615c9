//! Rotary position embedding.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::rotary_emb;

use super::{Compute, Entry, HasKernel, Operands, Place, of};
use crate::backend::{Declaration, Rounded, Support};
use crate::op::rope::RopeTables;
use crate::op::{Rope, RopeStyle};
use crate::unstated::Unstated;

pub(super) const KERNELS: &[Entry] = &[of::<Rope>];

impl HasKernel for Rope {
    fn supports(&self, place: Place) -> Support {
        if self.tables == RopeTables::Timed && place == Place::Metal {
            return Support::No("Metal has no f64 for the angles of the table".into());
        }
        Support::Yes
    }

    fn declares(&self, _dtype: crate::DType, _place: Place) -> Declaration {
        let path = match (self.style, self.rotary_dim == self.head_dim) {
            (RopeStyle::Half, true) => "rope",
            (RopeStyle::Half, false) => "rope on the first channels, cat",
            (RopeStyle::Interleaved, true) => "rope_i",
            (RopeStyle::Interleaved, false) => "rope_i on the first channels, cat",
        };
        // Candle's kernels want the tables in the type of x.
        Declaration { tables: Rounded::Storage, ..Declaration::library(path) }
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        prepare(self, operands)
    }

    fn unstated(&self, call: Unstated, operands: &Operands) -> Result<Option<Tensor>> {
        if call != Unstated::Rotation {
            return Ok(None);
        }
        let positions = operands.inputs.slice("positions").map_err(candle_core::Error::wrap)?;
        let (cos, sin) = self.tables(positions, None);
        let table = |values| {
            Tensor::from_vec(values, (self.len, self.rotary_dim / 2), operands.device)?
                .to_dtype(operands.dtype)
        };
        rotary_emb::rope(&operands.upload("x")?, &table(cos)?, &table(sin)?).map(Some)
    }
}

fn prepare(spec: &Rope, operands: &Operands) -> Result<Compute> {
    let x = operands.upload("x")?;
    let factors: Option<Vec<f32>> =
        operands.inputs.optional("freq_factors").map_err(candle_core::Error::wrap)?.map(<[f32]>::to_vec);
    let table: Box<dyn Fn() -> Result<(Tensor, Tensor)>> = match spec.tables {
        RopeTables::Prepared => {
            let positions = operands.inputs.slice("positions").map_err(candle_core::Error::wrap)?;
            let (cos, sin) = spec.tables(positions, factors.as_deref());
            let upload =
                |values| Tensor::from_vec(values, table_shape(spec), operands.device)?.to_dtype(x.dtype());
            let tables = (upload(cos)?, upload(sin)?);
            Box::new(move || Ok(tables.clone()))
        }
        RopeTables::Timed => {
            let positions = operands.upload("positions")?;
            let (spec, device, dtype) = (spec.clone(), operands.device.clone(), x.dtype());
            Box::new(move || build_tables(&spec, &positions, factors.as_deref(), &device, dtype))
        }
    };
    let (rotary_dim, style) = (spec.rotary_dim, spec.style);
    let turn = move |x: &Tensor, (cos, sin): (Tensor, Tensor)| match style {
        RopeStyle::Half => rotary_emb::rope(x, &cos, &sin),
        RopeStyle::Interleaved => rotary_emb::rope_i(x, &cos, &sin),
    };
    if rotary_dim == spec.head_dim {
        return Ok(Box::new(move || Ok(vec![turn(&x, table()?)?])));
    }
    let rest = spec.head_dim - rotary_dim;
    Ok(Box::new(move || {
        let turned = turn(&x.narrow(D::Minus1, 0, rotary_dim)?.contiguous()?, table()?)?;
        Ok(vec![Tensor::cat(&[turned, x.narrow(D::Minus1, rotary_dim, rest)?], D::Minus1)?])
    }))
}

/// [L, rotary_dim/2], or [B, L, rotary_dim/2] when positions differ by batch.
fn table_shape(spec: &Rope) -> Vec<usize> {
    let mut shape = vec![spec.len, spec.rotary_dim / 2];
    if spec.batched_positions {
        shape.insert(0, spec.batch);
    }
    shape
}

/// Cosines and sines of position·θ, in f64 on the device and rounded once.
fn build_tables(
    spec: &Rope,
    positions: &Tensor,
    factors: Option<&[f32]>,
    device: &Device,
    dtype: DType,
) -> Result<(Tensor, Tensor)> {
    let theta = Tensor::from_vec(spec.frequencies(factors), spec.rotary_dim / 2, device)?;
    let angle = positions.to_dtype(DType::F64)?.unsqueeze(D::Minus1)?.broadcast_mul(&theta)?;
    let scaled = |table: Tensor| (table * spec.magnitude())?.to_dtype(dtype);
    Ok((scaled(angle.cos()?)?, scaled(angle.sin()?)?))
}
