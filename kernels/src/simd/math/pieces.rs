//! Functions in pieces: one polynomial for each of 32 short intervals, looked up by lane.
//!
//! Neither an exponential nor a division: where [`Lanes::lookup`] is one instruction, a vector takes
//! about twenty in all, a half to a quarter of what the closed forms take. The polynomials are not
//! listed but fitted, once, in f64.

use crate::dtype::DType;
use crate::simd::lanes::{Lanes, TABLE};

/// How arguments are dealt out to pieces: a belongs to the piece of the integer that is nearest
/// to `linear·a + quadratic·a²`, modulo 32.
///
/// The steeper the logarithm of a function, the shorter its pieces must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) linear: f32,
    pub(crate) quadratic: f32,
    /// The integer of the first piece.
    pub(crate) first: i32,
}

impl Grid {
    /// The argument at which a piece ends: of those that belong to integer + ½, the upper one.
    fn end(self, integer: i32) -> f64 {
        let (linear, quadratic) = (self.linear as f64, self.quadratic as f64);
        let place = integer as f64 + 0.5;
        if quadratic == 0.0 {
            place / linear
        } else {
            (libm::sqrt(linear * linear + 4.0 * quadratic * place) - linear) / (2.0 * quadratic)
        }
    }

    /// The centre of a piece and the coefficients of its polynomial in the distance from there.
    fn piece(self, integer: i32, terms: usize, f: &impl Fn(f64) -> f64) -> (f32, Vec<f64>) {
        // Arguments near an end may be dealt to either side.
        let low = if integer == 0 && self.first == 0 { 0.0 } else { self.end(integer - 1) - 1e-5 };
        let high = self.end(integer) + 1e-5;
        let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
        // A function that starts at a zero stays relatively precise there with the centre on it.
        if f(low) == 0.0 {
            let nodes = chebyshev(terms - 1).map(|node| middle + half * node).collect();
            return (low as f32, interpolate(low, 0.0, nodes, f));
        }
        // Of the nodes one near the middle becomes the centre: on the side where |f| is smaller, so
        // that the terms of the polynomial do not cancel.
        let mut nodes: Vec<f64> = chebyshev(terms).map(|node| middle + half * node).collect();
        if f(low).abs() < f(high).abs() {
            nodes.reverse();
        }
        let near_centre = nodes.remove((terms - 1) / 2) as f32;
        // Among the numbers around it the one where f is most nearly an f32 (Gal 1986).
        let error = |centre: f32| {
            let exact = f(centre as f64);
            (exact - exact as f32 as f64).abs() / DType::F32.ulp(exact)
        };
        let candidates = (0..256).map(|i| f32::from_bits(near_centre.to_bits() + i));
        let centre = candidates.min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(near_centre);
        let constant = f(centre as f64) as f32;
        (centre, interpolate(centre as f64, constant as f64, nodes, f))
    }
}

/// Coefficients of a piece's polynomial at most: those for f32.
const TERMS: usize = 6;

/// Coefficients that make the error of the polynomial invisible beside that of rounding the result
/// to a storage type: 2⁻²⁵, 2⁻²⁰ and 2⁻¹⁵ of the result.
const fn terms(dtype: DType) -> usize {
    match dtype {
        DType::F32 => TERMS,
        DType::F16 => 5,
        DType::BF16 => 4,
    }
}

/// A function in pieces.
#[derive(Debug)]
pub(crate) struct Pieces {
    grid: Grid,
    limit: f32,
    f32: Fit,
    f16: Fit,
    bf16: Fit,
}

/// The polynomials for one storage type.
#[derive(Debug)]
struct Fit {
    centre: [f32; TABLE],
    /// By power, then by piece.
    coefficients: [[f32; TABLE]; TERMS],
}

impl Pieces {
    /// Fits f to a relative precision, for arguments of magnitudes up to `limit`.
    ///
    /// # Panics
    /// When the grid does not reach that far.
    pub(crate) fn fit(grid: Grid, limit: f32, f: impl Fn(f64) -> f64) -> Self {
        let reach = grid.end(grid.first + TABLE as i32 - 1);
        // With a margin for the rounding of an argument's place.
        assert!(reach > limit as f64 + 1e-3, "{grid:?} ends at {reach}, before {limit}");
        let [f32, f16, bf16] = DType::ALL.map(|dtype| Fit::new(grid, terms(dtype), &f));
        Pieces { grid, limit, f32, f16, bf16 }
    }

    /// Fits an odd function that is nearly the identity at small arguments and constant from
    /// `limit` on, for [`odd`](Loaded::odd), which sees to all arguments.
    ///
    /// # Panics
    /// When the grid does not reach the limit.
    pub(crate) fn fit_odd(grid: Grid, limit: f32, f: impl Fn(f64) -> f64) -> Self {
        let mut pieces = Pieces { limit: f32::INFINITY, ..Pieces::fit(grid, limit, &f) };
        for (dtype, fit) in DType::ALL.into_iter().zip([&mut pieces.f32, &mut pieces.f16, &mut pieces.bf16]) {
            let (_, coefficients) = grid.piece(grid.first, terms(dtype), &f);
            fit.coefficients[1][0] = (coefficients[1] - 1.0) as f32;
        }
        pieces
    }

    /// The largest magnitude of an argument.
    pub(crate) fn limit(&self) -> f32 {
        self.limit
    }

