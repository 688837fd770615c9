//! Ways to add, to multiply and to take exponentials that are all right, and differ in the last
//! places.

use touchstone_kernels::DType;

/// In which order numbers are added in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Runs of so many one after the other, the sums of the runs in pairs.
    Runs(usize),
    /// The same from the end.
    Backwards(usize),
    /// So many accumulators side by side over blocks, as a vector register has them.
    Lanes(usize),
    /// Halves of halves, down to single numbers.
    Pairs,
    /// With Neumaier's compensation.
    Compensated,
    /// In f64, rounded at the end.
    Double,
}

impl Order {
    /// The sum of the terms.
    pub(crate) fn sum(self, terms: &[f32]) -> f32 {
        match self {
            Order::Runs(n) => pairs(&terms.chunks(n).map(|run| run.iter().sum()).collect::<Vec<f32>>()),
            Order::Backwards(n) => {
                pairs(&terms.rchunks(n).map(|run| run.iter().rev().sum()).collect::<Vec<f32>>())
            }
            Order::Lanes(n) => {
                // Blocks, since one accumulator over a long row of equal numbers drifts.
                pairs(&terms.chunks(64 * n).map(|block| lanes(n, block)).collect::<Vec<f32>>())
            }
            Order::Pairs => pairs(terms),
            Order::Compensated => compensated(terms),
            Order::Double => terms.iter().map(|&x| x as f64).sum::<f64>() as f32,
        }
    }
}

fn pairs(terms: &[f32]) -> f32 {
    match terms {
        [] => 0.0,
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            pairs(left) + pairs(right)
        }
    }
}

fn lanes(n: usize, terms: &[f32]) -> f32 {
    let mut sums = vec![0.0; n];
    for (i, x) in terms.iter().enumerate() {
        sums[i % n] += x;
    }
    pairs(&sums)
}

fn compensated(terms: &[f32]) -> f32 {
    let (mut sum, mut lost) = (0f32, 0f32);
    for &x in terms {
        let next = sum + x;
        // An infinite sum has lost nothing.
        if next.is_finite() {
            lost += if sum.abs() >= x.abs() { (sum - next) + x } else { (x - next) + sum };
        }
        sum = next;
    }
    sum + lost
}

/// How a dot product is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// Products rounded, then added.
    Rounded(Order),
    /// With fused multiply-add, one after the other.
    Fused,
    /// Both rounded to a storage type, as an accumulator in that type has them. Wrong.
    Stored(DType),
}

impl Product {
    /// The dot product of two rows.
    pub(crate) fn of(self, a: &[f32], b: &[f32]) -> f32 {
        let products = || a.iter().zip(b).map(|(a, b)| a * b);
        match self {
            Product::Rounded(Order::Double) => {
                a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64).sum::<f64>() as f32
            }
            Product::Rounded(order) => order.sum(&products().collect::<Vec<f32>>()),
            Product::Fused => a.iter().zip(b).fold(0.0, |sum, (a, b)| a.mul_add(*b, sum)),
            Product::Stored(dtype) => products().fold(0.0, |sum, x| stored(dtype, sum + stored(dtype, x))),
        }
    }
}

/// A number rounded to a storage type.
pub(crate) fn stored(dtype: DType, x: f32) -> f32 {
    dtype.round(x as f64) as f32
}

/// The larger number, NaN if either is.
pub(crate) fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The largest of a row, NaN if there is one.
pub(crate) fn largest(row: &[f32]) -> f32 {
    row.iter().copied().fold(f32::NEG_INFINITY, max)
}

/// e^x, correctly rounded but for one case in 10⁸.
pub(crate) fn exp_rounded(x: f32) -> f32 {
    (x as f64).exp() as f32
}

/// e^x, one unit in the last place too large.
pub(crate) fn exp_above(x: f32) -> f32 {
    nudged(x, f32::next_up)
}

/// e^x, one unit in the last place too small.
pub(crate) fn exp_below(x: f32) -> f32 {
    nudged(x, f32::next_down)
}

/// e⁰ is exactly 1 in any library, and what is below the normal numbers has no digit to spare.
fn nudged(x: f32, nudge: fn(f32) -> f32) -> f32 {
    let y = exp_rounded(x);
    if y.is_normal() && y != 1.0 { nudge(y) } else { y }
}

/// e^x by Cody and Waite's two-part reduction and a polynomial, as vector libraries do it.
pub(crate) fn exp_reduced(x: f32) -> f32 {
    // ln 2 in two parts: the first has few enough bits that k times it is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    if x.is_nan() {
        return x;
    }
    if x < -104.0 {
        return 0.0;
    }
    if x > 89.0 {
        return f32::INFINITY;
    }
    let k = (x * std::f32::consts::LOG2_E).round();
    let r = (x - k * HIGH) - k * LOW;
    // Taylor's series: r⁸/8! is below 6e-9 for |r| ≤ 0.347.
    let series = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let p = series.iter().fold(0.0, |sum, c: &f32| sum * r + c);
    // Two factors: 2^k alone may be out of range where the product is not.
    let half = (k / 2.0).floor();
    p * half.exp2() * (k - half).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_adds_up() {
        let terms: Vec<f32> = (1..=1000).map(|i| i as f32).collect();
        for order in [
            Order::Runs(7),
            Order::Backwards(64),
            Order::Lanes(8),
            Order::Pairs,
            Order::Compensated,
            Order::Double,
        ] {
            assert_eq!(order.sum(&terms), 500_500.0, "{order:?}");
            assert_eq!(order.sum(&[]), 0.0, "{order:?}");
        }
        let half = Product::Stored(DType::BF16).of(&terms, &terms);
        assert!((half / 333_833_500.0 - 1.0).abs() > 0.01, "{half}");
    }

    #[test]
    fn exponentials_are_within_their_ulps() {
        for i in -2000..=1760 {
            let x = i as f32 / 20.0;
            let right = (x as f64).exp();
            for (name, exp) in
                [("above", exp_above as fn(f32) -> f32), ("below", exp_below), ("reduced", exp_reduced)]
            {
                let ulps = (exp(x) as f64 - right).abs() / DType::F32.ulp(right);
                assert!(ulps <= 1.6, "{name} at {x}: {ulps} ULP");
            }
        }
        assert_eq!(exp_reduced(f32::NEG_INFINITY), 0.0);
        assert!(exp_reduced(f32::NAN).is_nan());
    }
}
