//! Agreement: what a backend returned against what it should have.

use std::fmt;

use touchstone_kernels::{Contract, DType, Declaration, ElementType, Moments, Outputs, Rounded};

use crate::oracle::{Expected, ExpectedResult};
use crate::safeguard::{Safeguard, Safeguards};

/// How close a backend came, and whether that is close enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Why it is not, or nothing.
    pub failure: Option<Failure>,
    /// The figures.
    pub figures: Figures,
}

/// Why an output is wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The results are not those that the problem asks for.
    Form {
        /// What it asks for.
        expected: String,
        /// What came.
        found: String,
    },
    /// At least one element lies outside its bound.
    Outside {
        /// How many elements do.
        count: usize,
        /// Of how many.
        of: usize,
        /// The worst of them.
        worst: Element,
    },
    /// A NaN or infinity where there should be none, or none where there should be one.
    NonFinite {
        /// How many elements are of the wrong kind.
        count: usize,
        /// Of how many.
        of: usize,
        /// The first of them.
        first: Element,
    },
    /// Something was written around an output or input.
    GuardOverwritten {
        /// Which tensors.
        what: &'static str,
    },
    /// An input was changed.
    InputChanged,
    /// Right on the inputs that it was checked with, and wrong after some of their elements had changed: it
    /// remembers an answer.
    Stale {
        /// The first element that is wrong.
        first: Element,
    },
    /// A second run on the same inputs left the outputs different in kind: an accumulation into
    /// what was there, or a cached answer.
    NotRepeatable {
        /// The first element that differs beyond its bound.
        first: Element,
    },
    /// Right where operands and results start at a cache line, and wrong where they do not.
    Unaligned {
        /// The first element that is wrong.
        first: Element,
    },
}

impl Failure {
    /// The same of another run than the first, which was right: wrong numbers become what `as_failure` makes of
    /// the first of them.
    pub(crate) fn in_another_run(self, as_failure: fn(Element) -> Failure) -> Self {
        match self {
            Failure::Outside { worst: first, .. } | Failure::NonFinite { first, .. } => as_failure(first),
            other => other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Form { expected, found } => {
                write!(f, "results of another form: expected {expected}, got {found}")
            }
            Failure::Outside { count, of, .. } => write!(f, "{count} of {of} elements outside their bound"),
            Failure::NonFinite { count, of, first } => {
                write!(f, "{count} of {of} elements wrongly (not) NaN or infinite; first: {first}")
            }
            Failure::GuardOverwritten { what } => write!(f, "wrote outside the {what}"),
            Failure::InputChanged => f.write_str("an input was changed"),
            Failure::Stale { first } => {
                write!(f, "right at first, and wrong when elements of its inputs had changed: {first}")
            }
            Failure::NotRepeatable { first } => {
                write!(f, "a second run on the same inputs is wrong: {first}")
            }
            Failure::Unaligned { first } => {
                write!(f, "wrong where operands and results start between cache lines: {first}")
            }
        }
    }
}

/// One element of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    /// The result: `out`, `lse` …
    pub result: &'static str,
    /// Its place.
    pub index: Vec<usize>,
    /// What it should be.
    pub expected: f64,
    /// What it is.
    pub got: f64,
    /// How far it may be off.
    pub tolerance: f64,
}

impl Element {
    /// `out[0,3,17]`.
    pub fn place(&self) -> String {
        let index: Vec<String> = self.index.iter().map(usize::to_string).collect();
        format!("{}[{}]", self.result, index.join(","))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} expected {:.9e}, got {:.9e}", self.place(), self.expected, self.got)?;
        if self.expected.is_finite() && self.got.is_finite() {
            let error = (self.got - self.expected).abs();
            write!(f, ", off by {:.1} bounds", error / self.tolerance)?;
        }
        Ok(())
    }
}

