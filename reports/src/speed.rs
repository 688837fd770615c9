//! Speed-ups over a reference, averaged only over cases that every contender has.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::Record;
use crate::statistics::MedianRatio;
use crate::words::plural;

/// What is averaged together: nothing is ever averaged over thread counts or cache states.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// See [`Record::family`].
    pub family: String,
    /// See [`Record::op`]; empty for a whole family.
    pub op: String,
    /// See [`Record::dtype`]; empty for all of them.
    pub dtype: String,
    /// See [`Record::threads`].
    pub threads: u32,
    /// See [`Record::cache`].
    pub cache: String,
}

impl Group {
    /// The family of a record, with its thread count and cache state.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            family: record.family.clone(),
            op: String::new(),
            dtype: String::new(),
            threads: record.threads,
            cache: record.cache.clone(),
        }
    }

    /// The operation of a record, with its thread count and cache state.
    #[must_use]
    pub fn op(record: &Record) -> Self {
        Self { op: record.op.clone(), ..Self::of(record) }
    }

    /// `1 thread, hot cache`.
    #[must_use]
    pub fn conditions(&self) -> String {
        let threads = match self.threads {
            1 => "1 thread".to_owned(),
            n => format!("{n} threads"),
        };
        format!("{threads}, {} cache", self.cache)
    }
}

/// A ratio of times with the ends of its interval where they are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio: above 1 is faster than what it is compared with.
    pub value: f64,
    /// Lower and upper end of the 95 % interval.
    pub interval: Option<(f64, f64)>,
}

impl From<MedianRatio> for Ratio {
    fn from(ratio: MedianRatio) -> Self {
        Self { value: ratio.estimate, interval: Some((ratio.low, ratio.high)) }
    }
}

impl Ratio {
    /// The geometric mean. The ends are the geometric means of the ends: as wide as if all the
    /// errors went the same way, so never narrower than the truth. `None` without ratios, or if
    /// one of them is not a positive number.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers of cases are small")]
    pub fn geometric_mean(ratios: &[Self]) -> Option<Self> {
        let mean = |value: &dyn Fn(&Self) -> Option<f64>| -> Option<f64> {
            let mut sum = 0.0;
            for ratio in ratios {
                sum += value(ratio).filter(|v| *v > 0.0 && v.is_finite())?.ln();
            }
            (!ratios.is_empty()).then(|| (sum / ratios.len() as f64).exp())
        };
        let value = mean(&|ratio| Some(ratio.value))?;
        let low = mean(&|ratio| ratio.interval.map(|(low, _)| low));
        let high = mean(&|ratio| ratio.interval.map(|(_, high)| high));
        Some(Self { value, interval: low.zip(high) })
    }

    /// Whether the two cannot be told apart: their intervals overlap. Without intervals they
    /// can only be told apart, rightly or wrongly.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.interval, other.interval) {
            (Some((low, high)), Some((other_low, other_high))) => low <= other_high && other_low <= high,
            _ => false,
        }
    }
}

/// One backend's speed in a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    /// Backend id.
    pub backend: String,
    /// Geometric mean of its speed-ups over the common cases.
    pub mean: Option<Ratio>,
    /// Its largest speed-up over the common cases.
    pub best: Option<f64>,
    /// Common cases in which it is the fastest, or cannot be told apart from the fastest.
    pub wins: usize,
    /// Cases it was timed on, common or not.
    pub timed: usize,
}

/// The speeds of all backends in one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Speeds {
    /// The group.
    pub group: Group,
    /// Backend id the ratios are against.
    pub reference: String,
    /// Size of the intersection: cases that every contender and the reference were timed on.
    pub cases: usize,
    /// Times of these cases that are [disturbed](Record::disturbed).
    pub disturbed: usize,
    /// Contenders, the fastest first.
    pub contenders: Vec<Contender>,
}

/// A case without the backend that ran it.
pub(crate) type CaseKey<'a> = (&'a str, &'a str, u64);

pub(crate) fn case(record: &Record) -> CaseKey<'_> {
    (&record.problem, &record.fill, record.seed)
}

