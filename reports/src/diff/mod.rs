//! Two record sets against each other: what became faster, what slower, and what changed its
//! verdict.
//!
//! This describes; it does not judge. Two runs on different days differ by more than their
//! intervals say, because noise between processes is not in them: whether a change is a
//! regression is for the gate to decide.

mod conditions;
mod render;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use render::grids;

use crate::environment::Environment;
use crate::record::{Record, RowKey, Setting};
use crate::sample::SampleRow;
use crate::speed::{Ratio, median_ratio};
use crate::statistics::{MedianRatio, SEED, kept};
use crate::status::Status;

/// One measurement that both sets have.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseDiff {
    /// What was measured.
    pub key: RowKey,
    /// See [`Record::family`].
    pub family: String,
    /// Old time divided by new time: above 1 is faster now. The interval is there if both sets
    /// came with samples.
    pub ratio: Ratio,
    /// Old median in nanoseconds.
    pub old_ns: u64,
    /// New median in nanoseconds.
    pub new_ns: u64,
}

/// A verdict that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// What was judged.
    pub key: RowKey,
    /// The old status.
    pub old: Status,
    /// The new status.
    pub new: Status,
    /// The new reason, or the old one if it passes now.
    pub reason: String,
    /// Reproduces the new row.
    pub repro: String,
}

/// The mean of one family on one backend under one set of conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyDiff {
    /// See [`Record::family`].
    pub family: String,
    /// See [`Record::backend`].
    pub backend: String,
    /// See [`Record::threads`].
    pub threads: u32,
    /// See [`Record::cache`].
    pub cache: String,
    /// Cases that both sets have.
    pub cases: usize,
    /// Geometric mean of old time divided by new time.
    pub mean: Ratio,
}

/// All differences between two record sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    /// Measurements in both, in the order of the new set.
    pub cases: Vec<CaseDiff>,
    /// Means per family, backend and conditions.
    pub families: Vec<FamilyDiff>,
    /// Verdicts that changed.
    pub changes: Vec<StatusChange>,
    /// Rows only the old set has.
    pub only_old: usize,
    /// Rows only the new set has.
    pub only_new: usize,
    /// What else differs between the two: the processor, instruction sets, thread counts. A line
    /// each.
    pub warnings: Vec<String>,
}

/// Records of one side with their samples, which may be missing.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Merged records.
    pub records: &'a [Record],
    /// Their samples.
    pub samples: &'a [SampleRow],
    /// The machine they were measured on, if known.
    pub environment: Option<&'a Environment>,
}

/// Two record sets without a common row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing in common: none of {new} rows has its problem, fill, seed, backend, threads and cache \
     state among the {old} rows before{}",
    list(warnings)
)]
pub struct NothingInCommon {
    /// Rows in the old set.
    pub old: usize,
    /// Rows in the new set.
    pub new: usize,
    /// See [`Diff::warnings`]: they may be the reason.
    pub warnings: Vec<String>,
}

/// Two record sets that were timed on different machines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "they were timed on different machines ({}; {}), and times of two machines say nothing about two \
     revisions: run both on one machine, or `touchstone gate --base REV` there",
    words(old),
    words(new)
)]
pub struct NotOneMachine {
    /// Machines of the old set.
    pub old: BTreeSet<String>,
    /// Machines of the new set.
    pub new: BTreeSet<String>,
}

fn words(machines: &BTreeSet<String>) -> String {
    machines.iter().cloned().collect::<Vec<_>>().join(" and ")
}

/// Why two record sets cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// They have no row in common.
    #[error(transparent)]
    NothingInCommon(#[from] NothingInCommon),
    /// They are of different machines.
    #[error(transparent)]
    NotOneMachine(#[from] NotOneMachine),
}

/// The machines of the timed rows, as far as they are known.
fn machines_of(side: Side<'_>) -> BTreeSet<String> {
    let timed = side.records.iter().filter(|record| record.is_timed() && !record.machine.is_empty());
    timed.map(|record| record.machine.clone()).collect()
}

fn list(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("; {warning}")).collect()
}

