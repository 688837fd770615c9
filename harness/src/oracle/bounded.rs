//! Running error analysis: a number that carries the error it may have.
//!
//! [`Bounded`] is a value in f64 and a bound on the distance from it of what a careful f32 kernel computes
//! (Wilkinson 1963; Higham 2002, §3.3). With u = 2⁻²⁴ the rules are:
//!
//! - A sum of n terms is charged for any order of evaluation: u·|a + b| of two, and g(n)·u·Σ|terms| of more
//!   ([`growth`]), besides the errors of the terms. A chain of `+` and `-` is one sum: pairwise rules do not
//!   cover other associations, which violate them by factors of some units.
//! - A product costs u, a quotient 2u (a·(1/b)), a root u, 1/√x 2u, an elementary function what
//!   [`rounding`](super::rounding) says. Each product, quotient and exponential adds half of the smallest
//!   subnormal: no relative bound holds near zero.
//! - The effect of an argument's error is exact, not first order: both ends of its interval are computed, and
//!   of a quotient the worst case.
//! - A constant costs u unless f32 has it. A rounding to a storage type that is part of the formula is the
//!   rounding of the value, and off by what the ends of its interval, rounded, are away from that.
//! - Copies, negation, maxima, products with 0 and with powers of two are exact, and so is a sum of two exact
//!   numbers that f32 has.
//! - A bound is at most the width of the range in which the number lies for certain ([`Real::within`]).
//! - NaN and ±∞ come out of exact operands, and so in every rounding; where an error may decide it, the
//!   element has no bound.
//!
//! That an intermediate value leaves the range of f32 costs nothing: kernels have to avoid it where the result
//! is in range. A bound that is infinite or NaN refuses the element.

use std::ops::{Add, Div, Mul, Neg, Sub};

use touchstone_kernels::DType;

use super::exponents::change;
use super::real::Real;
use super::rounding::{ERF, EXP, LOG, TANH, U, UNDERFLOW, growth};

/// A value and the largest distance from it of what a careful f32 kernel has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    value: f64,
    error: f64,
    /// The sum that it is, if of one term only.
    chain: Chain,
}

/// The terms of a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Chain {
    /// How many.
    terms: usize,
    /// Σ(|term| + its error).
    magnitude: f64,
    /// Σ of the errors of the terms.
    inherited: f64,
}

impl Bounded {
    /// A number that is off by at most `error`, and no sum.
    pub fn new(value: f64, error: f64) -> Self {
        let chain = Chain { terms: 1, magnitude: value.abs() + error, inherited: error };
        Bounded { value, error, chain }
    }

    /// How far from the value a careful kernel may be.
    pub fn error(self) -> f64 {
        self.error
    }

    /// A value of which the argument's error makes at most `effect`, and the last operation `relative`·u.
    fn rounded(value: f64, effect: f64, relative: f64) -> Self {
        if !value.is_finite() {
            return Bounded::not_finite(value, effect == 0.0);
        }
        Bounded::new(value, effect + relative * U * (value.abs() + effect))
    }

    /// NaN or ±∞: so in every rounding if it is `certain`, else undefined.
    fn not_finite(value: f64, certain: bool) -> Self {
        Bounded::new(value, if certain { 0.0 } else { f64::NAN })
    }

    /// Whether its sign, or that it is not finite, is certain.
    fn is_certain(self) -> bool {
        self.error == 0.0 || self.error < self.value.abs()
    }

    /// A function that only rises or only falls, at both ends of the argument's interval.
    fn monotone(self, f: impl Fn(f64) -> f64, relative: f64) -> Self {
        let value = f(self.value);
        let effect = match self.error {
            0.0 => 0.0,
            error => (f(self.value + error) - value).abs().max((value - f(self.value - error)).abs()),
        };
        Bounded::rounded(value, effect, relative)
    }

    /// Whether a product with it is exact: 0, or a power of two of either sign, without an error.
    fn is_power_of_two(self) -> bool {
        const MANTISSA: u64 = (1 << 52) - 1;
        self.error == 0.0 && self.value.is_finite() && self.value.to_bits() & MANTISSA == 0
    }

    fn with_underflow(self) -> Self {
        Bounded::new(self.value, self.error + UNDERFLOW)
    }
}

/// Whether the sum of two numbers is one that f32 has, without any rounding.
fn is_exact_sum(a: f64, b: f64) -> bool {
    let sum = a + b;
    // What f64 rounds away (Knuth's two-sum).
    let of_b = sum - a;
    let lost = (a - (sum - of_b)) + (b - of_b);
    lost == 0.0 && f64::from(sum as f32) == sum
}

impl Add for Bounded {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (a, b) = (self.chain, other.chain);
        // The sum of nothing, and what is added to it.
        if self.value == 0.0 && self.error == 0.0 {
            return other;
        }
        if other.value == 0.0 && other.error == 0.0 {
            return self;
        }
        let chain = Chain {
            terms: a.terms + b.terms,
            magnitude: a.magnitude + b.magnitude,
            inherited: a.inherited + b.inherited,
        };
        let value = self.value + other.value;
        if !value.is_finite() {
            return Bounded::not_finite(value, chain.inherited.is_finite());
        }
        let rounding = match chain.terms {
            2 if chain.inherited == 0.0 && is_exact_sum(self.value, other.value) => 0.0,
            2 => U * (value.abs() + chain.inherited),
            n => growth(n) * U * chain.magnitude,
        };
        Bounded { value, error: chain.inherited + rounding, chain }
    }
}

