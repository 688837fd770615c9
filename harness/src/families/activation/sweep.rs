//! Point-wise functions over every number of a type, or over a sample: how far from the exact value a
//! backend is at worst, in units of the last place, and where.
//!
//! ```text
//! Arguments (bit patterns) ─ blocks → Inputs ─┬─ oracle → the exact values, once for all backends
//!                                             └─ each backend → Swept: worst, share within 1, curve
//! ```
//!
//! A sweep is no verdict. A verdict holds a case against a derived bound; a sweep says how good a
//! function is where it is worst, and needs no bound for it.

use std::sync::atomic::{AtomicBool, Ordering};

use half::{bf16, f16};
use rayon::prelude::*;
use touchstone_kernels::op::{Activation, Unary};
use touchstone_kernels::{Backend, DType, ElementType, InputError, Inputs, Problem, Support, Tensor};

use crate::case::Case;
use crate::check::outputs;

/// Arguments that are computed at once.
const BLOCK: u64 = 1 << 21;

/// Arguments from which on a thread is worth its while.
const GRAIN: usize = 1 << 15;

/// Neighbours of every power of two that a sample has on either side.
const NEIGHBOURS: u32 = 64;

/// The functions that can be swept.
pub(crate) const FUNCTIONS: [&str; Unary::NAMES.len()] = Unary::NAMES;

/// Arguments by their bit patterns: every one of a type, or every n-th and the neighbourhoods of all
/// powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    dtype: DType,
    stride: u64,
}

impl Arguments {
    /// Every `stride`-th f32; a smaller type has so few numbers that all of them are taken.
    pub(crate) fn new(dtype: DType, stride: u32) -> Self {
        let stride = if dtype == DType::F32 { stride.max(1).into() } else { 1 };
        Arguments { dtype, stride }
    }

    /// Bits of a number.
    fn width(self) -> u32 {
        8 * self.dtype.size() as u32
    }

    /// The bits of a number behind its exponent.
    fn mantissa(self) -> u32 {
        self.dtype.mantissa_bits() as u32
    }

    fn strided(self) -> u64 {
        (1u64 << self.width()).div_ceil(self.stride)
    }

    /// Ranges of arguments with one sign and exponent.
    fn binades(self) -> usize {
        1 << (self.width() - self.mantissa())
    }

    /// The argument nearest zero of those with one sign and exponent.
    pub(crate) fn binade(self, binade: usize) -> f64 {
        let bits = (binade as u32) << self.mantissa();
        match self.dtype {
            DType::F32 => f32::from_bits(bits).into(),
            DType::F16 => f16::from_bits(bits as u16).into(),
            DType::BF16 => bf16::from_bits(bits as u16).into(),
        }
    }

    /// How many arguments.
    pub(crate) fn count(self) -> u64 {
        let neighbours = self.binades() as u64 * u64::from(2 * NEIGHBOURS + 1);
        self.strided() + if self.stride == 1 { 0 } else { neighbours }
    }

    /// The bit pattern of the i-th.
    fn bits(self, i: u64) -> u32 {
        match i.checked_sub(self.strided()) {
            None => (i * self.stride) as u32,
            Some(i) => {
                let (binade, place) = (i / u64::from(2 * NEIGHBOURS + 1), i % u64::from(2 * NEIGHBOURS + 1));
                ((binade as u32) << self.mantissa()).wrapping_add(place as u32).wrapping_sub(NEIGHBOURS)
            }
        }
    }

    /// A block as a tensor.
    fn tensor(self, start: u64, len: u64) -> Result<Tensor, InputError> {
        let bits = (0..len as usize).into_par_iter().with_min_len(GRAIN).map(|i| self.bits(start + i as u64));
        let (words, halves): (Vec<u32>, Vec<u16>);
        let bytes: &[u8] = match self.dtype {
            DType::F32 => {
                words = bits.collect();
                bytemuck::cast_slice(&words)
            }
            DType::F16 | DType::BF16 => {
                halves = bits.map(|bits| bits as u16).collect();
                bytemuck::cast_slice(&halves)
            }
        };
        Tensor::from_bytes(ElementType::Float(self.dtype), &[len as usize], bytes)
    }
}