/// Compares two record sets, row by row.
///
/// # Errors
/// The sets have no row in common, or were timed on different machines: there is nothing to compare.
pub fn diff(old: Side<'_>, new: Side<'_>) -> Result<Diff, DiffError> {
    let old_rows: HashMap<(RowKey, Setting), &Record> =
        old.records.iter().map(|r| ((r.key(), r.setting()), r)).collect();
    let machines = (machines_of(old), machines_of(new));
    if !machines.0.is_empty() && !machines.1.is_empty() && machines.0.is_disjoint(&machines.1) {
        return Err(NotOneMachine { old: machines.0, new: machines.1 }.into());
    }
    let old_samples = by_row(old);
    let new_samples = by_row(new);
    let mut out = Diff { warnings: conditions::differences(old, new), ..Diff::default() };
    let mut groups: BTreeMap<(&str, &str, u32, &str), Vec<Ratio>> = BTreeMap::new();
    for row in new.records {
        let key = row.key();
        let Some(before) = old_rows.get(&(key.clone(), row.setting())) else {
            out.only_new += 1;
            continue;
        };
        if before.status != row.status {
            let old_reason = row.status == Status::Passed;
            out.changes.push(StatusChange {
                key: key.clone(),
                old: before.status,
                new: row.status,
                reason: if old_reason { &before.reason } else { &row.reason }.clone(),
                repro: row.repro.clone(),
            });
        }
        let (Some(old_ns), Some(new_ns)) = (before.median_ns, row.median_ns) else {
            continue;
        };
        let Some(value) = median_ratio(before, row) else {
            continue;
        };
        let interval = old_samples
            .get(&key)
            .zip(new_samples.get(&key))
            .and_then(|(old, new)| MedianRatio::of_sets(old, new, SEED))
            .map(|ratio| (ratio.low, ratio.high));
        let ratio = Ratio { value, interval };
        groups.entry((&row.family, &row.backend, row.threads, &row.cache)).or_default().push(ratio);
        out.cases.push(CaseDiff { key, family: row.family.clone(), ratio, old_ns, new_ns });
    }
    if out.only_new == new.records.len() {
        let (old, new) = (old.records.len(), new.records.len());
        return Err(NothingInCommon { old, new, warnings: out.warnings }.into());
    }
    let new_keys: BTreeSet<_> = new.records.iter().map(|r| (r.key(), r.setting())).collect();
    out.only_old = old_rows.keys().filter(|key| !new_keys.contains(key)).count();
    out.families = groups
        .into_iter()
        .filter_map(|((family, backend, threads, cache), ratios)| {
            Some(FamilyDiff {
                family: family.to_owned(),
                backend: backend.to_owned(),
                threads,
                cache: cache.to_owned(),
                cases: ratios.len(),
                mean: Ratio::geometric_mean(&ratios)?,
            })
        })
        .collect();
    Ok(out)
}

/// Times of one iteration by row, of the slices that the row's own figures are of: the undisturbed ones, or
/// all where those are too few. Samples of a run whose record was superseded when runs were merged do not
/// belong to the record at hand.
fn by_row(side: Side<'_>) -> HashMap<RowKey, Vec<f64>> {
    let runs: HashMap<RowKey, &str> = side.records.iter().map(|r| (r.key(), r.run_id.as_str())).collect();
    let mut rows: HashMap<RowKey, Vec<(f64, bool)>> = HashMap::new();
    for sample in side.samples {
        let key = sample.key();
        if runs.get(&key) == Some(&sample.run_id.as_str()) {
            rows.entry(key).or_default().push((sample.ns_per_iteration(), sample.clean));
        }
    }
    rows.into_iter().map(|(key, slices)| (key, kept(slices))).collect()
}
