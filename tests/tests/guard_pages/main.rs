//! Not one byte is read or written beside an operand, a result or the scratch memory of a kernel.
//!
//! Everything that our kernels allocate lies against a page that may not be touched, once with its
//! end and once with its beginning, while every operation runs in every dtype at every width: one
//! byte too far is the end of the process. Each sweep is therefore a process of its own, this
//! program again, which prints each case before it runs it.
//!
//! `unsafe` is in `allocator` alone. Rust's own rules leave little to be found outside the loads
//! and stores of `lanes_*`; this is the check of those, as built and on this CPU.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocator;
mod sweep;

use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use allocator::{At, GuardPages, against_guard_pages, guarded, peek, poke};
use touchstone_harness::Case;
use touchstone_kernels::host::HostPrepared;
use touchstone_kernels::{ElementType, Inputs, Outputs, Prepared, Problem, Tensor, op, tensor};

#[global_allocator]
static ALLOCATOR: GuardPages = GuardPages;

/// Set in the processes that tests start.
const INSIDE: &str = "TOUCHSTONE_GUARD_PAGES";

/// Which cases a quick sweep takes: every 13th. There are 77 widths in three dtypes, and 13 divides
/// neither, so that every operation is run at widths and dtypes of all kinds.
const SOME: usize = 13;

/// What an access to a page without access ends in; which of the two is the system's choice.
const FAULT: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Runs `work` in a process of its own, which is the test of that name again, and returns how it
/// ended and the last line that it printed. In that process it does not return.
fn apart(test: &str, work: impl FnOnce()) -> (ExitStatus, String) {
    if std::env::var_os(INSIDE).is_some() {
        work();
        std::process::exit(0);
    }
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", test, "--nocapture", "--include-ignored"];
    let output = Command::new(program).args(arguments).env(INSIDE, "1").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    (output.status, printed.lines().last().unwrap_or_default().to_string())
}

#[test]
fn the_sweep_holds_every_operation() {
    let cases = sweep::cases();
    for op in op::names() {
        assert!(cases.iter().any(|case| case.split(' ').next() == Some(op)), "no case of {op}");
    }
}

/// Every `step`-th case on every backend of ours, which the process survives.
fn survives(test: &str, at: At, step: usize) {
    let (status, last) = apart(test, || {
        let mut runs = 0;
        for (threads, texts) in [(1, sweep::cases()), (3, sweep::shared())] {
            let backends = sweep::backends(threads);
            for text in texts.iter().step_by(step) {
                let case: Case = text.parse().unwrap();
                let inputs = tensor::bare(|| case.inputs());
                for backend in &backends {
                    println!("touchstone repro '{text}' --backend {} --threads {threads}", backend.id());
                    against_guard_pages(at, || {
                        sweep::run_bare(backend.as_ref(), &case, &inputs.deep_clone());
                    });
                    runs += 1;
                }
            }
        }
        println!("{runs} runs, {} allocations", guarded());
    });
    assert!(status.success(), "{status} at: {last}");
    println!("{last}");
    assert!(last.contains("runs") && !last.starts_with("0 runs"), "nothing was executed: {last}");
}

#[test]
fn nothing_is_touched_past_an_end() {
    survives("nothing_is_touched_past_an_end", At::End, SOME);
}

#[test]
fn nothing_is_touched_before_a_start() {
    survives("nothing_is_touched_before_a_start", At::Start, SOME);
}

#[test]
#[ignore = "a minute"]
fn nothing_is_touched_past_an_end_in_any_case() {
    survives("nothing_is_touched_past_an_end_in_any_case", At::End, 1);
}

#[test]
#[ignore = "a minute"]
fn nothing_is_touched_before_a_start_in_any_case() {
    survives("nothing_is_touched_before_a_start_in_any_case", At::Start, 1);
}

/// Bit by bit, and without guard pages: this is the sweep for sanitizers, which bring their own.
#[test]
fn results_do_not_depend_on_where_data_lie() {
    let backends = sweep::backends(1);
    let mut compared = 0;
    for text in sweep::cases().iter().step_by(SOME) {
        let case: Case = text.parse().unwrap();
        let (inputs, bare) = (case.inputs(), tensor::bare(|| case.inputs()));
        for backend in &backends {
            let aligned = sweep::run(backend.as_ref(), &case, &inputs);
            let bare = sweep::run_bare(backend.as_ref(), &case, &bare);
            assert!(aligned.guards_intact(), "{} on {case}", backend.id());
            assert!(aligned == bare, "{} on {case}: other results on bare tensors", backend.id());
            compared += 1;
        }
    }
    println!("{compared} results compared");
    assert!(compared > 0, "nothing was compared");
}

