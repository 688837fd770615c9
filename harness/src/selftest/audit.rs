//! The bounds, audited: how near right ways to compute the same come to what they are allowed.
//!
//! A bound that no right kernel ever comes near tells little about wrong ones, and a bound that one
//! exceeds is wrong. So the error of every element over its tolerance is counted, for every
//! correct variant and every instruction set of `simd`, by operation, result and storage type. What
//! must be exact (a tolerance without a computation in it) is left out: there the ratio is 0.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use touchstone_kernels::{Backend, DType, Problem, Registry, Support};

use super::engine::{MOST_BYTES, MOST_FLOPS, within};
use super::planted::Specimen;
use crate::agreement::Tolerance;
use crate::case::Case;
use crate::check::outputs;
use crate::oracle::{self, ExpectedResult};
use crate::suite::SuiteCase;

/// A bound whose 99.9th percentile of error over bound lies below this is too loose to mean much.
pub const LOOSE: f64 = 1e-3;

/// Columns of a histogram per factor of ten: a quantile is good to 3 %.
const PER_DECADE: f64 = 80.0;
/// The smallest ratio told apart from 0, as a power of ten.
const FIRST: f64 = -8.0;
/// Columns, the first for all that is smaller, the last for all that is larger.
const COLUMNS: usize = 10 * PER_DECADE as usize;

/// How near a subject came to the bounds of a result, or all of them together.
#[derive(Clone, Debug, PartialEq)]
pub struct Audited {
    /// The operation.
    pub op: String,
    /// Its result: `out`, `lse` …
    pub result: &'static str,
    /// The storage type of this result.
    pub dtype: DType,
    /// The subject; none for all of them.
    pub subject: Option<String>,
    /// Elements that were compared.
    pub elements: u64,
    /// The part of the tolerance that the last rounding takes by itself, as a mean.
    pub rounding: f64,
    /// Half of all errors over bounds are at most this.
    pub median: f64,
    /// 99 % are.
    pub p99: f64,
    /// 99.9 % are.
    pub p999: f64,
    /// All are.
    pub max: f64,
    /// Of all subjects together, the case whose own 99.9 % lies lowest: where the bound says least.
    /// Only cases count in which most elements are rounded at all.
    pub loosest: Option<Loosest>,
}

/// A case and its own 99.9 % of error over bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Loosest {
    /// The 99.9 %.
    pub p999: f64,
    /// The case.
    pub case: String,
}

/// Elements of a case, over all subjects, from which on its 99.9 % are spoken of.
const ENOUGH: u64 = 1000;

/// What is wrong with a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A right kernel is outside.
    Exceeded,
    /// No right kernel comes near.
    Loose,
}

touchstone_kernels::named_enum!(Mistake, "mistake", {
    Mistake::Exceeded => "exceeded",
    Mistake::Loose => "loose",
});

impl Audited {
    /// What is wrong with the bound, if anything.
    pub fn mistake(&self) -> Option<Mistake> {
        if self.max > 1.0 || self.max.is_nan() {
            Some(Mistake::Exceeded)
        } else if self.p999 < LOOSE {
            Some(Mistake::Loose)
        } else {
            None
        }
    }
}

/// Ratios of error to tolerance, counted by their logarithm.
#[derive(Clone, Debug)]
struct Histogram {
    counts: Vec<u64>,
    elements: u64,
    /// Elements with an error worth the name. An answer that is exact, as a weight of 1 makes it, is
    /// near no bound and no sign of a loose one.
    rounded: u64,
    rounding: f64,
    max: f64,
}

impl Histogram {
    fn new() -> Self {
        Histogram { counts: vec![0; COLUMNS], elements: 0, rounded: 0, rounding: 0.0, max: 0.0 }
    }

    fn add(&mut self, expected: &ExpectedResult, tolerance: &Tolerance, got: &[f64]) {
        for (i, (&value, &got)) in expected.value.iter().zip(got).enumerate() {
            let computed = expected.error[i] != 0.0;
            let bound = tolerance.at(i);
            // A NaN of a bound is for the verdict.
            if !computed || !value.is_finite() || !got.is_finite() || !bound.is_finite() {
                continue;
            }
            let (error, rounding) = ((got - value).abs(), tolerance.rounding(i));
            let ratio = error / bound;
            // The cast saturates: 0 and what is tiny fall into the first column.
            let column = ((ratio.log10() - FIRST) * PER_DECADE).ceil() as usize;
            self.counts[column.min(COLUMNS - 1)] += 1;
            self.elements += 1;
            self.rounded += u64::from(error > 1e-3 * rounding);
            self.rounding += (rounding / bound).min(1.0);
            self.max = self.max.max(ratio);
        }
    }

    fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(to, from)| *to += from);
        self.elements += other.elements;
        self.rounded += other.rounded;
        self.rounding += other.rounding;
        self.max = self.max.max(other.max);
    }

    /// The upper end of the column that holds the quantile.
    fn quantile(&self, q: f64) -> f64 {
        let wanted = (q * self.elements as f64).ceil() as u64;
        let mut seen = 0;
        let column = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        match column {
            None | Some(0) => 0.0,
            Some(column) => 10f64.powf(FIRST + column as f64 / PER_DECADE).min(self.max),
        }
    }
}

