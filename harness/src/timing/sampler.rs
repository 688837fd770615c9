//! Interleaved sampling: the workers of one case take turns in short slices.
//!
//! A slice is a number of iterations that takes about 2 ms, calibrated once for each worker. In
//! each round every worker runs one slice, in random order. A disturbance of seconds (another
//! tenant, a lower clock) then meets all workers alike, and times of one round can be compared as
//! a pair ([`MedianRatio::of_rounds`]).
//!
//! A slice during which the hypervisor took time away, the scheduler put another process in the
//! worker's place or let it wait for a processor, heat held a device's clock down, or the
//! clocks of worker and driver disagree is *contaminated*: it is dropped, counted, and made up for by
//! another round while time allows. Where too few clean ones remain,
//! all are kept and the samples are marked.
//!
//! What no number of slices removes is what stays the same for the life of a process: the pages
//! that its buffers landed on, the core it was put on. Intervals are conditional on that. Only
//! fresh processes, as the regression gate uses, average over it.

use std::time::{Duration, Instant};

use rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use touchstone_reports::statistics::{MIN_ROUNDS, MedianRatio, enough_clean, median, shuffle};

use super::canary::canary;
use super::statistics::Summary;
use crate::machine::{CpuTicks, cpu_mhz, load_average};

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Slices wanted of each worker.
    pub slices: usize,
    /// Time that a slice should take.
    pub slice_target: Duration,
    /// Time for one worker's slices together. Slow kernels get fewer slices, but at least five.
    pub max_time: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Effort { slices: 25, slice_target: Duration::from_millis(2), max_time: Duration::from_secs(5) }
    }
}

/// Something that runs slices: a worker.
pub trait Subject {
    /// Why it cannot.
    type Error;

    /// The nanoseconds of `timed` iterations, after `untimed` others.
    ///
    /// # Errors
    /// Its own. It takes no part in further rounds.
    fn run(&mut self, untimed: u64, timed: u64) -> Result<u64, Self::Error>;

    /// How often the system has taken it off its processor so far, where that is known.
    fn involuntary_switches(&self) -> Option<u64>;

    /// Nanoseconds that it has waited for a processor so far, where that is known.
    fn waited_ns(&self) -> Option<u64> {
        None
    }

    /// Whether its device was slowed down for its own protection during the last slice.
    fn is_throttled(&self) -> bool {
        false
    }

    /// The time that passed outside while it ran the last slice, untimed iterations included, where that is
    /// known.
    fn answered_in(&self) -> Option<Duration> {
        None
    }
}

/// The clock and the disturbances of the machine: real, or simulated in tests.
pub trait Surroundings {
    /// A monotonic clock.
    fn now(&self) -> Duration;

    /// Clock ticks that the hypervisor has stolen so far, where that is known.
    fn stolen_ticks(&self) -> Option<u64>;
}

/// This machine.
#[derive(Debug)]
pub struct Here(Instant);

impl Here {
    /// A clock that starts now.
    pub fn new() -> Self {
        Here(Instant::now())
    }
}

impl Default for Here {
    fn default() -> Self {
        Here::new()
    }
}

impl Surroundings for Here {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn stolen_ticks(&self) -> Option<u64> {
        CpuTicks::now().map(|ticks| ticks.stolen)
    }
}

/// One measured slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The round in which it ran: slices of different workers in the same round are a pair.
    pub round: usize,
    /// Nanoseconds of all its iterations together.
    pub ns: u64,
    /// Whether nothing is known to have disturbed it.
    pub clean: bool,
}

/// The slices of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Iterations in each slice.
    pub iterations: u64,
    /// Every slice but the first, in order, contaminated ones included.
    pub slices: Vec<Slice>,
    /// The largest share of the time outside that the subject's own clock counted, where that is known and
    /// slices are long enough to tell, in thousandths.
    pub clock_share: Option<u32>,
}

impl Samples {
    /// The slices that count: the clean ones, or all when those are too few.
    pub fn kept(&self) -> impl Iterator<Item = &Slice> {
        let all = self.contaminated();
        self.slices.iter().filter(move |slice| all || slice.clean)
    }

    /// Nanoseconds of each slice that counts.
    pub fn ns(&self) -> Vec<u64> {
        self.kept().map(|slice| slice.ns).collect()
    }

    /// Contaminated slices left out. The first slice, which is always left out, is not counted.
    pub fn dropped(&self) -> usize {
        self.slices.len() - self.kept().count()
    }

    /// Contaminated slices, whether they are left out or not.
    pub fn disturbed(&self) -> usize {
        self.slices.iter().filter(|slice| !slice.clean).count()
    }

