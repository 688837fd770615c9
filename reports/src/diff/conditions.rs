//! Conditions under which two record sets were made, where they differ.

use std::collections::{BTreeMap, BTreeSet};

use super::Side;
use crate::words::list;

/// A line for each condition that differs: a change in times may come from it alone.
pub(super) fn differences(old: Side<'_>, new: Side<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let cpu = |side: Side<'_>| side.environment.map(|e| e.machine.cpu.clone()).filter(|cpu| !cpu.is_empty());
    if let (Some(before), Some(after)) = (cpu(old), cpu(new))
        && before != after
    {
        lines.push(format!("the processor was {before}, now it is {after}"));
    }
    let isas = isas(new);
    for (backend, before) in self::isas(old) {
        if let Some(after) = isas.get(backend).filter(|after| **after != before) {
            let (before, after) = (words(&before), words(after));
            lines.push(format!("the instruction set of {backend} was {before}, now it is {after}"));
        }
    }
    let (before, after) = (threads(old), threads(new));
    if before != after {
        lines.push(format!("the thread counts were {}, now they are {}", words(&before), words(&after)));
    }
    lines
}

/// The instruction sets of each backend.
fn isas(side: Side<'_>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut isas: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for record in side.records.iter().filter(|r| !r.isa.is_empty()) {
        isas.entry(&record.backend).or_default().insert(&record.isa);
    }
    isas
}

fn threads(side: Side<'_>) -> BTreeSet<u32> {
    side.records.iter().map(|record| record.threads).collect()
}

fn words<T: ToString>(items: &BTreeSet<T>) -> String {
    list(&items.iter().map(ToString::to_string).collect::<Vec<_>>())
}