/// Figures of agreement over all finite elements of all results. They inform; the bounds decide.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Largest |got − expected|.
    pub max_abs: f64,
    /// The same of the elements that are outside their tolerance.
    pub outside_abs: f64,
    /// Largest |got − expected|/|expected|.
    pub max_rel: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// 99th percentile of the error in units in the last place of the storage type.
    pub ulp_p99: f64,
    /// Largest error in units in the last place.
    pub ulp_max: f64,
    /// Largest error over its tolerance: above 1 is a failure.
    pub error_over_bound: f64,
    /// The same of the elements that are not 0.
    pub nonzero_error_over_bound: f64,
    /// Cosine of the angle between got and expected.
    pub cosine: f64,
    /// The element nearest to, or farthest beyond, its tolerance.
    pub worst: Option<Element>,
    /// Elements compared.
    pub elements: usize,
}

/// How far each element of a result may be from its value, under what a backend declares.
pub struct Tolerance<'a> {
    expected: &'a ExpectedResult,
    underflow: f64,
    /// Of each element.
    of: Vec<f64>,
}

impl<'a> Tolerance<'a> {
    /// The tolerances of a result.
    pub fn new(expected: &'a ExpectedResult, declaration: &Declaration) -> Self {
        let dtype = expected.dtype;
        // The last rounding loses up to half a spacing of subnormals; flushing loses the whole
        // subnormal range.
        let underflow = if declaration.flushes_subnormals {
            dtype.smallest_normal()
        } else {
            dtype.smallest_subnormal() / 2.0
        };
        // Each concerns one family, and a result's declared error is of its own family.
        let weaker = declaration.probabilities == Rounded::Storage
            || declaration.tables == Rounded::Storage
            || declaration.moments == Moments::Running;
        let mut tolerance = Tolerance { expected, underflow, of: computed(expected, declaration, weaker) };
        let rows = tolerance.row_maxima(declaration.contract);
        for i in 0..tolerance.of.len() {
            let own = tolerance.of[i];
            let computed = match &rows {
                // What is undefined stays so: `max` would take the row's.
                Some(maxima) if !own.is_nan() => own.max(maxima[expected.rows.of(i)]),
                _ => own,
            };
            tolerance.of[i] = tolerance.rounded(i, computed);
        }
        tolerance
    }

    /// The tolerance of element `i`.
    pub fn at(&self, i: usize) -> f64 {
        self.of[i]
    }

    /// Under the normwise contract the largest of what the computation may lose, of each row.
    fn row_maxima(&self, contract: Contract) -> Option<Vec<f64>> {
        if contract == Contract::Componentwise {
            return None;
        }
        let rows = (0..self.of.len()).map(|i| self.expected.rows.of(i)).max().map_or(0, |r| r + 1);
        let mut maxima = vec![0.0f64; rows];
        // A NaN or ∞ in the row says nothing about its other elements.
        for (i, &own) in self.of.iter().enumerate().filter(|(_, own)| own.is_finite()) {
            let largest = &mut maxima[self.expected.rows.of(i)];
            *largest = largest.max(own);
        }
        Some(maxima)
    }

    /// What of it only the last rounding takes, to the storage type.
    pub(crate) fn rounding(&self, i: usize) -> f64 {
        self.expected.dtype.unit_roundoff() * self.expected.value[i].abs() + self.underflow
    }

    /// What the computation may lose of it, and the last rounding.
    fn rounded(&self, i: usize, computed: f64) -> f64 {
        if computed == 0.0 {
            // Nothing is rounded but the result: only the right rounding will do.
            let value = self.expected.value[i];
            return (self.expected.dtype.round(value) - value).abs();
        }
        computed + self.rounding(i)
    }
}

/// What the computation and declared weaker intermediates may lose of each element before it is stored.
fn computed(expected: &ExpectedResult, declaration: &Declaration, weaker: bool) -> Vec<f64> {
    let computed = match (declaration.contract, &expected.normwise_error) {
        (Contract::Normwise, Some(normwise)) => normwise,
        _ => &expected.error,
    };
    match (&expected.declared_error, weaker) {
        (Some(declared), true) => computed.iter().zip(declared).map(|(own, weaker)| own + weaker).collect(),
        _ => computed.clone(),
    }
}

