//! The line protocol between the driver and a timing worker, version 1.
//!
//! A worker is a process that computes problems with one backend at one thread count. It reads
//! requests from its standard input and writes replies to its standard output, each one line of
//! UTF-8 ended by a line feed. Standard output carries nothing else; standard error is free text
//! that the driver shows when the worker dies. The driver starts workers from its own executable only.
//!
//! ## A conversation
//! ```text
//! worker  touchstone-worker 1 backend=naive threads=1 isa=scalar version=0.1.0 device=Intel%20Xeon
//! driver  prepare 1 softmax f32 shape=4x1024 fill=normal seed=7
//! worker  prepared entries=1 bytes=32768 clock=wall contract=componentwise probabilities=f32 tables=f32 moments=two_pass flushes_subnormals=false allocation=reused path=naive
//! driver  run 1 100
//! worker  ran 2031877 waited=52
//! driver  outputs /tmp/outputs.safetensors
//! worker  wrote 1
//! driver  prepare 1 softmax f32 shape=4x0x fill=normal seed=7
//! worker  error shape=4x0x: expected dimensions such as 4x1024
//! driver  release
//! worker  released
//! driver  quit
//! worker  bye
//! ```
//!
//! ## Greeting
//! The worker speaks first: `touchstone-worker`, the version of the protocol, and fields saying
//! who it is ([`Greeting`]). A driver that does not know the version stops there.
//!
//! ## Requests and their replies
//! | request | reply | meaning |
//! |---|---|---|
//! | `prepare <entries> <case>` | `prepared …` | Builds the inputs of the case from its text alone and prepares `entries` copies of the problem that share no memory: 1 for a hot cache, more for a cold one. Replaces what was prepared before. Runs the problem at least once, so that no first-time cost is left: `first`, which may be missing, is what the very first call and its sync took. |
//! | | `unsupported <reason>` | The backend does not compute exactly this problem, or has not the memory for it. |
//! | `run <untimed> <timed>` | `ran <ns> waited=<ns>` | Runs `untimed` iterations and a sync, then takes the time of [`timed` iterations, one sync] in integer nanoseconds of a monotonic clock, or of the device's own where `prepared` has said `clock=device`. Each iteration takes the next entry in rotation, across requests too. `waited`, which may be missing, is the host's time in that last sync: next to none means that the device has been waiting for the host. |
//! | `audit <calls> <seed>` | `audited run=<ns> plain_run=<ns> plain_steady=<ns> load=<ns> copy=<ns> outputs=<ns> again=<ns> results=<ns> page=<ns>` | Times `calls` single runs, each on inputs that were loaded just before and differ from the last ones in one element ([`audit`](super::audit)). The results of the last two calls can then be had by `outputs`, the last first. |
//! | `outputs <path>` | `wrote <tensors>` | Writes the results of the last iteration to a new safetensors file at `path`, named as the problem names its results. |
//! | `release` | `released` | Frees what was prepared. |
//! | `memory <case>` | `memory <bytes>` | Frees what was prepared, and measures what one call needs beyond its operands and results. |
//! | | `unsupported <reason>` | The backend does not compute this problem, or its memory cannot be measured. |
//! | `peaks` | `peaks copy_gb_s=… f32_gflops=… f16_gflops=… bf16_gflops=…` | Measures what the backend's library reaches on its device in copying and in matrix products. |
//! | | `unsupported <reason>` | The device is the CPU, whose limits the driver measures. |
//! | `canary <passes>` | `ran <ns>` | Takes the time of so many passes over a loop that never changes ([`canary`](super::canary)). A worker that has none answers with an error. |
//! | `scatter <seed>` | `scattered` | From now on, each operand and result that `prepare` makes starts at a cache line of a page drawn from `seed`. A worker that cannot answers with an error. |
//! | `quit` | `bye` | Ends the worker. So does the end of its input. |
//!
//! Any request can be answered by `error <message>`; the worker lives on. Requests are answered
//! in order, one reply each. Unknown fields in a reply are ignored, so that fields can be added
//! without a new version.
//!
//! ## Text
//! Words are separated by single spaces. A reason, message or path runs to the end of its line.
//! In those and in the values of fields, control characters and `%` are written as the
//! percent-encoded bytes of their UTF-8 form; in values of fields spaces are too. The decoder takes any
//! percent-encoded byte.

mod text;

use std::fmt;
use std::str::FromStr;

use touchstone_kernels::{BackendId, BackendInfo, Clock, Declaration, DevicePeaks, Moments, ParseError};

use self::text::{Text, Value, decode};
use super::audit::Audit;

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// The first word of the greeting.
const GREETING: &str = "touchstone-worker";

