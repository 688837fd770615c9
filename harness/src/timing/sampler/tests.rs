//! The sampler on a simulated machine.

use std::cell::{Cell, RefCell};

use super::*;

/// A simulated machine: time passes only when a subject runs.
#[derive(Default)]
struct Simulation {
    now: Cell<u64>,
    stolen: Cell<u64>,
    slices: Cell<usize>,
    turns: RefCell<Vec<&'static str>>,
}

impl Surroundings for Simulation {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.now.get())
    }

    fn stolen_ticks(&self) -> Option<u64> {
        Some(self.stolen.get())
    }
}

/// What the system counts of a subject.
#[derive(Default)]
struct Counters {
    switches: u64,
    waited_ns: u64,
}

/// What happens in the n-th run.
type Happening<'a> = dyn Fn(&Simulation, usize, &mut Counters) -> Result<(), &'static str> + 'a;

struct Simulated<'a> {
    name: &'static str,
    world: &'a Simulation,
    iteration_ns: u64,
    counters: Counters,
    during: Box<Happening<'a>>,
    runs: usize,
}

impl Subject for Simulated<'_> {
    type Error = &'static str;

    fn run(&mut self, untimed: u64, timed: u64) -> Result<u64, &'static str> {
        self.runs += 1;
        self.world.slices.set(self.world.slices.get() + 1);
        self.world.turns.borrow_mut().push(self.name);
        (self.during)(self.world, self.runs, &mut self.counters)?;
        self.world.now.set(self.world.now.get() + self.iteration_ns * (untimed + timed));
        Ok(self.iteration_ns * timed)
    }

    fn involuntary_switches(&self) -> Option<u64> {
        Some(self.counters.switches)
    }

    fn waited_ns(&self) -> Option<u64> {
        Some(self.counters.waited_ns)
    }
}

fn calm<'a>(name: &'static str, world: &'a Simulation, iteration_ns: u64) -> Simulated<'a> {
    Simulated {
        name,
        world,
        iteration_ns,
        counters: Counters::default(),
        during: Box::new(|_, _, _| Ok(())),
        runs: 0,
    }
}

const GO: &dyn Fn() -> bool = &|| false;

#[test]
fn slices_take_about_the_target() {
    let world = Simulation::default();
    let mut subjects = [calm("fast", &world, 35), calm("slow", &world, 3_000_000)];
    let sampling = sample_in(&world, &mut subjects, &Effort::default(), 1, GO);
    assert!(!sampling.stopped);
    let [Ok(fast), Ok(slow)] = &sampling.samples[..] else { panic!("{sampling:?}") };
    assert!(fast.ns().iter().all(|ns| (1_900_000..=2_100_000).contains(ns)), "{fast:?}");
    assert_eq!((fast.slices.len(), fast.dropped(), fast.contaminated()), (25, 0, false));
    assert_eq!((slow.iterations, slow.slices.len()), (1, 25));
    assert_eq!(slow.summary().unwrap().median, 3_000_000);
    // Every round but the first is a pair.
    assert_eq!(fast.slices.iter().map(|s| s.round).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>());
    let ratio = slow.ratio_to(fast, 1).unwrap();
    assert!((ratio.estimate - 3_000_000.0 / 35.0).abs() < 1e-6, "{ratio:?}");
}

#[test]
fn slow_kernels_get_fewer_slices_spread_over_all_rounds() {
    let world = Simulation::default();
    let mut subjects =
        [calm("fast", &world, 1000), calm("slow", &world, 700_000_000), calm("stuck", &world, 9_000_000_000)];
    let effort = Effort::default();
    let sampling = sample_in(&world, &mut subjects, &effort, 1, GO);
    let counts: Vec<usize> = sampling.samples.iter().map(|s| s.as_ref().unwrap().slices.len()).collect();
    assert_eq!(counts, [25, 7, 5]);
    let rounds: Vec<usize> = sampling.samples[2].as_ref().unwrap().slices.iter().map(|s| s.round).collect();
    assert!(rounds[0] > 1 && rounds.windows(2).all(|pair| pair[1] - pair[0] >= 4), "{rounds:?}");
}

