//! Planted faults of attention: which keys, which scores, which way through them.

mod interface;
mod stream;
mod unusual;
mod visible;

use std::ops::Range;

use touchstone_kernels::op::attention::FAMILY;
use touchstone_kernels::op::{Attention, Mask, Op};
use touchstone_kernels::{BackendError, Inputs, Problem};

use crate::families::attention::model::{Flow, Pair, Rules, Score, Slip};
use crate::selftest::planted::{Computed, Specimen, misread, mistaken, naive, naive_on, unsupported};

/// All of them.
pub(super) fn faults() -> Vec<Specimen> {
    let mut all = scales();
    all.extend(interface::faults());
    all.extend(visible::faults());
    all.extend(stream::faults());
    all.extend(unusual::faults());
    all.extend(layouts());
    all
}

fn spec_of(problem: &Problem) -> Option<&Attention> {
    problem.get()
}

/// The right answer to another problem.
fn other(
    name: &'static str,
    about: &'static str,
    differs: fn(&Attention) -> bool,
    change: fn(&mut Attention),
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        let mut spec = spec_of(problem).ok_or_else(unsupported)?.clone();
        change(&mut spec);
        naive_on(spec, problem.dtype, inputs)
    };
    Specimen::new(Some(&FAMILY), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

/// The right answer to an operand misread.
fn misreading(
    name: &'static str,
    about: &'static str,
    differs: fn(&Attention) -> bool,
    operand: &'static str,
    change: fn(&Attention, &mut Vec<f64>),
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| {
        let spec = spec_of(problem).ok_or_else(unsupported)?;
        naive(problem, &misread(problem, inputs, operand, |values| change(spec, values))?)
    };
    Specimen::new(Some(&FAMILY), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

/// A stream that goes wrong.
fn streaming(
    name: &'static str,
    about: &'static str,
    differs: fn(&Attention) -> bool,
    flow: Flow,
) -> Specimen {
    let compute = move |problem: &Problem, inputs: &Inputs| flow.attend(problem, inputs);
    Specimen::new(Some(&FAMILY), name, about, move |p| spec_of(p).is_some_and(differs), compute)
}

const RIGHT: Flow = Flow::RIGHT;

fn slipping(slip: Slip) -> Flow {
    Flow { slip, ..RIGHT }
}

fn seeing(keys: fn(&Attention, usize) -> Range<usize>) -> Flow {
    Flow { rules: Rules { keys, ..RIGHT.rules }, ..RIGHT }
}

/// The keys before the `end`th of all.
fn before(keys: Range<usize>, end: usize) -> Range<usize> {
    keys.start.min(end)..keys.end.min(end)
}

fn scoring(score: fn(&Attention, &Pair) -> Option<Score>) -> Flow {
    Flow { rules: Rules { score, ..RIGHT.rules }, ..RIGHT }
}

fn usual_scale(spec: &Attention) -> bool {
    spec.scale == Attention::default_scale(spec.head_dim)
}

fn scales() -> Vec<Specimen> {
    vec![
        other("scale-missing", "Scores are q·k, without 1/√D.", |s| s.scale != 1.0, |s| s.scale = 1.0),
        other("scale-twice", "Both q and the scores are scaled.", |s| s.scale != 1.0, |s| s.scale *= s.scale),
        other(
            "scale-of-model-dim",
            "1/√ of heads·D instead of D.",
            |s| usual_scale(s) && s.q_heads > 1,
            |s| s.scale = Attention::default_scale(s.q_heads * s.head_dim),
        ),
        other(
            "scale-of-value-dim",
            "1/√Dv instead of 1/√D.",
            |s| usual_scale(s) && s.v_dim != s.head_dim,
            |s| s.scale = Attention::default_scale(s.v_dim),
        ),
    ]
}

fn layouts() -> Vec<Specimen> {
    vec![
        streaming(
            "gqa-modulo",
            "Query head h reads key/value head h mod Hkv.",
            |s| s.kv_heads > 1 && s.kv_heads < s.q_heads,
            Flow { rules: Rules { kv_head: |s, h| h % s.kv_heads, ..RIGHT.rules }, ..RIGHT },
        ),
        streaming(
            "gqa-first-head",
            "Every query head reads the first key/value head.",
            |s| s.kv_heads > 1,
            Flow { rules: Rules { kv_head: |_, _| 0, ..RIGHT.rules }, ..RIGHT },
        ),
        misreading(
            "k-transposed-when-square",
            "K is read as Kᵀ, which the shape hides when Lk = D.",
            |s| s.kv_rows() == s.head_dim && s.head_dim > 1,
            "k",
            |s, k| transpose(k, s.head_dim),
        ),
        misreading(
            "v-transposed-when-square",
            "V is read as Vᵀ, which the shape hides when Lk = Dv.",
            |s| s.kv_rows() == s.v_dim && s.v_dim > 1,
            "v",
            |s, v| transpose(v, s.v_dim),
        ),
        misreading(
            "heads-and-queries-exchanged",
            "q [B,H,L,D] is read as [B,L,H,D].",
            |s| s.q_heads > 1 && s.q_len > 1,
            "q",
            |s, q| {
                let old = q.clone();
                let (heads, len, d) = (s.q_heads, s.q_len, s.head_dim);
                for (row, q) in q.chunks_mut(d).enumerate() {
                    let (b, h, i) = (row / (heads * len), row / len % heads, row % len);
                    q.copy_from_slice(&old[((b * len + i) * heads + h) * d..][..d]);
                }
            },
        ),
        misreading(
            "head-tail-dropped",
            "Channels beyond the last multiple of 16 are left out of q·k.",
            |s| !s.head_dim.is_multiple_of(16),
            "q",
            |s, q| q.chunks_mut(s.head_dim).for_each(|row| row[s.head_dim / 16 * 16..].fill(0.0)),
        ),
        Specimen::new(
            Some(&FAMILY),
            "value-tail-dropped",
            "Channels of V beyond the last multiple of 16 are left zero.",
            |p| spec_of(p).is_some_and(|s| !s.v_dim.is_multiple_of(16)),
            |problem, inputs| {
                let v_dim = spec_of(problem).ok_or_else(unsupported)?.v_dim;
                mistaken(problem, &naive(problem, inputs)?, |name, values| {
                    if name == "out" {
                        values.chunks_mut(v_dim).for_each(|row| row[v_dim / 16 * 16..].fill(0.0));
                    }
                })
            },
        ),
        Specimen::new(
            Some(&FAMILY),
            "cache-stride-ignored",
            "A cache is read as if it were only as long as it is full.",
            |p| spec_of(p).is_some_and(|s| s.kv_rows() > s.kv_len && s.batch * s.kv_heads > 1),
            packed,
        ),
        other(
            "cache-read-to-its-end",
            "The rows of a cache that are not yet written are attended to.",
            |s| s.kv_rows() > s.kv_len && s.mask == Mask::None,
            |s| s.kv_len = s.kv_rows(),
        ),
    ]
}

fn transpose(values: &mut [f64], n: usize) {
    for square in values.chunks_mut(n * n) {
        for i in 0..n {
            for j in 0..i {
                square.swap(i * n + j, j * n + i);
            }
        }
    }
}

/// Keys and values as they lie in memory, without the gaps between heads.
fn packed(problem: &Problem, inputs: &Inputs) -> Computed {
    let spec = spec_of(problem).ok_or_else(unsupported)?;
    let op = Op::from(Attention { cache: None, ..spec.clone() });
    let whole = Problem { op, dtype: problem.dtype };
    let rows = spec.batch * spec.kv_heads * spec.kv_len;
    let cut = |name: &str, width: usize| -> Result<_, BackendError> {
        let operand = whole.operands().into_iter().find(|o| o.name == name).ok_or_else(unsupported)?;
        let values = inputs.get(name).ok_or_else(unsupported)?.to_f64();
        crate::selftest::planted::tensor(operand.element, &operand.shape, &values[..rows * width])
    };
    let mut tensors = vec![("k", cut("k", spec.head_dim)?), ("v", cut("v", spec.v_dim)?)];
    let others = inputs.iter().filter(|(name, _)| !matches!(*name, "k" | "v"));
    tensors.extend(others.map(|(name, tensor)| (name, tensor.clone())));
    naive(&whole, &Inputs::new(&whole, tensors)?)
}