/// The result of an operation in a storage type.
type Place = (String, &'static str, DType);

/// What has been counted.
#[derive(Default)]
struct Counted {
    subjects: BTreeMap<(Place, usize), Histogram>,
    loosest: BTreeMap<Place, Loosest>,
}

impl Counted {
    /// Adds the histograms of one case.
    fn add(&mut self, case: &Case, histograms: Vec<((Place, usize), Histogram)>) {
        let mut together: BTreeMap<Place, Histogram> = BTreeMap::new();
        for ((place, at), histogram) in histograms {
            together.entry(place.clone()).or_insert_with(Histogram::new).merge(&histogram);
            self.subjects.entry((place, at)).or_insert_with(Histogram::new).merge(&histogram);
        }
        let telling = |h: &Histogram| h.elements >= ENOUGH && 2 * h.rounded >= h.elements;
        for (place, histogram) in together.into_iter().filter(|(_, histogram)| telling(histogram)) {
            let own = Loosest { p999: histogram.quantile(0.999), case: case.to_string() };
            match self.loosest.get(&place) {
                Some(loosest) if loosest.p999 <= own.p999 => {}
                _ => drop(self.loosest.insert(place, own)),
            }
        }
    }
}

/// Counts the errors of all variants, and of `simd` at every instruction set, over their bounds.
/// `progress` hears how many of how many cases are done. For each result and storage type first
/// all subjects together, then each; none when it was stopped.
pub fn audit(
    variants: &[Specimen],
    cases: &[SuiteCase],
    progress: &(dyn Fn(usize, usize) + Sync),
    stop: &AtomicBool,
) -> Option<Vec<Audited>> {
    let registry = Registry::standard(rayon::current_num_threads());
    let own = registry.present().iter().filter(|backend| backend.id().implementation() == "simd");
    let subjects: Vec<(Option<&Specimen>, Arc<dyn Backend>)> = variants
        .iter()
        .map(|variant| (Some(variant), variant.backend()))
        .chain(own.map(|backend| (None, Arc::clone(backend))))
        .collect();
    let concerns = |(variant, backend): &(Option<&Specimen>, Arc<dyn Backend>), problem: &Problem| {
        variant.is_none_or(|variant| variant.applies(problem)) && backend.supports(problem) == Support::Yes
    };
    let posed = within(cases, MOST_FLOPS, MOST_BYTES);
    let mut counted = Counted::default();
    for (done, case) in posed.iter().map(|case| &case.case).enumerate() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        progress(done, posed.len());
        let inputs = case.inputs();
        let expected = oracle::expect(&case.problem, &inputs);
        let of_subject = |(at, (_, backend)): (usize, &(Option<&Specimen>, Arc<dyn Backend>))| {
            // Whether it fails is for the self-test to say.
            let outputs = outputs(backend.as_ref(), case, &inputs).ok()?;
            let declaration = backend.declares(&case.problem);
            let histograms = expected.results.iter().zip(outputs.iter()).map(|(result, (_, tensor))| {
                let mut histogram = Histogram::new();
                histogram.add(result, &Tolerance::new(result, &declaration), &tensor.to_f64());
                let place = (case.problem.name().to_string(), result.name, result.dtype);
                ((place, at), histogram)
            });
            Some(histograms.collect::<Vec<_>>())
        };
        let histograms: Vec<_> = subjects
            .par_iter()
            .enumerate()
            .filter(|(_, subject)| concerns(subject, &case.problem))
            .filter_map(of_subject)
            .collect();
        counted.add(case, histograms.into_iter().flatten().collect());
    }
    let name = |at: usize| subjects[at].1.id().to_string();
    Some(table(&counted, name))
}

fn table(counted: &Counted, name: impl Fn(usize) -> String) -> Vec<Audited> {
    let mut whole: BTreeMap<&Place, Histogram> = BTreeMap::new();
    for ((place, _), histogram) in &counted.subjects {
        whole.entry(place).or_insert_with(Histogram::new).merge(histogram);
    }
    let row = |(op, result, dtype): &Place, subject, histogram: &Histogram| Audited {
        op: op.clone(),
        result,
        dtype: *dtype,
        subject,
        elements: histogram.elements,
        rounding: histogram.rounding / histogram.elements.max(1) as f64,
        median: histogram.quantile(0.5),
        p99: histogram.quantile(0.99),
        p999: histogram.quantile(0.999),
        max: histogram.max,
        loosest: None,
    };
    let mut rows = Vec::new();
    for (place, all) in &whole {
        rows.push(Audited { loosest: counted.loosest.get(place).cloned(), ..row(place, None, all) });
        let own = counted.subjects.iter().filter(|((other, _), _)| other == *place);
        rows.extend(own.map(|((_, at), histogram)| row(place, Some(name(*at)), histogram)));
    }
    // An operation that has nothing to compute, such as relu, has no bound to audit.
    rows.retain(|row| row.elements > 0);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_counted() {
        let mut histogram = Histogram::new();
        let case: Case = "exp f32 shape=1000".parse().unwrap();
        let expected = &oracle::expect(&case.problem, &case.inputs()).results[0];
        let declaration = touchstone_kernels::Declaration::strict("test");
        let tolerance = Tolerance::new(expected, &declaration);
        // Errors of 1/1000 to 1 of the bound.
        let got: Vec<f64> =
            (0..1000).map(|i| expected.value[i] + tolerance.at(i) * (i + 1) as f64 / 1000.0).collect();
        histogram.add(expected, &tolerance, &got);
        assert_eq!(histogram.elements, 1000);
        for (q, right) in [(0.5, 0.5), (0.99, 0.99), (0.999, 0.999), (1.0, 1.0)] {
            let found = histogram.quantile(q);
            assert!((found / right - 1.0).abs() < 0.03, "{q}: {found}");
        }
    }
}