#[test]
fn turns_are_random_and_reproducible() {
    let order = |seed| {
        let world = Simulation::default();
        let mut subjects = [calm("a", &world, 2_000_000), calm("b", &world, 2_000_000)];
        sample_in(&world, &mut subjects, &Effort::default(), seed, GO);
        world.turns.take()
    };
    assert_eq!(order(3), order(3));
    assert_ne!(order(3), order(4));
    // Calibration of each, then rounds of two.
    let first = order(3)[2 * CALIBRATIONS..].chunks(2).filter(|pair| pair[0] == "a").count();
    assert!((5..=21).contains(&first), "{first} of 26 rounds began with a");
    assert!(order(3)[2 * CALIBRATIONS..].chunks(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn contaminated_slices_are_dropped_counted_and_made_up_for() {
    let world = Simulation::default();
    let mut subjects = [
        calm("robbed", &world, 2_000_000),
        calm("preempted", &world, 2_000_000),
        calm("kept waiting", &world, 2_000_000),
        calm("calm", &world, 2_000_000),
    ];
    subjects[0].during = Box::new(|world, run, _| {
        world.stolen.set(world.stolen.get() + u64::from(run.is_multiple_of(5)));
        Ok(())
    });
    subjects[1].during = Box::new(|_, run, counters| {
        counters.switches += u64::from(run.is_multiple_of(3));
        Ok(())
    });
    // To be woken up takes a few microseconds, and disturbs nobody.
    subjects[2].during = Box::new(|_, run, counters| {
        counters.waited_ns += if run.is_multiple_of(3) { 400_000 } else { 20_000 };
        Ok(())
    });
    let sampling = sample_in(&world, &mut subjects, &Effort::default(), 1, GO);
    for (samples, least) in sampling.samples.iter().zip([5, 8, 8, 0]) {
        let samples = samples.as_ref().unwrap();
        assert!(samples.ns().len() >= 25 && !samples.contaminated(), "{samples:?}");
        assert!(samples.dropped() >= least, "{samples:?}");
    }
}

#[test]
fn where_nothing_is_clean_all_is_kept_and_marked() {
    let world = Simulation::default();
    let mut subjects = [calm("a", &world, 2_000_000)];
    subjects[0].during = Box::new(|_, _, counters| {
        counters.switches += 1;
        Ok(())
    });
    let sampling = sample_in(&world, &mut subjects, &Effort::default(), 1, GO);
    let samples = sampling.samples[0].as_ref().unwrap();
    assert!(samples.contaminated(), "{samples:?}");
    assert_eq!((samples.ns().len(), samples.dropped()), (25, 0), "further rounds would not help");
}

#[test]
fn a_busy_moment_that_has_passed_is_made_up_for() {
    let world = Simulation::default();
    let mut subjects = [calm("a", &world, 2_000_000)];
    subjects[0].during = Box::new(|_, run, counters| {
        counters.switches += u64::from(run < 24);
        Ok(())
    });
    let sampling = sample_in(&world, &mut subjects, &Effort::default(), 1, GO);
    let samples = sampling.samples[0].as_ref().unwrap();
    assert!(!samples.contaminated() && samples.ns().len() >= 25, "{samples:?}");
}

#[test]
fn a_worker_that_measures_more_than_passed_is_not_believed() {
    struct Liar<'a>(&'a Simulation);
    impl Subject for Liar<'_> {
        type Error = ();
        fn run(&mut self, _: u64, timed: u64) -> Result<u64, ()> {
            self.0.now.set(self.0.now.get() + 1000);
            Ok(2_000_000 * timed)
        }
        fn involuntary_switches(&self) -> Option<u64> {
            None
        }
    }
    let world = Simulation::default();
    let sampling = sample_in(&world, &mut [Liar(&world)], &Effort::default(), 1, GO);
    assert!(sampling.samples[0].as_ref().unwrap().contaminated());
}

#[test]
fn one_failure_does_not_stop_the_others() {
    let world = Simulation::default();
    let mut subjects =
        [calm("good", &world, 2_000_000), calm("bad", &world, 2_000_000), calm("worse", &world, 2_000_000)];
    subjects[1].during = Box::new(|_, run, _| if run == CALIBRATIONS + 7 { Err("died") } else { Ok(()) });
    subjects[2].during = Box::new(|_, _, _| Err("never lived"));
    let sampling = sample_in(&world, &mut subjects, &Effort::default(), 1, GO);
    assert_eq!(sampling.samples[0].as_ref().unwrap().slices.len(), 25);
    assert_eq!(sampling.samples[1], Err("died"));
    assert_eq!(sampling.samples[2], Err("never lived"));
    assert_eq!((subjects[1].runs, subjects[2].runs), (CALIBRATIONS + 7, 1));
}

#[test]
fn stopping_is_honoured_between_slices() {
    for limit in [0, CALIBRATIONS, 2 * CALIBRATIONS, 2 * CALIBRATIONS + 1, 20] {
        let world = Simulation::default();
        let mut subjects = [calm("a", &world, 2_000_000), calm("b", &world, 2_000_000)];
        let stop = || world.slices.get() >= limit;
        let sampling = sample_in(&world, &mut subjects, &Effort::default(), 1, &stop);
        assert!(sampling.stopped);
        assert_eq!(world.slices.get(), limit);
    }
}

#[test]
fn a_ratio_never_sets_clean_slices_of_one_against_contaminated_ones_of_the_other() {
    let samples = |clean: fn(usize) -> bool, ns: fn(usize) -> u64| Samples {
        iterations: 1,
        slices: (1..=24).map(|round| Slice { round, ns: ns(round), clean: clean(round) }).collect(),
        clock_share: None,
    };
    // Every fourth round is calm; the others take twice as long for both.
    let time = |round: usize| if round.is_multiple_of(4) { 100 } else { 200 };
    let noticed = samples(|round| round.is_multiple_of(4), time);
    let unnoticed = samples(|_| true, time);
    let missed = samples(|_| false, time);
    for (a, b) in [(&noticed, &unnoticed), (&noticed, &missed), (&unnoticed, &missed)] {
        for ratio in [a.ratio_to(b, 1).unwrap(), b.ratio_to(a, 1).unwrap()] {
            assert_eq!((ratio.estimate, ratio.low, ratio.high), (1.0, 1.0, 1.0));
        }
    }
    assert_eq!((noticed.ns(), noticed.dropped()), (vec![100; 6], 18));
    assert_eq!((missed.ns().len(), missed.dropped()), (24, 0));
}

#[test]
fn nothing_to_sample() {
    let sampling = sample::<Simulated<'_>>(&mut [], &Effort::default(), 1, GO);
    assert!(sampling.samples.is_empty() && !sampling.stopped);
}
