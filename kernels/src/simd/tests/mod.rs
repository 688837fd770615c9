//! Properties of the kernels, written once and checked at every instruction set of this machine
//! against plain loops in f64.

mod activation;
mod lanes;
mod rates;
pub(super) mod reference;
mod rope;
mod softmax;

use std::str::FromStr;

use proptest::prelude::*;

use super::Simd;
use super::isa::Isa;
use crate::dtype::{DType, ElementType};
use crate::noise::noise;
use crate::{Backend, Inputs, Problem, Support, Tensor};

/// Numbers from a seed: standard normal but for the sum of twelve uniform ones that they are.
pub(super) fn normal(seed: u64, len: usize) -> Vec<f64> {
    (0..len).map(|i| (12 * i..12 * (i + 1)).map(|at| noise(seed, at) / 2.0).sum()).collect()
}

/// A case: the problem and its floating-point operands in order, rounded once to its type.
pub(super) struct Case {
    problem: Problem,
    inputs: Inputs,
}

impl Case {
    pub(super) fn new(problem: &str, values: &[Vec<f64>]) -> Case {
        Case::with_positions(problem, values, &[])
    }

    pub(super) fn with_positions(problem: &str, values: &[Vec<f64>], positions: &[i64]) -> Case {
        let problem = Problem::from_str(problem).unwrap();
        let mut values = values.iter();
        let tensors = problem.operands().into_iter().map(|operand| {
            let tensor = match operand.element {
                ElementType::Float(dtype) => Tensor::from_f64(dtype, &operand.shape, values.next().unwrap()),
                _ => Tensor::from_slice(&operand.shape, positions),
            };
            (operand.name, tensor.unwrap())
        });
        let inputs = Inputs::new(&problem, tensors.collect::<Vec<_>>()).unwrap();
        Case { problem, inputs }
    }

    /// The operand as the kernel sees it.
    pub(super) fn input(&self, name: &str) -> Vec<f64> {
        self.inputs.get(name).unwrap().to_f64()
    }

    pub(super) fn dtype(&self) -> DType {
        self.problem.dtype
    }

    /// The result of one instruction set, with everything around it intact.
    pub(super) fn tensor(&self, isa: Isa, threads: usize) -> Tensor {
        let simd = Simd::new(isa, threads);
        assert_eq!(simd.supports(&self.problem), Support::Yes);
        let before = self.inputs.deep_clone();
        let mut prepared = simd.ready(&self.problem, &self.inputs).unwrap();
        prepared.run().unwrap();
        let outputs = prepared.outputs().unwrap();
        assert!(outputs.guards_intact(), "{isa} {}: wrote outside its result", self.problem);
        assert_eq!(before, self.inputs, "{isa} {}: changed an input", self.problem);
        outputs.get("out").unwrap().clone()
    }

    pub(super) fn output(&self, isa: Isa) -> Vec<f64> {
        self.tensor(isa, 1).to_f64()
    }

    /// Checks every instruction set against expected values and bounds.
    pub(super) fn check(&self, expected: &[f64], bound: impl Fn(usize) -> f64) {
        for isa in Isa::present() {
            let got = self.output(isa);
            assert_eq!(got.len(), expected.len());
            for (i, (&got, &exact)) in got.iter().zip(expected).enumerate() {
                let rounded = self.dtype().round(exact);
                let right = if exact.is_nan() {
                    got.is_nan()
                } else {
                    got == rounded || (got - exact).abs() <= bound(i)
                };
                assert!(
                    right,
                    "{isa} {}: element {i} is {got:e}, expected {exact:e} within {:e}",
                    self.problem,
                    bound(i)
                );
            }
        }
    }

    /// Checks that the number of threads changes no bit.
    pub(super) fn check_threads(&self) {
        for isa in Isa::present() {
            let one = self.tensor(isa, 1);
            for threads in [2, 3, 5] {
                assert!(one == self.tensor(isa, threads), "{isa} {}: {threads} threads", self.problem);
            }
        }
    }

    /// The error bound of a value computed to `ulps` units of 2⁻²³ and rounded to the type.
    pub(super) fn bound(&self, ulps: f64, y: f64) -> f64 {
        let storage = if self.dtype() == DType::F32 { 0.0 } else { self.dtype().unit_roundoff() };
        (ulps * f32::EPSILON as f64 + storage * 1.000_001) * y.abs()
            + 0.500_001 * self.dtype().smallest_subnormal()
    }
}

pub(super) fn dtypes() -> impl Strategy<Value = DType> {
    prop::sample::select(DType::ALL.to_vec())
}
