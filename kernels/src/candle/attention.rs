//! Scaled dot-product attention.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::attention::{AttnMask, flash_attn, flash_attn_varlen_cpu};
use candle_nn::ops::softmax_last_dim;
use half::{bf16, f16};

use super::{Compute, Entry, HasKernel, Operands, Place, of};
use crate::backend::{Declaration, Support};
use crate::op::attention::Window;
use crate::op::{Attention, Causal, Mask};
use crate::unstated::Unstated;

pub(super) const KERNELS: &[Entry] = &[of::<Attention>];

impl HasKernel for Attention {
    fn supports(&self, _place: Place) -> Support {
        // Of a cache with no keys in use candle would get an empty view.
        if self.kv_len == 0 { Support::No(super::EMPTY.into()) } else { Support::Yes }
    }

    fn declares(&self, dtype: crate::DType, place: Place) -> Declaration {
        Declaration::library(path(self, dtype, place).name())
    }

    fn prepare(&self, operands: &Operands) -> Result<Compute> {
        match path(self, operands.storage, operands.place) {
            Path::Flash => flash(self, operands),
            Path::FlashVarlen => flash_varlen(self, operands),
            Path::FlashMasked => flash_masked(self, operands),
            Path::Composed => composed(self, operands),
        }
    }

    fn unstated(&self, call: Unstated, operands: &Operands) -> Result<Option<Tensor>> {
        match call {
            Unstated::Causal if operands.place == Place::Cpu => causal(self, operands).map(Some),
            _ => Ok(None),
        }
    }
}

/// Which operations run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// `candle_nn::attention::flash_attn`: no mask, or a causal one.
    Flash,
    /// `flash_attn_varlen_cpu`: ALiBi and windows, without masks that are data.
    FlashVarlen,
    /// `flash_attn` with an additive mask, once for each sample, and for each head where the
    /// mask has heads.
    FlashMasked,
    /// Matrix products around `softmax_last_dim`.
    Composed,
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Path::Flash => "flash_attn",
            Path::FlashVarlen => "flash_attn_varlen_cpu",
            Path::FlashMasked => "flash_attn with a mask, by sample",
            Path::Composed => "composed in f32: matmul, softmax_last_dim, matmul",
        }
    }
}

/// Candle's flash attention runs on the CPU only, gives no log-sum-exp, knows no sinks, and
/// wants D = Dv. What a query may not see it never reads.
fn path(spec: &Attention, dtype: crate::DType, place: Place) -> Path {
    let bf16 = dtype == crate::DType::BF16;
    let plain = spec.mask == Mask::None && spec.window.is_none() && !spec.alibi;
    let flash = place == Place::Cpu && spec.head_dim == spec.v_dim && !spec.lse && !spec.sinks;
    if !flash {
        Path::Composed
    } else if plain && mask(spec).is_some() && (spec.batch == 1 || packs(spec, bf16)) {
        Path::Flash
    } else if spec.mask == Mask::None && packs(spec, bf16) {
        Path::FlashVarlen
    } else if !spec.alibi {
        Path::FlashMasked
    } else {
        Path::Composed
    }
}

/// The mask of candle's that hides the same keys as the causal alignment does.
fn mask(spec: &Attention) -> Option<AttnMask> {
    let offset = spec.kv_len.checked_sub(spec.q_len);
    match spec.causal {
        Causal::None => Some(AttnMask::None),
        // For one query candle's causal kernel hides nothing, whatever the offset is.
        Causal::TopLeft => (spec.q_len > 1 || spec.kv_len == 1).then_some(AttnMask::causal()),
        Causal::BottomRight if spec.q_len == 1 => Some(AttnMask::None),
        Causal::BottomRight => offset.map(AttnMask::causal_with_offset),
    }
}

/// Whether the kernel for packed sequences takes the problem: it aligns bottom-right.
fn packs(spec: &Attention, bf16: bool) -> bool {
    let aligned = match spec.causal {
        Causal::None => true,
        Causal::TopLeft => spec.q_len == spec.kv_len,
        Causal::BottomRight => spec.q_len <= spec.kv_len,
    };
    aligned && spec.softcap.is_none() && !bf16
}

