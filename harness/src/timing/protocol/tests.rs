//! Every line survives the way there and back.

use proptest::prelude::*;
use proptest::sample::select;
use touchstone_kernels::{Allocation, Contract, Moments, Rounded};

use super::*;

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        (1..=usize::MAX, any::<String>()).prop_map(|(entries, case)| Request::Prepare { entries, case }),
        (any::<u64>(), 1..=u64::MAX).prop_map(|(untimed, timed)| Request::Run { untimed, timed }),
        any::<String>()
            .prop_filter("a path", |path| !path.is_empty())
            .prop_map(|path| Request::Outputs { path }),
        (1..=usize::MAX, any::<u64>()).prop_map(|(calls, seed)| Request::Audit { calls, seed }),
        Just(Request::Release),
        any::<String>()
            .prop_filter("a case", |case| !case.is_empty())
            .prop_map(|case| Request::Memory { case }),
        Just(Request::Peaks),
        (1..=u64::MAX).prop_map(|passes| Request::Canary { passes }),
        any::<u64>().prop_map(|seed| Request::Scatter { seed }),
        Just(Request::Quit),
    ]
}

fn declarations() -> impl Strategy<Value = Declaration> {
    (
        select(Contract::ALL),
        select(Rounded::ALL),
        select(Rounded::ALL),
        select(Moments::ALL),
        any::<bool>(),
        select(Allocation::ALL),
        any::<String>(),
    )
        .prop_map(|(contract, probabilities, tables, moments, flushes_subnormals, allocation, path)| {
            let path = path.into();
            Declaration { contract, probabilities, tables, moments, flushes_subnormals, allocation, path }
        })
}

fn rate() -> impl Strategy<Value = f64> {
    0.0..1e9
}

fn responses() -> impl Strategy<Value = Response> {
    prop_oneof![
        (any::<usize>(), any::<u64>(), declarations(), select(Clock::ALL), any::<[Option<u64>; 2]>())
            .prop_map(|(entries, bytes, declaration, clock, [prepare_ns, first_ns])| {
                Response::Prepared(Preparation { entries, bytes, declaration, clock, prepare_ns, first_ns })
            }),
        any::<[u64; 9]>().prop_map(|ns| {
            Response::Audited(Audit {
                run_ns: ns[0],
                plain_run_ns: ns[1],
                plain_steady_ns: ns[2],
                load_ns: ns[3],
                copy_ns: ns[4],
                outputs_ns: ns[5],
                again_ns: ns[6],
                results_ns: ns[7],
                page_ns: ns[8],
            })
        }),
        any::<String>().prop_map(|reason| Response::Unsupported { reason }),
        (any::<u64>(), any::<Option<u64>>()).prop_map(|(ns, waited)| Response::Ran { ns, waited }),
        any::<usize>().prop_map(|tensors| Response::Wrote { tensors }),
        Just(Response::Released),
        Just(Response::Scattered),
        any::<u64>().prop_map(|extra| Response::Memory { extra }),
        [rate(), rate(), rate(), rate()].prop_map(|[copy_gb_s, f32_gflops, f16_gflops, bf16_gflops]| {
            Response::Peaks(DevicePeaks { copy_gb_s, f32_gflops, f16_gflops, bf16_gflops })
        }),
        Just(Response::Bye),
        any::<String>().prop_map(|message| Response::Error { message }),
    ]
}

fn greetings() -> impl Strategy<Value = Greeting> {
    let info = (any::<String>(), any::<String>(), any::<String>(), any::<usize>())
        .prop_map(|(version, device, isa, threads)| BackendInfo { version, device, isa, threads });
    ("[a-z0-9/:_.-]{1,20}", info).prop_map(|(id, info)| Greeting { backend: id.parse().unwrap(), info })
}

proptest! {
    #[test]
    fn requests_survive_the_line(request in requests()) {
        let line = request.to_string();
        prop_assert!(!line.contains(['\n', '\r']));
        prop_assert_eq!(line.parse(), Ok(request));
    }

    #[test]
    fn responses_survive_the_line(response in responses()) {
        let line = response.to_string();
        prop_assert!(!line.contains(['\n', '\r']));
        prop_assert_eq!(line.parse(), Ok(response));
    }

    #[test]
    fn greetings_survive_the_line(greeting in greetings()) {
        let line = greeting.to_string();
        prop_assert!(!line.contains(['\n', '\r']));
        prop_assert_eq!(line.parse(), Ok(greeting));
    }

    #[test]
    fn no_line_panics(line in any::<String>(), word in "prepare|run|outputs|prepared|touchstone-worker 1|error") {
        let _ = line.parse::<Request>();
        let _ = line.parse::<Response>();
        let line = format!("{word} {line}");
        let _ = line.parse::<Request>();
        let _ = line.parse::<Response>();
        let _ = line.parse::<Greeting>();
    }
}

#[test]
fn another_version_is_named() {
    let found = "touchstone-worker 2 whatever=it says".parse::<Greeting>();
    assert_eq!(found, Err(ProtocolError::Version { found: "2".into() }));
}

#[test]
fn unknown_fields_are_ignored() {
    let line = "touchstone-worker 1 colour=red backend=naive threads=1 isa=scalar version=1 device=cpu x";
    assert_eq!(line.parse::<Greeting>().unwrap().backend.as_str(), "naive");
}

#[test]
fn malformed_requests_are_refused() {
    for line in
        ["", "prepare", "prepare 0 softmax", "run 1", "run 1 0", "run a 1", "outputs", "quit now", "%"]
    {
        assert!(line.parse::<Request>().is_err(), "{line:?}");
    }
}

#[test]
fn what_is_optional_may_be_missing_but_not_wrong() {
    assert_eq!("ran 7".parse(), Ok(Response::Ran { ns: 7, waited: None }));
    assert_eq!("ran 7 waited=3 new=1".parse(), Ok(Response::Ran { ns: 7, waited: Some(3) }));
    for wrong in ["ran", "ran x", "ran 7 waited=x", "peaks copy_gb_s=1"] {
        assert!(wrong.parse::<Response>().is_err(), "{wrong}");
    }
}
