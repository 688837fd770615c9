//! Every backend on every case of the smoke suite, judged by the oracle: one test for each
//! implementation and family, the same body for all.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, LazyLock};

use acceptance::{Posed, Tally};
use touchstone_harness::known::KnownIssues;
use touchstone_harness::suite::Suite;
use touchstone_kernels::{Absent, Backend, BackendId, Contract, DType, Registry, op};

/// Two threads, so that work is shared out.
const THREADS: usize = 2;

static SMOKE: LazyLock<Vec<Posed>> = LazyLock::new(|| {
    Suite::load("smoke").unwrap().cases.into_iter().map(|suite_case| Posed::new(suite_case.case)).collect()
});

static KNOWN: LazyLock<KnownIssues> = LazyLock::new(|| KnownIssues::built_in().unwrap());

/// The libraries that a build can include, with the backend that each has on any machine: the one on the CPU.
/// Devices are not here, for a machine without one is as good.
const LIBRARIES: [(&str, bool); 3] = [
    ("candle/cpu", cfg!(feature = "candle")),
    ("libtorch/cpu", cfg!(feature = "libtorch")),
    ("onnxruntime/cpu", cfg!(feature = "onnxruntime")),
];

/// The libraries that this build includes and that are not there when it runs, with the remedy.
fn missing_libraries(registry: &Registry) -> Vec<Absent> {
    let included = LIBRARIES.into_iter().filter(|(_, is_included)| *is_included).map(|(id, _)| id);
    let missing = included.filter(|id| !registry.present().iter().any(|b| b.id().as_str() == *id));
    let reason = |id: &'static str| {
        let absent = registry.absent().iter().find(|absent| absent.id.as_str() == id);
        absent.cloned().unwrap_or(Absent { id: BackendId::new(id), reason: "it gives no reason".into() })
    };
    missing.map(reason).collect()
}

/// Fails where this build includes the library of an implementation and it is absent.
fn ensure_present(implementation: &str, registry: &Registry) {
    let missing = missing_libraries(registry);
    if let Some(Absent { id, reason }) = missing.iter().find(|lib| lib.id.implementation() == implementation)
    {
        panic!("{id} is part of this build and absent: {reason}");
    }
}

/// A library that is silently absent would leave its tests with nothing to judge.
#[test]
fn every_library_of_this_build_is_present() {
    let registry = Registry::standard(THREADS);
    for absent in registry.absent() {
        println!("absent: {}: {}", absent.id, absent.reason);
    }
    assert_eq!(missing_libraries(&registry), []);
}

#[test]
fn a_library_that_is_missing_is_named_with_its_remedy_and_a_device_is_not() {
    let mut registry = Registry::empty();
    for (id, _) in LIBRARIES {
        registry.add_absent(id, "run scripts/setup");
    }
    registry.add_absent("libtorch/cuda", "no NVIDIA driver is loaded");
    let included = LIBRARIES.into_iter().filter(|(_, is_included)| *is_included);
    let expected: Vec<_> = included
        .map(|(id, _)| Absent { id: BackendId::new(id), reason: "run scripts/setup".into() })
        .collect();
    assert_eq!(missing_libraries(&registry), expected);
}

fn conforms(implementation: &str, family: &str) {
    let registry = Registry::standard(THREADS);
    ensure_present(implementation, &registry);
    // A single kernel of a library is one of its attention's.
    let own = |b: &&Arc<dyn Backend>| family == "attention" || !b.id().is_choice();
    let backends =
        registry.present().iter().filter(|b| b.id().implementation() == implementation).filter(own);
    let mut judged = 0;
    for backend in backends {
        let mut tally = Tally::default();
        for posed in SMOKE.iter().filter(|posed| posed.problem().family().name == family) {
            let outcome = posed.judge(backend.as_ref(), &KNOWN);
            tally.add(backend.as_ref(), &posed.case, &outcome);
            if ["naive", "simd"].contains(&implementation) {
                let contract = backend.declares(posed.problem()).contract;
                assert_eq!(contract, Contract::Componentwise, "{} on {}", backend.id(), posed.case);
            }
        }
        tally.finish(&format!("{} on {family}", backend.id()));
        if ["naive", "simd"].contains(&implementation) {
            let short = (tally.known, tally.unsupported, tally.suspect);
            assert_eq!(short, (0, 0, 0), "{} can and does do all, and it shows", backend.id());
        }
        judged += 1;
    }
    assert!(judged > 0, "no backend of {implementation} is present: {:?}", registry.absent());
}

