//! What each fill and each kind of size catches by itself.
//!
//! A fault that many cases catch says nothing about any of them. So every fault is posed to the cases of one
//! fill alone, and to those with one class of size alone: a fill that catches nothing which the others do
//! not is there for nothing, and one that fails a correct variant asks too much.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use touchstone_kernels::{Backend, DType};

use super::engine::{MOST_BYTES, MOST_FLOPS, Pair, concerned, judged, pairs, within};
use super::planted::Specimen;
use crate::case::Case;
use crate::coverage::{SIZES, levels};
use crate::oracle;
use crate::outcome::Outcome;
use crate::safeguard::Safeguards;
use crate::suite::SuiteCase;

/// What cases have in common: a factor and its level, such as `fill` and `needle`.
pub type Trait = (&'static str, String);

/// What the cases with one trait catch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alone {
    /// Such cases.
    pub cases: usize,
    /// Faults, each in each storage type, that one of them concerns.
    pub concerned: usize,
    /// Those of them that these cases fail.
    pub caught: usize,
    /// Those that no case without this trait fails.
    pub only: usize,
    /// Verdicts on correct variants.
    pub judgements: usize,
    /// Those that failed one.
    pub false_alarms: usize,
}

/// The traits of a case: its fill, and the classes of its sizes.
fn traits(case: &Case) -> HashSet<Trait> {
    let own = levels(case).into_iter();
    own.filter_map(|(factor, level)| match factor {
        "fill" => Some((factor, level)),
        factor if SIZES.contains(&factor) => Some(("size", level)),
        _ => None,
    })
    .collect()
}

/// What is known of a fault in a storage type.
#[derive(Default)]
struct Known {
    /// Traits of cases that concern it.
    concerned: HashSet<Trait>,
    /// Traits of cases that failed it.
    caught: HashSet<Trait>,
    /// For each factor the traits that every case which failed it has: where one is left, only that one does.
    always: Option<HashSet<Trait>>,
}

impl Known {
    /// Whether a case with these traits can say anything new.
    fn wants(&self, traits: &HashSet<Trait>) -> bool {
        traits.iter().any(|one| !self.caught.contains(one))
            || self.always.as_ref().is_some_and(|always| !always.is_subset(traits))
    }

    fn fails(&mut self, traits: &HashSet<Trait>) {
        self.caught.extend(traits.iter().cloned());
        let always = self.always.get_or_insert_with(|| traits.clone());
        always.retain(|one| traits.contains(one));
    }
}

/// Poses all faults and variants to all cases that can tell something new about them. `progress` hears how
/// many of how many cases are done. None when it was stopped.
pub fn alone(
    faults: &[Specimen],
    variants: &[Specimen],
    cases: &[SuiteCase],
    progress: &(dyn Fn(usize, usize) + Sync),
    stop: &AtomicBool,
) -> Option<BTreeMap<Trait, Alone>> {
    let posed = within(cases, MOST_FLOPS, MOST_BYTES);
    let pairs = pairs(faults);
    let backends: HashMap<&str, Arc<dyn Backend>> =
        faults.iter().chain(variants).map(|specimen| (specimen.name, specimen.backend())).collect();
    let mut known: HashMap<(&str, DType), Known> = HashMap::new();
    let mut all: BTreeMap<Trait, Alone> = BTreeMap::new();
    for (done, case) in posed.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        progress(done, posed.len());
        pose(&case.case, &pairs, variants, &backends, &mut known, &mut all);
    }
    for known in known.values() {
        for one in &known.concerned {
            let alone = all.entry(one.clone()).or_default();
            alone.concerned += 1;
            alone.caught += usize::from(known.caught.contains(one));
            alone.only += usize::from(known.always.as_ref().is_some_and(|always| always.contains(one)));
        }
    }
    Some(all)
}

fn pose<'a>(
    case: &Case,
    pairs: &[Pair<'a>],
    variants: &'a [Specimen],
    backends: &HashMap<&str, Arc<dyn Backend>>,
    known: &mut HashMap<(&'a str, DType), Known>,
    all: &mut BTreeMap<Trait, Alone>,
) {
    let (dtype, traits) = (case.problem.dtype, traits(case));
    for one in &traits {
        all.entry(one.clone()).or_default().cases += 1;
    }
    let mut wanted = concerned(pairs, &case.problem);
    wanted.retain(|fault| {
        let known = known.entry((fault.name, dtype)).or_default();
        known.concerned.extend(traits.iter().cloned());
        known.wants(&traits)
    });
    let right: Vec<&Specimen> = variants.iter().filter(|variant| variant.applies(&case.problem)).collect();
    if wanted.is_empty() && right.is_empty() {
        return;
    }
    let inputs = case.inputs();
    let expected = oracle::expect(&case.problem, &inputs);
    let is_failed: Vec<bool> = wanted
        .par_iter()
        .chain(&right)
        .map(|specimen| {
            let backend = backends[specimen.name].as_ref();
            let outcome = judged(Safeguards::ALL, backend, case, &inputs, &expected);
            matches!(outcome, Outcome::Failed { .. } | Outcome::Error { .. })
        })
        .collect();
    let (of_faults, of_variants) = is_failed.split_at(wanted.len());
    for (fault, _) in wanted.iter().zip(of_faults).filter(|(_, is_failed)| **is_failed) {
        known.entry((fault.name, dtype)).or_default().fails(&traits);
    }
    for one in &traits {
        let alone = all.entry(one.clone()).or_default();
        alone.judgements += right.len();
        alone.false_alarms += of_variants.iter().filter(|is_failed| **is_failed).count();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::suite::Suite;

    #[test]
    fn what_a_fill_catches_alone_is_told_from_what_others_catch_too() {
        let text = "[[case]]\nop = 'softmax'\ndtype = 'f32'\nshape = '3x17'\nfill = ['normal', 'special']\n\
                    [[case]]\nop = 'softmax'\ndtype = 'f32'\nshape = '3x16'\nfill = 'constant'\n";
        let cases = Suite::parse(Path::new("own.toml"), text).unwrap().cases;
        let named = |all: Vec<Specimen>, names: &[&str]| -> Vec<Specimen> {
            all.into_iter().filter(|specimen| names.contains(&specimen.name)).collect()
        };
        let faults = named(crate::selftest::faults(), &["zeros", "softmax-nan-skipped"]);
        let variants = named(crate::selftest::variants(), &["softmax-pairwise"]);
        assert_eq!((faults.len(), variants.len()), (2, 1));
        let all = alone(&faults, &variants, &cases, &|_, _| {}, &AtomicBool::new(false)).unwrap();
        let of = |factor: &'static str, level: &str| all[&(factor, level.to_string())].clone();
        let special = of("fill", "special");
        assert_eq!((special.cases, special.concerned, special.caught, special.only), (1, 2, 2, 1));
        let normal = of("fill", "normal");
        assert_eq!((normal.caught, normal.only, normal.judgements, normal.false_alarms), (1, 0, 1, 0));
        assert_eq!(of("size", "of 16").cases, 1);
    }
}
