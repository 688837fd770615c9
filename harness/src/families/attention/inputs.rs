//! Operands of attention whose numbers depend on each other, and an answer that ignores some of them.

use touchstone_kernels::op::Attention;
use touchstone_kernels::{ElementType, Tensor};

use crate::fill::needle;

/// Points each query at one visible key: q_i = 4·k_p, so that key p outweighs all others.
pub(super) fn plant_needles(attention: &Attention, tensors: &mut [(&'static str, Tensor)]) {
    let d = attention.head_dim;
    let dtype = match tensors[0].1.element() {
        ElementType::Float(dtype) => dtype,
        ElementType::I64 | ElementType::Bool => return,
    };
    // Plain keys without the shift of one channel that `data` gives a row.
    let k: Vec<f64> = tensors[1]
        .1
        .to_f64()
        .iter()
        .enumerate()
        .map(|(i, &x)| if i % d == needle(i / d, d) { x - 20.0 } else { x })
        .collect();
    let mut q = tensors[0].1.to_f64();
    for (row, q) in q.chunks_exact_mut(d).enumerate() {
        let (i, bh) = (row % attention.q_len, row / attention.q_len);
        let (b, h) = (bh / attention.q_heads, bh % attention.q_heads);
        let visible = attention.key_range(i);
        if visible.is_empty() {
            continue;
        }
        let head = b * attention.kv_heads + h / attention.group();
        let key = head * attention.kv_rows() + visible.start + needle(row, visible.len());
        for (q, k) in q.iter_mut().zip(&k[key * d..]) {
            *q = 4.0 * k;
        }
    }
    for (index, values) in [(0, q), (1, k)] {
        let shape = tensors[index].1.shape().to_vec();
        #[expect(clippy::expect_used, reason = "shape and values are the tensor's own")]
        let tensor = Tensor::from_f64(dtype, &shape, &values).expect("same number of elements");
        tensors[index].1 = tensor;
    }
}

/// Fills the rows of a cache beyond those in use with NaN: a kernel that reads them shows it.
pub(super) fn poison_unused_cache(attention: &Attention, tensors: &mut [(&'static str, Tensor)]) {
    let (rows, used) = (attention.kv_rows(), attention.kv_len);
    if rows == used {
        return;
    }
    for (name, tensor) in tensors.iter_mut().filter(|(name, _)| matches!(*name, "k" | "v")) {
        let width = if *name == "k" { attention.head_dim } else { attention.v_dim };
        let row_bytes = width * tensor.element().size();
        let mut unwritten = tensor.clone();
        unwritten.poison();
        let nan = unwritten.bytes()[..row_bytes].to_vec();
        for head in tensor.bytes_mut().chunks_exact_mut(rows * row_bytes) {
            for row in head[used * row_bytes..].chunks_exact_mut(row_bytes) {
                row.copy_from_slice(&nan);
            }
        }
    }
}

/// For every output of attention the mean of its value channel over all keys.
pub(super) fn mean_of_values(spec: &Attention, v: &[f64]) -> Vec<f64> {
    let (rows, dv) = (spec.kv_rows(), spec.v_dim);
    let means: Vec<f64> = v
        .chunks((rows * dv).max(1))
        .flat_map(|head| {
            (0..dv).map(move |c| {
                let channel = head[c..].iter().step_by(dv).take(spec.kv_len);
                channel.sum::<f64>() / spec.kv_len as f64
            })
        })
        .collect();
    let mut out = Vec::with_capacity(spec.batch * spec.q_heads * spec.q_len * dv);
    for head in 0..spec.batch * spec.q_heads {
        let kv = head / spec.q_heads * spec.kv_heads + head % spec.q_heads / spec.group();
        for _ in 0..spec.q_len {
            out.extend_from_slice(means.get(kv * dv..(kv + 1) * dv).unwrap_or(&[]));
        }
    }
    out
}
