//! `environment.toml`: the machine and the software behind a run.
//!
//! Every field has a default, so files of older versions are read; unknown keys are ignored, so
//! files of newer versions are too.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::record::{Record, SCHEMA_VERSION};
use crate::store::StoreError;

/// Name of the file within a run directory.
pub const ENVIRONMENT_FILE: &str = "environment.toml";

/// Where and with what a run was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// [`SCHEMA_VERSION`] at the time of writing.
    pub schema: u32,
    /// See [`crate::Record::run_id`].
    pub run_id: String,
    /// The command line that made the run.
    pub command: String,
    /// Its arguments one by one, so that the run can be continued with the same selection.
    pub arguments: Vec<String>,
    /// Seeds used. Written as text, because TOML integers have 63 bits.
    #[serde(with = "seeds_as_text")]
    pub seeds: Vec<u64>,
    /// The machine.
    pub machine: Machine,
    /// The software.
    pub software: Software,
    /// Every backend asked for, present or not.
    pub backends: Vec<BackendEntry>,
    /// Measured limits, one entry per thread count.
    pub roofline: Vec<RooflineEntry>,
}

/// The machine; its host name is left out on purpose, records are meant to be shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Cores available to the run.
    pub cores: Option<u32>,
    /// Main memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Operating system.
    pub os: String,
    /// Its kernel.
    pub kernel: String,
    /// Caches in words, such as `L1d 32 KiB, L2 512 KiB, L3 32 MiB`.
    pub caches: String,
}

impl Machine {
    /// What makes two machines one for a comparison of times: processor, cores and caches. Empty where
    /// nothing is known.
    #[must_use]
    pub fn identity(&self) -> String {
        let cores = self.cores.map(|cores| format!("{cores} cores")).unwrap_or_default();
        let parts = [self.cpu.as_str(), &cores, self.caches.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

/// The software that made the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Software {
    /// Version of Touchstone.
    pub touchstone: String,
    /// See [`crate::Record::git_revision`].
    pub git_revision: String,
    /// See [`crate::Record::git_dirty`].
    pub git_dirty: bool,
    /// See [`crate::Record::rustc`].
    pub rustc: String,
    /// Cargo features it was built with.
    pub features: Vec<String>,
}

/// One backend, present or absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendEntry {
    /// Backend id.
    pub id: String,
    /// Whether it could run on this machine.
    pub present: bool,
    /// If not, why: not compiled, no driver, no device, or the CPU lacks it.
    pub reason: String,
    /// Version of its library.
    pub version: String,
    /// Device it runs on.
    pub device: String,
    /// Instruction set it uses.
    pub isa: String,
    /// Threads it was given.
    pub threads: Option<u32>,
    /// How it allocates outputs.
    pub allocation: String,
    /// What it declares about its arithmetic.
    pub numerics: String,
}

/// Limits of the machine as measured by `touchstone roofline` with one thread count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RooflineEntry {
    /// Threads the limits were measured with; 0 on a device, where they do not matter.
    pub threads: u32,
    /// `cpu`, or a device such as `cuda:0`; empty means `cpu`.
    pub device: String,
    /// Fused multiply-add peak in GFLOP/s (f32; a multiply-add counts twice). On a device: matrix
    /// products of f32.
    pub fma_gflops: Option<f64>,
    /// Matrix products of f16 in GFLOP/s, on a device.
    pub f16_gflops: Option<f64>,
    /// Matrix products of bf16 in GFLOP/s, on a device.
    pub bf16_gflops: Option<f64>,
    /// Read bandwidth out of main memory, in GB/s.
    pub read_gb_s: Option<f64>,
    /// Copy bandwidth in main memory, read and written bytes, in GB/s.
    pub copy_gb_s: Option<f64>,
    /// The same with non-temporal stores.
    pub nt_copy_gb_s: Option<f64>,
    /// Read bandwidth in the last-level cache, in GB/s.
    pub cache_read_gb_s: Option<f64>,
    /// Copy bandwidth in the last-level cache, in GB/s.
    pub cache_copy_gb_s: Option<f64>,
}

impl RooflineEntry {
    /// Whether a row was measured where these limits were.
    #[must_use]
    pub fn applies_to(&self, record: &Record) -> bool {
        let is_cpu = self.device.is_empty() || self.device == "cpu";
        if is_cpu {
            record.device == "cpu" && record.threads == self.threads
        } else {
            record.device == self.device
        }
    }

    /// The best rate of arithmetic in any type.
    #[must_use]
    pub fn peak_gflops(&self) -> Option<f64> {
        [self.fma_gflops, self.f16_gflops, self.bf16_gflops].into_iter().flatten().reduce(f64::max)
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            schema: SCHEMA_VERSION,
            run_id: String::new(),
            command: String::new(),
            arguments: Vec::new(),
            seeds: Vec::new(),
            machine: Machine::default(),
            software: Software::default(),
            backends: Vec::new(),
            roofline: Vec::new(),
        }
    }
}

impl Environment {
    /// Reads `environment.toml` from a run directory, or a file of that format.
    /// `Ok(None)` if there is none: records alone are still a report.
    ///
    /// # Errors
    /// The file exists but cannot be read, or is not TOML of this shape (with line and column).
    pub fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = if path.is_dir() { path.join(ENVIRONMENT_FILE) } else { path.to_owned() };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { path: file, source }),
        };
        toml::from_str(&text)
            .map(Some)
            .map_err(|error| StoreError::Environment { message: one_line(&text, &error), path: file })
    }

    /// Reads the environment that belongs to a record file or run directory, as given to
    /// [`crate::store::read_records`].
    ///
    /// # Errors
    /// As [`Environment::read`].
    pub fn beside(path: &Path) -> Result<Option<Self>, StoreError> {
        if path.is_dir() {
            return Self::read(path);
        }
        Self::read(&path.with_file_name(ENVIRONMENT_FILE))
    }

    /// Writes `environment.toml` into a run directory, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(ENVIRONMENT_FILE);
        let text = toml::to_string(self)
            .map_err(|error| StoreError::Environment { path: path.clone(), message: error.to_string() })?;
        crate::store::write_whole(&path, text.as_bytes())
    }
}

/// TOML errors draw the line they complain about; our errors are one line and name its number.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}: {}", error.message().replace('\n', ", "))
}

mod seeds_as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seed {
        Number(u64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(seeds: &[u64], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(seeds.iter().map(u64::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u64>, D::Error> {
        Vec::<Seed>::deserialize(input)?
            .into_iter()
            .map(|seed| match seed {
                Seed::Number(number) => Ok(number),
                Seed::Text(text) => text
                    .parse()
                    .map_err(|_| D::Error::custom(format!("seed `{text}` is not an unsigned integer"))),
            })
            .collect()
    }
}