impl Speeds {
    /// Compares the timed records within each group.
    #[must_use]
    pub fn by(records: &[Record], group: impl Fn(&Record) -> Group) -> Vec<Self> {
        let mut groups: BTreeMap<Group, Vec<&Record>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.is_timed()) {
            groups.entry(group(record)).or_default().push(record);
        }
        groups.into_iter().map(|(group, records)| Self::compare(group, &records)).collect()
    }

    fn compare(group: Group, records: &[&Record]) -> Self {
        let reference = reference_of(records);
        let mut by_backend: BTreeMap<&str, BTreeMap<CaseKey<'_>, &Record>> = BTreeMap::new();
        for record in records {
            by_backend.entry(&record.backend).or_default().insert(case(record), record);
        }
        let mut common: Option<BTreeSet<CaseKey<'_>>> = None;
        for rows in by_backend.values() {
            let here: BTreeSet<_> = rows.keys().copied().collect();
            common = Some(match common {
                None => here,
                Some(common) => &common & &here,
            });
        }
        let common = common.unwrap_or_default();
        let base = by_backend.get(reference.as_str());
        let ratio = |backend: &str, case: &CaseKey<'_>| {
            let row = by_backend.get(backend)?.get(case)?;
            speedup(row, &reference, base.and_then(|rows| rows.get(case).copied()))
        };
        let mut wins: BTreeMap<&str, usize> = BTreeMap::new();
        for case in &common {
            let all: Vec<_> =
                by_backend.keys().filter_map(|backend| Some((*backend, ratio(backend, case)?))).collect();
            let best = all.iter().max_by(|a, b| a.1.value.total_cmp(&b.1.value));
            for (backend, ratio) in &all {
                if best.is_some_and(|best| best.0 == *backend || best.1.overlaps(ratio)) {
                    *wins.entry(backend).or_default() += 1;
                }
            }
        }
        let mut contenders: Vec<_> = by_backend
            .iter()
            .map(|(backend, rows)| {
                let ratios: Option<Vec<_>> = common.iter().map(|case| ratio(backend, case)).collect();
                let ratios = ratios.unwrap_or_default();
                Contender {
                    backend: (*backend).to_owned(),
                    mean: Ratio::geometric_mean(&ratios),
                    best: ratios.iter().map(|r| r.value).max_by(f64::total_cmp),
                    wins: wins.get(backend).copied().unwrap_or(0),
                    timed: rows.len(),
                }
            })
            .collect();
        contenders.sort_by(|a, b| {
            let mean = |c: &Contender| c.mean.map_or(0.0, |mean| mean.value);
            mean(b).total_cmp(&mean(a)).then_with(|| a.backend.cmp(&b.backend))
        });
        let is_disturbed = |record: &&&Record| record.disturbed && common.contains(&case(record));
        let disturbed = records.iter().filter(is_disturbed).count();
        Self { group, reference, cases: common.len(), disturbed, contenders }
    }

    /// How many cases, and how many of their times are disturbed: `8 cases, 3 times disturbed`.
    #[must_use]
    pub fn extent(&self) -> String {
        let cases = plural(self.cases, "case");
        match self.disturbed {
            0 => cases,
            disturbed => format!("{cases}, {} disturbed", plural(disturbed, "time")),
        }
    }
}

/// The reference of most rows; runs merged from different invocations may differ in it.
pub(crate) fn reference_of(records: &[&Record]) -> String {
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records.iter().filter(|r| !r.reference.is_empty()) {
        *votes.entry(&record.reference).or_default() += 1;
    }
    let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
    most.map_or_else(String::new, |(name, _)| name.to_owned())
}

/// The speed-up of a row over a reference: as recorded (with its interval) if it is against that
/// reference, from the medians (without one) if the reference row is at hand.
#[must_use]
pub fn speedup(row: &Record, reference: &str, base: Option<&Record>) -> Option<Ratio> {
    if row.backend == reference {
        return Some(Ratio { value: 1.0, interval: Some((1.0, 1.0)) });
    }
    if let (true, Some(value)) = (row.reference == reference, row.speedup) {
        return Some(Ratio { value, interval: row.speedup_low.zip(row.speedup_high) });
    }
    median_ratio(base?, row).map(|value| Ratio { value, interval: None })
}

/// Median time of the first over that of the second.
#[expect(clippy::cast_precision_loss, reason = "times lie far below 2^53 ns")]
pub(crate) fn median_ratio(slow: &Record, fast: &Record) -> Option<f64> {
    // Two clocks do not measure the same.
    if slow.method != fast.method {
        return None;
    }
    let (slow, fast) = (slow.median_ns?, fast.median_ns?);
    (fast > 0).then(|| slow as f64 / fast as f64)
}
