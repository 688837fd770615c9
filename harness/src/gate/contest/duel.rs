//! The two workers of one round.

use std::fs;
use std::path::PathBuf;

use rand_core::RngCore;
use touchstone_reports::statistics::{median, shuffle};

use super::{BOTH, ContestError, Role, SLICE, failure};
use crate::timing::protocol::{Request, Response};
use crate::timing::{DriverError, Worker};

/// Pairs of slices for each case and round.
const PAIRS: usize = 10;

/// Fewer valid pairs than this are no round.
const FEWEST_PAIRS: usize = PAIRS / 2;

/// Two workers of one round. Dropping it kills them and deletes their files.
pub(super) struct Duel {
    pub(super) workers: [Worker; 2],
    pub(super) paths: [PathBuf; 2],
}

impl Duel {
    pub(super) fn worker(&mut self, role: Role) -> &mut Worker {
        &mut self.workers[role as usize]
    }

    /// Pairs of slices, either side first by a coin.
    pub(super) fn take_turns(
        &mut self,
        random: &mut impl RngCore,
        mut slice: impl FnMut(&mut Worker) -> Result<u64, DriverError>,
        explain: &dyn Fn(Role, DriverError) -> ContestError,
    ) -> Result<Pairs, ContestError> {
        let mut pairs = Vec::with_capacity(PAIRS);
        for _ in 0..PAIRS {
            let mut order = BOTH;
            shuffle(&mut order, random);
            let mut pair = [0.0; 2];
            for role in order {
                let ns = slice(self.worker(role)).map_err(|source| explain(role, source))?;
                pair[role as usize] = ns as f64;
            }
            pairs.push(pair);
        }
        pairs.retain(|pair| pair.iter().all(|ns| *ns > 0.0));
        Ok(Pairs(pairs))
    }

    /// The passes of the canary that take a slice of the base, if both sides have one.
    pub(super) fn calibrate_canary(&mut self) -> Result<Option<u64>, ContestError> {
        const TRIAL: u64 = 4;
        for role in [Role::Candidate, Role::Base] {
            match canary_ns(self.worker(role), TRIAL) {
                Ok(ns) if role == Role::Base => {
                    return Ok(Some((SLICE.as_nanos() as u64 * TRIAL / ns.max(1)).max(1)));
                }
                Ok(_) => {}
                // It is of a time before the canary.
                Err(DriverError::Refused { .. }) => break,
                Err(source) => return Err(failure(role, source)),
            }
        }
        Ok(None)
    }
}

impl Drop for Duel {
    fn drop(&mut self) {
        // The directory goes at the end in any case.
        self.paths.iter().for_each(|path| _ = fs::remove_file(path));
    }
}

pub(super) fn canary_ns(worker: &mut Worker, passes: u64) -> Result<u64, DriverError> {
    match worker.request(&Request::Canary { passes })? {
        Response::Ran { ns, .. } => Ok(ns),
        response => {
            let worker = worker.name().to_string();
            Err(DriverError::Refused { worker, message: format!("'{response}' is no answer to a canary") })
        }
    }
}

/// Nanoseconds of base and candidate, pair by pair.
pub(super) struct Pairs(pub(super) Vec<[f64; 2]>);

impl Pairs {
    /// The median of ln(candidate ÷ base); nothing where too few pairs are valid.
    pub(super) fn log_ratio(&self) -> Option<f64> {
        let ratios = self.0.iter().map(|[base, candidate]| (candidate / base).ln());
        (self.0.len() >= FEWEST_PAIRS).then(|| median(ratios))
    }
}
