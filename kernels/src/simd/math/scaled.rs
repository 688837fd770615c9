//! Products whose factors leave the range of f32 before their product does.

use crate::simd::lanes::Lanes;

/// m·r·2ⁿ, not multiplied out: `x·sigmoid(x)` at x = −100 is a small number, but sigmoid(−100) is
/// a subnormal with three bits left. r is normal and at most 2, n integral, from −450 to 0.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<F> {
    /// The linear factor: x, limited where the result has long been zero; or a sign, where r has x in it.
    pub(super) m: F,
    pub(super) r: F,
    pub(super) n: F,
}

impl<F: Copy> Scaled<F> {
    /// x itself.
    #[inline(always)]
    pub(crate) fn exact<L: Lanes<F = F>>(lanes: L, x: F) -> Self {
        Scaled { m: x, r: lanes.splat(1.0), n: lanes.splat(0.0) }
    }

    /// The product, rounded to the range of f32 once. n below −250 must mean zero.
    #[inline(always)]
    pub(crate) fn value<L: Lanes<F = F>>(self, lanes: L) -> F {
        lanes.ldexp(lanes.mul(self.m, self.r), self.n)
    }

    /// The product for any m and n.
    #[inline(always)]
    pub(super) fn wide_value<L: Lanes<F = F>>(self, lanes: L) -> F {
        self.product(lanes, self.m, lanes.splat(1.0), self.n)
    }

    /// The product with one more factor, `up`; `x` is the argument that m, r and n belong to.
    #[inline(always)]
    pub(crate) fn times<L: Lanes<F = F>>(self, lanes: L, x: F, up: F) -> F {
        // m limits x, which hides that a gate at −∞ is exactly zero.
        let closed = lanes.eq(x, lanes.splat(f32::NEG_INFINITY));
        let gate = Scaled { r: lanes.select(closed, lanes.splat(0.0), self.r), ..self };
        // Tiny factors move up by 2⁶⁴, so that no partial product is subnormal unless the result
        // is zero; those above 2⁻⁴⁰ stay, so that none overflows.
        let (m, m_shift) = lift(lanes, self.m);
        let (up, up_shift) = lift(lanes, up);
        gate.product(lanes, m, up, lanes.add(self.n, lanes.add(m_shift, up_shift)))
    }

    /// m·r·up·2ⁿ with r of self, rounded to the range of f32 once: two fifths of 2ⁿ come before
    /// `up`, so that neither that product nor the next leaves the range, the last step is the only
    /// one that can reach the subnormals.
    #[inline(always)]
    fn product<L: Lanes<F = F>>(self, lanes: L, m: F, up: F, n: F) -> F {
        // Below 2⁻³⁰⁰ the result is zero for every m and up that belong to such an n.
        let n = lanes.max(lanes.splat(-300.0), n);
        let first = lanes.round(lanes.mul(n, lanes.splat(0.4)));
        let rest = lanes.sub(n, first);
        let last = lanes.max(lanes.splat(-126.0), rest);
        let gate = lanes.mul(lanes.mul(m, self.r), lanes.exp2i(first));
        let product = lanes.mul(lanes.mul(gate, up), lanes.exp2i(lanes.sub(rest, last)));
        lanes.mul(product, lanes.exp2i(last))
    }
}

/// (a·2⁶⁴, −64) for |a| < 2⁻⁴⁰, else (a, 0).
#[inline(always)]
fn lift<L: Lanes>(lanes: L, a: L::F) -> (L::F, L::F) {
    let tiny = lanes.lt(lanes.abs(a), lanes.splat(1.0 / (1u64 << 40) as f32));
    let lifted = lanes.mul(a, lanes.splat((1u128 << 64) as f32));
    (lanes.select(tiny, lifted, a), lanes.select(tiny, lanes.splat(-64.0), lanes.splat(0.0)))
}