/// What a driver asks of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Prepare copies of a problem.
    Prepare {
        /// Copies that share no memory: 1 for a hot cache.
        entries: usize,
        /// The text of a case, read by the worker.
        case: String,
    },
    /// Run it.
    Run {
        /// Iterations before the clock starts.
        untimed: u64,
        /// Iterations between start and stop.
        timed: u64,
    },
    /// Time single runs on inputs that are new in each.
    Audit {
        /// How many.
        calls: usize,
        /// Which elements change follows from this.
        seed: u64,
    },
    /// Write the results of the last iteration to a safetensors file.
    Outputs {
        /// Where.
        path: String,
    },
    /// Free what was prepared.
    Release,
    /// Measure the memory of one call.
    Memory {
        /// The text of a case, read by the worker.
        case: String,
    },
    /// Measure the limits of its device.
    Peaks,
    /// Run the loop that never changes.
    Canary {
        /// Passes between start and stop.
        passes: u64,
    },
    /// Let operands and results lie anywhere in a page.
    Scatter {
        /// Where follows from this.
        seed: u64,
    },
    /// End.
    Quit,
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To `prepare`.
    Prepared(Preparation),
    /// To `prepare`: the backend does not compute exactly this problem. To `peaks`: it has no device
    /// of its own. To `memory`: that cannot be measured.
    Unsupported {
        /// Why.
        reason: String,
    },
    /// To `run` and `canary`.
    Ran {
        /// Nanoseconds of the timed iterations together.
        ns: u64,
        /// Nanoseconds that the host spent in the last sync, if the worker says so.
        waited: Option<u64>,
    },
    /// To `audit`.
    Audited(Audit),
    /// To `outputs`.
    Wrote {
        /// Tensors in the file.
        tensors: usize,
    },
    /// To `release`.
    Released,
    /// To `memory`.
    Memory {
        /// Bytes beyond operands and results.
        extra: u64,
    },
    /// To `peaks`.
    Peaks(DevicePeaks),
    /// To `scatter`.
    Scattered,
    /// To `quit`.
    Bye,
    /// To anything.
    Error {
        /// What went wrong.
        message: String,
    },
}

/// The first line of a worker: who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The backend.
    pub backend: BackendId,
    /// Its version, device, instruction set and threads.
    pub info: BackendInfo,
}

/// What a worker has prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// Copies of the problem in rotation.
    pub entries: usize,
    /// Bytes of operands and results of all copies together: the working set of a rotation.
    pub bytes: u64,
    /// What the backend promises about its numerics on this problem.
    pub declaration: Declaration,
    /// The clock that slices are timed with.
    pub clock: Clock,
    /// Nanoseconds of preparing one copy, if the worker says so.
    pub prepare_ns: Option<u64>,
    /// Nanoseconds of the first call and its sync, if the worker says so.
    pub first_ns: Option<u64>,
}

/// A line that is not of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Another version.
    #[error("the worker speaks version {found} of the protocol, this driver version {VERSION}")]
    Version {
        /// The worker's version.
        found: String,
    },
    /// A line that cannot be understood.
    #[error("'{line}': expected {expected}")]
    Line {
        /// The line.
        line: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A field that is missing.
    #[error("'{line}': the field '{key}' is missing")]
    Missing {
        /// The line.
        line: String,
        /// The field.
        key: &'static str,
    },
    /// A value that cannot be understood.
    #[error(transparent)]
    Value(#[from] ParseError),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Prepare { entries, case } => write!(f, "prepare {entries} {}", Text(case)),
            Request::Run { untimed, timed } => write!(f, "run {untimed} {timed}"),
            Request::Audit { calls, seed } => write!(f, "audit {calls} {seed}"),
            Request::Outputs { path } => write!(f, "outputs {}", Text(path)),
            Request::Release => f.write_str("release"),
            Request::Memory { case } => write!(f, "memory {}", Text(case)),
            Request::Peaks => f.write_str("peaks"),
            Request::Canary { passes } => write!(f, "canary {passes}"),
            Request::Scatter { seed } => write!(f, "scatter {seed}"),
            Request::Quit => f.write_str("quit"),
        }
    }
}

impl FromStr for Request {
    type Err = ProtocolError;

