//! Each safeguard is needed: taken away, it lets something wrong through.
//!
//! For each safeguard the catalogue of faults is posed again, in a world where only that safeguard is
//! missing. A fault *escapes* when the verdict with all safeguards fails it and the verdict
//! without this one passes it on every case. What a fault of a kernel cannot show, because it is the
//! case that is blind or the list of known issues that is out of date, the subjects of `blunt` do.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use touchstone_kernels::{Backend, DType};

use super::blunt;
use super::engine::{MOST_BYTES, MOST_FLOPS, Pair, after_timing, concerned, judged, pairs, within};
use super::planted::Specimen;
use crate::oracle;
use crate::outcome::Outcome;
use crate::safeguard::{Safeguard, Safeguards};
use crate::suite::SuiteCase;

/// Cases with more floating-point operations are left out: most faults pass *all* cases where
/// magnitudes are not judged, and each would have to go through them in plain code.
pub const SMALL_FLOPS: u64 = 400_000;

/// Cases that move more bytes are left out as well.
pub const SMALL_BYTES: u64 = 100_000;

/// What gets through without a safeguard.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// The safeguard that is missing.
    pub safeguard: Safeguard,
    /// What only it sees.
    pub escapes: Vec<Escape>,
}

/// Something wrong that passes without a safeguard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escape {
    /// The fault, or the case or list that is at fault.
    pub what: &'static str,
    /// The mistake.
    pub about: &'static str,
    /// The storage type, of a fault in a kernel.
    pub dtype: Option<DType>,
}

impl Need {
    /// Whether something gets through, so that nobody can say the safeguard is decoration. Rust gives
    /// a kernel no way to write to its operands; what stands for one in another language is there on
    /// Linux only.
    pub fn is_shown(&self) -> bool {
        let foreign = matches!(self.safeguard, Safeguard::Operands | Safeguard::OperandGuards);
        !self.escapes.is_empty() || (foreign && !cfg!(target_os = "linux"))
    }

    /// How many different mistakes get through.
    pub fn mistakes(&self) -> usize {
        self.escapes.iter().map(|escape| escape.what).collect::<HashSet<_>>().len()
    }
}

/// The faults that are still at large where some safeguards stand.
struct World<'a> {
    safeguards: Safeguards,
    at_large: Vec<Pair<'a>>,
    /// One backend for a fault in all cases: what it remembers is part of the mistake.
    backends: HashMap<&'static str, Arc<dyn Backend>>,
}

impl<'a> World<'a> {
    fn new(safeguards: Safeguards, faults: &'a [Specimen]) -> Self {
        let backends = faults.iter().map(|fault| (fault.name, fault.backend_under(safeguards))).collect();
        World { safeguards, at_large: pairs(faults), backends }
    }

    fn catch(&mut self, fault: &str, dtype: DType) {
        self.at_large.retain(|(other, own)| other.name != fault || *own != dtype);
    }

    /// Kernels that may break later, each on the cheapest case that is timed and concerns it.
    fn time(&mut self, timed: &[&SuiteCase]) {
        let safeguards = self.safeguards;
        self.at_large.retain(|(fault, dtype)| {
            let own =
                |case: &&&SuiteCase| case.case.problem.dtype == *dtype && fault.applies(&case.case.problem);
            let case = timed.iter().find(own).filter(|_| fault.is_stateful());
            case.is_none_or(|case| after_timing(safeguards, fault, &case.case).is_none())
        });
    }
}

/// What gets through without each safeguard, over the small cases among `cases`. `progress` hears
/// how many of how many cases are done. None when it was stopped.
pub fn needs(
    faults: &[Specimen],
    cases: &[SuiteCase],
    progress: &(dyn Fn(usize, usize) + Sync),
    stop: &AtomicBool,
) -> Option<Vec<Need>> {
    let posed = within(cases, SMALL_FLOPS, SMALL_BYTES);
    let missing = Safeguard::ALL.iter().map(|&safeguard| Safeguards::without(safeguard));
    let mut worlds: Vec<World> =
        std::iter::once(Safeguards::ALL).chain(missing).map(|stand| World::new(stand, faults)).collect();
    for (done, case) in posed.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        progress(done, posed.len());
        pose(case, &mut worlds);
    }
    let mut timed = within(cases, MOST_FLOPS, MOST_BYTES);
    timed.retain(|case| !case.timed.is_empty());
    worlds.iter_mut().for_each(|world| world.time(&timed));

    // What small cases do not catch at all says nothing about a safeguard.
    let (all, worlds) = worlds.split_first()?;
    let never: HashSet<(&str, DType)> =
        all.at_large.iter().map(|(fault, dtype)| (fault.name, *dtype)).collect();
    let escaped = |(fault, dtype): &Pair| {
        let escape = Escape { what: fault.name, about: fault.about, dtype: Some(*dtype) };
        (!never.contains(&(fault.name, *dtype))).then_some(escape)
    };
    let needs = Safeguard::ALL.iter().zip(worlds).map(|(&safeguard, world)| {
        let of_kernels = world.at_large.iter().filter_map(escaped);
        Need { safeguard, escapes: of_kernels.chain(blunt::escapes(world.safeguards)).collect() }
    });
    Some(needs.collect())
}

/// One case in all worlds.
fn pose(case: &SuiteCase, worlds: &mut [World]) {
    let case = &case.case;
    let wanted: Vec<(usize, &Specimen)> = worlds
        .iter()
        .enumerate()
        .flat_map(|(at, world)| {
            concerned(&world.at_large, &case.problem).into_iter().map(move |fault| (at, fault))
        })
        .collect();
    if wanted.is_empty() {
        return;
    }
    let inputs = case.inputs();
    let expected = oracle::expect(&case.problem, &inputs);
    let caught: Vec<bool> = wanted
        .par_iter()
        .map(|&(at, fault)| {
            let World { safeguards, backends, .. } = &worlds[at];
            let outcome = judged(*safeguards, backends[fault.name].as_ref(), case, &inputs, &expected);
            matches!(outcome, Outcome::Failed { .. })
        })
        .collect();
    for ((at, fault), _) in wanted.into_iter().zip(caught).filter(|(_, caught)| *caught) {
        worlds[at].catch(fault.name, case.problem.dtype);
    }
}
