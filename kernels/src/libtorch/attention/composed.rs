//! Attention beyond SDPA, composed of libtorch's matrix products and softmax.

use tch::{Kind, TchError, Tensor as Torch};

use super::super::convert::{Operands, sizes};
use super::masking::Masking;
use crate::dtype::DType;
use crate::error::BackendError;
use crate::op::attention::Attention;

/// In f32: q·scale(/softcap)·kᵀ, (tanh, ·softcap), + bias, −∞ where hidden, (a column of sinks),
/// softmax, ·v, 0 where all is hidden. All queries of the heads that share keys are one matrix.
pub(super) struct Composed {
    /// [B·Hkv, Hq/Hkv·Lq, D], in the storage type and scaled.
    q: Torch,
    scaled_q: Torch,
    k: Wide,
    v: Wide,
    scale: f64,
    softcap: Option<f64>,
    bias: Option<Torch>,
    /// The keys that contribute nothing, broadcastable to [B, Hq, Lq, Lk], and the queries for
    /// which that is all of them, [B, Hq, Lq, 1]: their softmax is NaN.
    hidden: Option<(Torch, Torch)>,
    scores: Scores,
    probabilities: Scores,
    /// [B·Hkv, Hq/Hkv·Lq, Dv], and memory for that when the result itself is not f32.
    product_size: [i64; 3],
    wide_out: Option<Torch>,
}

impl Composed {
    pub(super) fn new(
        spec: &Attention,
        operands: &Operands,
        [q, k, v]: [Torch; 3],
    ) -> Result<Self, BackendError> {
        let matrices = (spec.batch * spec.kv_heads) as i64;
        let rows = (spec.group() * spec.q_len) as i64;
        let (lk, d, dv) = (spec.kv_len as i64, spec.head_dim as i64, spec.v_dim as i64);
        let is_f32 = operands.dtype == DType::F32;
        let v = v.f_view([matrices, lk, dv])?;
        let masking = Masking::new(spec, operands)?;
        let hidden = match masking.hidden()? {
            Some(keys) if is_true(&keys.f_any()?)? => {
                let queries = keys.f_all_dim(-1, true)?;
                Some((keys, queries))
            }
            _ => None,
        };
        let softcap = spec.softcap.map(f64::from);
        let scores = Scores::new(spec, operands)?;
        if spec.sinks {
            let sinks = operands.get("sinks")?.f_view([spec.q_heads as i64, 1, 1])?;
            scores.all.f_narrow(-1, lk, 1)?.f_copy_(&sinks)?;
        }
        Ok(Composed {
            q: q.f_view([matrices, rows, d])?,
            scaled_q: operands.scratch(&[matrices, rows, d])?,
            k: Wide::new(k.f_view([matrices, lk, d])?, operands)?,
            v: Wide::new(v, operands)?,
            scale: f64::from(spec.scale) / softcap.unwrap_or(1.0),
            softcap,
            bias: masking.bias,
            hidden,
            scores,
            probabilities: Scores::new(spec, operands)?,
            product_size: [matrices, rows, dv],
            wide_out: if is_f32 { None } else { Some(operands.scratch(&[matrices, rows, dv])?) },
        })
    }

    pub(super) fn run(&mut self, results: &mut [Torch]) -> Result<(), TchError> {
        let Scores { all, of_keys, rows } = &mut self.scores;
        self.scaled_q.f_copy_(&self.q)?;
        let q = self.scaled_q.f_mul_scalar_(self.scale)?;
        let _ = q.f_bmm_out(rows, &self.k.in_f32()?.f_transpose(1, 2)?)?;
        if let Some(softcap) = self.softcap {
            let _ = of_keys.f_tanh_()?.f_mul_scalar_(softcap)?;
        }
        if let Some(bias) = &self.bias {
            let _ = of_keys.f_add_(bias)?;
        }
        if let Some((keys, _)) = &self.hidden {
            let _ = of_keys.f_masked_fill_(keys, f64::NEG_INFINITY)?;
        }
        if let [_, lse] = results {
            let _ = all.f_logsumexp_out(lse, -1, false)?;
        }
        let _ = all.f_softmax_int_out(&self.probabilities.all, -1, None::<Kind>)?;

        let out = &mut results[0];
        let mut products = match &self.wide_out {
            Some(wide) => wide.f_alias()?,
            None => out.f_view(self.product_size)?,
        };
        let p = &self.probabilities.rows;
        if is_true(&self.v.stored.f_isfinite()?.f_all()?)? {
            p.f_bmm_out(&products, self.v.in_f32()?).map(drop)?;
        } else {
            Special::new(&self.v.stored)?.product(rows, p, &mut products)?;
        }
        if self.wide_out.is_some() {
            out.f_copy_(&products.f_view_as(out)?)?;
        }
        if let Some((_, queries)) = &self.hidden {
            let _ = out.f_masked_fill_(queries, 0)?;
        }
        Ok(())
    }
}

