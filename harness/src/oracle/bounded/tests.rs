//! Bounds hold for f32 arithmetic in every order of evaluation, and are not far from it.

use std::ops::{Add, Div, Mul, Neg, Sub};

use proptest::prelude::*;
use touchstone_kernels::DType;

use super::Bounded;
use crate::oracle::Real;

/// f32 arithmetic, its sums in one of several orders.
#[derive(Clone, Copy, Debug)]
struct Single<const ORDER: usize>(f32);

/// The orders: forwards, backwards, halves of halves, eight lanes, by magnitude, odd after even, in f64.
const ORDERS: usize = 7;

fn sum_in(order: usize, mut x: Vec<f32>) -> f32 {
    fn halves(x: &[f32]) -> f32 {
        match x {
            [] => 0.0,
            [x] => *x,
            _ => halves(&x[..x.len() / 2]) + halves(&x[x.len() / 2..]),
        }
    }
    match order {
        0 => x.iter().fold(0.0, |sum, x| sum + x),
        1 => x.iter().rev().fold(0.0, |sum, x| sum + x),
        2 => halves(&x),
        3 => {
            let mut lanes = [0.0f32; 8];
            x.iter().enumerate().for_each(|(i, x)| lanes[i % 8] += x);
            halves(&lanes)
        }
        4 => {
            x.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
            x.iter().fold(0.0, |sum, x| sum + x)
        }
        5 => x.iter().step_by(2).chain(x.iter().skip(1).step_by(2)).fold(0.0, |sum, x| sum + x),
        _ => x.iter().map(|&x| f64::from(x)).sum::<f64>() as f32,
    }
}

impl<const ORDER: usize> Add for Single<ORDER> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Single(self.0 + other.0)
    }
}

impl<const ORDER: usize> Sub for Single<ORDER> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Single(self.0 - other.0)
    }
}

impl<const ORDER: usize> Mul for Single<ORDER> {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Single(self.0 * other.0)
    }
}

impl<const ORDER: usize> Div for Single<ORDER> {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        // Every other order divides by a product with the reciprocal.
        Single(if ORDER.is_multiple_of(2) { self.0 / other.0 } else { self.0 * (1.0 / other.0) })
    }
}

impl<const ORDER: usize> Neg for Single<ORDER> {
    type Output = Self;

    fn neg(self) -> Self {
        Single(-self.0)
    }
}

impl<const ORDER: usize> Real for Single<ORDER> {
    fn exact(x: f64) -> Self {
        Single(x as f32)
    }

    fn constant(x: f64) -> Self {
        Single(x as f32)
    }

    fn value(self) -> f64 {
        f64::from(self.0)
    }

    fn sum(terms: impl IntoIterator<Item = Self>) -> Self {
        Single(sum_in(ORDER, terms.into_iter().map(|term| term.0).collect()))
    }

    fn difference(self, other: Self) -> Self {
        self - other
    }

    fn max(self, other: Self) -> Self {
        if self.0 > other.0 || self.0.is_nan() { self } else { other }
    }

    fn exp(self) -> Self {
        Single(self.0.exp())
    }

    fn ln(self) -> Self {
        Single(self.0.ln())
    }

    fn tanh(self) -> Self {
        Single(self.0.tanh())
    }

    fn erf(self) -> Self {
        Single(libm::erff(self.0))
    }

    fn sqrt(self) -> Self {
        Single(self.0.max(0.0).sqrt())
    }

    fn recip_sqrt(self) -> Self {
        Single(1.0 / self.0.sqrt())
    }

    fn computed(self) -> Self {
        self
    }

    fn stored(self, dtype: DType) -> Self {
        Single(dtype.round(f64::from(self.0)) as f32)
    }

    fn within(self, _low: f64, _high: f64) -> Self {
        self
    }
}

/// A formula over numbers.
trait Over {
    fn at<R: Real>(&self, x: &[R]) -> Vec<R>;
}

struct Softmax;

impl Over for Softmax {
    fn at<R: Real>(&self, x: &[R]) -> Vec<R> {
        let max = x.iter().copied().reduce(R::max).unwrap_or(R::exact(0.0));
        let powers: Vec<R> = x.iter().map(|x| x.difference(max).exp()).collect();
        let sum = R::sum(powers.iter().copied());
        powers.iter().map(|&p| (p / sum).within(0.0, 1.0)).chain([sum.ln() + max]).collect()
    }
}

