//! Made-up records that look like a real run: five backends, five families, three dtypes, one
//! and two threads, hot and cold, with failures, known issues and unsupported operations.

use touchstone_reports::{
    BackendEntry, Environment, Machine, Record, RooflineEntry, SCHEMA_VERSION, SampleRow, Software, Status,
};

const BACKENDS: [(&str, &str, f64); 5] = [
    // id, isa, efficiency relative to the machine's limit
    ("naive", "", 0.04),
    ("simd/avx2", "avx2", 0.80),
    ("simd/avx512", "avx512", 0.92),
    ("candle/cpu", "", 0.22),
    ("libtorch/cpu", "avx2", 0.60),
];

/// Splitmix64: small, and the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Work {
    family: &'static str,
    op: &'static str,
    problem: String,
    flops: u64,
    bytes: u64,
}

fn work(dtype: &str) -> Vec<Work> {
    let width = if dtype == "f32" { 4 } else { 2 };
    let mut work = Vec::new();
    for (length, head_dim) in [(128u64, 64u64), (1024, 64), (2048, 128)] {
        let heads = 12;
        for causal in ["", " causal=top-left"] {
            let full = 4 * heads * length * length * head_dim;
            work.push(Work {
                family: "attention",
                op: "attention",
                problem: format!(
                    "attention {dtype} batch=1 heads={heads} kv_heads={heads} lq={length} \
                     lk={length} d={head_dim}{causal}"
                ),
                flops: if causal.is_empty() { full } else { full / 2 },
                bytes: 4 * heads * length * head_dim * width,
            });
        }
    }
    let rows =
        [("softmax", "softmax"), ("softmax", "log_softmax"), ("norm", "layer_norm"), ("norm", "rms_norm")];
    for (family, op) in rows {
        for (n, m) in [(64u64, 256u64), (512, 1024), (4096, 1024), (512, 32_000)] {
            work.push(Work {
                family,
                op,
                problem: format!("{op} {dtype} shape={n}x{m} axis=-1"),
                flops: 5 * n * m,
                bytes: 2 * n * m * width,
            });
        }
    }
    for op in ["gelu", "silu", "tanh"] {
        for n in [16_384u64, 1 << 20, 1 << 24] {
            work.push(Work {
                family: "activation",
                op,
                problem: format!("{op} {dtype} shape={n}"),
                flops: 8 * n,
                bytes: 2 * n * width,
            });
        }
    }
    for length in [128u64, 2048] {
        let n = length * 32 * 128;
        work.push(Work {
            family: "rope",
            op: "rope",
            problem: format!("rope {dtype} h=32 l={length} d=128"),
            flops: 3 * n,
            bytes: 2 * n * width,
        });
    }
    work
}

fn verdict(work: &Work, dtype: &str, backend: &str) -> (Status, &'static str) {
    match (backend, work.op, dtype) {
        ("candle/cpu", "log_softmax" | "attention", "f16") => {
            (Status::Unsupported, "candle has no f16 matmul with these strides on the CPU")
        }
        ("candle/cpu", "rope", _) if work.problem.contains("2048") => {
            (Status::Unsupported, "candle's rope has no partial dimensions")
        }
        ("candle/cpu", "softmax", "bf16") => {
            (Status::Known, "candle#2871: the denominator is summed in bf16, rows do not sum to 1")
        }
        ("libtorch/cpu", "rms_norm", "f16") if work.problem.contains("64x256") => {
            (Status::Failed, "1 of 16384 elements outside its bound")
        }
        ("naive", "tanh", "bf16") if work.problem.ends_with("16777216") => {
            (Status::Timeout, "no result after 60 s")
        }
        _ => (Status::Passed, ""),
    }
}

