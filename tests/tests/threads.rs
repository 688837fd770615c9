//! Simd results on one, two and three threads: each within its bounds, on problems that are shared
//! out in different ways.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use acceptance::{Posed, Tally};
use touchstone_harness::known::KnownIssues;
use touchstone_kernels::{Outputs, Registry};

const THREADS: [usize; 3] = [1, 2, 3];

fn holds_on_any_number_of_threads(cases: &[&str]) {
    let registries = THREADS.map(|threads| (threads, Registry::standard(threads)));
    let mut tallies = THREADS.map(|_| Tally::default());
    let mut identical = 0;
    for text in cases {
        let posed = Posed::new(text.parse().unwrap());
        let mut results: Vec<(String, Outputs)> = Vec::new();
        for ((threads, registry), tally) in registries.iter().zip(&mut tallies) {
            for backend in registry.present().iter().filter(|b| b.id().implementation() == "simd") {
                assert_eq!(backend.info().threads, *threads, "{}", backend.id());
                let outcome = posed.judge(backend.as_ref(), &KnownIssues::default());
                assert!(outcome.figures().is_some(), "{} on {text}: {outcome:?}", backend.id());
                tally.add(backend.as_ref(), &posed.case, &outcome);
                let mut prepared = backend.ready(posed.problem(), &posed.inputs).unwrap();
                prepared.run().unwrap();
                prepared.sync().unwrap();
                results.push((backend.id().to_string(), prepared.outputs().unwrap()));
            }
        }
        let of_one_backend = |(id, outputs): &&(String, Outputs)| {
            results.iter().filter(|(other, _)| other == id).all(|(_, other)| other == outputs)
        };
        identical += results.iter().filter(of_one_backend).count();
    }
    for (tally, threads) in tallies.iter().zip(THREADS) {
        tally.finish(&format!("{threads} threads"));
    }
    println!("{identical} results are the same bits on any number of threads");
}

#[test]
fn attention() {
    holds_on_any_number_of_threads(&[
        "attention f32 h=3 lq=130 d=64 causal=bottom_right fill=needle",
        "attention bf16 b=2 h=4 hkv=2 lq=97 lk=131 d=40 mask=padding",
        "attention f16 h=5 lq=33 lk=257 d=80 window=31,0 causal=bottom_right",
        "attention f32 h=8 hkv=1 lq=1 lk=2049 d=64 causal=bottom_right cache=2304 fill=needle",
        "attention f32 h=1 lq=1 lk=4099 d=128",
        "attention f32 h=2 lq=300 d=32 lse=true sinks=true",
        "attention f32 h=1 lq=2 lk=2 d=8",
    ]);
}

#[test]
fn softmax() {
    holds_on_any_number_of_threads(&[
        "softmax f32 shape=257x1025 fill=wide",
        "softmax f32 shape=1x1000003",
        "log_softmax bf16 shape=3x32000",
        "softmax f16 shape=5x301x67 axis=-2 fill=negative",
        "softmax f32 shape=1x7",
    ]);
}

#[test]
fn norm() {
    holds_on_any_number_of_threads(&[
        "layer_norm f32 shape=301x1025 fill=offset",
        "layer_norm f32 shape=1x1000003",
        "rms_norm bf16 shape=513x769 weight_offset=1",
        "batch_norm f32 shape=7x13x29x31",
        "batch_norm f16 shape=16x5x1025 mode=infer",
        "group_norm f32 shape=3x12x33x35 groups=4 fill=offset",
        "instance_norm f32 shape=5x7x61x63",
        "layer_norm f32 shape=2x3",
    ]);
}

#[test]
fn activation() {
    holds_on_any_number_of_threads(&[
        "gelu f32 shape=513x1031 fill=spread",
        "gelu f16 shape=100003 fill=spread",
        "silu bf16 shape=100003 fill=special",
        "mish f32 shape=100003",
        "swiglu f32 shape=255x1031 layout=gate_first",
        "glu bf16 shape=255x1031 layout=gate_last",
        "relu f32 shape=3",
    ]);
}

#[test]
fn rope() {
    holds_on_any_number_of_threads(&[
        "rope f32 h=7 l=257 d=128",
        "rope bf16 b=3 h=5 l=129 d=80 rotary_dim=32 style=interleaved batched_positions=true",
        "rope f16 h=33 l=65 d=64 fill=far",
        "rope f32 h=1 l=1 d=8",
    ]);
}
