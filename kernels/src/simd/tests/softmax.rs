//! softmax and log_softmax.

use proptest::prelude::*;

use super::{Case, dtypes, normal};
use crate::DType;
use crate::op::Softmax;
use crate::simd::isa::Isa;

/// softmax or its logarithm in f64, and the error allowed to each element.
fn expected(case: &Case, ulps: f64) -> (Vec<f64>, Vec<f64>) {
    let spec = case.problem.get::<Softmax>().unwrap();
    let (outer, len, inner) = spec.dims();
    let scale = spec.scale as f64;
    let x = case.input("x");
    let (mut y, mut bounds) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    for o in 0..outer {
        for i in 0..inner {
            let index = |a: usize| (o * len + a) * inner + i;
            let row: Vec<f64> = (0..len).map(|a| scale * x[index(a)]).collect();
            let max = row.iter().fold(f64::NEG_INFINITY, |m, &x| if x > m || x.is_nan() { x } else { m });
            let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
            for (a, x) in row.iter().enumerate() {
                if spec.log {
                    y[index(a)] = x - max - sum.ln();
                    let terms = (x - max).abs() + sum.ln().abs() + y[index(a)].abs();
                    let product = if scale == 1.0 { 0.0 } else { x.abs() + max.abs() };
                    bounds[index(a)] = case.bound(1.0, terms + product + 4.0);
                } else {
                    y[index(a)] = (x - max).exp() / sum;
                    bounds[index(a)] = case.bound(ulps, y[index(a)]);
                }
            }
        }
    }
    (y, bounds)
}

fn check(problem: &str, x: Vec<f64>, ulps: f64) {
    let case = Case::new(problem, &[x]);
    let (y, bounds) = expected(&case, ulps);
    case.check(&y, |i| bounds[i]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_axis_and_type(
        dtype in dtypes(),
        shape in prop::array::uniform3(1usize..40),
        axis in 0usize..3,
        log: bool,
        scale in prop::sample::select(vec![1.0f32, 0.125, -2.5, 0.0]),
        seed: u64,
        spread in 0.01f64..30.0,
        offset in prop::sample::select(vec![0.0f64, -50.0, 900.0, -3000.0]),
    ) {
        let [a, b, c] = shape;
        let name = if log { "log_softmax" } else { "softmax" };
        let mut x = normal(seed, a * b * c);
        x.iter_mut().for_each(|x| *x = *x * spread + offset);
        check(&format!("{name} {dtype} shape={a}x{b}x{c} axis={axis} scale={scale}"), x, 4.0);
    }

    #[test]
    fn long_rows(dtype in dtypes(), len in 1usize..40_000, log: bool, seed: u64) {
        let name = if log { "log_softmax" } else { "softmax" };
        check(&format!("{name} {dtype} shape=2x{len}"), normal(seed, 2 * len), 4.0);
        check(&format!("{name} {dtype} shape={len}x2 axis=0"), normal(seed, 2 * len), 4.0);
    }
}

/// One f32 accumulator would be a percent off.
#[test]
fn a_million_equal_values() {
    for value in [0.1, 0.3, -7.7, 88.0, 5000.0] {
        check("softmax f32 shape=1000003", vec![value; 1_000_003], 4.0);
        check("softmax f32 shape=250001x4 axis=0", vec![value; 4 * 250_001], 4.0);
    }
}

#[test]
fn rows_without_a_finite_maximum() {
    let inf = f64::INFINITY;
    for name in ["softmax", "log_softmax"] {
        for len in [1, 5, 16, 37, 600] {
            for row in [vec![-inf; len], vec![inf; len], vec![f64::NAN; len]] {
                check(&format!("{name} f32 shape={len}"), row.clone(), 4.0);
                check(&format!("{name} f32 shape={len}x1x3 axis=0"), row.repeat(3), 4.0);
            }
            for place in [0, len / 2, len - 1] {
                for value in [inf, f64::NAN, -inf] {
                    for scale in ["1", "-1", "0.5"] {
                        let mut row = normal(1, len);
                        row[place] = value;
                        check(&format!("{name} f32 shape={len} scale={scale}"), row.clone(), 4.0);
                        check(&format!("{name} f32 shape={len}x1 axis=0 scale={scale}"), row, 4.0);
                    }
                }
            }
        }
    }
}

#[test]
fn one_element_is_certain() {
    for (name, certain) in [("softmax", 1.0), ("log_softmax", 0.0)] {
        for dtype in DType::ALL {
            for value in [0.0, 0.7, -3.3, 500.0, 2000.0, 6e4, -6e4] {
                for scale in ["1", "0.3"] {
                    let case = Case::new(&format!("{name} {dtype} shape=1 scale={scale}"), &[vec![value]]);
                    let columns = format!("{name} {dtype} shape=1x40 axis=0 scale={scale}");
                    let columns = Case::new(&columns, &[vec![value; 40]]);
                    for isa in Isa::present() {
                        assert_eq!(case.output(isa), [certain], "{isa} {name} of {value}");
                        assert_eq!(columns.output(isa), [certain; 40], "{isa} {name} of {value}");
                    }
                }
            }
        }
    }
}

#[test]
fn tiny_probabilities_are_rounded_once() {
    let x: Vec<f64> = (0..2400).map(|i| -0.05 * i as f64).collect();
    check("softmax f32 shape=2400", x.clone(), 4.0);
    check("softmax f32 shape=2400x1 axis=0", x, 4.0);
}

#[test]
fn threads_change_nothing() {
    for dtype in ["f32", "bf16"] {
        // Rows of 50,257 and 20,008 are in flight together or one by one, with how many others a thread has
        // them; the last vector is not full.
        for (problem, len) in [
            ("shape=300x1000", 300_000),
            ("shape=300000", 300_000),
            ("shape=300x1000 axis=0", 300_000),
            ("shape=3x500x200 axis=1", 300_000),
            ("shape=50257", 50_257),
            ("shape=6x50257", 301_542),
            ("shape=9x20008", 180_072),
        ] {
            for name in ["softmax", "log_softmax"] {
                Case::new(&format!("{name} {dtype} {problem}"), &[normal(9, len)]).check_threads();
            }
        }
    }
}

/// s·x may be beyond f32 where its distance from the maximum is not.
#[test]
fn products_beyond_the_range() {
    for x in [[-6e37, -1.2e38, -1.3e38], [1.2e38, 1.1e38, 1.0e38], [-1.2e38, -1.2e38, -1.3e38]] {
        for name in ["softmax", "log_softmax"] {
            for shape in ["shape=1x3", "shape=3x1 axis=0"] {
                check(&format!("{name} f32 {shape} scale=4"), x.to_vec(), 3.0);
            }
        }
    }
}
