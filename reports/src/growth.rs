//! How cost grows: cases that differ in one size only, and the power of that size which fits them.

use std::collections::BTreeMap;

use crate::fields::ProblemFields;
use crate::record::Record;
use crate::speed::Group;
use crate::summary::ordered_backends;

/// Fields that are sizes, with what a reader calls them.
const SIZES: [(&str, &str); 7] = [
    ("b", "batch"),
    ("h", "heads"),
    ("hkv", "key/value heads"),
    ("lq", "queries"),
    ("lk", "keys"),
    ("l", "L"),
    ("d", "D"),
];

/// Fewer sizes than this always lie on a line, or nearly.
const FEWEST: usize = 3;

/// Less memory than this is not told apart from none: systems count resident pages in batches.
const RESOLVED: u64 = 1 << 19;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// The median time of one iteration, in nanoseconds.
    Time,
    /// [`Record::extra_memory`], in bytes, from half a megabyte on.
    Memory,
}

impl Cost {
    #[expect(clippy::cast_precision_loss, reason = "times and sizes lie far below 2^53")]
    fn of(self, record: &Record) -> Option<f64> {
        let cost = match self {
            Self::Time => record.median_ns,
            Self::Memory => record.extra_memory.filter(|extra| *extra >= RESOLVED),
        };
        cost.filter(|cost| *cost > 0).map(|cost| cost as f64)
    }

    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Memory => "extra memory",
        }
    }
}

/// Cases that differ in one size only, under one set of conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Their problem, with a star for the size: `softmax f32 shape=*x1024`.
    pub problem: String,
    /// What the size is called: `rows`, `L` …
    pub size: &'static str,
    /// What grows.
    pub cost: Cost,
    /// See [`Record::op`].
    pub op: String,
    /// See [`Record::dtype`].
    pub dtype: String,
    /// See [`Record::threads`].
    pub threads: u32,
    /// `1 thread, hot cache`.
    pub conditions: String,
    /// For each backend its sizes and costs, in the order of sizes.
    pub series: Vec<(String, Vec<(u64, f64)>)>,
}

/// A power law: cost = c·sizeᵖ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// p, by least squares over the logarithms.
    pub exponent: f64,
    /// Its 95 % interval by Student's t, as if what is left were independent noise. Mostly it is
    /// not: a fixed cost bends the curve at its small end, and the interval then says how far from
    /// a power law it is.
    pub interval: (f64, f64),
    /// The exponent between the two largest sizes.
    pub end: f64,
}

impl Fit {
    /// The interval as `1.92 to 2.02`: an end may be negative.
    #[must_use]
    pub fn span(&self) -> String {
        format!("{:.2} to {:.2}", self.interval.0, self.interval.1)
    }
}

impl Sweep {
    /// The smallest and the largest size.
    #[must_use]
    pub fn range(&self) -> (u64, u64) {
        let sizes = || self.series.iter().flat_map(|(_, points)| points.iter().map(|point| point.0));
        (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0))
    }
}

/// All sweeps among the rows that carry this cost, in the order of their first rows: at least three
/// sizes on at least one backend.
#[must_use]
pub fn sweeps(records: &[Record], cost: Cost) -> Vec<Sweep> {
    type Key<'a> = (String, &'a str, u64, u32, &'a str);
    let mut order: Vec<Sweep> = Vec::new();
    let mut places: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    let mut points: Vec<BTreeMap<&str, BTreeMap<u64, f64>>> = Vec::new();
    for record in records {
        let Some(value) = cost.of(record) else { continue };
        for (problem, size, count) in variations(&record.problem) {
            let key = (problem.clone(), record.fill.as_str(), record.seed, record.threads, &*record.cache);
            let place = *places.entry(key).or_insert_with(|| {
                order.push(Sweep {
                    problem,
                    size,
                    cost,
                    op: record.op.clone(),
                    dtype: record.dtype.clone(),
                    threads: record.threads,
                    conditions: Group::of(record).conditions(),
                    series: Vec::new(),
                });
                points.push(BTreeMap::new());
                order.len() - 1
            });
            points[place].entry(&record.backend).or_default().insert(count, value);
        }
    }
    let backends = ordered_backends(records);
    for (sweep, points) in order.iter_mut().zip(points) {
        let series = backends.iter().filter_map(|backend| Some((backend, points.get(backend.as_str())?)));
        sweep.series = series
            .map(|(backend, points)| (backend.clone(), points.iter().map(|(n, v)| (*n, *v)).collect()))
            .collect();
    }
    order.retain(|sweep| sweep.series.iter().any(|(_, points)| points.len() >= FEWEST));
    order
}

/// A problem with a star for one of its sizes, what that is called, and its value; for each of them.
fn variations(problem: &str) -> Vec<(String, &'static str, u64)> {
    let fields = ProblemFields::of(problem);
    // Where the keys are not written they are as many as the queries.
    let square = fields.get("lk").is_none();
    let starred = |name: &str, value: &str, star: &str| {
        problem.replacen(&format!(" {name}={value}"), &format!(" {name}={star}"), 1)
    };
    let mut all = Vec::new();
    for (name, value) in fields.iter() {
        if name == "shape" {
            let extents: Vec<_> = value.split('x').collect();
            for (i, extent) in extents.iter().enumerate() {
                let called = match i {
                    0 if extents.len() == 1 => "elements",
                    0 => "rows",
                    i if i + 1 == extents.len() => "columns",
                    _ => "extent",
                };
                let mut star = extents.clone();
                star[i] = "*";
                let count = extent.parse().ok();
                all.extend(count.map(|count| (starred(name, value, &star.join("x")), called, count)));
            }
        } else if let Some((_, called)) = SIZES.iter().find(|(size, _)| *size == name) {
            let called = if name == "lq" && square { "L" } else { called };
            all.extend(value.parse().ok().map(|count| (starred(name, value, "*"), called, count)));
        }
    }
    all
}

