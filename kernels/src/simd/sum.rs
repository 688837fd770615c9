//! Sums of many numbers.

use super::lanes::Lanes;

/// A running sum of vectors in two parts: the rounding error of every addition is kept (Knuth's
/// two-sum), so the error does not grow with the number of terms.
#[derive(Clone, Copy)]
pub(super) struct Sum<F> {
    high: F,
    low: F,
}

impl<F: Copy> Sum<F> {
    /// Zero.
    #[inline(always)]
    pub(super) fn zero<L: Lanes<F = F>>(lanes: L) -> Self {
        Sum { high: lanes.splat(0.0), low: lanes.splat(0.0) }
    }

    /// Adds a term to each lane.
    #[inline(always)]
    pub(super) fn add<L: Lanes<F = F>>(&mut self, lanes: L, term: F) {
        let sum = lanes.add(self.high, term);
        let added = lanes.sub(sum, self.high);
        let error = lanes.add(lanes.sub(self.high, lanes.sub(sum, added)), lanes.sub(term, added));
        self.low = lanes.add(self.low, error);
        self.high = sum;
    }

    /// The sum of each lane in two parts: the first is the sum rounded, the second the rest.
    #[inline(always)]
    pub(super) fn parts<L: Lanes<F = F>>(self, lanes: L) -> (F, F) {
        let sum = lanes.add(self.high, self.low);
        (sum, lanes.sub(self.low, lanes.sub(sum, self.high)))
    }
}

/// The sum of all lanes of many vectors or of few. Of one or two nothing is lost, so that nothing need be
/// kept but themselves.
#[derive(Clone, Copy)]
pub(super) struct Total<F> {
    /// Of two terms, each of its parts is one of them.
    sum: Sum<F>,
    terms: usize,
}

impl<F: Copy> Total<F> {
    /// Of nothing.
    #[inline(always)]
    pub(super) fn zero<L: Lanes<F = F>>(lanes: L) -> Self {
        Total { sum: Sum::zero(lanes), terms: 0 }
    }

    /// Adds a term to each lane.
    #[inline(always)]
    pub(super) fn add<L: Lanes<F = F>>(&mut self, lanes: L, term: F) {
        match self.terms {
            0 => self.sum.high = term,
            1 => self.sum.low = term,
            terms => {
                if terms == 2 {
                    let second = std::mem::replace(&mut self.sum.low, lanes.splat(0.0));
                    self.sum.add(lanes, second);
                }
                self.sum.add(lanes, term);
            }
        }
        self.terms += 1;
    }

    /// The sum of all lanes.
    #[inline(always)]
    pub(super) fn of_lanes<L: Lanes<F = F>>(self, lanes: L) -> f64 {
        let Sum { high, low } = self.sum;
        let rest = if self.terms > 1 { lanes.reduce_add_f64(low) } else { 0.0 };
        lanes.reduce_add_f64(high) + rest
    }
}