    fn from_str(line: &str) -> Result<Self, ProtocolError> {
        let wrong = |expected| ProtocolError::Line { line: line.into(), expected };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "prepare" => {
                let expected = "prepare <entries, at least 1> <case>";
                let (entries, case) = rest.split_once(' ').ok_or_else(|| wrong(expected))?;
                let entries = entries.parse().ok().filter(|&n| n > 0).ok_or_else(|| wrong(expected))?;
                Ok(Request::Prepare { entries, case: decode(case).ok_or_else(|| wrong(expected))? })
            }
            "run" => {
                let expected = "run <untimed iterations> <timed iterations, at least 1>";
                let (untimed, timed) = rest.split_once(' ').ok_or_else(|| wrong(expected))?;
                let timed = timed.parse().ok().filter(|&n| n > 0);
                match (untimed.parse(), timed) {
                    (Ok(untimed), Some(timed)) => Ok(Request::Run { untimed, timed }),
                    _ => Err(wrong(expected)),
                }
            }
            "audit" => {
                let expected = "audit <calls, at least 1> <seed>";
                let (calls, seed) = rest.split_once(' ').ok_or_else(|| wrong(expected))?;
                match (calls.parse().ok().filter(|&n| n > 0), seed.parse()) {
                    (Some(calls), Ok(seed)) => Ok(Request::Audit { calls, seed }),
                    _ => Err(wrong(expected)),
                }
            }
            "outputs" => {
                let path = decode(rest).filter(|path| !path.is_empty());
                path.map(|path| Request::Outputs { path }).ok_or_else(|| wrong("outputs <path>"))
            }
            "release" if rest.is_empty() => Ok(Request::Release),
            "memory" => {
                let case = decode(rest).filter(|case| !case.is_empty());
                case.map(|case| Request::Memory { case }).ok_or_else(|| wrong("memory <case>"))
            }
            "peaks" if rest.is_empty() => Ok(Request::Peaks),
            "canary" => {
                let passes = rest.parse().ok().filter(|&n| n > 0);
                let passes = passes.ok_or_else(|| wrong("canary <passes, at least 1>"))?;
                Ok(Request::Canary { passes })
            }
            "scatter" => {
                let seed = rest.parse().map_err(|_| wrong("scatter <seed>"))?;
                Ok(Request::Scatter { seed })
            }
            "quit" if rest.is_empty() => Ok(Request::Quit),
            _ => Err(wrong("prepare, run, audit, outputs, release, memory, peaks, canary, scatter or quit")),
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Response::Prepared(preparation) => preparation.fmt(f),
            Response::Unsupported { reason } => write!(f, "unsupported {}", Text(reason)),
            Response::Ran { ns, waited: None } => write!(f, "ran {ns}"),
            Response::Ran { ns, waited: Some(waited) } => write!(f, "ran {ns} waited={waited}"),
            Response::Audited(audit) => {
                let Audit { run_ns, plain_run_ns, plain_steady_ns, load_ns, copy_ns, .. } = audit;
                let Audit { outputs_ns, again_ns, results_ns, page_ns, .. } = audit;
                write!(f, "audited run={run_ns} plain_run={plain_run_ns} plain_steady={plain_steady_ns} ")?;
                write!(f, "load={load_ns} copy={copy_ns} outputs={outputs_ns} again={again_ns} ")?;
                write!(f, "results={results_ns} page={page_ns}")
            }
            Response::Wrote { tensors } => write!(f, "wrote {tensors}"),
            Response::Released => f.write_str("released"),
            Response::Memory { extra } => write!(f, "memory {extra}"),
            Response::Peaks(DevicePeaks { copy_gb_s, f32_gflops, f16_gflops, bf16_gflops }) => {
                write!(f, "peaks copy_gb_s={copy_gb_s} f32_gflops={f32_gflops} ")?;
                write!(f, "f16_gflops={f16_gflops} bf16_gflops={bf16_gflops}")
            }
            Response::Scattered => f.write_str("scattered"),
            Response::Bye => f.write_str("bye"),
            Response::Error { message } => write!(f, "error {}", Text(message)),
        }
    }
}

impl FromStr for Response {
    type Err = ProtocolError;

    fn from_str(line: &str) -> Result<Self, ProtocolError> {
        let wrong = |expected| ProtocolError::Line { line: line.into(), expected };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let text = |expected| decode(rest).ok_or_else(|| wrong(expected));
        match word {
            "prepared" => line.parse().map(Response::Prepared),
            "unsupported" => Ok(Response::Unsupported { reason: text("unsupported <reason>")? }),
            "ran" => {
                let ns = rest.split(' ').next().and_then(|ns| ns.parse().ok());
                let ns = ns.ok_or_else(|| wrong("ran <nanoseconds>"))?;
                Ok(Response::Ran { ns, waited: ReplyFields { line }.optional("waited")? })
            }
            "audited" => {
                let fields = ReplyFields { line };
                Ok(Response::Audited(Audit {
                    run_ns: fields.number("run")?,
                    plain_run_ns: fields.number("plain_run")?,
                    plain_steady_ns: fields.number("plain_steady")?,
                    load_ns: fields.number("load")?,
                    copy_ns: fields.number("copy")?,
                    outputs_ns: fields.number("outputs")?,
                    again_ns: fields.number("again")?,
                    results_ns: fields.number("results")?,
                    page_ns: fields.number("page")?,
                }))
            }
            "wrote" => Ok(Response::Wrote { tensors: rest.parse().map_err(|_| wrong("wrote <tensors>"))? }),
            "released" if rest.is_empty() => Ok(Response::Released),
            "memory" => Ok(Response::Memory { extra: rest.parse().map_err(|_| wrong("memory <bytes>"))? }),
            "peaks" => {
                let fields = ReplyFields { line };
                Ok(Response::Peaks(DevicePeaks {
                    copy_gb_s: fields.number("copy_gb_s")?,
                    f32_gflops: fields.number("f32_gflops")?,
                    f16_gflops: fields.number("f16_gflops")?,
                    bf16_gflops: fields.number("bf16_gflops")?,
                }))
            }
            "scattered" if rest.is_empty() => Ok(Response::Scattered),
            "bye" if rest.is_empty() => Ok(Response::Bye),
            "error" => Ok(Response::Error { message: text("error <message>")? }),
            _ => Err(wrong(
                "prepared, unsupported, ran, audited, wrote, released, memory, peaks, scattered, bye or error",
            )),
        }
    }
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackendInfo { version, device, isa, threads } = &self.info;
        write!(f, "{GREETING} {VERSION} backend={} threads={threads} ", self.backend)?;
        write!(f, "isa={} version={} device={}", Value(isa), Value(version), Value(device))
    }
}