/// Fits a power law to sizes and costs. `None` with fewer than three sizes.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "sizes and numbers of points lie far below 2^53")]
pub fn fit(points: &[(u64, f64)]) -> Option<Fit> {
    let logs: Vec<(f64, f64)> = points
        .iter()
        .filter(|(size, cost)| *size > 0 && *cost > 0.0)
        .map(|(size, cost)| ((*size as f64).ln(), cost.ln()))
        .collect();
    let [.., before, last] = logs[..] else { return None };
    if logs.len() < FEWEST {
        return None;
    }
    let n = logs.len() as f64;
    let (mean_x, mean_y) =
        (logs.iter().map(|p| p.0).sum::<f64>() / n, logs.iter().map(|p| p.1).sum::<f64>() / n);
    let spread: f64 = logs.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    let exponent = logs.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum::<f64>() / spread;
    let left: f64 = logs.iter().map(|p| (p.1 - mean_y - exponent * (p.0 - mean_x)).powi(2)).sum();
    let error = (left / (n - 2.0) / spread).sqrt() * student(logs.len() - 2);
    Some(Fit {
        exponent,
        interval: (exponent - error, exponent + error),
        end: (last.1 - before.1) / (last.0 - before.0),
    })
}

/// The 97.5 % quantile of Student's t: the first ones from tables, then Fisher and Cornish's series.
#[expect(clippy::cast_precision_loss, reason = "degrees of freedom are few")]
fn student(freedom: usize) -> f64 {
    const FIRST: [f64; 6] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447];
    let Some(quantile) = freedom.checked_sub(1).and_then(|i| FIRST.get(i)) else {
        // Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.5.
        let (z, n) = (1.959_964_f64, freedom as f64);
        let first = (z.powi(3) + z) / 4.0;
        let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
        let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
        return z + first / n + second / n.powi(2) + third / n.powi(3);
    };
    *quantile
}

#[cfg(test)]
mod tests {
    use rand_core::{RngCore, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn a_power_law_is_found_exactly_and_noise_widens_its_interval() {
        let exact: Vec<_> = (6..13).map(|i| (1u64 << i, 3.0 * f64::from(1 << i).powf(1.75))).collect();
        let found = fit(&exact).unwrap();
        assert!((found.exponent - 1.75).abs() < 1e-12 && (found.end - 1.75).abs() < 1e-12, "{found:?}");
        assert!(found.interval.1 - found.interval.0 < 1e-6, "{found:?}");
        let bent: Vec<_> = exact.iter().map(|(n, t)| (*n, t + 1e5)).collect();
        let found = fit(&bent).unwrap();
        assert!(found.exponent < found.end && found.end < 1.75, "{found:?}");
        assert!(found.interval.1 - found.interval.0 > 0.2, "{found:?}");
        assert_eq!(fit(&exact[..2]), None);
        assert_eq!(fit(&[]), None);
    }

    #[test]
    fn student_agrees_with_tables() {
        for (freedom, expected) in [(1, 12.706), (6, 2.447), (7, 2.365), (10, 2.228), (30, 2.042)] {
            assert!((student(freedom) - expected).abs() < 0.002, "{freedom}: {}", student(freedom));
        }
    }

    /// The interval covers the exponent as often as it says.
    #[test]
    fn the_interval_of_a_fit_covers_the_exponent() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(9);
        let mut uniform = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let covered = (0..1000)
            .filter(|_| {
                let mut normal = || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
                let points: Vec<_> = (6..13)
                    .map(|i| (1u64 << i, f64::from(1 << i).powi(2) * (0.05 * normal()).exp()))
                    .collect();
                let (low, high) = fit(&points).unwrap().interval;
                low <= 2.0 && 2.0 <= high
            })
            .count();
        println!("covered {covered} of 1000");
        assert!((930..=970).contains(&covered), "{covered}");
    }

    #[test]
    fn one_size_at_a_time() {
        let names = |problem| -> Vec<(String, &str, u64)> { variations(problem) };
        assert_eq!(
            names("attention f32 h=1 lq=64 d=64"),
            [
                ("attention f32 h=* lq=64 d=64".to_owned(), "heads", 1),
                ("attention f32 h=1 lq=* d=64".to_owned(), "L", 64),
                ("attention f32 h=1 lq=64 d=*".to_owned(), "D", 64),
            ]
        );
        assert_eq!(names("attention f32 h=1 lq=1 lk=9 d=2")[1].1, "queries");
        assert_eq!(
            names("softmax f32 shape=8x16 axis=-1"),
            [
                ("softmax f32 shape=*x16 axis=-1".to_owned(), "rows", 8),
                ("softmax f32 shape=8x* axis=-1".to_owned(), "columns", 16),
            ]
        );
        assert_eq!(names("gelu f32 shape=4096")[0].1, "elements");
    }
}
