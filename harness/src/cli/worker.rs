//! `touchstone worker`: a backend behind the timing protocol, started by the driver.

use clap::Args;

use super::{MakeRegistry, Verdict};
use crate::timing::{configure_threads, serve};

/// Answer the timing protocol on standard input and output
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The backend
    #[arg(long)]
    backend: String,
    /// Threads it may use
    #[arg(long)]
    threads: usize,
}

pub(super) fn run(arguments: &Arguments, registry: MakeRegistry) -> anyhow::Result<Verdict> {
    configure_threads(arguments.threads)?;
    serve(&registry(arguments.threads), &arguments.backend, std::io::stdin().lock(), std::io::stdout())?;
    Ok(Verdict::Ok)
}
