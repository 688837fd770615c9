//! `touchstone worker`: a backend behind the timing protocol, started by the driver.

use clap::Args;

use super::select::threads;
use super::{MakeRegistry, Verdict};
use crate::gate::inject::{Injection, injected};
use crate::selftest::cheats;
use crate::timing::{configure_threads, serve};

/// Answer the timing protocol on standard input and output
///
/// For drivers: `bench` and `compare` start workers by themselves.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The backend
    #[arg(long, value_name = "NAME")]
    backend: String,
    /// Threads it may use
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: usize,
    /// Faults that `gate` proves itself with
    #[arg(long, value_name = "FAULT PROBLEM", hide = true)]
    inject: Vec<Injection>,
    /// Kernels that cheat the stopwatch, which `selftest` proves itself with, instead of all others
    #[arg(long, hide = true, conflicts_with = "inject")]
    cheats: bool,
}

pub(super) fn run(arguments: &Arguments, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    configure_threads(arguments.threads)?;
    let registry = if arguments.cheats {
        cheats::registry()
    } else {
        injected(registry(arguments.threads), &arguments.backend, &arguments.inject)
    };
    serve(&registry, &arguments.backend, std::io::stdin().lock(), std::io::stdout())?;
    Ok(Verdict::Ok)
}