/// q, k and v as uploaded, of a cache only the rows in use.
fn upload(spec: &Attention, operands: &Operands) -> Result<[Tensor; 3]> {
    let used = |name| operands.upload(name)?.narrow(2, 0, spec.kv_len);
    Ok([operands.upload("q")?, used("k")?, used("v")?])
}

/// `flash_attn` over [B,H,L,D] operands. It reads [B,L,H,D], here as a strided view, and answers
/// [B,H,L,D].
fn flash_attention(spec: &Attention, [q, k, v]: [&Tensor; 3], mask: AttnMask) -> Result<Tensor> {
    let (q, k, v) = (q.transpose(1, 2)?, k.transpose(1, 2)?, v.transpose(1, 2)?);
    let out = match q.dtype() {
        DType::F16 => flash_attn::<f16>(&q, &k, &v, spec.scale, mask, None, spec.softcap)?,
        DType::BF16 => flash_attn::<bf16>(&q, &k, &v, spec.scale, mask, None, spec.softcap)?,
        _ => flash_attn::<f32>(&q, &k, &v, spec.scale, mask, None, spec.softcap)?,
    };
    out.to_dtype(q.dtype())
}

/// `flash_attn` with the mask that is simply named causal.
fn causal(spec: &Attention, operands: &Operands) -> Result<Tensor> {
    let [q, k, v] = upload(spec, operands)?;
    flash_attention(spec, [&q, &k, &v], AttnMask::causal())
}

fn flash(spec: &Attention, operands: &Operands) -> Result<Compute> {
    let [q, k, v] = upload(spec, operands)?;
    let (spec, mask) = (spec.clone(), mask(spec).unwrap_or_default());
    Ok(Box::new(move || Ok(vec![flash_attention(&spec, [&q, &k, &v], mask.clone())?])))
}

fn flash_varlen(spec: &Attention, operands: &Operands) -> Result<Compute> {
    let [q, k, v] = upload(spec, operands)?;
    let slopes = operands.upload_optional("slopes")?;
    let lengths = |len: usize| Tensor::full(len as u32, spec.batch, operands.device);
    let (q_lens, kv_lens) = (lengths(spec.q_len)?, lengths(spec.kv_len)?);
    // An unbounded side is written as a bound that no distance reaches: `None` on the right
    // would mean 0 to candle.
    let far = spec.q_len + spec.kv_len;
    let window = spec.window.map(|Window { left, right }| (left.unwrap_or(far), right.unwrap_or(far)));
    let (left, right) = window.unzip();
    let spec = spec.clone();
    Ok(Box::new(move || {
        // [B,H,L,D] → [B·L,H,D]
        let pack = |x: &Tensor| x.transpose(1, 2)?.contiguous()?.flatten(0, 1);
        let out = flash_attn_varlen_cpu(
            &pack(&q)?,
            &pack(&k)?,
            &pack(&v)?,
            slopes.as_ref(),
            &q_lens,
            &kv_lens,
            spec.q_len,
            spec.kv_len,
            spec.scale,
            spec.causal != Causal::None,
            left,
            right,
        )?;
        let out = out.reshape((spec.batch, spec.q_len, spec.q_heads, spec.v_dim))?;
        Ok(vec![out.transpose(1, 2)?.contiguous()?])
    }))
}

fn flash_masked(spec: &Attention, operands: &Operands) -> Result<Compute> {
    let [q, k, v] = upload(spec, operands)?;
    let mask = HostMask::new(spec, operands)?;
    let [mask_batch, mask_heads, ..] = mask.shape;
    let mask = mask.upload(operands.dtype, operands)?;
    let spec = spec.clone();
    Ok(Box::new(move || {
        let mut samples = Vec::with_capacity(spec.batch);
        for b in 0..spec.batch {
            let sample = |x: &Tensor| x.narrow(0, b, 1);
            let (q, k, v) = (sample(&q)?, sample(&k)?, sample(&v)?);
            let mask = mask.get(b.min(mask_batch - 1))?;
            samples.push(if mask_heads == 1 {
                flash_attention(&spec, [&q, &k, &v], AttnMask::Mask(mask.get(0)?))?
            } else {
                let heads = (0..spec.q_heads).map(|h| {
                    let kv = h / spec.group();
                    let head = [&q.narrow(1, h, 1)?, &k.narrow(1, kv, 1)?, &v.narrow(1, kv, 1)?];
                    flash_attention(&spec, head, AttnMask::Mask(mask.get(h)?))
                });
                Tensor::cat(&heads.collect::<Result<Vec<_>>>()?, 1)?
            });
        }
        Ok(vec![if samples.len() == 1 { samples.remove(0) } else { Tensor::cat(&samples, 0)? }])
    }))
}