/// A kernel that goes astray, over operands and results as the sweep makes them.
fn astray(test: &str, at: At, problem: &str, stray: fn(&Inputs, &mut Outputs)) -> ExitStatus {
    let work = || {
        let problem: Problem = problem.parse().unwrap();
        against_guard_pages(at, || {
            tensor::bare(|| {
                let x = &problem.operands()[0];
                let inputs = Inputs::new(&problem, [("x", Tensor::zeros(x.element, &x.shape))]).unwrap();
                let kernel = |inputs: &Inputs, outputs: &mut Outputs| {
                    stray(inputs, outputs);
                    Ok(())
                };
                let mut prepared = HostPrepared::new(&problem, &inputs, kernel);
                prepared.load(&inputs).unwrap();
                prepared.run().unwrap();
            });
        });
    };
    apart(test, work).0
}

/// Each mistake dies of a signal, and what is nearest to it without being one lives.
macro_rules! strays {
    ($($name:ident: $at:expr, $problem:literal, wrong $wrong:expr, right $right:expr;)+) => { $(
        mod $name {
            use super::*;

            #[test]
            fn dies() {
                let status = astray(concat!(stringify!($name), "::dies"), $at, $problem, $wrong);
                assert!(status.signal().is_some_and(|signal| FAULT.contains(&signal)), "{status}");
            }

            #[test]
            fn its_neighbour_lives() {
                let status = astray(concat!(stringify!($name), "::its_neighbour_lives"), $at, $problem, $right);
                assert!(status.success(), "{status}");
            }
        }
    )+ };
}

fn x(inputs: &Inputs) -> Range<*const u8> {
    inputs.get("x").unwrap().bytes().as_ptr_range()
}

fn out(outputs: &mut Outputs) -> Range<*mut u8> {
    outputs.iter_mut().next().unwrap().1.bytes_mut().as_mut_ptr_range()
}

strays! {
    reading_past_an_end: At::End, "relu f32 shape=7",
        wrong |i, _| { peek(x(i).end); },
        right |i, _| { peek(x(i).end.wrapping_sub(1)); };
    reading_before_a_start: At::Start, "relu f16 shape=33",
        wrong |i, _| { peek(x(i).start.wrapping_sub(1)); },
        right |i, _| { peek(x(i).start); };
    writing_past_an_end: At::End, "relu bf16 shape=2049",
        wrong |_, o| poke(out(o).end),
        right |_, o| poke(out(o).end.wrapping_sub(1));
    writing_before_a_start: At::Start, "relu bf16 shape=1",
        wrong |_, o| poke(out(o).start.wrapping_sub(1)),
        right |_, o| poke(out(o).start);
    reading_what_was_given_back: At::End, "relu f32 shape=5",
        wrong |i, _| { let gone = x(&i.deep_clone()).start; peek(gone); },
        right |i, _| { let kept = i.deep_clone(); peek(x(&kept).start); };
}

/// What no page can see: a write into the gap that an alignment leaves behind an allocation.
#[test]
fn a_write_into_the_gap_of_an_alignment_dies() {
    let (status, _) = apart("a_write_into_the_gap_of_an_alignment_dies", || {
        against_guard_pages(At::End, || {
            // With its guard zones this is 64·8 + 7 bytes, aligned to 64.
            let mut tensor = Tensor::zeros(ElementType::Bool, &[7]);
            poke(tensor.surroundings_mut().as_mut_ptr_range().end);
        });
    });
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
}

/// What a sanitizer has to end. `scripts/sanitize` believes no tool that does not.
#[test]
#[ignore = "scripts/sanitize runs it, and wants it to die"]
fn a_sanitizer_sees_one_byte_too_far() {
    let tensor = tensor::bare(|| Tensor::zeros(ElementType::Bool, &[7]));
    peek(tensor.bytes().as_ptr_range().end);
}