/// What kind of number an element must be.
#[derive(PartialEq)]
enum Kind {
    Finite,
    NaN,
    Infinite { negative: bool },
}

fn kind(x: f64) -> Kind {
    if x.is_nan() {
        Kind::NaN
    } else if x.is_infinite() {
        Kind::Infinite { negative: x < 0.0 }
    } else {
        Kind::Finite
    }
}

/// Judges outputs against expectations.
pub fn judge(expected: &Expected, declaration: &Declaration, outputs: &Outputs) -> Agreement {
    judge_by(Safeguards::ALL, expected, declaration, outputs)
}

/// Judges outputs by the safeguards that stand.
pub(crate) fn judge_by(
    safeguards: Safeguards,
    expected: &Expected,
    declaration: &Declaration,
    outputs: &Outputs,
) -> Agreement {
    let mut declaration = declaration.clone();
    if !safeguards.have(Safeguard::Componentwise) {
        declaration.contract = Contract::Normwise;
    }
    let mut tally = Tally::default();
    for (expected, (_, tensor)) in expected.results.iter().zip(outputs.iter()) {
        tally.add(expected, &Tolerance::new(expected, &declaration), &tensor.to_f64());
    }
    let form = if safeguards.have(Safeguard::Form) { another_form(expected, outputs) } else { None };
    let guards = safeguards.have(Safeguard::ResultGuards) && !outputs.guards_intact();
    let failure = form
        .or_else(|| guards.then_some(Failure::GuardOverwritten { what: "outputs" }))
        .or_else(|| tally.failure(safeguards));
    Agreement { failure, figures: tally.figures() }
}

/// Numbers that were not handed over cannot be judged one by one: before them comes the form.
fn another_form(expected: &Expected, outputs: &Outputs) -> Option<Failure> {
    let wanted = expected.results.iter().map(|r| (r.name, ElementType::Float(r.dtype), r.shape.as_slice()));
    let found = outputs.iter().map(|(name, tensor)| (name, tensor.element(), tensor.shape()));
    if wanted.clone().eq(found) {
        return None;
    }
    let form = |name: &str, element, shape: &[usize]| format!("{name} {element} {shape:?}");
    let list = |forms: Vec<String>| if forms.is_empty() { "nothing".into() } else { forms.join(", ") };
    Some(Failure::Form {
        expected: list(wanted.map(|(name, element, shape)| form(name, element, shape)).collect()),
        found: list(outputs.iter().map(|(name, t)| form(name, t.element(), t.shape())).collect()),
    })
}

#[derive(Default)]
struct Tally {
    elements: usize,
    finite: usize,
    wrong_kind: usize,
    first_wrong_kind: Option<Element>,
    outside: usize,
    worst: Option<Element>,
    worst_ratio: f64,
    worst_nonzero_ratio: f64,
    max_abs: f64,
    outside_abs: f64,
    max_rel: f64,
    squares: f64,
    dot: f64,
    expected_squares: f64,
    got_squares: f64,
    ulps: Vec<f32>,
}