macro_rules! conformance {
    ($($(#[$feature:meta])? $implementation:ident),+ $(,)?) => { $(
        $(#[$feature])?
        mod $implementation {
            use super::*;

            #[test]
            fn attention() {
                conforms(stringify!($implementation), "attention");
            }

            #[test]
            fn softmax() {
                conforms(stringify!($implementation), "softmax");
            }

            #[test]
            fn norm() {
                conforms(stringify!($implementation), "norm");
            }

            #[test]
            fn activation() {
                conforms(stringify!($implementation), "activation");
            }

            #[test]
            fn rope() {
                conforms(stringify!($implementation), "rope");
            }
        }
    )+ };
}

conformance! {
    naive,
    simd,
    #[cfg(feature = "candle")]
    candle,
    #[cfg(feature = "libtorch")]
    libtorch,
    #[cfg(feature = "onnxruntime")]
    onnxruntime,
}

/// The smoke suite stands for every operation in every dtype.
#[test]
fn smoke_holds_every_operation_and_dtype() {
    for op in op::names() {
        for dtype in DType::ALL {
            let here = |p: &&Posed| p.problem().name() == op && p.problem().dtype == dtype;
            assert!(SMOKE.iter().any(|posed| here(&posed)), "no case of {op} {dtype}");
        }
    }
}

/// Each instruction set that this CPU has is a backend of its own; each other one says why not.
#[test]
fn every_instruction_set_is_present_or_explained() {
    let registry = Registry::standard(THREADS);
    let mut expected = vec!["simd/scalar"];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            expected.push("simd/avx2");
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            expected.push("simd/avx512");
        }
        // The flag alone does not say that the system allows it.
        if expected.contains(&"simd/avx512") && touchstone_kernels::simd::tiles::Tiles::detect().is_some() {
            expected.push("simd/amx");
        }
    }
    #[cfg(target_arch = "aarch64")]
    expected.push("simd/neon");
    for name in ["simd/scalar", "simd/avx2", "simd/avx512", "simd/amx", "simd/neon"] {
        let present = registry.present().iter().any(|b| b.id().as_str() == name);
        let absent = registry.absent().iter().find(|absent| absent.id.as_str() == name);
        assert_eq!(present, expected.contains(&name), "{name}");
        assert_ne!(present, absent.is_some_and(|absent| !absent.reason.is_empty()), "{name}");
    }
}

/// A known issue cannot outlive its defect, whatever suite its witnesses stand in.
#[test]
fn every_witness_of_a_known_issue_still_fails() {
    let registry = Registry::standard(THREADS);
    let mut judged = 0;
    for issue in KNOWN.iter() {
        let implementation = issue.backend.as_str();
        let backends: Vec<_> = registry
            .whole()
            .filter(|b| b.id().as_str() == implementation || b.id().implementation() == implementation)
            .collect();
        ensure_present(implementation.parse::<BackendId>().unwrap().implementation(), &registry);
        if backends.is_empty() {
            println!("{}: {implementation} is absent, nothing to witness", issue.id);
        }
        for witness in issue.witnesses() {
            let posed = Posed::new(witness.parse().unwrap());
            for backend in &backends {
                let outcome = posed.judge(backend.as_ref(), &KNOWN);
                judged += 1;
                assert!(
                    matches!(&outcome, touchstone_harness::Outcome::Known { issue: id, .. } if *id == issue.id),
                    "{}: {witness} on {}: {outcome:?}",
                    issue.id,
                    backend.id()
                );
            }
        }
    }
    let has_library = cfg!(any(feature = "candle", feature = "libtorch", feature = "onnxruntime"));
    assert!(judged > 0 || !has_library, "no library of this build was a witness");
}
