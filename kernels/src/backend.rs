//! The trait behind which every implementation stands.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::device::{DevicePeaks, Stopwatch};
use crate::error::{BackendError, ParseError};
use crate::operands::{Inputs, Outputs};
use crate::problem::Problem;
use crate::unstated::{Habit, Unstated};

/// The name of a backend: `naive`, `simd/avx2`, `candle/cpu`, `libtorch/cuda:0`.
///
/// The part before the slash is the implementation, the part after it the device or the
/// instruction set. A third part asks for one of several kernels of a library: `libtorch/cpu/math`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(Cow<'static, str>);

impl BackendId {
    /// A name known at compile time.
    pub const fn new(id: &'static str) -> Self {
        BackendId(Cow::Borrowed(id))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The implementation: the part before the slash.
    pub fn implementation(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The device or instruction set: the part after the slash, or nothing.
    pub fn place(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }

    /// Whether this asks for one of several kernels that the library would choose from by itself.
    pub fn is_choice(&self) -> bool {
        self.0.split('/').nth(2).is_some()
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BackendId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "/:_-.".contains(c);
        if text.is_empty() || !text.chars().all(legal) {
            return Err(ParseError::Value {
                key: "backend".into(),
                found: text.into(),
                expected: "a name such as naive, simd/avx2 or candle/cuda:0".into(),
            });
        }
        Ok(BackendId(Cow::Owned(text.into())))
    }
}

/// Who allocates the results, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Once, before the timed region.
    Reused,
    /// By the library, in every call.
    PerCall,
}

crate::named_enum!(Allocation, "allocation", {
    Allocation::Reused => "reused",
    Allocation::PerCall => "per_call",
});

/// What a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Version of the implementation or library.
    pub version: String,
    /// The device it runs on: `cpu`, or one such as `cuda:0`.
    pub device: String,
    /// The instruction set it uses, as far as it is known.
    pub isa: String,
    /// Threads it may use.
    pub threads: usize,
}

impl BackendInfo {
    /// Whether it runs on the processor, and not on a device with memory of its own.
    pub fn is_on_cpu(&self) -> bool {
        self.device == "cpu"
    }
}

/// How accurate a backend promises to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// Every element within its own error bound.
    Componentwise,
    /// Every error within the bound of the largest magnitude in its row: small results may be
    /// relatively wrong.
    Normwise,
}

crate::named_enum!(Contract, "contract", {
    Contract::Componentwise => "componentwise",
    Contract::Normwise => "normwise",
});

/// To which type an intermediate value is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounded {
    /// f32.
    F32,
    /// The storage type of the problem.
    Storage,
}

crate::named_enum!(Rounded, "rounding", {
    Rounded::F32 => "f32",
    Rounded::Storage => "storage",
});

/// How the mean and variance of a norm come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// In two passes, the variance about a mean that is already there, or in one about a pivot that is as near to
    /// it: no error of the order of the squared mean.
    TwoPass,
    /// In one, about a mean that moves with it (Welford 1962).
    Running,
}

crate::named_enum!(Moments, "moments", {
    Moments::TwoPass => "two_pass",
    Moments::Running => "running",
});

/// What a backend declares about its numerics on one problem. It enters the error bound, and
/// every report shows it: a backend cannot slip to a weaker promise silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// How results are judged.
    pub contract: Contract,
    /// Rounding of the attention probabilities before the product with V.
    pub probabilities: Rounded,
    /// Rounding of RoPE's tables.
    pub tables: Rounded,
    /// How a norm comes to its mean and variance.
    pub moments: Moments,
    /// Whether results below the smallest normal may be flushed to zero.
    pub flushes_subnormals: bool,
    /// Who allocates the results.
    pub allocation: Allocation,
    /// Which path runs: `fused`, `composed`, a kernel's name.
    pub path: Cow<'static, str>,
}

impl Declaration {
    /// The strictest promise: componentwise, everything in f32, moments in two passes, subnormals kept,
    /// results reused.
    pub const fn strict(path: &'static str) -> Self {
        Declaration {
            contract: Contract::Componentwise,
            probabilities: Rounded::F32,
            tables: Rounded::F32,
            moments: Moments::TwoPass,
            flushes_subnormals: false,
            allocation: Allocation::Reused,
            path: Cow::Borrowed(path),
        }
    }

    /// What a library promises: normwise, results allocated in each call.
    pub fn library(path: impl Into<Cow<'static, str>>) -> Self {
        Declaration {
            contract: Contract::Normwise,
            allocation: Allocation::PerCall,
            path: path.into(),
            ..Declaration::strict("")
        }
    }

