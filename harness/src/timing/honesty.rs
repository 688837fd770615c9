//! Whether a measured time can be the kernel's own.
//!
//! A kernel may be fast because it does its work where no clock runs, or not at all. Each rule here names
//! one way of that, by numbers that were measured in the same row, and allows what caches, waking threads
//! and copies explain. A row that breaks one is *suspect*: it has no time and no speed-up, and its reason
//! says which numbers disagree.
//!
//! | rule | catches |
//! |---|---|
//! | the lower end of the interval of the share of the roofline is above 110 %, of limits measured again too | work that is not done, or done elsewhere |
//! | a single run on new inputs is much slower than a steady one | answers that are remembered, calls that are merged, copies that share one answer |
//! | a load costs more than three copies, and memory that is new | work in `load` |
//! | the first look at the results is much slower than the second | work in `outputs`, threads that are still busy |
//! | the process works on after `sync`, the more so the more calls a slice had | work that outlives the run |
//! | a device's own clock counts much less time than passed outside | a clock that is slowed down |
//!
//! The constants are choices, wide enough that no right kernel on a busy machine meets them
//! (METHODOLOGY.md, *The honest clock*), and every rule has to be broken in several
//! audits in turn before it counts.

use std::time::Duration;

use touchstone_reports::words::duration;

use super::audit::{Audit, PAGE};

/// The share of the roofline above which a time is no longer believed.
///
/// A choice. A right kernel at its limit takes 100 %, and the limit is itself measured, on a machine whose
/// clock moves by some percent. With half of what lies above 100 %, fast kernels are measured again and
/// again on such a machine. With twice, a kernel at its limit may leave out a sixth of its work unseen.
pub const MOST_SHARE: f64 = 1.10;

/// Up to this share the limit is doubted first, and measured again. A busy machine gave a limit that was
/// 1.43 times too low; that the best of so many rounds is not wrong by more than this is a choice. To doubt
/// a limit costs time and no truth, for the row is judged by the limit measured again: with half or twice
/// as much, a busy machine gives a few more suspect rows, or a cheat a few more measurements.
const DOUBTED_SHARE: f64 = 4.0;

/// How many audits have to break a rule, none of them while the host took a processor away.
pub const AUDITS: usize = 1 + PAUSES.len();

/// How many audits there are at most, those included in which the host took a processor away: they acquit, and
/// do not convict. A call of two threads takes twice as long when one of them waits for its processor, and
/// on a shared host one row of 836 met that three times in turn.
///
/// A choice. With half, a shared host leaves one spare audit; with twice, a suspect row takes half a minute.
pub const MOST_AUDITS: usize = 8;

/// How long is waited before the second audit, and before each later one. A machine that works for somebody else
/// for a moment spoils three audits that follow each other at once: in a run on a shared host the rows of two
/// right kernels of 842 became suspect so, and none when they were timed again.
///
/// A choice. With a tenth, three audits fall into one moment again; with ten times, each row that is suspect
/// takes 22 s.
pub const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(2)];

/// A single run may take this many times a steady one, beyond what a plain copy loses.
const AUDIT_FACTOR: f64 = 1.5;

/// What a plain copy loses in an audit, this many times: a kernel may read its operands more often.
const CACHE_FACTOR: f64 = 6.0;

/// What waking up costs a single call: the clock's resolution, cold instructions, and where there are more
/// threads than one, or a device that has to be told and waited for, their sleep.
const WAKING_ONE: f64 = 30e3;
const WAKING_MANY: f64 = 400e3;

/// Memory that is new: the system has to clear each page and hand it over first, which the audit measures. So
/// many times over, for libraries that copy twice.
const NEW_PAGES: f64 = 2.0;

/// Loading is a copy; libraries copy twice, to memory that is new.
const LOAD_FACTOR: f64 = 3.0;
const LOAD_ALLOWANCE: f64 = 300e3;

/// Handing out results is a copy too; the first one finds them in another core's cache.
const OUTPUTS_FACTOR: f64 = 3.0;
const OUTPUTS_ALLOWANCE: f64 = 100e3;