    /// Whether contaminated slices count because too few clean ones remained.
    pub fn contaminated(&self) -> bool {
        !enough_clean(self.slices.iter().filter(|slice| slice.clean).count(), self.slices.len())
    }

    /// The distribution of the time of one iteration.
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(&self.ns(), self.iterations)
    }

    /// The upper end of the 95 % interval of the median time of one iteration, from its order statistics
    /// (binomial with ½; the slowest slice where there are too few).
    pub fn slowest_median(&self) -> Option<f64> {
        let mut ns = self.ns();
        ns.sort_unstable();
        let n = ns.len();
        let upper = (n as f64 / 2.0 + 0.98 * (n as f64).sqrt()).ceil() as usize;
        let at = upper.min(n.checked_sub(1)?);
        Some(ns[at] as f64 / self.iterations as f64)
    }

    /// The time of one iteration relative to that of `reference`, over the rounds of both: below 1
    /// is faster. Nothing when they share fewer than five rounds.
    ///
    /// The rounds are those in which both slices are clean, or all when those are too few: never the
    /// clean ones of one side with the contaminated ones of the other, which would favour the first.
    pub fn ratio_to(&self, reference: &Samples, seed: u64) -> Option<MedianRatio> {
        let time = |samples: &Samples, slice: &Slice| slice.ns as f64 / samples.iterations as f64;
        let pairs: Vec<(&Slice, &Slice)> = self
            .slices
            .iter()
            .filter_map(|mine| {
                Some((mine, reference.slices.iter().find(|theirs| theirs.round == mine.round)?))
            })
            .collect();
        let is_clean = |(mine, theirs): &(&Slice, &Slice)| mine.clean && theirs.clean;
        let all = !enough_clean(pairs.iter().filter(|pair| is_clean(pair)).count(), pairs.len());
        let times: Vec<(f64, f64)> = pairs
            .into_iter()
            .filter(|pair| all || is_clean(pair))
            .map(|(mine, theirs)| (time(self, mine), time(reference, theirs)))
            .collect();
        MedianRatio::of_rounds(&times, seed)
    }
}

/// What one case gave.
#[derive(Debug)]
pub struct Sampling<E> {
    /// The samples of each subject, or why it has none, in the order of the subjects.
    pub samples: Vec<Result<Samples, E>>,
    /// Whether it was stopped. The samples are then incomplete.
    pub stopped: bool,
}

/// State of the machine around a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// Load average of the last minute.
    pub load: Option<f64>,
    /// Clock of the fastest processor in MHz.
    pub mhz: Option<f64>,
    /// Processor time stolen by the hypervisor meanwhile, in percent.
    pub steal_percent: Option<f64>,
    /// Time of one pass of the [`canary`] in nanoseconds, the median of those before and after.
    pub canary_ns: Option<u64>,
}

/// Passes of the canary before a measurement, and after it: about a millisecond in all.
const CANARIES: usize = 5;

fn canaries() -> [u64; CANARIES] {
    std::array::from_fn(|_| u64::try_from(canary(1).as_nanos()).unwrap_or(u64::MAX))
}

impl Health {
    /// Does `work`, and says how the machine was meanwhile.
    pub fn around<T>(work: impl FnOnce() -> T) -> (T, Health) {
        let mut passes = canaries().to_vec();
        let before = CpuTicks::now();
        let result = work();
        let steal_percent = before.zip(CpuTicks::now()).map(|(before, now)| now.steal_percent_since(before));
        let load = load_average().map(|[minute, ..]| minute);
        let mhz = cpu_mhz();
        passes.extend(canaries());
        let canary_ns = Some(median(passes.into_iter().map(|ns| ns as f64)).round() as u64);
        (result, Health { load, mhz, steal_percent, canary_ns })
    }
}

/// An iteration longer than this is not preceded by an untimed one: what a slice of another worker
/// evicted from the caches comes back within milliseconds.
const SLOW_ITERATION: Duration = Duration::from_millis(200);

/// A slice shorter than this is mostly the way of a request and its answer, as seen from outside.
const LONG_SLICE: Duration = Duration::from_millis(1);

/// One involuntary switch costs up to one scheduling period, about 4 ms; one in 100 ms is then within
/// the noise that remains anyway.
const SWITCH_ALLOWANCE: Duration = Duration::from_millis(100);

/// A tick is usually 10 ms: one in a second is 1 %.
const STEAL_ALLOWANCE: Duration = Duration::from_secs(1);

