//! Audits: what a kernel takes when its inputs are new in every call.
//!
//! A steady slice repeats one call on the same inputs, and a kernel that remembers its last answer, or
//! computes only the last of many calls, is fast there. So every timed row is audited: between any two
//! calls one element of the data changes, all data are loaded again, and a single run with its sync is
//! timed. The results of the last two calls are judged, as they were handed out right after each call. The
//! kernel cannot know which calls these are. One that returns before its work is done hands out old results;
//! one that computes in every second call only, or more rarely, does so in at least one of the two.
//!
//! A single call after a copy is slower than a steady one by rights: caches hold something else. How much
//! slower is measured beside it with a plain copy of the operands and results under the same regime
//! (`plain_run` against `plain_steady`). [`honesty`](super::honesty) has the rules.
//!
//! Loading is compared with copying as many bytes, and handing out the results with doing so once more: what
//! takes longer than that is work that belongs to the run. Who allocates may get memory that was never used,
//! whose pages the system has to clear first: what one page costs is measured too, and the copies here are to
//! memory that is in use.

use std::hint::black_box;
use std::time::Instant;

use memmap2::MmapMut;
use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use touchstone_kernels::{
    BackendError, ElementType, InputError, Inputs, Outputs, Prepared, Stopwatch, Tensor, with_element,
};
use touchstone_reports::statistics::median;

/// What an audit measured, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The median of single runs on inputs loaded just before.
    pub run_ns: u64,
    /// The same of a plain copy of operands and results.
    pub plain_run_ns: u64,
    /// The median of that copy repeated.
    pub plain_steady_ns: u64,
    /// The least time of a load.
    pub load_ns: u64,
    /// The least time of copying the loaded bytes to memory that is in use.
    pub copy_ns: u64,
    /// The least time of handing out results after a run.
    pub outputs_ns: u64,
    /// The least time of handing them out again.
    pub again_ns: u64,
    /// The least time of copying the results to memory that is in use.
    pub results_ns: u64,
    /// The median time for a page of memory that the system hands over for the first time.
    pub page_ns: u64,
}

/// Inputs that differ from those of a case in elements that a seed chooses: one more in each step. Worker
/// and driver make the same ones.
#[derive(Clone, Debug)]
pub struct Variants {
    inputs: Inputs,
    names: Vec<&'static str>,
    random: Xoshiro256PlusPlus,
}

