//! The reference that a person can check against the paper by eye.
//!
//! Single-threaded, one file per family, no blocking and no tricks. Elements are widened to f32
//! and each result is rounded to the storage type once. Sums and dot products accumulate in
//! f64, so that a long row of equal values does not drift; elementary functions are f32.

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::backend::{Backend, BackendId, BackendInfo, Declaration, Prepared, Support};
use crate::dtype::Element;
use crate::error::{BackendError, InputError};
use crate::host::HostPrepared;
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::registry::Registry;
use crate::table::kernel_table;

kernel_table!(activation, attention, norm, residual, rope, softmax);

const ID: BackendId = BackendId::new("naive");

/// Adds the backend.
pub(crate) fn register(registry: &mut Registry) {
    registry.add(Naive);
}

/// The backend `naive`: every operation of this crate with every field, in every storage type.
#[derive(Clone, Copy, Debug)]
pub struct Naive;

impl Backend for Naive {
    fn id(&self) -> &BackendId {
        const { &ID }
    }

    fn info(&self) -> BackendInfo {
        BackendInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            device: "cpu".into(),
            isa: "as compiled".into(),
            threads: 1,
        }
    }

    fn supports(&self, problem: &Problem) -> Support {
        match kernel_of(&problem.op) {
            Some(_) => Support::Yes,
            None => Support::no_kernel("naive", problem.name()),
        }
    }

    fn declares(&self, _problem: &Problem) -> Declaration {
        Declaration::strict("naive")
    }

    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        match kernel_of(&problem.op) {
            Some(kernel) => kernel.prepare(problem, inputs),
            None => Err(BackendError::no_kernel("naive", problem.name())),
        }
    }
}

/// An operation that this backend computes.
trait HasKernel {
    /// Binds the operands: of everything that a run needs, only RoPE's tables can be built beforehand.
    fn prepare(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError>;
}

/// A function from operands to results, bound to a problem.
fn hosted(
    problem: &Problem,
    inputs: &Inputs,
    kernel: impl FnMut(&Inputs, &mut Outputs) -> Result<(), BackendError> + 'static,
) -> Result<Box<dyn Prepared>, BackendError> {
    Ok(Box::new(HostPrepared::new(problem, inputs, kernel)))
}

/// The operand `name` as an array of the given dimensions.
fn view<'a, T: Element, D: Dimension>(
    inputs: &'a Inputs,
    name: &str,
    shape: impl Into<ndarray::StrideShape<D>>,
) -> Result<ArrayView<'a, T, D>, BackendError> {
    let data = inputs.slice(name)?;
    ArrayView::from_shape(shape, data).map_err(|_| misshapen(name, data.len()))
}

/// The result `name` as an array of the given dimensions.
fn view_mut<'a, T: Element, D: Dimension>(
    outputs: &'a mut Outputs,
    name: &str,
    shape: impl Into<ndarray::StrideShape<D>>,
) -> Result<ArrayViewMut<'a, T, D>, BackendError> {
    let data = outputs.slice_mut(name)?;
    let len = data.len();
    ArrayViewMut::from_shape(shape, data).map_err(|_| misshapen(name, len))
}

fn misshapen(name: &str, found: usize) -> BackendError {
    InputError::Shape { name: name.into(), expected: Vec::new(), found: vec![found] }.into()
}