/// The part of a slice for which a worker may wait for a processor.
///
/// A choice, between two figures that lie far apart for a slice of the usual 2 ms, of which it is 100 µs. To
/// wake the worker up counts as waiting and takes some microseconds to tens of them; another process that
/// computes takes milliseconds. It is also the largest part of a clean slice that can be such waiting: the
/// median of many slices is off by less. With half of it, one slow wake-up can contaminate a slice; with
/// twice, a clean slice can be a tenth too long. In a slice of 100 ms, as of a slow kernel, it is 5 ms, a
/// whole turn of another process; [`SWITCH_ALLOWANCE`] allows one such turn in 100 ms too.
const WAIT_ALLOWANCE: f64 = 0.05;

/// Factor by which calibration may raise the iterations at once: a first slice of some nanoseconds is mostly
/// the resolution of the clock.
const CALIBRATION_STEP: u64 = 64;

/// The slices by which it is decided whether another round is worth its time: with less than a quarter of them
/// undisturbed, as many more would not make [`enough_clean`]. A choice. With half as many, a single slice
/// decides; with twice as many, the end of a busy moment is noticed later.
const LAST_SLICES: usize = 10;

/// Slices of about the target's length in calibration.
const CALIBRATIONS: usize = 4;

/// Samples all subjects, which are prepared for the same case, on this machine.
///
/// `stop` is asked between slices. The order of turns follows from `seed`.
pub fn sample<S: Subject>(
    subjects: &mut [S],
    effort: &Effort,
    seed: u64,
    stop: &dyn Fn() -> bool,
) -> Sampling<S::Error> {
    sample_in(&Here::new(), subjects, effort, seed, stop)
}

/// [`sample`] in given surroundings.
pub fn sample_in<S: Subject>(
    surroundings: &impl Surroundings,
    subjects: &mut [S],
    effort: &Effort,
    seed: u64,
    stop: &dyn Fn() -> bool,
) -> Sampling<S::Error> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut tracks = Vec::with_capacity(subjects.len());
    let mut stopped = false;
    for subject in subjects {
        stopped |= stop();
        tracks.push(if stopped { Track::idle(subject) } else { Track::calibrate(subject, effort) });
    }

    // One round more than wanted: the first is dropped.
    let planned = tracks.iter().map(|track| track.wanted + 1).max().unwrap_or(0);
    let start = surroundings.now();
    let mut planned_end = start;
    for round in 0..2 * planned {
        let extra = round >= planned;
        if !extra {
            planned_end = surroundings.now();
        } else if tracks.iter().all(|track| !track.lacks())
            || surroundings.now().saturating_sub(planned_end) > effort.max_time
        {
            break;
        }
        let mut turns: Vec<usize> = (0..tracks.len())
            .filter(|&i| if extra { tracks[i].helps(effort) } else { tracks[i].is_due(round, planned) })
            .collect();
        shuffle(&mut turns, &mut random);
        for turn in turns {
            stopped |= stop();
            if stopped {
                break;
            }
            tracks[turn].slice(surroundings, round);
        }
        if stopped {
            break;
        }
    }
    Sampling { samples: tracks.into_iter().map(Track::finish).collect(), stopped }
}

/// One subject's way through the rounds.
struct Track<'a, S: Subject> {
    subject: &'a mut S,
    iterations: u64,
    untimed: u64,
    wanted: usize,
    /// Whether the first slice, which is dropped, has run.
    started: bool,
    slices: Vec<Slice>,
    /// Of each slice, the share of the time outside that the subject counted, in thousandths.
    clock_shares: Vec<u32>,
    failure: Option<S::Error>,
}

impl<'a, S: Subject> Track<'a, S> {
    fn idle(subject: &'a mut S) -> Self {
        Track {
            subject,
            iterations: 1,
            untimed: 1,
            wanted: 0,
            started: false,
            slices: Vec::new(),
            clock_shares: Vec::new(),
            failure: None,
        }
    }

    /// Finds the iterations that fill a slice, and the slices that fit into the time.
    fn calibrate(subject: &'a mut S, effort: &Effort) -> Self {
        let mut track = Track::idle(subject);
        match iterations_for(track.subject, effort.slice_target) {
            Ok((iterations, iteration_ns)) => {
                track.iterations = iterations;
                track.untimed = u64::from(iteration_ns < SLOW_ITERATION.as_nanos() as u64);
                let slice_ns = iteration_ns.saturating_mul(iterations + track.untimed).max(1);
                let affordable = effort.max_time.as_nanos() as u64 / slice_ns;
                let most = effort.slices.max(MIN_ROUNDS);
                track.wanted = (affordable as usize).clamp(MIN_ROUNDS, most);
            }
            Err(failure) => track.failure = Some(failure),
        }
        track
    }