impl Variants {
    /// The inputs of a case, not yet changed.
    pub fn of(inputs: &Inputs, seed: u64) -> Self {
        let is_changeable =
            |tensor: &Tensor| matches!(tensor.element(), ElementType::Float(_)) && !tensor.is_empty();
        let names = inputs.data().filter(|(_, tensor)| is_changeable(tensor)).map(|(name, _)| name);
        let names = names.collect();
        Variants { inputs: inputs.clone(), names, random: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// Changes one element: it takes the value of another one, negated.
    ///
    /// # Errors
    /// [`InputError`], which does not happen: the operands are the inputs' own.
    pub fn step(&mut self) -> Result<&Inputs, InputError> {
        // By a remainder, in all versions alike: a driver draws the same inputs as its worker.
        let mut below = |n: usize| (self.random.next_u64() % n.max(1) as u64) as usize;
        if let Some(name) = self.names.get(below(self.names.len())).copied() {
            let (to, from) = (self.random.next_u64(), self.random.next_u64());
            self.inputs.change(name, |tensor| {
                if let ElementType::Float(dtype) = tensor.element() {
                    with_element!(dtype, T => {
                        let values = tensor.as_mut_slice::<T>()?;
                        let n = values.len() as u64;
                        let value = -values[(from % n) as usize];
                        values[(to % n) as usize] = value;
                    });
                }
                Ok(())
            })?;
        }
        Ok(&self.inputs)
    }

    /// The inputs as they are now.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The inputs after so many steps.
    ///
    /// # Errors
    /// As [`step`](Variants::step).
    pub fn after(inputs: &Inputs, seed: u64, steps: usize) -> Result<Inputs, InputError> {
        let mut variants = Variants::of(inputs, seed);
        for _ in 0..steps {
            variants.step()?;
        }
        Ok(variants.inputs)
    }
}

/// What an audit leaves behind: its figures, the inputs of its last call, which are those that the problem
/// now holds, and the results that were handed out right after the last ones.
pub(super) struct Audited {
    pub(super) audit: Audit,
    pub(super) inputs: Inputs,
    /// Of the last [`JUDGED`] calls, the last first.
    pub(super) outputs: Vec<Outputs>,
}

/// Calls at the end of an audit whose results are judged.
pub const JUDGED: usize = 2;

/// Audits a prepared problem in `calls` calls.
pub(super) fn audit(
    prepared: &mut dyn Prepared,
    stopwatch: &mut Option<Box<dyn Stopwatch>>,
    inputs: &Inputs,
    calls: usize,
    seed: u64,
) -> Result<Audited, BackendError> {
    let mut variants = Variants::of(inputs, seed);
    let mut times = Times::default();
    let mut handed_out = Vec::new();
    for call in 0..calls {
        let new = variants.step()?;
        times.load.push(timed(|| {
            prepared.load(new)?;
            prepared.sync()
        })?);
        times.run.push(run(prepared, stopwatch)?);
        let mut outputs = None;
        times.outputs.push(timed(|| {
            outputs = Some(prepared.outputs()?);
            Ok(())
        })?);
        if call + JUDGED >= calls {
            handed_out.extend(outputs);
        }
        times.again.push(timed(|| prepared.outputs().map(drop))?);
    }
    let own = variants.inputs().clone();
    handed_out.reverse();

    let mut plain = Plain::new(&prepared.outputs()?, inputs);
    let (mut plain_run, mut plain_steady, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    let (mut pages, mut results) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        let new = variants.step()?;
        pages.push(new_page());
        copies.push(timed(|| plain.load(new))?);
        plain_run.push(timed(|| {
            plain.run();
            Ok(())
        })?);
        for _ in 0..2 {
            results.push(timed(|| {
                plain.hand_out();
                Ok(())
            })?);
        }
    }
    for _ in 0..=calls {
        plain_steady.push(timed(|| {
            plain.run();
            Ok(())
        })?);
    }
    let least = |times: &[u64]| times.iter().copied().min().unwrap_or(0);
    let audit = Audit {
        run_ns: median_ns(times.run),
        plain_run_ns: median_ns(plain_run),
        // The first comes from where the copies above have left it.
        plain_steady_ns: median_ns(plain_steady.split_off(1)),
        load_ns: least(&times.load),
        copy_ns: least(&copies),
        outputs_ns: least(&times.outputs),
        again_ns: least(&times.again),
        results_ns: least(&results),
        page_ns: median_ns(pages),
    };
    Ok(Audited { audit, inputs: own, outputs: handed_out })
}

#[derive(Default)]
struct Times {
    load: Vec<u64>,
    run: Vec<u64>,
    outputs: Vec<u64>,
    again: Vec<u64>,
}

/// One run and its sync, by the clock that slices are timed with.
fn run(prepared: &mut dyn Prepared, stopwatch: &mut Option<Box<dyn Stopwatch>>) -> Result<u64, BackendError> {
    if let Some(stopwatch) = stopwatch {
        stopwatch.start()?;
        black_box(&mut *prepared).run()?;
        let elapsed = stopwatch.stop()?;
        prepared.sync()?;
        return Ok(nanoseconds(elapsed));
    }
    timed(|| {
        black_box(&mut *prepared).run()?;
        prepared.sync()
    })
}

fn timed(work: impl FnOnce() -> Result<(), BackendError>) -> Result<u64, BackendError> {
    let start = Instant::now();
    work()?;
    Ok(nanoseconds(start.elapsed()))
}

/// Bytes of a page, and pages of new memory that are touched to see what one costs.
pub(super) const PAGE: usize = 4096;
const PAGES: usize = 256;

/// Nanoseconds for one page of memory that was never used, the call to the system shared among all. None where
/// there is no memory: then nothing is allowed for it.
fn new_page() -> u64 {
    let start = Instant::now();
    let Ok(mut memory) = MmapMut::map_anon(PAGES * PAGE) else { return 0 };
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    black_box(&memory);
    nanoseconds(start.elapsed()) / PAGES as u64
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// 0 where there are none.
fn median_ns(times: Vec<u64>) -> u64 {
    median(times.into_iter().map(|ns| ns as f64)).round() as u64
}

/// A kernel that reads every operand and writes every result once.
struct Plain {
    operands: Inputs,
    scratch: Vec<Vec<u8>>,
    results: Vec<Vec<u8>>,
    handed_out: Vec<Vec<u8>>,
}

impl Plain {
    fn new(outputs: &Outputs, inputs: &Inputs) -> Self {
        let scratch = inputs.iter().map(|(_, tensor)| vec![0; tensor.bytes().len()]).collect();
        let results: Vec<_> = outputs.iter().map(|(_, tensor)| vec![0; tensor.bytes().len()]).collect();
        Plain { operands: inputs.deep_clone(), scratch, handed_out: results.clone(), results }
    }

    fn load(&mut self, data: &Inputs) -> Result<(), BackendError> {
        Ok(self.operands.load(data)?)
    }

    fn run(&mut self) {
        for ((_, tensor), scratch) in self.operands.iter().zip(&mut self.scratch) {
            black_box(scratch).copy_from_slice(black_box(tensor.bytes()));
        }
        self.results.iter_mut().for_each(|result| black_box(result).fill(1));
    }

    fn hand_out(&mut self) {
        for (result, to) in self.results.iter().zip(&mut self.handed_out) {
            black_box(to).copy_from_slice(black_box(result));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    #[test]
    fn driver_and_worker_make_the_same_variants() {
        let case: Case = "attention bf16 h=2 lq=3 lk=5 d=4 mask=bool:11qk".parse().unwrap();
        let inputs = case.inputs();
        let mut steps = Variants::of(&inputs, 7);
        for n in 1..20 {
            let before = steps.inputs().clone();
            let after = steps.step().unwrap().clone();
            assert_eq!(after, Variants::after(&inputs, 7, n).unwrap());
            assert_ne!(after, Variants::after(&inputs, 8, n).unwrap());
            let differing: usize = before
                .iter()
                .zip(after.iter())
                .map(|((_, a), (_, b))| a.to_f64().iter().zip(b.to_f64()).filter(|(a, b)| **a != *b).count())
                .sum();
            assert!(differing <= 1);
            assert_eq!(before.get("mask"), after.get("mask"), "plans stay as they were prepared");
        }
    }
}
