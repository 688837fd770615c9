//! The constants of the error bounds.

/// Unit roundoff of f32, the type in which every backend accumulates: 2⁻²⁴.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Half the spacing of f32's subnormals, 2⁻¹⁵⁰: what one rounding may lose near zero, where no
/// relative bound holds.
pub const UNDERFLOW: f64 = f64::from_bits((1023 - 150) << 52);

/// λ of the probabilistic bound on sums: with it the bound √n·λ·u fails with a probability of at
/// most 2n·e^(−λ²/2) = 2n·1.3·10⁻¹⁴ (Higham & Mary 2019, theorem 3.1).
///
/// Chosen so that this is small for every sum that a suite has: 2.5·10⁻⁸ for a million terms. With 4 it
/// would be 2n·3.4·10⁻⁴, which says nothing from 1,500 terms on. With 16 it would be below 10⁻⁴⁹ for
/// a million, and the bound of a long sum twice as wide for nothing.
pub const LAMBDA: f64 = 8.0;

/// Growth of the rounding error of a sum of n terms, in units of u·Σ|terms|: the probabilistic
/// λ√n, and never more than the deterministic n.
pub fn growth(n: usize) -> f64 {
    let n = n as f64;
    n.min(LAMBDA * n.sqrt())
}

// Errors that an implementation of an elementary function may have, in units of u·|value|.
// One ULP is at most 2u. They admit what vector math libraries in use are known for (XNNPACK's
// exp 1.97 ULP and tanh 4.4 ULP, ggml's exp 1.92 ULP) and nothing worse.
// They are chosen from these figures, not derived. With half of them, those libraries may fail for what
// their makers regard as accurate. With twice, an exp of 4 ULP passes, and the bounds of activations, which
// consist of little else, are nearly twice as wide.

/// exp: 2 ULP.
pub const EXP: f64 = 4.0;
/// log and log1p: 2 ULP.
pub const LOG: f64 = 4.0;
/// tanh: 5 ULP.
pub const TANH: f64 = 10.0;
/// erf and erfc: 4 ULP.
pub const ERF: f64 = 8.0;