/// An operand that enters products in f32: copied in each run, unless it is f32.
struct Wide {
    stored: Torch,
    wide: Option<Torch>,
}

impl Wide {
    fn new(stored: Torch, operands: &Operands) -> Result<Self, TchError> {
        let wide = match operands.dtype {
            DType::F32 => None,
            _ => Some(operands.scratch(&stored.size())?),
        };
        Ok(Wide { stored, wide })
    }

    fn in_f32(&mut self) -> Result<&Torch, TchError> {
        let Some(wide) = &mut self.wide else { return Ok(&self.stored) };
        wide.f_copy_(&self.stored)?;
        Ok(wide)
    }
}

/// One f32 for each query and key, and for each query's sink.
struct Scores {
    /// [B, Hq, Lq, Lk], or Lk + 1 with sinks.
    all: Torch,
    /// Those of keys: a view of [B, Hq, Lq, Lk].
    of_keys: Torch,
    /// Those of keys: a view of [B·Hkv, Hq/Hkv·Lq, Lk].
    rows: Torch,
}

impl Scores {
    fn new(spec: &Attention, operands: &Operands) -> Result<Self, TchError> {
        let columns = spec.kv_len + usize::from(spec.sinks);
        let all = operands.scratch(&sizes(&[spec.batch, spec.q_heads, spec.q_len, columns]))?;
        let of_keys = all.f_narrow(-1, 0, spec.kv_len as i64)?;
        let rows = [spec.batch * spec.kv_heads, spec.group() * spec.q_len, spec.kv_len];
        Ok(Scores { rows: of_keys.f_view(&sizes(&rows)[..])?, all, of_keys })
    }
}

/// NaN and ∞ in V. A product spreads them from keys that contribute nothing as 0·∞, so they are
/// taken out of it, and added where a query sees them.
struct Special {
    /// V with 0 in their place [B·Hkv, Lk, Dv].
    finite: Torch,
    /// Each of the three, and 1 where V holds it.
    values: [(f64, Torch); 3],
}

impl Special {
    fn new(v: &Torch) -> Result<Self, TchError> {
        Ok(Special {
            finite: v.f_to_kind(Kind::Float)?.f_nan_to_num(0.0, 0.0, 0.0)?,
            values: [
                (f64::NAN, v.f_isnan()?.f_to_kind(Kind::Float)?),
                (f64::INFINITY, v.f_isposinf()?.f_to_kind(Kind::Float)?),
                (f64::NEG_INFINITY, v.f_isneginf()?.f_to_kind(Kind::Float)?),
            ],
        })
    }

    /// Probabilities times V; a score of −∞ says that a key is not seen.
    fn product(&self, scores: &Torch, probabilities: &Torch, out: &mut Torch) -> Result<(), TchError> {
        let _ = probabilities.f_bmm_out(out, &self.finite)?;
        let seen = scores.f_isneginf()?.f_logical_not()?.f_to_kind(Kind::Float)?;
        for (value, at) in &self.values {
            let is_met = seen.f_bmm(at)?.f_gt(0)?;
            let _ = out.f_add_(&out.f_zeros_like()?.f_masked_fill(&is_met, *value)?)?;
        }
        Ok(())
    }
}

fn is_true(scalar: &Torch) -> Result<bool, TchError> {
    Ok(scalar.f_int64_value(&[])? != 0)
}