    /// The tables for results of one storage type, in registers for a loop.
    #[inline(always)]
    pub(crate) fn load<L: Lanes>(&'static self, lanes: L, dtype: DType) -> Loaded<L> {
        let fit = match dtype {
            DType::F32 => &self.f32,
            DType::F16 => &self.f16,
            DType::BF16 => &self.bf16,
        };
        let centre = lanes.table(&fit.centre);
        let mut coefficients = [centre; TERMS];
        for (loaded, table) in coefficients.iter_mut().zip(&fit.coefficients) {
            *loaded = lanes.table(table);
        }
        let (linear, quadratic) = (lanes.splat(self.grid.linear), lanes.splat(self.grid.quadratic));
        Loaded { linear, quadratic, centre, coefficients, terms: terms(dtype) }
    }
}

impl Fit {
    fn new(grid: Grid, terms: usize, f: &impl Fn(f64) -> f64) -> Self {
        let mut fit = Fit { centre: [0.0; TABLE], coefficients: [[0.0; TABLE]; TERMS] };
        for integer in (grid.first..).take(TABLE) {
            let (centre, coefficients) = grid.piece(integer, terms, f);
            let slot = integer.rem_euclid(TABLE as i32) as usize;
            fit.centre[slot] = centre;
            for (table, coefficient) in fit.coefficients.iter_mut().zip(coefficients) {
                table[slot] = coefficient as f32;
            }
        }
        fit
    }
}

/// [`Pieces`] at hand.
#[derive(Clone, Copy)]
pub(crate) struct Loaded<L: Lanes> {
    linear: L::F,
    quadratic: L::F,
    centre: L::Table,
    coefficients: [L::Table; TERMS],
    /// A constant to the compiler wherever the storage type is.
    terms: usize,
}

impl<L: Lanes> Loaded<L> {
    /// f(a) on a grid without quadratic term.
    #[inline(always)]
    pub(crate) fn uniform(&self, lanes: L, a: L::F) -> L::F {
        let (index, r) = self.place(lanes, a, self.linear);
        lanes.mul_add(self.slope(lanes, index, r), r, lanes.lookup(self.coefficients[0], index))
    }

    /// f(a).
    #[inline(always)]
    pub(crate) fn graded(&self, lanes: L, a: L::F) -> L::F {
        let linear = lanes.mul_add(a, self.quadratic, self.linear);
        let (index, r) = self.place(lanes, a, linear);
        lanes.mul_add(self.slope(lanes, index, r), r, lanes.lookup(self.coefficients[0], index))
    }

    /// f(x) for an odd function that is nearly the identity at small arguments and constant from
    /// `limit` on.
    #[inline(always)]
    pub(crate) fn odd(&self, lanes: L, x: L::F, limit: f32) -> L::F {
        let a = lanes.min(lanes.splat(limit), lanes.abs(x));
        let linear = lanes.mul_add(a, self.quadratic, self.linear);
        let (index, r) = self.place(lanes, a, linear);
        // In the first piece the identity stays apart: its product need not be rounded.
        let is_first = lanes.eq(index, lanes.splat(INTEGERS));
        let constant = lanes.select(is_first, a, lanes.lookup(self.coefficients[0], index));
        lanes.copysign(lanes.mul_add(self.slope(lanes, index, r), r, constant), x)
    }

    /// The index of the piece that a belongs to, by this linear coefficient of the grid, and the
    /// distance from its centre.
    #[inline(always)]
    fn place(&self, lanes: L, a: L::F, linear: L::F) -> (L::F, L::F) {
        let index = lanes.mul_add(a, linear, lanes.splat(INTEGERS));
        (index, lanes.sub(a, lanes.lookup(self.centre, index)))
    }

    /// The polynomial in r less its constant term, over r.
    #[inline(always)]
    fn slope(&self, lanes: L, index: L::F, r: L::F) -> L::F {
        let mut sum = lanes.lookup(self.coefficients[self.terms - 1], index);
        for k in (1..self.terms - 1).rev() {
            sum = lanes.mul_add(sum, r, lanes.lookup(self.coefficients[k], index));
        }
        sum
    }
}

/// 1.5·2²³: after adding it, the low bits of a number are those of its nearest integer.
const INTEGERS: f32 = 12_582_912.0;

/// The zeros of the Chebyshev polynomial of degree n, falling: the best places to interpolate.
fn chebyshev(n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| libm::cos(std::f64::consts::PI * (i as f64 + 0.5) / n as f64))
}

/// constant + r·p(r) with p such that the sum is f at the nodes; r is the distance from `centre`.
fn interpolate(centre: f64, constant: f64, nodes: Vec<f64>, f: &impl Fn(f64) -> f64) -> Vec<f64> {
    let r: Vec<f64> = nodes.iter().map(|node| node - centre).collect();
    // Newton's divided differences…
    let mut divided: Vec<f64> = r.iter().map(|r| (f(centre + r) - constant) / r).collect();
    for order in 1..r.len() {
        for i in (order..r.len()).rev() {
            divided[i] = (divided[i] - divided[i - 1]) / (r[i] - r[i - order]);
        }
    }
    // … multiplied out: p·(r − rᵢ) + dᵢ from the last to the first, all of it times r.
    let mut coefficients = vec![0.0; r.len() + 1];
    for (r, divided) in r.iter().zip(&divided).rev() {
        for k in (2..coefficients.len()).rev() {
            coefficients[k] = coefficients[k - 1] - r * coefficients[k];
        }
        coefficients[1] = divided - r * coefficients[1];
    }
    coefficients[0] = constant;
    coefficients
}
