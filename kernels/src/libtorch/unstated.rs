//! libtorch's own functions as they are called.

use tch::Tensor as Torch;

use super::convert::{Operands, download};
use crate::error::BackendError;
use crate::op::Op;
use crate::operands::Outputs;
use crate::problem::Problem;
use crate::unstated::{Habit, Unstated};

/// What a call gives. `gelu` wants to be told which through `tch`, and there is no `rope`.
pub(super) fn call(call: Unstated, problem: &Problem, operands: &Operands) -> Result<Habit, BackendError> {
    let Op::Attention(spec) = &problem.op else {
        return Ok(if call == Unstated::Gelu { Habit::Asks } else { Habit::Absent });
    };
    let (q, k, v) = (operands.get("q")?, operands.get("k")?, operands.get("v")?);
    let (no_mask, scale, grouped) = (None::<&Torch>, f64::from(spec.scale), spec.group() > 1);
    let out = Torch::f_scaled_dot_product_attention(&q, &k, &v, no_mask, 0.0, true, scale, grouped)?;
    let results = problem.results();
    Ok(Habit::Results(Outputs::new(problem, vec![download(&results[0], &out)?])?))
}