impl Tally {
    fn add(&mut self, expected: &ExpectedResult, tolerance: &Tolerance, got: &[f64]) {
        self.elements += got.len();
        self.ulps.reserve(got.len());
        for (i, (&value, &got)) in expected.value.iter().zip(got).enumerate() {
            let bound = tolerance.at(i);
            if is_refused(value, bound) {
                continue;
            }
            let element = || Element {
                result: expected.name,
                index: unravel(i, &expected.shape),
                expected: value,
                got,
                tolerance: bound,
            };
            if !right_kind(expected.dtype, value, got, bound) {
                self.wrong_kind += 1;
                self.first_wrong_kind.get_or_insert_with(element);
                continue;
            }
            if !value.is_finite() || !got.is_finite() {
                continue;
            }
            let error = (got - value).abs();
            // Written so that a NaN bound fails; an error of 0 needs no bound.
            #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN must not pass")]
            if error != 0.0 && !(error <= bound) {
                self.outside += 1;
                self.outside_abs = self.outside_abs.max(error);
            }
            let ratio = if error == 0.0 { 0.0 } else { error / bound };
            #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN ratio is the worst")]
            if self.worst.is_none() || !(ratio <= self.worst_ratio) {
                self.worst_ratio = ratio;
                self.worst = Some(element());
            }
            #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN ratio is the worst")]
            if got != 0.0 && !(ratio <= self.worst_nonzero_ratio) {
                self.worst_nonzero_ratio = ratio;
            }
            self.finite += 1;
            self.max_abs = self.max_abs.max(error);
            if value != 0.0 {
                self.max_rel = self.max_rel.max(error / value.abs());
            }
            self.squares += error * error;
            self.dot += value * got;
            self.expected_squares += value * value;
            self.got_squares += got * got;
            self.ulps.push((error / expected.dtype.ulp(value)) as f32);
        }
    }

    fn failure(&self, safeguards: Safeguards) -> Option<Failure> {
        if let (Some(first), true) = (&self.first_wrong_kind, safeguards.have(Safeguard::Kind)) {
            let (count, of) = (self.wrong_kind, self.elements);
            return Some(Failure::NonFinite { count, of, first: first.clone() });
        }
        match &self.worst {
            Some(worst) if self.outside > 0 && safeguards.have(Safeguard::Magnitude) => {
                Some(Failure::Outside { count: self.outside, of: self.elements, worst: worst.clone() })
            }
            _ => None,
        }
    }

    fn figures(mut self) -> Figures {
        let rank = (self.ulps.len() * 99).div_ceil(100).saturating_sub(1);
        let ulp_p99 = match self.ulps.len() {
            0 => 0.0,
            _ => *self.ulps.select_nth_unstable_by(rank, f32::total_cmp).1 as f64,
        };
        let norms = (self.expected_squares * self.got_squares).sqrt();
        Figures {
            max_abs: self.max_abs,
            outside_abs: self.outside_abs,
            max_rel: self.max_rel,
            rmse: (self.squares / self.finite.max(1) as f64).sqrt(),
            ulp_p99,
            ulp_max: self.ulps.iter().copied().fold(0.0, f32::max) as f64,
            error_over_bound: self.worst_ratio,
            nonzero_error_over_bound: self.worst_nonzero_ratio,
            cosine: if norms > 0.0 { self.dot / norms } else { 1.0 },
            worst: self.worst,
            elements: self.elements,
        }
    }
}

/// Whether the oracle has no bound for an element, so that no value can be judged: infinite where an
/// error is unbounded, NaN where it is undefined. A case with such an element is suspect and never passes.
/// Where the value itself is ±∞ or propagates a NaN, its kind decides, and no bound is needed.
pub(crate) fn is_refused(value: f64, bound: f64) -> bool {
    bound == f64::INFINITY && !value.is_infinite() || bound.is_nan() && value.is_finite()
}

/// Whether `got` is NaN, infinite or finite where it has to be. Beyond the largest number of the
/// type an infinity is the right rounding; within the bound of that edge both are.
fn right_kind(dtype: DType, value: f64, got: f64, bound: f64) -> bool {
    let rounded = dtype.round(value);
    if kind(rounded) == kind(got) {
        return true;
    }
    let at_the_edge = value.is_finite() && value.abs() + bound >= dtype.max();
    at_the_edge && !got.is_nan() && (got < 0.0) == (value < 0.0)
}

/// The index of the i-th element in row-major order.
pub(crate) fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, &dim) in index.iter_mut().zip(shape).rev() {
        *place = i % dim;
        i /= dim;
    }
    index
}