/// Layer norm, its moments, and the RMS norm.
struct Norms;

impl Over for Norms {
    fn at<R: Real>(&self, x: &[R]) -> Vec<R> {
        let n = R::exact(x.len() as f64);
        let mean = R::sum(x.iter().copied()) / n;
        let centred: Vec<R> = x.iter().map(|x| x.difference(mean)).collect();
        let variance = R::sum(centred.iter().map(|&x| x * x)) / n;
        let rstd = (variance + R::constant(1e-5)).recip_sqrt();
        let root = (R::sum(x.iter().map(|&x| x * x)) / n + R::constant(1e-6)).sqrt();
        let mut all: Vec<R> = centred.iter().map(|&x| x * rstd).collect();
        all.extend(x.iter().map(|&x| x / root));
        all.extend([mean, variance]);
        all
    }
}

/// Functions of one number each, and of their sums.
struct Functions;

impl Over for Functions {
    fn at<R: Real>(&self, x: &[R]) -> Vec<R> {
        let half = R::exact(0.5);
        let mut all = Vec::new();
        for &x in x {
            let cube = R::constant(0.044715) * x * x * x;
            let inner = R::constant((2.0 / std::f64::consts::PI).sqrt()) * (x + cube);
            all.push(half * x * (R::exact(1.0) + inner.tanh()));
            all.push(half * x * (R::exact(1.0) + (x * R::constant(std::f64::consts::FRAC_1_SQRT_2)).erf()));
            all.push(x / (R::exact(1.0) + (-x).exp()));
            all.push((x * x + R::exact(1.0)).ln().sqrt());
            all.push((x * R::constant(0.3)).stored(DType::BF16) * x);
        }
        all.push(R::dot(x.iter().copied(), x.iter().rev().copied()));
        // A chain of + and − in an association of its own.
        if let [a, b, c, d, ..] = *x {
            all.push((a - b) + (c - d) - (a * b - c));
        }
        all
    }
}

/// One query of attention: keys and values from the same numbers.
struct Attention;

impl Over for Attention {
    fn at<R: Real>(&self, x: &[R]) -> Vec<R> {
        let d = 4.min(x.len());
        let q = &x[..d];
        let keys: Vec<&[R]> = x.chunks_exact(d).collect();
        let scores: Vec<R> =
            keys.iter().map(|k| R::constant(0.3535) * R::dot(q.iter().copied(), k.iter().copied())).collect();
        let max = scores.iter().copied().reduce(R::max).unwrap_or(R::exact(0.0));
        let weights: Vec<R> = scores.iter().map(|s| s.difference(max).exp()).collect();
        let sum = R::sum(weights.iter().copied());
        let columns = (0..d).map(|c| R::dot(weights.iter().copied(), keys.iter().map(|v| v[c])) / sum);
        columns.collect()
    }
}

/// The largest error over its bound, among all orders; more than 1 breaks a bound.
fn worst(formula: &impl Over, x: &[f32]) -> f64 {
    let bounded = formula.at(&x.iter().map(|&x| Bounded::exact(x.into())).collect::<Vec<_>>());
    let exact = formula.at::<f64>(&x.iter().map(|&x| x.into()).collect::<Vec<f64>>());
    fn by<const ORDER: usize>(formula: &impl Over, x: &[f32]) -> Vec<f64> {
        let x: Vec<Single<ORDER>> = x.iter().map(|&x| Single(x)).collect();
        formula.at(&x).into_iter().map(Real::value).collect()
    }
    let single = [
        by::<0>(formula, x),
        by::<1>(formula, x),
        by::<2>(formula, x),
        by::<3>(formula, x),
        by::<4>(formula, x),
        by::<5>(formula, x),
        by::<6>(formula, x),
    ];
    let _: [(); ORDERS] = single.each_ref().map(|_| ());
    let mut worst = 0.0f64;
    for (i, (bounded, exact)) in bounded.iter().zip(&exact).enumerate() {
        assert!(bounded.value() == *exact || (bounded.value() - exact).abs() <= 1e-9 * exact.abs(), "{i}");
        // What is refused, or leaves the range of f32 on the way, is not judged.
        if !bounded.error().is_finite() || !exact.is_finite() {
            continue;
        }
        for got in single.iter().map(|got| got[i]).filter(|got| got.is_finite()) {
            let error = (got - exact).abs();
            worst = worst.max(if error == 0.0 { 0.0 } else { error / bounded.error() });
        }
    }
    worst
}