/// How a backend did on all arguments of a function.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Swept {
    /// Arguments that it was asked for.
    pub arguments: u64,
    /// Those for which the result was less than 1 ULP from the exact value.
    pub within_one: u64,
    /// Those for which the result is NaN or infinite where the exact value is not, or the other way
    /// round. They have no error in ULP.
    pub not_finite: u64,
    /// Where it was farthest from it.
    pub worst: Worst,
    /// The largest error in ULP for arguments of one sign and exponent, in the order of their bits.
    pub curve: Vec<f64>,
}

/// The largest error of a function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Worst {
    /// |got − expected| in units of the last place of a number of the type around the expected one.
    pub ulp: f64,
    /// The argument.
    pub argument: f64,
    /// What the backend gave.
    pub got: f64,
    /// The exact value.
    pub expected: f64,
}

impl Swept {
    fn new(arguments: Arguments) -> Self {
        let worst = Worst { ulp: 0.0, argument: 0.0, got: 0.0, expected: 0.0 };
        Swept { arguments: 0, within_one: 0, not_finite: 0, worst, curve: vec![0.0; arguments.binades()] }
    }

    fn add(&mut self, binade: usize, found: Worst) {
        self.arguments += 1;
        if found.ulp.is_infinite() {
            self.not_finite += 1;
            return;
        }
        self.within_one += u64::from(found.ulp < 1.0);
        self.curve[binade] = self.curve[binade].max(found.ulp);
        if found.ulp > self.worst.ulp {
            self.worst = found;
        }
    }

    fn merge(mut self, other: &Swept) -> Self {
        self.arguments += other.arguments;
        self.within_one += other.within_one;
        self.not_finite += other.not_finite;
        self.curve.iter_mut().zip(&other.curve).for_each(|(a, &b)| *a = a.max(b));
        if other.worst.ulp > self.worst.ulp {
            self.worst = other.worst;
        }
        self
    }
}

/// |got − expected| in ULP; infinite where only one of them is finite, or a number. An overflow is right
/// where the exact value rounds to infinity.
fn ulps(dtype: DType, got: f64, expected: f64) -> f64 {
    let rounded = dtype.round(expected);
    if got == rounded || got.is_nan() && rounded.is_nan() {
        // A correctly rounded infinity or NaN; numbers still differ by their rounding.
        return if rounded.is_finite() { (got - expected).abs() / dtype.ulp(expected) } else { 0.0 };
    }
    if !got.is_finite() || !rounded.is_finite() {
        return f64::INFINITY;
    }
    (got - expected).abs() / dtype.ulp(expected)
}

/// Why a backend has no figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It does not have the function.
    Unsupported(String),
    /// It failed.
    Failed(String),
}

/// Asks every backend for a function of every argument. `on_block` hears of arguments done and to do.
/// None when `stop` was set meanwhile.
///
/// # Panics
/// When there is no such function.
pub(crate) fn sweep(
    function: &str,
    arguments: Arguments,
    backends: &[&dyn Backend],
    on_block: &dyn Fn(u64),
    stop: &AtomicBool,
) -> Option<Vec<Result<Swept, Missing>>> {
    let mut swept = vec![Ok(Swept::new(arguments)); backends.len()];
    let count = arguments.count();
    let mut start = 0;
    while start < count {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let len = BLOCK.min(count - start);
        let text = format!("{function} {} shape={len}", arguments.dtype);
        let problem: Problem = text.parse().expect("a function of one variable needs a shape only");
        let x = arguments.tensor(start, len).expect("as many bytes as the shape says");
        let inputs = Inputs::new(&problem, [("x", x)]).expect("one operand, x");
        let spec = problem.get::<Activation>().expect("a function of one variable");
        let x = inputs.get("x").expect("put there").to_f64();
        let exact = x.par_iter().with_min_len(GRAIN).map(|&x| super::oracle::value(spec.function, x));
        let expected: Vec<f64> = exact.collect();
        let case = Case::plain(problem, Case::DEFAULT_SEED);
        for (backend, swept) in backends.iter().zip(&mut swept) {
            let Ok(so_far) = swept else { continue };
            match block(*backend, &case, &inputs) {
                Err(missing) => *swept = Err(missing),
                Ok(got) => {
                    let found = (0..len as usize).into_par_iter().with_min_len(GRAIN);
                    let found = found.fold(
                        || Swept::new(arguments),
                        |mut swept, i| {
                            let ulp = ulps(arguments.dtype, got[i], expected[i]);
                            let binade = arguments.bits(start + i as u64) >> arguments.mantissa();
                            let (argument, got, expected) = (x[i], got[i], expected[i]);
                            swept.add(binade as usize, Worst { ulp, argument, got, expected });
                            swept
                        },
                    );
                    *so_far = found.reduce(|| Swept::new(arguments), |a, b| a.merge(&b)).merge(so_far);
                }
            }
        }
        start += len;
        on_block(start);
    }
    Some(swept)
}

