//! The `touchstone` command.
//!
//! One file per command. Standard output carries only what was asked for; progress and
//! complaints go to standard error.

mod alone;
mod audit;
mod baseline;
mod bench;
mod bitwise;
mod check;
mod compare;
mod diff;
mod dump;
mod eval;
mod explore;
mod gate;
mod history;
mod invariants;
mod list;
mod node_tests;
mod output;
mod plan;
mod report;
mod repro;
mod resume;
mod roofline;
mod select;
mod selftest;
mod sweep;
mod verdicts;
mod worker;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use touchstone_kernels::Registry;

/// Is a transformer kernel right, and how fast is it, honestly?
///
/// Checks kernels against a float64 oracle with error bounds derived per element, times what is
/// right in interleaved worker processes, and writes reports.
#[derive(Debug, Parser)]
#[command(name = "touchstone", version, max_term_width = 100)]
#[command(after_help = "Exit status: 0 ok, 1 usage or input/output or interrupted, 2 wrong results,\n\
    of gate also 3 slower, 4 inconclusive, 5 not comparable.\n\n\
    Examples:\n  touchstone compare\n  touchstone check --suite smoke --backend simd --op norm\n  \
    touchstone repro 'softmax bf16 shape=2x1024 fill=constant seed=1' --backend candle/cpu")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Arguments),
    Check(check::Arguments),
    Bench(bench::Arguments),
    Compare(compare::Arguments),
    Report(report::Arguments),
    Diff(diff::Arguments),
    History(history::Arguments),
    Gate(gate::Arguments),
    Repro(repro::Arguments),
    Eval(eval::Arguments),
    Selftest(selftest::Arguments),
    Sweep(sweep::Arguments),
    Roofline(roofline::Arguments),
    #[command(hide = true)]
    Worker(worker::Arguments),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should.
    Ok,
    /// Wrong results.
    Wrong,
    /// Interrupted by the user.
    Interrupted,
    /// Right, and slower than the base.
    Slower,
    /// Nobody can tell.
    Inconclusive,
    /// There is nothing to compare.
    NotComparable,
}

/// Makes a registry for a thread count.
type MakeRegistry<'a> = &'a (dyn Fn(usize) -> Registry + Sync);

/// Runs the command line of this process over the backends of `registry`, which is asked for a
/// registry at each thread count. This is the whole `main` of a program with its own backends:
///
/// ```no_run
/// use touchstone_kernels::Registry;
///
/// fn main() -> std::process::ExitCode {
///     touchstone_harness::cli::run(|threads| {
///         let registry = Registry::standard(threads);
///         // registry.add(MyBackend::new(threads));
///         registry
///     })
/// }
/// ```
pub fn run(registry: impl Fn(usize) -> Registry + Sync) -> ExitCode {
    let program = std::env::args_os().next().map_or_else(String::new, |name| name.to_string_lossy().into());
    // What is not Unicode is left to clap's own complaint.
    let given = std::env::args_os().skip(1).map(|argument| argument.into_string().ok());
    let completed = match given.collect::<Option<Vec<String>>>().map(resume::completed) {
        None => None,
        Some(Ok(arguments)) => Some(arguments),
        Some(Err(error)) => {
            eprintln!("touchstone: {:#}", anyhow::Error::from(error).context("cannot resume the run"));
            return ExitCode::from(1);
        }
    };
    let parsed = match completed {
        Some(arguments) => Cli::try_parse_from(std::iter::once(program).chain(arguments)),
        None => Cli::try_parse(),
    };
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            return usage(&error);
        }
    };
    let registry: MakeRegistry = &registry;
    let result = match cli.command {
        Command::List(arguments) => list::run(&arguments, registry),
        Command::Check(arguments) => check::run(&arguments, registry),
        Command::Bench(arguments) => bench::run(&arguments, registry),
        Command::Compare(arguments) => compare::run(&arguments, registry),
        Command::Report(arguments) => report::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::History(arguments) => history::run(&arguments),
        Command::Gate(arguments) => gate::run(&arguments),
        Command::Repro(arguments) => repro::run(&arguments, registry),
        Command::Eval(arguments) => eval::run(&arguments, registry),
        Command::Selftest(arguments) => selftest::run(&arguments),
        Command::Sweep(arguments) => sweep::run(&arguments, registry),
        Command::Roofline(arguments) => roofline::run(registry, &arguments),
        Command::Worker(arguments) => worker::run(&arguments, registry),
    };
    match result {
        Ok(Verdict::Ok) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::from(2),
        Ok(Verdict::Interrupted) => ExitCode::from(1),
        Ok(Verdict::Slower) => ExitCode::from(3),
        Ok(Verdict::Inconclusive) => ExitCode::from(4),
        Ok(Verdict::NotComparable) => ExitCode::from(5),
        // A reader that has seen enough (`touchstone list | head`) is no error.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("touchstone: {}", output::shown_error(&error));
            ExitCode::from(1)
        }
    }
}

/// Says what is wrong with the arguments, in one line like every other complaint. Help and version
/// are answers; everything else is a usage error, which is 1 here.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
    }
    let text = error.to_string();
    // What follows the first paragraph is the usage, which --help shows better.
    let paragraph = text.split("\n\n").next().unwrap_or(&text);
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("touchstone: {} (see --help)", line.strip_prefix("error: ").unwrap_or(&line));
    ExitCode::from(1)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Set by Ctrl-C. A second one ends the process at once.
static STOP: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C end long work in good order.
fn stop_on_ctrl_c() -> &'static AtomicBool {
    // Without a handler Ctrl-C ends the process, which loses no row either.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step; Ctrl-C again ends at once");
    });
    &STOP
}
