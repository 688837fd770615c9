//! Masks from positions and operands.

use tch::{Kind, TchError, Tensor as Torch};

use super::super::convert::Operands;
use crate::error::BackendError;
use crate::op::attention::{Attention, Mask};

/// All that is added to the scores or hides them, broadcastable to [B, Hq, Lq, Lk].
pub(super) struct Masking {
    /// Truth values.
    pub(super) visible: Option<Torch>,
    /// In f32.
    pub(super) bias: Option<Torch>,
}

impl Masking {
    pub(super) fn new(spec: &Attention, operands: &Operands) -> Result<Self, BackendError> {
        let (lq, lk) = (spec.q_len as i64, spec.kv_len as i64);

        let in_range = |i| (0..spec.kv_len).map(move |j| spec.key_range(i).contains(&j));
        let by_position: Vec<bool> = (0..spec.q_len).flat_map(in_range).collect();
        let by_position = match by_position.contains(&false) {
            true => Some(operands.upload_bool(&by_position, &[1, 1, lq, lk])?),
            false => None,
        };
        let by_data = match spec.mask {
            Mask::None | Mask::Additive(_) => None,
            Mask::Boolean(_) => Some(operands.get("mask")?),
            Mask::Padding => {
                let lengths = operands.get("lengths")?.f_view([spec.batch as i64, 1, 1, 1])?;
                Some(Torch::f_arange(lk, (Kind::Int64, operands.device))?.f_lt_tensor(&lengths)?)
            }
        };

        let additive = match spec.mask {
            Mask::Additive(_) => Some(operands.get("mask")?.f_to_kind(Kind::Float)?),
            _ => None,
        };
        let alibi = match spec.alibi {
            true => {
                let slopes = operands.get("slopes")?.f_view([spec.q_heads as i64, 1, 1])?;
                // Aligned bottom-right, whatever the causal mask is.
                let to_keys = |i: i64| (0..lk).map(move |j| -((i + lk - lq - j).abs() as f32));
                let minus_distance: Vec<f32> = (0..lq).flat_map(to_keys).collect();
                Some(operands.upload_f32(&minus_distance, &[1, 1, lq, lk])?.f_mul(&slopes)?)
            }
            false => None,
        };
        Ok(Masking {
            visible: both(by_position, by_data, Torch::f_logical_and)?,
            bias: both(alibi, additive, Torch::f_add)?,
        })
    }

    /// The keys that contribute nothing, an additive −∞ among the reasons.
    pub(super) fn hidden(&self) -> Result<Option<Torch>, TchError> {
        let invisible = self.visible.as_ref().map(Torch::f_logical_not).transpose()?;
        let minus_infinite = self.bias.as_ref().map(Torch::f_isneginf).transpose()?;
        both(invisible, minus_infinite, Torch::f_logical_or)
    }
}

/// Two tensors made one, where there are two.
fn both(
    a: Option<Torch>,
    b: Option<Torch>,
    join: fn(&Torch, &Torch) -> Result<Torch, TchError>,
) -> Result<Option<Torch>, TchError> {
    match (a, b) {
        (Some(a), Some(b)) => join(&a, &b).map(Some),
        (a, b) => Ok(a.or(b)),
    }
}