/// Everything that hides keys from queries, as one additive mask [B|1, Hq|1, Lq, Lk]: the
/// form in which candle's users keep a mask.
struct HostMask {
    shape: [usize; 4],
    values: Vec<f32>,
}

impl HostMask {
    fn new(spec: &Attention, operands: &Operands) -> Result<Self> {
        let (by_sample, by_head) = match spec.mask {
            Mask::None => (false, false),
            Mask::Padding => (true, false),
            Mask::Boolean(axes) | Mask::Additive(axes) => (axes.batch, axes.heads),
        };
        let full = |full: bool, n: usize| if full { n } else { 1 };
        let shape = [full(by_sample, spec.batch), full(by_head, spec.q_heads), spec.q_len, spec.kv_len];
        let operand = operands.inputs.get("mask").or(operands.inputs.get("lengths"));
        let operand = operand.map(crate::Tensor::to_f64).unwrap_or_default();
        let mut values = vec![f32::NEG_INFINITY; shape.iter().product()];
        for (row, values) in values.chunks_exact_mut(spec.kv_len).enumerate() {
            let (i, h, b) = (row % spec.q_len, row / spec.q_len % shape[1], row / spec.q_len / shape[1]);
            for j in spec.key_range(i) {
                let visible = |visible| if visible { 0.0 } else { f32::NEG_INFINITY };
                values[j] = match spec.mask {
                    Mask::None => 0.0,
                    Mask::Padding => visible((j as f64) < operand[b]),
                    Mask::Boolean(axes) => visible(operand[spec.mask_row(axes, b, h, i) + j] != 0.0),
                    Mask::Additive(axes) => operand[spec.mask_row(axes, b, h, i) + j] as f32,
                };
            }
        }
        Ok(HostMask { shape, values })
    }

    /// Whether there is nothing to hide or to add.
    fn is_zero(&self) -> bool {
        self.values.iter().all(|&value| value == 0.0)
    }

    fn upload(&self, dtype: DType, operands: &Operands) -> Result<Tensor> {
        Tensor::from_slice(&self.values, &self.shape, operands.device)?.to_dtype(dtype)
    }
}

/// What the composed path keeps on the device to mask with.
struct Masking {
    /// What is added to the scores, −∞ for a hidden key.
    additive: Tensor,
    /// 1 for each visible key.
    visible: Tensor,
    /// 1 for each query that sees a key: [B|1, Hq|1, Lq, 1].
    sees: Tensor,
}

impl Masking {
    fn new(spec: &Attention, operands: &Operands) -> Result<Option<Self>> {
        let mask = HostMask::new(spec, operands)?;
        if mask.is_zero() {
            return Ok(None);
        }
        let additive = mask.upload(DType::F32, operands)?;
        let visible = additive.ne(f32::NEG_INFINITY)?;
        let sees = visible.max_keepdim(D::Minus1)?;
        Ok(Some(Masking { additive, visible, sees }))
    }

    /// The scores, with the mask added and −∞ for hidden keys whatever they hold.
    fn hide(&self, scores: &Tensor) -> Result<Tensor> {
        select(&self.visible, &scores.broadcast_add(&self.additive)?, f32::NEG_INFINITY)
    }
}

/// `tensor` where the condition, broadcast to its shape, is 1, else `otherwise`.
fn select(condition: &Tensor, tensor: &Tensor, otherwise: f32) -> Result<Tensor> {
    let otherwise = Tensor::full(otherwise, tensor.shape(), tensor.device())?;
    condition.broadcast_as(tensor.shape())?.where_cond(tensor, &otherwise)
}