/// The larger of two numbers, NaN if either is: `f64::max` would drop it.
fn max(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

/// A sum in f64.
fn sum(terms: impl Iterator<Item = f32>) -> f64 {
    terms.map(f64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::{DType, ElementType};
    use crate::tensor::Tensor;

    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;

    /// The results of a problem, the operands given in its order.
    fn run(problem: &str, operands: &[&[f64]]) -> Vec<Vec<f64>> {
        let problem: Problem = problem.parse().unwrap();
        let tensors = problem.operands().into_iter().zip(operands).map(|(operand, data)| {
            let tensor = match operand.element {
                ElementType::Float(dtype) => Tensor::from_f64(dtype, &operand.shape, data),
                ElementType::I64 => {
                    Tensor::from_slice(&operand.shape, &data.iter().map(|&x| x as i64).collect::<Vec<_>>())
                }
                ElementType::Bool => {
                    Tensor::from_slice(&operand.shape, &data.iter().map(|&x| x as u8).collect::<Vec<_>>())
                }
            };
            (operand.name, tensor.unwrap())
        });
        let inputs = Inputs::new(&problem, tensors).unwrap();
        let mut prepared = Naive.ready(&problem, &inputs).unwrap();
        prepared.run().unwrap();
        prepared.outputs().unwrap().iter().map(|(_, tensor)| tensor.to_f64()).collect()
    }

    /// Which of the `lk` keys each query attends to, found through one-hot values.
    fn visible(fields: &str, lq: usize, lk: usize) -> Vec<Vec<usize>> {
        let identity: Vec<f64> = (0..lk * lk).map(|n| (n % (lk + 1) == 0) as u8 as f64).collect();
        let problem = format!("attention f32 h=1 lq={lq} lk={lk} d=1 dv={lk} {fields}");
        let out = run(&problem, &[&vec![0.0; lq], &vec![0.0; lk], &identity]);
        out[0].chunks(lk).map(|row| (0..lk).filter(|&j| row[j] > 0.0).collect()).collect()
    }

    #[test]
    fn causal_alignments_and_windows() {
        assert_eq!(visible("causal=top_left", 2, 4), [vec![0], vec![0, 1]]);
        assert_eq!(visible("causal=bottom_right", 2, 4), [vec![0, 1, 2], vec![0, 1, 2, 3]]);
        assert_eq!(visible("causal=bottom_right", 3, 1), [vec![], vec![], vec![0]]);
        assert_eq!(visible("window=1,0", 2, 4), [vec![1, 2], vec![2, 3]]);
        assert_eq!(visible("causal=top_left window=0,1", 2, 4), [vec![0], vec![1]]);
    }

    #[test]
    fn query_heads_share_kv_heads_in_blocks() {
        let out = run("attention f32 h=4 hkv=2 lq=1 d=1", &[&[1.0; 4], &[1.0; 2], &[5.0, 7.0]]);
        assert_eq!(out[0], [5.0, 5.0, 7.0, 7.0]);
    }

    #[test]
    fn masked_keys_leak_nothing_and_masked_rows_are_zero() {
        let poisoned: [&[f64]; 3] = [&[1.0, 1.0], &[1.0, NAN], &[3.0, INF]];
        for (fields, mask) in [
            ("mask=bool:11qk lse=true", &[1.0, 0.0, 0.0, 0.0][..]),
            ("mask=float:11qk lse=true", &[0.0, -INF, -INF, -INF]),
        ] {
            let problem = format!("attention f32 h=1 lq=2 lk=2 d=1 {fields}");
            let out = run(&problem, &[poisoned[0], poisoned[1], poisoned[2], mask]);
            assert_eq!(out, [[3.0, 0.0], [1.0, -INF]], "{problem}");
        }
        let padded = run(
            "attention f32 b=2 h=1 lq=1 lk=1 d=1 mask=padding",
            &[&[1.0; 2], &[NAN; 2], &[INF, 2.0], &[0.0, 0.0]],
        );
        assert_eq!(padded[0], [0.0, 0.0]);
    }

    #[test]
    fn sinks_join_the_denominator() {
        let out =
            run("attention f32 h=1 lq=1 lk=1 d=1 sinks=true lse=true", &[&[1.0], &[2.0], &[6.0], &[2.0]]);
        assert_eq!(out, [[3.0], [(2.0 + 2f64.ln()) as f32 as f64]]);
    }

    #[test]
    fn softmax_of_infinities() {
        for x in [[-INF, -INF], [INF, 0.0], [NAN, 0.0], [0.0, NAN]] {
            for op in ["softmax", "log_softmax"] {
                let out = run(&format!("{op} f32 shape=2"), &[&x]);
                assert!(out[0].iter().all(|y| y.is_nan()), "{op} {x:?}: {out:?}");
            }
        }
        assert_eq!(run("softmax f32 shape=2", &[&[-INF, 0.0]])[0], [0.0, 1.0]);
        assert_eq!(run("log_softmax f32 shape=2x1 axis=1", &[&[-5.0, 88.0]])[0], [0.0, 0.0]);
    }

    #[test]
    fn constant_rows_are_exactly_their_bias() {
        for shape in ["layer_norm f32 shape=1x1000", "group_norm f32 shape=1x1000 groups=1"] {
            let bias: Vec<f64> = (0..1000).map(f64::from).collect();
            assert_eq!(run(shape, &[&[0.1; 1000], &[2.0; 1000], &bias])[0], bias, "{shape}");
        }
    }

    #[test]
    fn batch_norm_updates_running_statistics_with_the_unbiased_variance() {
        let operands: [&[f64]; 5] = [&[1.0, 3.0], &[2.0], &[5.0], &[10.0], &[20.0]];
        let train = run("batch_norm f32 shape=2x1 momentum=0.5 eps=3", &operands);
        assert_eq!(train, [vec![4.0, 6.0], vec![6.0], vec![11.0]]);
        let infer = run("batch_norm f32 shape=2x1 mode=infer eps=44", &operands);
        assert_eq!(infer[0], [2.75, 3.25]);
    }

    #[test]
    fn rope_pairs_by_style_and_copies_the_rest() {
        let turn = |style| {
            let problem = format!("rope f32 h=1 l=1 d=5 rotary_dim=4 base=1e9 {style}");
            run(&problem, &[&[1.0, 2.0, 3.0, 4.0, 5.0], &[1.0]])[0].clone()
        };
        let (sin, cos) = 1f64.sin_cos();
        for (style, partner) in [("style=half", 2), ("style=interleaved", 1)] {
            let out = turn(style);
            assert!((out[0] - (cos - sin * (partner + 1) as f64)).abs() < 1e-6, "{style}");
            assert!((out[partner] - (cos * (partner + 1) as f64 + sin)).abs() < 1e-6, "{style}");
            assert_eq!(out[4], 5.0);
        }
    }

    /// One problem of each kind in each storage type writes every element.
    #[test]
    fn every_operation_runs_in_every_dtype() {
        for name in crate::op::names() {
            for dtype in DType::ALL {
                let fields = match name {
                    "attention" => {
                        "h=2 hkv=1 lq=3 lk=4 d=4 dv=2 cache=6 softcap=9 alibi=true sinks=true lse=true"
                    }
                    "group_norm" => "shape=2x4x3 groups=2",
                    "batch_norm" | "instance_norm" => "shape=2x4x3",
                    "rope" => "h=2 l=3 d=6 rotary_dim=4 freq_factors=true tables=timed",
                    "softmax" | "log_softmax" => "shape=2x3x4 axis=1 scale=0.5",
                    _ => "shape=2x6",
                };
                let problem: Problem = format!("{name} {dtype} {fields}").parse().unwrap();
                let ones: Vec<Vec<f64>> = problem.operands().iter().map(|o| vec![1.0; o.len()]).collect();
                let ones: Vec<&[f64]> = ones.iter().map(Vec::as_slice).collect();
                for result in run(&problem.to_string(), &ones) {
                    assert!(result.iter().all(|y| y.is_finite()), "{problem}: {result:?}");
                }
            }
        }
    }
}