impl FromStr for Greeting {
    type Err = ProtocolError;

    fn from_str(line: &str) -> Result<Self, ProtocolError> {
        let wrong = || ProtocolError::Line {
            line: line.into(),
            expected: "touchstone-worker <version> backend=… threads=… isa=… version=… device=…",
        };
        let rest = line.strip_prefix(GREETING).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(wrong)?;
        let version = rest.split(' ').next().unwrap_or_default();
        if version.parse() != Ok(VERSION) {
            return Err(ProtocolError::Version { found: version.into() });
        }
        let fields = ReplyFields { line };
        Ok(Greeting {
            backend: fields.parse("backend")?,
            info: BackendInfo {
                version: fields.text("version")?,
                device: fields.text("device")?,
                isa: fields.text("isa")?,
                threads: fields.number("threads")?,
            },
        })
    }
}

impl fmt::Display for Preparation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Declaration { contract, probabilities, tables, moments, flushes_subnormals, allocation, path } =
            &self.declaration;
        write!(f, "prepared entries={} bytes={} clock={} ", self.entries, self.bytes, self.clock)?;
        if let Some(ns) = self.prepare_ns {
            write!(f, "prepare={ns} ")?;
        }
        if let Some(ns) = self.first_ns {
            write!(f, "first={ns} ")?;
        }
        write!(f, "contract={contract} ")?;
        write!(f, "probabilities={probabilities} tables={tables} moments={moments} ")?;
        write!(f, "flushes_subnormals={flushes_subnormals} allocation={allocation} path={}", Value(path))
    }
}

impl FromStr for Preparation {
    type Err = ProtocolError;

    fn from_str(line: &str) -> Result<Self, ProtocolError> {
        let fields = ReplyFields { line };
        Ok(Preparation {
            entries: fields.number("entries")?,
            bytes: fields.number("bytes")?,
            declaration: Declaration {
                contract: fields.parse("contract")?,
                probabilities: fields.parse("probabilities")?,
                tables: fields.parse("tables")?,
                moments: fields.optional("moments")?.unwrap_or(Moments::TwoPass),
                flushes_subnormals: fields.number("flushes_subnormals")?,
                allocation: fields.parse("allocation")?,
                path: fields.text("path")?.into(),
            },
            clock: fields.optional("clock")?.unwrap_or(Clock::Wall),
            prepare_ns: fields.optional("prepare")?,
            first_ns: fields.optional("first")?,
        })
    }
}

/// The `key=value` words of a reply.
struct ReplyFields<'a> {
    line: &'a str,
}

impl ReplyFields<'_> {
    fn text(&self, key: &'static str) -> Result<String, ProtocolError> {
        self.line
            .split(' ')
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .and_then(decode)
            .ok_or_else(|| ProtocolError::Missing { line: self.line.into(), key })
    }

    fn parse<T: FromStr<Err = ParseError>>(&self, key: &'static str) -> Result<T, ProtocolError> {
        Ok(self.text(key)?.parse()?)
    }

    /// A number or a word that may be missing.
    fn optional<T: FromStr>(&self, key: &'static str) -> Result<Option<T>, ProtocolError> {
        match self.text(key) {
            Err(ProtocolError::Missing { .. }) => Ok(None),
            _ => self.number(key).map(Some),
        }
    }

    /// A number, truth value or word.
    fn number<T: FromStr>(&self, key: &'static str) -> Result<T, ProtocolError> {
        let text = self.text(key)?;
        text.parse().map_err(|_| {
            let expected = "another value".into();
            ParseError::Value { key: key.into(), found: text, expected }.into()
        })
    }
}

#[cfg(test)]
mod tests;