/// Work after the run, per call, as a share of the call; and altogether. Threads of libraries look out for
/// more work after a call, libtorch's for 5 to 7 ms, and not after every one.
const REST_SHARE: f64 = 0.25;
const REST_ONE: f64 = 3e6;
const REST_MANY: f64 = 10e6;

/// The least share of the time that passed outside which the worker's clock has to count.
const LEAST_CLOCK: f64 = 0.7;

/// What is known of a row beside its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Median nanoseconds of a call in steady slices.
    pub steady_ns: f64,
    /// Whether a call waits for others: threads, or a device.
    pub waits: bool,
    /// Bytes that a load brings.
    pub loaded: u64,
    /// Bytes that a call allocates for its results: none where the caller keeps them.
    pub allocated: u64,
    /// The lower end of the interval of the share of the roofline, and what limits.
    pub share: Option<(f64, String)>,
    /// Of a device's own clock, the largest share of the time outside that it counted in a slice. On a busy
    /// machine answers are late, and the share is small for most; a clock that is slow is so in every slice.
    pub clock_share: Option<f64>,
    /// Nanoseconds by which the process is longer at work after a slice than after a single call, and the
    /// calls of a slice.
    pub rest: Option<(f64, u64)>,
}

/// Whether a share is above the limit by so little that the limit may be what is wrong: measured in a
/// moment when the machine was busy.
pub fn is_limit_in_doubt(share: f64) -> bool {
    share > MOST_SHARE && share <= DOUBTED_SHARE
}

impl Evidence {
    /// What speaks against the time before any audit.
    pub fn suspicion(&self) -> Option<String> {
        if let Some((low, limit)) = &self.share
            && *low > MOST_SHARE
        {
            return Some(format!(
                "at least {:.0} % of what the machine can do ({limit}): a call takes {}, and cannot",
                100.0 * low,
                duration_of(self.steady_ns)
            ));
        }
        if let Some(share) = self.clock_share
            && share < LEAST_CLOCK
        {
            return Some(format!(
                "its own clock counts {:.0} % of the time that passes outside",
                100.0 * share
            ));
        }
        if let Some((more, calls)) = self.rest
            && calls > 1
            && more > if self.waits { REST_MANY } else { REST_ONE }
            && more / (calls - 1) as f64 > REST_SHARE * self.steady_ns
        {
            return Some(format!(
                "work goes on after sync: {} longer after {calls} calls than after one",
                duration_of(more)
            ));
        }
        None
    }

    /// What speaks against the time in an audit.
    pub fn against(&self, audit: &Audit) -> Option<String> {
        let lost = audit.plain_run_ns.saturating_sub(audit.plain_steady_ns) as f64;
        let waking = if self.waits { WAKING_MANY } else { WAKING_ONE };
        let allowed =
            AUDIT_FACTOR * self.steady_ns + CACHE_FACTOR * lost + waking + new(self.allocated, audit);
        if audit.run_ns as f64 > allowed {
            return Some(format!(
                "a call takes {} over and over, and {} on inputs that are new: expected at most {}",
                duration_of(self.steady_ns),
                duration_of(audit.run_ns as f64),
                duration_of(allowed)
            ));
        }
        let allowed = LOAD_FACTOR * audit.copy_ns as f64 + new(self.loaded, audit) + LOAD_ALLOWANCE;
        if audit.load_ns as f64 > allowed {
            return Some(format!(
                "loading takes {}, and copying as many bytes {}: work is done there",
                duration_of(audit.load_ns as f64),
                duration_of(audit.copy_ns as f64)
            ));
        }
        // Once more and no factor of it: where the allocator hands out new pages each time, they are in both.
        let allowed = audit.again_ns as f64 + OUTPUTS_FACTOR * audit.results_ns as f64 + OUTPUTS_ALLOWANCE;
        if audit.outputs_ns as f64 > allowed {
            return Some(format!(
                "the results take {} to be had after a run, and {} once more: work is done there",
                duration_of(audit.outputs_ns as f64),
                duration_of(audit.again_ns as f64)
            ));
        }
        None
    }
}