    /// Whether it takes its turn in a planned round: its slices are spread evenly over all rounds,
    /// from the first on.
    fn is_due(&self, round: usize, rounds: usize) -> bool {
        let slices_before = |round: usize| (round * (self.wanted + 1)).div_ceil(rounds);
        self.failure.is_none() && slices_before(round + 1) > slices_before(round)
    }

    /// Whether it takes part in an extra round: because it lacks slices, or as a cheap partner of
    /// those that do.
    fn helps(&self, effort: &Effort) -> bool {
        self.failure.is_none() && (self.lacks() || self.wanted >= effort.slices)
    }

    fn lacks(&self) -> bool {
        self.failure.is_none() && self.clean() < self.wanted && self.is_worthwhile()
    }

    /// Whether further rounds can make up for what was lost: not while nearly all of the last slices are
    /// disturbed, for then disturbance is the state of the machine.
    fn is_worthwhile(&self) -> bool {
        let last = &self.slices[self.slices.len().saturating_sub(LAST_SLICES)..];
        4 * last.iter().filter(|slice| slice.clean).count() >= last.len()
    }

    fn clean(&self) -> usize {
        self.slices.iter().filter(|slice| slice.clean).count()
    }

    fn slice(&mut self, surroundings: &impl Surroundings, round: usize) {
        let (stolen, switches) = (surroundings.stolen_ticks(), self.subject.involuntary_switches());
        let waited = self.subject.waited_ns();
        let start = surroundings.now();
        let ns = match self.subject.run(self.untimed, self.iterations) {
            Ok(ns) => ns,
            Err(failure) => {
                self.failure = Some(failure);
                return;
            }
        };
        let elapsed = surroundings.now().saturating_sub(start);
        if !self.started {
            self.started = true;
            return;
        }
        let since = |before: Option<u64>, now: Option<u64>| {
            before.zip(now).map_or(0, |(before, now)| now.saturating_sub(before))
        };
        let allowed = |one_in: Duration| ns / one_in.as_nanos() as u64;
        let disturbed = since(stolen, surroundings.stolen_ticks()) > allowed(STEAL_ALLOWANCE)
            || since(switches, self.subject.involuntary_switches()) > allowed(SWITCH_ALLOWANCE)
            || since(waited, self.subject.waited_ns()) as f64 > WAIT_ALLOWANCE * ns as f64
            || self.subject.is_throttled();
        // The worker cannot have measured more time than has passed here, nor none at all.
        let impossible = ns == 0 || u128::from(ns) > elapsed.as_nanos();
        if let Some(outside) = self.subject.answered_in().filter(|outside| *outside >= LONG_SLICE) {
            let all = ns as f64 * (self.untimed + self.iterations) as f64 / self.iterations as f64;
            self.clock_shares.push((1000.0 * all / outside.as_nanos() as f64) as u32);
        }
        self.slices.push(Slice { round, ns, clean: !disturbed && !impossible });
    }

    fn finish(self) -> Result<Samples, S::Error> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(Samples {
                iterations: self.iterations,
                slices: self.slices,
                clock_share: self.clock_shares.into_iter().max(),
            }),
        }
    }
}

/// The iterations that take about `target`, at least one, and the nanoseconds of one.
pub(crate) fn iterations_for<S: Subject>(subject: &mut S, target: Duration) -> Result<(u64, u64), S::Error> {
    let target = target.as_nanos() as u64;
    let fitting_in =
        |ns: u64, iterations: u64| (u128::from(target) * u128::from(iterations) / u128::from(ns)) as u64;
    let mut iterations = 1;
    loop {
        let mut ns = subject.run(0, iterations)?.max(1);
        if ns >= target / 2 || iterations >= target {
            // Only the fastest of some slices is the kernel's own. Slices of unequal length would be
            // disturbed unequally: a preemption weighs more in a short one, and hits a long one more often.
            let mut fastest = ns;
            if ns < SLOW_ITERATION.as_nanos() as u64 {
                for _ in 1..CALIBRATIONS {
                    fastest = fastest.min(subject.run(0, iterations)?.max(1));
                }
            }
            // Of a kernel that is slow in some calls only, this many would not fit by far: go on in steps.
            if fastest >= target / 4 || iterations >= target {
                return Ok((fitting_in(fastest, iterations).max(1), fastest / iterations));
            }
            ns = fastest;
        }
        iterations = fitting_in(ns, iterations)
            .clamp(2 * iterations, CALIBRATION_STEP * iterations)
            .min(target.max(1));
    }
}

#[cfg(test)]
mod tests;