/// About 1,000 rows and their samples; the same on every call with the same seed. `factor`
/// scales the times of `simd/avx2`, for comparisons of two runs.
pub(crate) fn run(run_id: &str, seed: u64, factor: f64) -> (Vec<Record>, Vec<SampleRow>, Environment) {
    let mut noise = Noise(seed);
    let (mut records, mut samples) = (Vec::new(), Vec::new());
    for dtype in ["f32", "f16", "bf16"] {
        for work in work(dtype) {
            for (threads, cache) in [(1, "hot"), (2, "hot"), (1, "cold")] {
                let group = group(run_id, dtype, &work, threads, cache, factor, &mut noise);
                for (record, slices) in group {
                    samples.extend(SampleRow::of(&record, &slices));
                    records.push(record);
                }
            }
        }
    }
    (records, samples, environment(run_id))
}

type Group = Vec<(Record, Vec<(u64, u64)>)>;

fn group(
    run_id: &str,
    dtype: &str,
    work: &Work,
    threads: u32,
    cache: &str,
    factor: f64,
    noise: &mut Noise,
) -> Group {
    let scale = f64::from(threads).powf(0.9);
    let in_cache = cache == "hot" && work.bytes < 30_000_000;
    let (fma, bandwidth) = (96.0 * scale, if in_cache { 55.0 } else { 19.0 } * scale);
    let mut rows = Group::new();
    let mut reference = None;
    let order = ["libtorch/cpu", "naive", "simd/avx2", "simd/avx512", "candle/cpu"];
    for backend in order {
        let (_, isa, efficiency) = BACKENDS.into_iter().find(|b| b.0 == backend).expect("listed above");
        let (status, reason) = verdict(work, dtype, backend);
        let half = if dtype == "f32" { 1.0 } else { 0.8 };
        let efficiency = efficiency * half * (0.8 + 0.35 * noise.next());
        let bound = (work.flops as f64 / fma).max(work.bytes as f64 / bandwidth);
        let factor = if backend == "simd/avx2" { factor } else { 1.0 };
        let time = (bound / efficiency + 350.0) * factor;
        let mut record = Record {
            schema: SCHEMA_VERSION,
            run_id: run_id.into(),
            time: "2026-01-31T12:00:00Z".into(),
            git_revision: "4f1c2d3".into(),
            rustc: "rustc 1.95.0".into(),
            target_features: "sse2".into(),
            suite: "standard".into(),
            problem: work.problem.clone(),
            family: work.family.into(),
            op: work.op.into(),
            dtype: dtype.into(),
            fill: "normal".into(),
            seed: 7,
            backend: backend.into(),
            version: "0.1.0".into(),
            device: "cpu".into(),
            isa: isa.into(),
            threads,
            allocation: "preallocated".into(),
            contract: "componentwise".into(),
            numerics: "f32 accumulation".into(),
            path: "fused".into(),
            status,
            reason: reason.into(),
            flops: work.flops,
            bytes: work.bytes,
            repro: format!(
                "touchstone repro '{}' --backend {backend} --threads {threads} --seed 7",
                work.problem
            ),
            ..Record::default()
        };
        if status == Status::Unsupported {
            record.cache = cache.into();
            rows.push((record, Vec::new()));
            continue;
        }
        record.cache = cache.into();
        accuracy(&mut record, noise);
        if status != Status::Passed {
            rows.push((record, Vec::new()));
            continue;
        }
        let iterations = (2e6 / time).max(1.0).ceil();
        let mut slices: Vec<u64> =
            (0..20).map(|_| (iterations * time * (0.98 + 0.08 * noise.next().powi(3))) as u64).collect();
        let pairs = slices.iter().map(|&ns| (iterations as u64, ns)).collect();
        slices.sort_unstable();
        let at = |share: f64| (slices[(19.0 * share) as usize] as f64 / iterations) as u64;
        record.method = "wall".into();
        record.iterations = Some(iterations as u64);
        record.samples = Some(20);
        record.min_ns = Some(at(0.0));
        record.p10_ns = Some(at(0.1));
        record.median_ns = Some(at(0.5));
        record.p90_ns = Some(at(0.9));
        record.mean_ns = Some(at(0.55));
        record.mad_ns = Some(at(0.5) / 80);
        let median = at(0.5) as f64;
        let base = *reference.get_or_insert(median);
        record.reference = "libtorch/cpu".into();
        record.speedup = Some(base / median);
        let spread = if backend == "libtorch/cpu" { 0.0 } else { 0.015 + 0.05 * noise.next() };
        record.speedup_low = Some(base / median * (1.0 - spread));
        record.speedup_high = Some(base / median * (1.0 + spread));
        record.gflops = Some(work.flops as f64 / median);
        record.gb_per_s = Some(work.bytes as f64 / median);
        record.roofline_percent = Some(100.0 * bound / median);
        record.roofline_limit = if work.family == "attention" { "fma" } else { "nt_copy" }.into();
        record.contaminated = Some(u32::from(noise.next() > 0.9));
        record.peak_memory = Some(64 << 20);
        record.load = Some(0.4);
        rows.push((record, pairs));
    }
    rows
}