/// Nanoseconds that so many bytes of new memory may cost.
fn new(bytes: u64, audit: &Audit) -> f64 {
    NEW_PAGES * audit.page_ns as f64 * (bytes as f64 / PAGE as f64)
}

fn duration_of(ns: f64) -> String {
    duration(ns.max(0.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HONEST: Audit = Audit {
        run_ns: 130_000,
        plain_run_ns: 40_000,
        plain_steady_ns: 20_000,
        load_ns: 50_000,
        copy_ns: 30_000,
        outputs_ns: 60_000,
        again_ns: 30_000,
        results_ns: 10_000,
        page_ns: 1_000,
    };

    fn evidence() -> Evidence {
        Evidence {
            steady_ns: 100e3,
            waits: false,
            loaded: 4096,
            allocated: 0,
            share: None,
            clock_share: Some(0.95),
            rest: Some((1e5, 20)),
        }
    }

    #[test]
    fn an_honest_kernel_is_not_suspect() {
        assert_eq!(evidence().suspicion(), None);
        assert_eq!(evidence().against(&HONEST), None);
    }

    /// As libtorch was seen to load 3 MB, whose copy to memory that is not new took 74 µs; and candle to
    /// return 2 MB that a call allocates. A page cost 1.6 µs there.
    #[test]
    fn pages_that_are_new_are_not_suspect() {
        let single = Audit { run_ns: 749_000, ..HONEST };
        let returning = Evidence { steady_ns: 58_600.0, waits: true, allocated: 2 << 20, ..evidence() };
        assert_eq!(returning.against(&single), None);
        assert!(Evidence { allocated: 0, ..returning }.against(&single).is_some());
        let audit = Audit { load_ns: 1_500_000, copy_ns: 74_000, ..HONEST };
        let loading = Evidence { loaded: 3 << 20, ..evidence() };
        assert_eq!(loading.against(&audit), None);
        assert!(loading.against(&Audit { page_ns: 100, ..audit }).is_some(), "pages are cheap here");
        assert!(evidence().against(&audit).is_some());
    }

    /// As libtorch's OpenMP threads were seen on two processors.
    #[test]
    fn threads_that_look_out_for_more_work_are_not_suspect() {
        let spinning = Evidence { waits: true, rest: Some((7e6, 7)), ..evidence() };
        assert_eq!(spinning.suspicion(), None);
    }

    /// As a cheat was seen to pass that works where results are handed out, 275 µs long, in a process whose
    /// allocator got new pages for each copy.
    #[test]
    fn new_pages_hide_no_work_in_the_results() {
        let audit = Audit { outputs_ns: 275_000, again_ns: 60_000, results_ns: 5_000, ..HONEST };
        assert!(evidence().against(&audit).unwrap().contains("once more"));
        let large = Audit { outputs_ns: 9_000_000, again_ns: 6_000_000, results_ns: 2_000_000, ..HONEST };
        assert_eq!(evidence().against(&large), None, "a copy from another core's cache");
    }

    #[test]
    fn little_above_the_limit_it_is_the_limit_that_is_doubted() {
        let doubted = [0.9, 1.1, 1.2, 1.43, 4.0, 4.1].map(is_limit_in_doubt);
        assert_eq!(doubted, [false, false, true, true, true, false]);
    }

    #[test]
    fn each_rule_names_its_numbers() {
        let share = Evidence { share: Some((1.2, "FMA".into())), ..evidence() };
        assert!(share.suspicion().unwrap().contains("120 %"));
        let clock = Evidence { clock_share: Some(0.5), ..evidence() };
        assert!(clock.suspicion().unwrap().contains("50 %"));
        let rest = Evidence { rest: Some((20e6, 20)), ..evidence() };
        assert!(rest.suspicion().unwrap().contains("20 calls"));
        for (audit, words) in [
            (Audit { run_ns: 1_000_000, ..HONEST }, "inputs that are new"),
            (Audit { load_ns: 1_000_000, ..HONEST }, "loading takes"),
            (Audit { outputs_ns: 1_000_000, ..HONEST }, "once more"),
        ] {
            assert!(evidence().against(&audit).unwrap().contains(words));
        }
    }
}