/// softmax(scale·q·kᵀ, capped, biased, masked)·v by matrix products. The query heads that share
/// a key/value head are rows of one product.
fn composed(spec: &Attention, operands: &Operands) -> Result<Compute> {
    let [q, k, v] = upload(spec, operands)?;
    let masking = Masking::new(spec, operands)?;
    let alibi = match operands.upload_optional("slopes")? {
        Some(slopes) => Some((slopes.reshape((1, spec.q_heads, 1, 1))?, distances(spec, operands)?)),
        None => None,
    };
    let sinks = operands.upload_optional("sinks")?;
    let spec = spec.clone();
    Ok(Box::new(move || {
        let (b, hq, hkv, lq, lk) = (spec.batch, spec.q_heads, spec.kv_heads, spec.q_len, spec.kv_len);
        let by_head = (b, hq, lq, ());
        let by_kv_head = (b, hkv, spec.group() * lq, ());
        let wide = |x: &Tensor| x.to_dtype(DType::F32);

        let scores = wide(&q)?.reshape(by_kv_head)?.matmul(&wide(&k)?.transpose(2, 3)?)?;
        let mut scores = (scores.reshape(by_head)? * spec.scale as f64)?;
        if let Some(c) = spec.softcap {
            scores = ((scores / c as f64)?.tanh()? * c as f64)?;
        }
        if let Some((slopes, distances)) = &alibi {
            scores = scores.broadcast_sub(&slopes.broadcast_mul(distances)?)?;
        }
        if let Some(masking) = &masking {
            scores = masking.hide(&scores)?;
        }
        if let Some(sinks) = &sinks {
            let column = sinks.reshape((1, hq, 1, 1))?.expand((b, hq, lq, 1))?;
            scores = Tensor::cat(&[&scores, &column.contiguous()?], 3)?;
        }

        let p = softmax_last_dim(&scores)?.narrow(3, 0, lk)?.contiguous()?.reshape(by_kv_head)?;
        let mut out = match &masking {
            Some(masking) if !all_finite(&v)? => {
                let visible = masking.visible.expand((b, hq, lq, lk))?.contiguous()?;
                guarded_product(&p, &visible.reshape(by_kv_head)?, &wide(&v)?)?
            }
            _ => p.matmul(&wide(&v)?)?,
        };
        out = out.reshape(by_head)?;
        if let Some(masking) = &masking {
            out = select(&masking.sees, &out, 0.0)?;
        }
        let mut results = vec![out.to_dtype(q.dtype())?];
        if spec.lse {
            let lse = scores.log_sum_exp(3)?;
            results.push(match &masking {
                Some(masking) if sinks.is_none() => {
                    select(&masking.sees, &lse.unsqueeze(3)?, f32::NEG_INFINITY)?.squeeze(3)?
                }
                _ => lse,
            });
        }
        Ok(results)
    }))
}

/// ALiBi's |i + kv_len − q_len − j|.
fn distances(spec: &Attention, operands: &Operands) -> Result<Tensor> {
    let of = |i: usize, j: usize| (i + spec.kv_len).abs_diff(spec.q_len + j) as f32;
    let table: Vec<f32> = (0..spec.q_len).flat_map(|i| (0..spec.kv_len).map(move |j| of(i, j))).collect();
    Tensor::from_vec(table, (1, 1, spec.q_len, spec.kv_len), operands.device)
}

/// Whether a tensor holds neither NaN nor ±∞: 0 times either is NaN, and stays in the sum.
fn all_finite(tensor: &Tensor) -> Result<bool> {
    let zeros = (tensor.to_dtype(DType::F32)? * 0.0)?;
    Ok(zeros.sum_all()?.to_scalar::<f32>()? == 0.0)
}

/// p·v for a v that is not finite everywhere: the probability 0 of a hidden key would still make
/// NaN of it. A result is taken from the plain product only where a visible key is not finite.
fn guarded_product(p: &Tensor, visible: &Tensor, v: &Tensor) -> Result<Tensor> {
    let finite = v.abs()?.le(f32::MAX)?;
    let infected = visible.to_dtype(DType::F32)?.matmul(&(1.0 - finite.to_dtype(DType::F32)?)?)?;
    let clean = p.matmul(&select(&finite, v, 0.0)?)?;
    infected.gt(0f32)?.where_cond(&p.matmul(v)?, &clean)
}