fn accuracy(record: &mut Record, noise: &mut Noise) {
    let own = match record.backend.as_str() {
        "naive" => 0.3,
        "simd/avx2" | "simd/avx512" => 0.15,
        _ => 0.5,
    };
    let ratio = match record.status {
        Status::Passed => own * 10f64.powf(-2.0 * noise.next().powi(2)),
        Status::Known => f64::INFINITY,
        _ => 3.7,
    };
    record.error_over_bound = Some(ratio);
    record.max_abs = Some(ratio * 1e-6);
    record.max_rel = Some(ratio * 3e-6);
    record.rmse = Some(ratio * 2e-7);
    record.ulp_p99 = Some(ratio.min(1e3).ceil());
    record.ulp_max = Some((ratio * 8.0).min(1e4).ceil());
    record.error_vs_naive = Some(ratio / 0.3);
    record.cosine = Some(1.0);
    record.worst_index = "[3, 17]".into();
    record.worst_expected = Some(0.125);
    let got = 0.125 + ratio * 1e-6;
    record.worst_got = Some(if record.status == Status::Known { f64::NAN } else { got });
}

fn environment(run_id: &str) -> Environment {
    let limits = |threads: u32| {
        let scale = f64::from(threads).powf(0.9);
        RooflineEntry {
            threads,
            fma_gflops: Some(96.0 * scale),
            read_gb_s: Some(19.0 * scale),
            copy_gb_s: Some(28.0 * scale),
            nt_copy_gb_s: Some(33.0 * scale),
            cache_read_gb_s: Some(62.0 * scale),
            ..RooflineEntry::default()
        }
    };
    let mut backends: Vec<_> = BACKENDS
        .iter()
        .map(|(id, isa, _)| BackendEntry {
            id: (*id).into(),
            present: true,
            version: "0.1.0".into(),
            device: "cpu".into(),
            isa: (*isa).into(),
            allocation: "preallocated".into(),
            ..BackendEntry::default()
        })
        .collect();
    backends.push(BackendEntry {
        id: "libtorch/cuda:0".into(),
        reason: "no driver".into(),
        ..BackendEntry::default()
    });
    Environment {
        run_id: run_id.into(),
        command: "touchstone compare --suite standard".into(),
        seeds: vec![7],
        machine: Machine {
            cpu: "An invented processor".into(),
            cores: Some(2),
            memory_bytes: Some(16 << 30),
            os: "Linux".into(),
            kernel: "6.1".into(),
            caches: "L1d 32 KiB, L2 512 KiB, L3 32 MiB".into(),
        },
        software: Software {
            touchstone: "0.1.0".into(),
            git_revision: "4f1c2d3".into(),
            rustc: "rustc 1.95.0".into(),
            features: vec!["candle".into(), "libtorch".into()],
            ..Software::default()
        },
        backends,
        roofline: vec![limits(1), limits(2)],
        ..Environment::default()
    }
}
