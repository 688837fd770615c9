//! The model on peaks of our choosing, the probes on this machine.

use std::time::Instant;

use super::probe::{Bench, Probe, aligned, levels};
use super::*;
use crate::machine::Caches;

/// 100 GFLOP/s, and round bandwidths.
fn peaks() -> Peaks {
    let level = |name: &str, capacity, read_gb_s, copy_gb_s, nt_copy_gb_s| Level {
        name: name.into(),
        capacity,
        probe: 0,
        read_gb_s,
        copy_gb_s,
        nt_copy_gb_s,
    };
    let levels = vec![level("L2", Some(1 << 20), 100.0, 80.0, 10.0), level("DRAM", None, 20.0, 10.0, 16.0)];
    Peaks { threads: 1, fma_gflops: 100.0, bf16_gflops: Some(180.0), levels }
}

fn limit_of(flops: u64, read: u64, written: u64, working_set: u64) -> (String, f64) {
    let Limit { name, seconds } =
        limit(Demand { flops, read, written }, working_set, DType::F32, &peaks()).unwrap();
    (name, (seconds * 1e12).round() / 1e12)
}

#[test]
fn the_slower_of_arithmetic_and_memory_limits() {
    assert_eq!(limit_of(1_000_000, 80, 80, 160), ("FMA".into(), 1e-5));
    assert_eq!(limit_of(0, 80_000, 80_000, 160_000), ("L2 copy".into(), 2e-6));
    assert_eq!(limit_of(0, 80_000, 80_000, 2 << 20), ("DRAM nt_copy".into(), 1e-5));
    assert_eq!(limit_of(0, 200_000, 0, 2 << 20), ("DRAM read".into(), 1e-5));
    // A copy of one part and reading of the rest, in turn.
    assert_eq!(limit_of(0, 190_000, 40_000, 1 << 20), ("L2 read".into(), 2.5e-6));
    assert_eq!(limit_of(0, 0, 40_000, 1 << 20), ("L2 copy".into(), 1e-6));
}

#[test]
fn a_share_is_of_the_least_time() {
    let limit = Limit { name: "FMA".into(), seconds: 1e-6 };
    assert!((limit.share(2000.0) - 0.5).abs() < 1e-12);
}

/// A kernel that uses a processor's instructions for bf16 is no cheat.
#[test]
fn each_type_has_the_rate_of_its_own_instructions() {
    let demand = Demand { flops: 1_000_000, read: 80, written: 80 };
    let of = |dtype| {
        let limit = limit(demand, 160, dtype, &peaks()).unwrap();
        (limit.name, (limit.seconds * 1e9).round())
    };
    assert_eq!(of(DType::F32), ("FMA".into(), 10_000.0));
    assert_eq!(of(DType::F16), ("FMA".into(), 5000.0));
    assert_eq!(of(DType::BF16), ("bf16 products".into(), 5556.0));
}

#[test]
fn demand_of_a_problem() {
    let problem: Problem = "softmax f32 shape=4x1024".parse().unwrap();
    let demand = Demand::of(&problem, problem.work());
    assert_eq!((demand.read, demand.written), (16384, 16384));
    assert_eq!(demand.flops, problem.work().flops);
    let decode: Problem = "attention f16 h=8 lq=1 lk=1024 d=64".parse().unwrap();
    let demand = Demand::of(&decode, decode.work());
    assert!(demand.read > 1000 * demand.written, "{demand:?}");
}

#[test]
fn levels_ascend_and_end_in_memory() {
    let caches = Caches { l1d: Some(32 << 10), l2: Some(512 << 10), l3: Some(32 << 20) };
    for caches in [caches, Caches { l3: None, ..caches }, Caches::default()] {
        for threads in [1, 2, 64] {
            let levels = levels(&caches, threads);
            assert_eq!(levels.last().map(|&(name, capacity, _)| (name, capacity)), Some(("DRAM", None)));
            for (name, capacity, probe) in &levels {
                let together = probe * threads as u64;
                assert!(*probe > 0 && capacity.is_none_or(|bytes| together <= bytes), "{name}");
            }
        }
    }
}

