//! What the records say as a whole: who is right, who is fastest, where, and by how much.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::Record;
use crate::speed::{Group, Speeds};
use crate::status::Status;

/// How many cases ended in each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([usize; Status::ALL.len()]);

impl Counts {
    /// Counts one more case.
    pub const fn add(&mut self, status: Status) {
        self.0[status as usize] += 1;
    }

    /// Cases with this status.
    #[must_use]
    pub const fn of(&self, status: Status) -> usize {
        self.0[status as usize]
    }

    /// All cases.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// Cases in which the kernel ran and was judged.
    #[must_use]
    pub fn executed(&self) -> usize {
        self.total() - self.of(Status::Unsupported)
    }

    /// Cases that somebody has to look at.
    #[must_use]
    pub fn needing_attention(&self) -> usize {
        Status::ALL.into_iter().filter(|status| status.needs_attention()).map(|status| self.of(status)).sum()
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// One place in the verdict matrix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// See [`Record::family`].
    pub family: String,
    /// See [`Record::dtype`].
    pub dtype: String,
    /// See [`Record::backend`].
    pub backend: String,
}

impl Place {
    /// The place of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self { family: record.family.clone(), dtype: record.dtype.clone(), backend: record.backend.clone() }
    }
}

/// The largest error over bound in one place, and the contracts under which it was judged: ratios
/// are comparable only within one.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// Largest [`Record::error_over_bound`] of the passed rows.
    pub largest: f64,
    /// Their [`Record::contract`]s.
    pub contracts: BTreeSet<String>,
}

/// The records counted and compared.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Backends, in the order in which tables and plots show them.
    pub backends: Vec<String>,
    /// Families present, in the order of the documentation.
    pub families: Vec<String>,
    /// Storage types present, widest first.
    pub dtypes: Vec<String>,
    /// Distinct cases (problem, fill and seed).
    pub cases: usize,
    /// Verdicts: a case counts once per backend, however often it was timed. If its rows differ,
    /// the worst one counts.
    pub verdicts: BTreeMap<Place, Counts>,
    /// How close passed rows come to their bounds.
    pub accuracy: BTreeMap<Place, Accuracy>,
    /// Speed per family, thread count and cache state.
    pub speeds: Vec<Speeds>,
}

/// Families in the order of the documentation; others follow by name.
const FAMILIES: [&str; 6] = ["attention", "softmax", "norm", "residual", "activation", "rope"];
/// Storage types, widest first; others follow by name.
pub(crate) const DTYPES: [&str; 4] = ["f64", "f32", "f16", "bf16"];

/// Sorts names by a given order first and by themselves second.
pub(crate) fn ordered<'a>(names: impl Iterator<Item = &'a str>, first: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = names.collect::<BTreeSet<_>>().into_iter().collect();
    names.sort_by_key(|name| first.iter().position(|f| f == name).unwrap_or(first.len()));
    names.into_iter().map(str::to_owned).collect()
}

/// Backends from plain to foreign: naive, ours by rising ISA, then the libraries by name.
#[must_use]
pub fn ordered_backends(records: &[Record]) -> Vec<String> {
    let first = ["naive", "simd/scalar", "simd/neon", "simd/avx2", "simd/avx512", "simd/amx", "simd"];
    ordered(records.iter().map(|r| r.backend.as_str()), &first)
}

/// How bad a status is when the rows of one case differ.
pub(crate) const fn severity(status: Status) -> u8 {
    match status {
        Status::Passed => 0,
        Status::Unsupported => 1,
        Status::Known => 2,
        Status::Suspect => 3,
        Status::Error => 4,
        Status::Timeout => 5,
        Status::Failed => 6,
    }
}

/// For each case and backend, its worst row: what verdicts are counted from and listed as.
#[must_use]
pub fn worst_per_case(records: &[Record]) -> Vec<&Record> {
    let mut place = BTreeMap::new();
    let mut worst: Vec<&Record> = Vec::new();
    for record in records {
        let case = (&record.problem, &record.fill, record.seed, &record.backend);
        let i = *place.entry(case).or_insert_with(|| {
            worst.push(record);
            worst.len() - 1
        });
        if severity(record.status) > severity(worst[i].status) {
            worst[i] = record;
        }
    }
    worst
}

impl Summary {
    /// Counts and compares merged records.
    #[must_use]
    pub fn of(records: &[Record]) -> Self {
        let mut verdicts: BTreeMap<Place, Counts> = BTreeMap::new();
        let mut accuracy: BTreeMap<Place, Accuracy> = BTreeMap::new();
        for record in worst_per_case(records) {
            verdicts.entry(Place::of(record)).or_default().add(record.status);
        }
        for record in records.iter().filter(|r| r.status == Status::Passed) {
            if let Some(ratio) = record.error_over_bound {
                let here = accuracy
                    .entry(Place::of(record))
                    .or_insert_with(|| Accuracy { largest: ratio, contracts: BTreeSet::new() });
                here.largest = here.largest.max(ratio);
                here.contracts.insert(record.contract.clone());
            }
        }
        let cases: BTreeSet<_> = records.iter().map(|r| (&r.problem, &r.fill, r.seed)).collect();
        let families = ordered(records.iter().map(|r| r.family.as_str()), &FAMILIES);
        let mut speeds = Speeds::by(records, Group::of);
        speeds.sort_by_key(|speeds| {
            let family = families.iter().position(|f| *f == speeds.group.family);
            (family, speeds.group.threads, speeds.group.cache != "hot")
        });
        Self {
            backends: ordered_backends(records),
            dtypes: ordered(records.iter().map(|r| r.dtype.as_str()), &DTYPES),
            cases: cases.len(),
            families,
            verdicts,
            accuracy,
            speeds,
        }
    }

    /// The counts of one backend, over everything or within one family.
    #[must_use]
    pub fn counts(&self, backend: &str, family: Option<&str>) -> Counts {
        let mut counts = Counts::default();
        for (place, here) in &self.verdicts {
            if place.backend == backend && family.is_none_or(|f| f == place.family) {
                counts += *here;
            }
        }
        counts
    }

    /// The counts of all backends together.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut counts = Counts::default();
        for here in self.verdicts.values() {
            counts += *here;
        }
        counts
    }

    /// The speeds that stand for a family in a sentence: fewest threads, hot cache if there is
    /// one.
    #[must_use]
    pub fn headline(&self, family: &str) -> Option<&Speeds> {
        self.speeds.iter().find(|speeds| speeds.group.family == family && speeds.cases > 0)
    }
}