/// A block's results of a backend.
fn block(backend: &dyn Backend, case: &Case, inputs: &Inputs) -> Result<Vec<f64>, Missing> {
    if let Support::No(reason) = backend.supports(&case.problem) {
        return Err(Missing::Unsupported(reason.into()));
    }
    let results = outputs(backend, case, inputs).map_err(Missing::Failed)?;
    let out = results.iter().next().ok_or_else(|| Missing::Failed("no result".into()))?.1;
    Ok(out.to_f64())
}

#[cfg(test)]
mod tests {
    use touchstone_kernels::Registry;

    use super::*;

    #[test]
    fn every_half_is_asked_for_once() {
        for dtype in [DType::F16, DType::BF16] {
            let arguments = Arguments::new(dtype, 257);
            assert_eq!(arguments.count(), 1 << 16);
            assert!((0..arguments.count()).all(|i| u64::from(arguments.bits(i)) == i));
        }
        assert_eq!(Arguments::new(DType::F32, 1).count(), 1 << 32);
    }

    #[test]
    fn a_sample_has_the_neighbours_of_all_powers_of_two() {
        let arguments = Arguments::new(DType::F32, 1_000_003);
        let all: std::collections::HashSet<u32> = (0..arguments.count()).map(|i| arguments.bits(i)).collect();
        for exponent in -126..=127 {
            let bits = 2f32.powi(exponent).to_bits();
            for neighbour in bits - 64..=bits + 64 {
                assert!(all.contains(&neighbour) && all.contains(&(neighbour | 1 << 31)), "{neighbour:#x}");
            }
        }
        let infinity = f32::INFINITY.to_bits();
        assert!(all.contains(&infinity) && all.contains(&(infinity + 1)), "an infinity and a NaN");
    }

    #[test]
    fn naive_functions_are_within_a_rounding_of_the_half_types() {
        let registry = Registry::standard(2);
        let naive = registry.find("naive").unwrap();
        let never = AtomicBool::new(false);
        for dtype in [DType::F16, DType::BF16] {
            let arguments = Arguments::new(dtype, 1);
            for function in FUNCTIONS {
                let swept = sweep(function, arguments, &[naive.as_ref()], &|_| {}, &never).unwrap();
                let swept = swept[0].clone().unwrap();
                assert_eq!(swept.arguments, 1 << 16, "{function} {dtype}");
                assert_eq!(swept.within_one, 1 << 16, "{function} {dtype}: {:?}", swept.worst);
                assert!(swept.worst.ulp < 0.51, "{function} {dtype}: {:?}", swept.worst);
                assert_eq!(swept.curve.iter().copied().fold(0.0, f64::max), swept.worst.ulp);
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_right_or_infinitely_wrong() {
        let ulps = |got, expected| ulps(DType::F32, got, expected);
        assert_eq!(ulps(f64::INFINITY, 1e39), 0.0);
        assert_eq!(ulps(f64::NAN, f64::NAN), 0.0);
        for (got, expected) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, 1.0), (3e38, 1e39)] {
            assert_eq!(ulps(got, expected), f64::INFINITY, "{got} for {expected}");
        }
        assert_eq!(ulps(0.0, 0.25 * 2f64.powi(-149)), 0.25);
        assert_eq!(ulps(1.0 + 2f64.powi(-23), 1.0), 1.0);
    }
}
