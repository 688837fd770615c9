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

    /// The sum of all lanes.
    #[inline(always)]
    pub(super) fn total<L: Lanes<F = F>>(self, lanes: L) -> f64 {
        lanes.reduce_add_f64(self.high) + lanes.reduce_add_f64(self.low)
    }
}