impl Sub for Bounded {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Bounded {
    type Output = Self;

    fn neg(self) -> Self {
        Bounded { value: -self.value, ..self }
    }
}

impl Mul for Bounded {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let (a, b) = (self.value.abs(), other.value.abs());
        let value = self.value * other.value;
        if !a.is_finite() || !b.is_finite() {
            return Bounded::not_finite(value, self.is_certain() && other.is_certain());
        }
        let effect = a * other.error + b * self.error + self.error * other.error;
        if self.is_power_of_two() || other.is_power_of_two() {
            // Exact but for what underflows.
            let product = Bounded::new(value, effect);
            return if value == 0.0 && effect == 0.0 { product } else { product.with_underflow() };
        }
        Bounded::rounded(value, effect, 1.0).with_underflow()
    }
}

impl Div for Bounded {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        let least = other.value.abs() - other.error;
        if !self.value.is_finite() || !other.value.is_finite() {
            let certain = self.is_certain() && other.is_certain();
            return Bounded::new(value, if certain { 0.0 } else { f64::NAN });
        }
        if least <= 0.0 {
            // The divisor may be 0.
            return Bounded::new(value, if value.is_nan() { f64::NAN } else { f64::INFINITY });
        }
        let effect = (self.error + value.abs() * other.error) / least;
        let relative = if other.is_power_of_two() { 0.0 } else { 2.0 };
        Bounded::rounded(value, effect, relative).with_underflow()
    }
}

impl Real for Bounded {
    fn exact(x: f64) -> Self {
        Bounded::new(x, 0.0)
    }

    fn constant(x: f64) -> Self {
        let is_f32 = f64::from(x as f32) == x;
        Bounded::new(x, if is_f32 { 0.0 } else { U * x.abs() })
    }

    fn value(self) -> f64 {
        self.value
    }

    fn sum(terms: impl IntoIterator<Item = Self>) -> Self {
        let mut values = super::Sum::default();
        let mut chain = Chain { terms: 0, magnitude: 0.0, inherited: 0.0 };
        for term in terms {
            values.add(term.value);
            chain.terms += term.chain.terms;
            chain.magnitude += term.chain.magnitude;
            chain.inherited += term.chain.inherited;
        }
        let value = values.value();
        if !value.is_finite() {
            return Bounded::not_finite(value, chain.inherited.is_finite());
        }
        let rounding = match chain.terms {
            0 | 1 => 0.0,
            2 => U * (value.abs() + chain.inherited),
            n => growth(n) * U * chain.magnitude,
        };
        Bounded { value, error: chain.inherited + rounding, chain }
    }

    fn difference(self, other: Self) -> Self {
        Bounded::rounded(self.value - other.value, self.error + other.error, 1.0)
    }

    fn max(self, other: Self) -> Self {
        Bounded::new(Real::max(self.value, other.value), Real::max(self.error, other.error))
    }

    fn exp(self) -> Self {
        // Not by both ends: their difference would be lost in e^x where the error is small.
        let effect = if self.error == 0.0 { 0.0 } else { change(self.value, self.error) };
        Bounded::rounded(self.value.exp(), effect, EXP).with_underflow()
    }

    fn ln(self) -> Self {
        if self.value <= self.error && self.error > 0.0 {
            return Bounded::new(self.value.ln(), f64::INFINITY);
        }
        self.monotone(f64::ln, LOG)
    }

    fn tanh(self) -> Self {
        self.monotone(f64::tanh, TANH).within(-1.0, 1.0)
    }

    fn erf(self) -> Self {
        self.monotone(libm::erf, ERF).within(-1.0, 1.0)
    }

    fn sqrt(self) -> Self {
        // A number that is not negative, computed, is not below 0.
        self.monotone(|x| if self.value >= 0.0 { x.max(0.0).sqrt() } else { x.sqrt() }, 1.0)
    }

    fn recip_sqrt(self) -> Self {
        if self.value <= self.error && self.error > 0.0 {
            return Bounded::new(1.0 / self.value.sqrt(), f64::INFINITY);
        }
        self.monotone(|x| 1.0 / x.sqrt(), 2.0)
    }

    fn computed(self) -> Self {
        Bounded::new(self.value, self.error)
    }

    fn stored(self, dtype: DType) -> Self {
        let value = dtype.round(self.value);
        if value.is_nan() && self.error == 0.0 {
            return Bounded::new(value, 0.0);
        }
        // Equal infinities are no distance apart.
        let away = |x: f64| if dtype.round(x) == value { 0.0 } else { (dtype.round(x) - value).abs() };
        let error = if self.chain.terms <= 2 && self.chain.inherited == 0.0 {
            // Of one operation on exact numbers a kernel has the result itself, or its rounding to f32.
            away(f64::from(self.value as f32))
        } else {
            away(self.value + self.error).max(away(self.value - self.error))
        };
        // What is undefined stays so.
        Bounded::new(value, if self.error.is_nan() { self.error } else { error })
    }

    fn within(self, low: f64, high: f64) -> Self {
        let farthest = (self.value - low).max(high - self.value);
        // What is undefined stays so.
        Bounded::new(self.value, if self.error > farthest { farthest } else { self.error })
    }
}

#[cfg(test)]
mod tests;
