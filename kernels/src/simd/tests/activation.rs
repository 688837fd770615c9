//! Point-wise functions and gated units. The functions' own accuracy is tested in `math::tests`.

use half::{bf16, f16};
use proptest::prelude::*;

use super::{Case, dtypes, normal, reference};
use crate::Element;
use crate::op::Unary;
use crate::simd::activation::{Gated, Gelu, HalfRelu, Map, Ungated};
use crate::simd::isa::Isa;

type Real = fn(f64) -> f64;
type WithParameter = Box<dyn Fn(f64) -> f64>;

/// A function's text, its value in f64, and its largest error in units of 2⁻²³.
type Known<F> = (&'static str, F, f64);

/// Gated units by their gates.
const GATED: [Known<Real>; 5] = [
    ("glu", reference::sigmoid, 2.5),
    ("reglu", reference::relu, 0.0),
    ("geglu", reference::gelu, 4.0),
    ("geglu_tanh", reference::gelu_tanh, 4.0),
    ("swiglu", reference::silu, 3.5),
];

fn functions() -> Vec<Known<WithParameter>> {
    vec![
        ("relu", Box::new(reference::relu), 0.0),
        ("leaky_relu", Box::new(reference::leaky_relu(0.01)), 0.5),
        ("sigmoid", Box::new(reference::sigmoid), 2.5),
        ("tanh", Box::new(libm::tanh), 1.5),
        ("gelu", Box::new(reference::gelu), 4.0),
        ("gelu_tanh", Box::new(reference::gelu_tanh), 4.0),
        ("silu", Box::new(reference::silu), 3.5),
        ("swish", Box::new(reference::silu), 3.5),
        ("swish beta=0", Box::new(|x| x / 2.0), 0.5),
        ("swish beta=1.702", Box::new(reference::swish(1.702)), 3.5),
        ("softplus", Box::new(reference::softplus), 3.0),
        ("elu alpha=1.5", Box::new(reference::elu(1.5)), 2.0),
        ("hard_swish", Box::new(reference::hard_swish), 2.0),
        ("mish", Box::new(reference::mish), 4.0),
        ("erf", Box::new(libm::erf), 1.5),
        ("exp", Box::new(libm::exp), 1.0),
    ]
}

fn text(function: &str, dtype: impl std::fmt::Display, shape: &str) -> String {
    let (name, fields) = function.split_once(' ').unwrap_or((function, ""));
    format!("{name} {dtype} shape={shape} {fields}")
}

#[test]
fn every_function_is_checked() {
    for name in Unary::NAMES {
        assert!(functions().iter().any(|(text, ..)| text.split(' ').next() == Some(name)), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn functions_of_every_type_and_length(dtype in dtypes(), len in 0usize..200, seed: u64, spread in 0.1f64..40.0) {
        for (function, exact, ulps) in functions() {
            let mut x = normal(seed, len);
            x.iter_mut().for_each(|x| *x *= spread);
            let case = Case::new(&text(function, dtype, &len.to_string()), &[x]);
            let y: Vec<f64> = case.input("x").iter().map(|&x| exact(x)).collect();
            case.check(&y, |i| case.bound(ulps, y[i]));
        }
    }

    #[test]
    fn gated_units(dtype in dtypes(), rows in 1usize..5, width in 1usize..70, seed: u64, spread in 0.1f64..30.0) {
        let mut gate = normal(seed, rows * width);
        gate.iter_mut().for_each(|x| *x *= spread);
        let up = normal(!seed, rows * width);
        for (name, function, ulps) in GATED {
            for layout in ["split", "gate_first", "gate_last"] {
                let problem = format!("{name} {dtype} shape={rows}x{width} layout={layout}");
                let packed = |first: &[f64], second: &[f64]| {
                    let rows = first.chunks(width).zip(second.chunks(width));
                    vec![rows.flat_map(|(a, b)| a.iter().chain(b)).copied().collect()]
                };
                let values = match layout {
                    "split" => vec![gate.clone(), up.clone()],
                    "gate_first" => packed(&gate, &up),
                    _ => packed(&up, &gate),
                };
                let case = Case::new(&problem, &values);
                let y: Vec<f64> = gate
                    .iter()
                    .zip(&up)
                    .map(|(&g, &u)| function(dtype.round(g)) * dtype.round(u))
                    .collect();
                case.check(&y, |i| case.bound(ulps + 1.0, y[i]));
            }
        }
    }
}

/// The product must be right where the gate alone is subnormal or zero, and where the other
/// factor is.
#[test]
fn gated_units_at_the_ends_of_the_range() {
    const GATES: [f64; 21] = [
        f64::NEG_INFINITY,
        -180.0,
        -120.0,
        -100.0,
        -90.0,
        -88.0,
        -19.0,
        -14.5,
        -13.0,
        -1.2,
        -1e-3,
        -1e-40,
        -0.0,
        1e-45,
        1e-40,
        1e-38,
        0.3,
        5.0,
        1e20,
        3e38,
        f64::INFINITY,
    ];
    const UPS: [f64; 15] = [
        f64::NEG_INFINITY,
        -3e38,
        -1e20,
        -7.0,
        -1e-20,
        -1e-40,
        0.0,
        1e-45,
        1e-39,
        1e-12,
        1.0,
        1e12,
        1e30,
        3e38,
        f64::INFINITY,
    ];
    let gate: Vec<f64> = GATES.iter().flat_map(|&g| UPS.map(|_| g)).collect();
    let up: Vec<f64> = GATES.iter().flat_map(|_| UPS).collect();
    for (name, function, ulps) in GATED {
        let case = Case::new(&format!("{name} f32 shape={}", gate.len()), &[gate.clone(), up.clone()]);
        let (gate, up) = (case.input("gate"), case.input("up"));
        let y: Vec<f64> = gate
            .iter()
            .zip(&up)
            .map(|(&g, &u)| match function(g) {
                // f64 underflows at e^−745, but the product with ±∞ is infinite before the limit.
                value if value == 0.0 && g < 0.0 && g.is_finite() && name != "reglu" => {
                    -f64::MIN_POSITIVE * u
                }
                value => value * u,
            })
            .collect();
        case.check(&y, |i| case.bound(ulps + 1.0, y[i]));
    }
}

#[test]
fn limits_and_nan() {
    let nan_or = |y: f64, expected: f64| (y.is_nan() && expected.is_nan()) || y == expected;
    let ends = [
        ("relu", 0.0, f64::INFINITY),
        ("leaky_relu", f64::NEG_INFINITY, f64::INFINITY),
        ("sigmoid", 0.0, 1.0),
        ("tanh", -1.0, 1.0),
        ("gelu", 0.0, f64::INFINITY),
        ("gelu_tanh", 0.0, f64::INFINITY),
        ("silu", 0.0, f64::INFINITY),
        ("swish beta=0", f64::NEG_INFINITY, f64::INFINITY),
        ("swish beta=2", 0.0, f64::INFINITY),
        ("swish beta=-2", f64::NEG_INFINITY, 0.0),
        ("softplus", 0.0, f64::INFINITY),
        ("elu", -1.0, f64::INFINITY),
        ("hard_swish", 0.0, f64::INFINITY),
        ("mish", 0.0, f64::INFINITY),
        ("erf", -1.0, 1.0),
        ("exp", 0.0, f64::INFINITY),
    ];
    for dtype in ["f32", "f16", "bf16"] {
        for (function, low, high) in ends {
            // Seventeen places: the body and the tail of every vector.
            let x = [f64::NEG_INFINITY, f64::INFINITY, f64::NAN].repeat(17);
            let case = Case::new(&text(function, dtype, "51"), &[x]);
            for isa in Isa::present() {
                for (i, &y) in case.output(isa).iter().enumerate() {
                    let expected = [low, high, f64::NAN][i % 3];
                    assert!(nan_or(y, expected), "{isa} {function} {dtype}: {y} for {expected}");
                }
            }
        }
        for function in ["gelu", "gelu_tanh", "silu"] {
            let case = Case::new(&text(function, dtype, "1"), &[vec![f64::NEG_INFINITY]]);
            for isa in Isa::present() {
                assert!(case.output(isa)[0].is_sign_negative(), "{isa} {function} {dtype}: +0");
            }
        }
    }
}

#[test]
fn every_length_and_alignment_gives_the_same_bits() {
    fn check<T: Element>() {
        let nan = T::from_f32(f32::NAN);
        let x: Vec<T> = normal(7, 200).iter().map(|&x| T::from_f32((8.0 * x) as f32)).collect();
        for isa in Isa::present() {
            let mut whole = vec![T::zeroed(); 200];
            isa.run(Map { function: Ungated(Gelu), x: [&x], out: &mut whole });
            for start in 0..33 {
                for len in 0..=100 {
                    let mut out = [nan; 120];
                    let (x, place) = (&x[start..start + len], start % 5..start % 5 + len);
                    isa.run(Map { function: Ungated(Gelu), x: [x], out: &mut out[place.clone()] });
                    let same = out[place].iter().zip(&whole[start..]).all(|(a, b)| a.to_f32() == b.to_f32());
                    assert!(same, "{isa} {}: {len} elements from {start}", T::DTYPE);
                    let written = out.iter().filter(|y| !y.to_f32().is_nan()).count();
                    assert_eq!(written, len, "{isa} {}: wrote too much", T::DTYPE);
                }
            }
        }
    }
    check::<f32>();
    check::<f16>();
    check::<bf16>();
}

#[test]
fn relu_of_every_half() {
    fn check<T: Element>(infinity: T) {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let x: &[T] = bytemuck::cast_slice(&bits);
        for isa in Isa::present() {
            let mut out = vec![0; bits.len()];
            let infinity = bytemuck::cast::<T, u16>(infinity);
            isa.run(HalfRelu { x: &bits, out: &mut out, infinity });
            for (x, &got) in x.iter().zip(bytemuck::cast_slice::<u16, T>(&out)) {
                let (x, got) = (x.to_f32(), got.to_f32());
                assert!(
                    got == x.max(0.0) || (got.is_nan() && x.is_nan()),
                    "{isa} {}: relu({x:e}) = {got:e}",
                    T::DTYPE
                );
            }
        }
    }
    check(f16::INFINITY);
    check(bf16::INFINITY);
}

/// Far arguments among near ones make a block be gone over twice, which must not show.
#[test]
fn neighbours_change_nothing() {
    let numbers = |seed| -> Vec<f32> { normal(seed, 5000).iter().map(|&x| (4.0 * x) as f32).collect() };
    let (mut gate, up) = (numbers(8), numbers(9));
    for (i, special) in [f32::NAN, f32::INFINITY, 0.0, -0.0, 1e-40].into_iter().enumerate() {
        gate[1300 + i] = special;
    }
    for isa in Isa::present() {
        let (mut plain, mut gated) = (vec![0.0f32; gate.len()], vec![0.0f32; gate.len()]);
        isa.run(Map { function: Ungated(Gelu), x: [&gate], out: &mut plain });
        isa.run(Map { function: Gated(Gelu), x: [&gate, &up], out: &mut gated });
        for i in 0..gate.len() {
            let mut alone = [0.0f32; 2];
            let (first, second) = alone.split_at_mut(1);
            isa.run(Map { function: Ungated(Gelu), x: [&gate[i..=i]], out: first });
            isa.run(Map { function: Gated(Gelu), x: [&gate[i..=i], &up[i..=i]], out: second });
            let among = [plain[i], gated[i]];
            assert_eq!(alone.map(f32::to_bits), among.map(f32::to_bits), "{isa}: at {}", gate[i]);
        }
    }
}

#[test]
fn threads_change_nothing() {
    for (function, ..) in functions() {
        let case = Case::new(&text(function, "f32", "7x30011"), &[normal(3, 7 * 30011)]);
        case.check_threads();
    }
    for layout in ["split", "gate_last"] {
        let values = match layout {
            "split" => vec![normal(4, 300 * 1001), normal(5, 300 * 1001)],
            _ => vec![normal(4, 300 * 2002)],
        };
        Case::new(&format!("swiglu bf16 shape=300x1001 layout={layout}"), &values).check_threads();
    }
}