fn measured_under(load: f64) -> Roofline {
    Roofline { cpu: "a".into(), isa: "avx2".into(), load: Some(load), measurements: 1, peaks: vec![peaks()] }
}

#[test]
fn a_busy_machine_is_measured_twice() {
    let machine = Machine { cores: 4, ..Machine::detect() };
    assert!(!measured_under(1.9).is_provisional(&machine));
    let (first, mut second) = (measured_under(2.1), measured_under(2.1));
    assert!(first.is_provisional(&machine));
    second.peaks[0].fma_gflops *= 2.0;
    second.peaks[0].levels[0].read_gb_s /= 2.0;
    let best = second.clone().best_of(&first);
    assert!(!best.is_provisional(&machine));
    assert_eq!(best.peaks[0].fma_gflops, second.peaks[0].fma_gflops);
    assert_eq!(best.peaks[0].levels[0].read_gb_s, first.peaks[0].levels[0].read_gb_s);
}

#[test]
fn what_is_kept_is_what_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("touchstone/roofline.toml");
    assert_eq!(Roofline::load(&path), None);
    let roofline = measured_under(0.5);
    roofline.save(&path).unwrap();
    assert_eq!(Roofline::load(&path), Some(roofline));
    fs::write(&path, "cpu = ").unwrap();
    assert_eq!(Roofline::load(&path), None);
}

#[test]
fn probes_do_the_work_they_count() {
    for isa in Isa::present() {
        let mut bench = Bench::new(isa, 4096);
        assert!(bench.work((Probe::Fma, 0), 1) > 0);
        assert_eq!(bench.work((Probe::Read, 4096), 3), 3 * 4096);
        bench.from.fill(7.0);
        for probe in [Probe::Copy, Probe::NtCopy] {
            bench.to.fill(0.0);
            assert_eq!(bench.work((probe, 4096), 2), 2 * 4096);
            assert!(aligned(&mut bench.to)[..512].iter().all(|&x| x == 7.0));
        }
    }
}

#[test]
#[ignore = "measures this machine: wants it to itself"]
fn this_machine() {
    let start = Instant::now();
    let roofline = Roofline::measure(&Machine::detect());
    println!(
        "{}
{:.1} s",
        toml::to_string_pretty(&roofline).unwrap(),
        start.elapsed().as_secs_f64()
    );
}

#[test]
fn a_device_is_held_against_its_own_rates() {
    let peaks = DevicePeaks { copy_gb_s: 4000.0, f32_gflops: 5e4, f16_gflops: 7e5, bf16_gflops: 8e5 };
    let limit = |problem: &str, copies| {
        let problem: Problem = problem.parse().unwrap();
        let working_set = copies * crate::timing::pool::footprint(&problem);
        device_limit(Demand::of(&problem, problem.work()), working_set, problem.dtype, &peaks, "cuda:0")
    };
    let softmax = limit("softmax f32 shape=16384x8192", 1).unwrap();
    assert_eq!(softmax.name, "cuda:0 copy");
    assert!((softmax.seconds - 2.0 * 4.0 * (1_u64 << 27) as f64 / 4e12).abs() < 1e-9, "{softmax:?}");
    let prefill = limit("attention bf16 h=16 lq=4096 d=128", 1).unwrap();
    assert_eq!(prefill.name, "cuda:0 matmul");
    assert!((prefill.seconds - 4.0 * 16.0 * 4096.0 * 4096.0 * 128.0 / 8e14).abs() < 1e-9, "{prefill:?}");
    // What a cache may hold is not held against memory.
    assert_eq!(limit("softmax f32 shape=1024x1024", 1), None);
    assert_eq!(limit("softmax f32 shape=1024x1024", 64).unwrap().name, "cuda:0 copy");
}
