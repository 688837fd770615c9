//! Candle's own functions by their bare names.

use candle_core::{Result, Tensor};
use candle_nn::rotary_emb;

use super::{Operands, Place, attention};
use crate::op::Op;
use crate::unstated::Unstated;

/// The result of a call, where candle has the function on this device.
pub(super) fn call(call: Unstated, op: &Op, place: Place, operands: &Operands) -> Result<Option<Tensor>> {
    match (call, op) {
        (Unstated::Causal, Op::Attention(spec)) if place == Place::Cpu => {
            attention::causal(spec, operands).map(Some)
        }
        (Unstated::Gelu, Op::Activation(_)) => operands.upload("x")?.gelu().map(Some),
        (Unstated::Rope, Op::Rope(spec)) => {
            let positions = operands.inputs.slice("positions").map_err(candle_core::Error::wrap)?;
            let (cos, sin) = spec.tables(positions, None);
            let table = |values| {
                Tensor::from_vec(values, (spec.len, spec.rotary_dim / 2), operands.device)?
                    .to_dtype(operands.dtype)
            };
            rotary_emb::rope(&operands.upload("x")?, &table(cos)?, &table(sin)?).map(Some)
        }
        _ => Ok(None),
    }
}