    /// The numerics that are declared beyond an accumulation in f32 or wider, in a few words for reports.
    /// Nothing where nothing is declared: what a kernel does inside is not known.
    pub fn numerics(&self) -> String {
        let mut words = Vec::new();
        if self.probabilities == Rounded::Storage {
            words.push("P in the storage type");
        }
        if self.tables == Rounded::Storage {
            words.push("tables in the storage type");
        }
        if self.moments == Moments::Running {
            words.push("running moments");
        }
        if self.flushes_subnormals {
            words.push("subnormals flushed");
        }
        words.join(", ")
    }
}

/// Whether a backend can compute a problem with exactly its semantics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It can.
    Yes,
    /// It cannot, and why: a real limit of the implementation, in words for its users.
    No(Cow<'static, str>),
}

impl Support {
    /// It has no kernel for the operation of that name.
    pub fn no_kernel(backend: &str, op: &str) -> Self {
        Support::No(format!("{backend} has no {op}").into())
    }

    /// The reason against it, if there is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Support::Yes => None,
            Support::No(reason) => Some(reason),
        }
    }
}

/// An implementation on one device, instruction set and thread count.
///
/// Semantics live in the problem. A backend that cannot do exactly those answers
/// [`Support::No`]; it never approximates them by something similar. Where a library's fused
/// operation means something else, the backend composes the library's primitives and says so in
/// its [`Declaration::path`].
pub trait Backend: Send + Sync {
    /// Its name.
    fn id(&self) -> &BackendId;

    /// Version, device, instruction set, threads.
    fn info(&self) -> BackendInfo;

    /// Whether it computes this problem. Pure and cheap.
    fn supports(&self, problem: &Problem) -> Support;

    /// What it promises about its numerics on this problem. Pure and cheap.
    fn declares(&self, problem: &Problem) -> Declaration;

    /// Binds weights and plans: packs, folds and uploads them, allocates what can be allocated, builds
    /// tables. Its time is shown, and no part of the kernel's.
    ///
    /// The data operands of `bound` have their shapes and hold NaN ([`Inputs::without_data`]): what they
    /// are is not known before [`Prepared::load`], so that nothing can be computed from them here.
    ///
    /// # Errors
    /// [`BackendError`] when the problem is not supported or the library fails.
    fn prepare(&self, problem: &Problem, bound: &Inputs) -> Result<Box<dyn Prepared>, BackendError>;

    /// Prepares, and loads the data: what can then be run.
    ///
    /// # Errors
    /// [`BackendError`] of either.
    fn ready(&self, problem: &Problem, inputs: &Inputs) -> Result<Box<dyn Prepared>, BackendError> {
        let mut prepared = self.prepare(problem, &inputs.without_data())?;
        prepared.load(inputs)?;
        Ok(prepared)
    }

    /// Measures what its library reaches on its device, in about a second. Nothing where the device
    /// is the CPU, whose limits are measured without any library.
    ///
    /// # Errors
    /// [`BackendError`] when the library fails.
    fn peaks(&self) -> Result<Option<DevicePeaks>, BackendError> {
        Ok(None)
    }

    /// What the implementation's own function does where a call leaves a choice to it. `problem`
    /// gives the shapes, and its choice in that matter is ignored.
    ///
    /// # Errors
    /// [`BackendError`] when the library fails or refuses.
    fn unstated(&self, call: Unstated, problem: &Problem, inputs: &Inputs) -> Result<Habit, BackendError> {
        let _ = (call, problem, inputs);
        Ok(Habit::Asks)
    }
}

/// A problem on its device: load, run, sync, look at the outputs, and again.
pub trait Prepared {
    /// Copies the data operands of `data` to where the kernel reads them, as often as it is called. It
    /// is a copy and nothing more: its time is shown beside that of copying as many bytes.
    ///
    /// # Errors
    /// [`BackendError`] when the library fails or the operands do not fit.
    fn load(&mut self, data: &Inputs) -> Result<(), BackendError>;

    /// Computes the results once: with [`sync`](Prepared::sync), the only call in the timed
    /// region. May return before the device is done.
    ///
    /// # Errors
    /// [`BackendError`] when the library fails.
    fn run(&mut self) -> Result<(), BackendError>;

    /// Returns when all enqueued work is done.
    ///
    /// # Errors
    /// [`BackendError`] when the library fails.
    fn sync(&mut self) -> Result<(), BackendError>;

    /// Downloads the results of the last run. Its time is shown beside that of doing it again.
    ///
    /// # Errors
    /// [`BackendError`] when the library fails.
    fn outputs(&mut self) -> Result<Outputs, BackendError>;

    /// The operands as the kernel sees them, where they lie in host memory: to prove that no run has
    /// changed them or written around them.
    fn operands(&self) -> Option<&Inputs> {
        None
    }

    /// The clock of the device's queue, where it can be read; the host's is taken otherwise.
    fn stopwatch(&self) -> Option<Box<dyn Stopwatch>> {
        None
    }

    /// The path that runs, where the library decides on the device. It then replaces
    /// [`Declaration::path`].
    fn path(&self) -> Option<Cow<'static, str>> {
        None
    }
}