fn numbers() -> impl Strategy<Value = Vec<f32>> {
    let plain = (-4.0f32..4.0).boxed();
    let spread =
        (any::<bool>(), -30i32..20).prop_map(|(minus, e)| (2f32).powi(e) * if minus { -1.0 } else { 1.0 });
    let offset = (999.0f32..1001.0).boxed();
    let tiny = (-1e-38f32..1e-38).boxed();
    prop_oneof![
        4 => prop::collection::vec(plain, 4..200),
        2 => prop::collection::vec(spread, 4..100),
        1 => prop::collection::vec(offset, 4..100),
        1 => prop::collection::vec(tiny, 4..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_order_of_evaluation_leaves_its_bound(x in numbers()) {
        prop_assert!(worst(&Softmax, &x) <= 1.0, "softmax: {}", worst(&Softmax, &x));
        prop_assert!(worst(&Norms, &x) <= 1.0, "norms: {}", worst(&Norms, &x));
        prop_assert!(worst(&Functions, &x) <= 1.0, "functions: {}", worst(&Functions, &x));
        prop_assert!(worst(&Attention, &x) <= 1.0, "attention: {}", worst(&Attention, &x));
    }
}

/// DESIGN's example: 256 alternating terms, associated in pairs by the formula, violate pairwise rules.
#[test]
fn a_chain_is_charged_for_every_association() {
    let x: Vec<f32> = (0..256).map(|i| if i % 2 == 0 { 1e4 + i as f32 / 7.0 } else { -1e4 }).collect();
    let pairs: Bounded = x
        .chunks(2)
        .map(|pair| Bounded::exact(pair[0].into()) + Bounded::exact(pair[1].into()))
        .fold(Bounded::exact(0.0), Add::add);
    let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
    for order in 0..ORDERS {
        let got = f64::from(sum_in(order, x.clone()));
        assert!((got - exact).abs() <= pairs.error(), "order {order}: {got} for {exact} ± {}", pairs.error());
    }
}

#[test]
fn what_is_exact_has_no_error() {
    let x = Bounded::exact(0.1f32.into());
    for exact in [x, -x, x.max(-x), Bounded::sum([x]), x + Bounded::exact(0.0), Bounded::constant(0.5)] {
        assert_eq!(exact.error(), 0.0, "{exact:?}");
    }
    // A power of two moves the exponent; only what underflows is lost.
    assert!((x * Bounded::exact(0.25)).error() < 1e-44 && (x / Bounded::exact(8.0)).error() < 1e-44);
    assert!(Bounded::constant(0.1).error() > 0.0);
}

#[test]
fn what_is_not_finite_is_so_exactly() {
    let (one, infinite) = (Bounded::exact(1.0), Bounded::exact(f64::INFINITY));
    for exact in
        [infinite * one, infinite + one, one - infinite, Bounded::sum([one, one, infinite]), -infinite]
    {
        assert!(exact.value().is_infinite() && exact.error() == 0.0, "{exact:?}");
    }
    for undefined in [infinite - infinite, infinite * Bounded::exact(0.0), Bounded::exact(f64::NAN).max(one)]
    {
        assert!(undefined.value().is_nan() && undefined.error() == 0.0, "{undefined:?}");
    }
    // 1/√∞ and what it multiplies.
    assert_eq!((infinite.recip_sqrt() * one).error(), 0.0);
    assert_eq!((one / infinite).error(), 0.0);
    // A factor whose sign is uncertain.
    assert!((infinite * Bounded::new(1e-9, 1e-6)).error().is_nan());
}

#[test]
fn what_may_be_anything_has_no_bound() {
    let zero = Bounded::new(1e-9, 1e-6);
    assert_eq!((Bounded::exact(1.0) / zero).error(), f64::INFINITY);
    assert_eq!(zero.ln().error(), f64::INFINITY);
    assert_eq!(zero.recip_sqrt().error(), f64::INFINITY);
    let undefined = Bounded::exact(f64::NAN).exp() * Bounded::exact(2.0);
    assert!(undefined.value().is_nan() || undefined.error().is_nan());
    // A range is a bound.
    let capped = (Bounded::exact(1.0) / zero).within(0.0, 2e9).error();
    assert!((capped / 1e9 - 1.0).abs() < 1e-9, "{capped}");
    assert!(Bounded::new(0.5, f64::NAN).within(0.0, 1.0).error().is_nan());
}
