//! Every backend of this build, and the reason for each one that is absent.

use std::sync::Arc;

use crate::backend::{Backend, BackendId};

/// A backend that exists, but not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Its name.
    pub id: BackendId,
    /// Why it is not here: not compiled, no driver, no device, the CPU lacks the instructions.
    pub reason: String,
}

/// The backends of this build at one thread count.
#[derive(Clone)]
pub struct Registry {
    present: Vec<Arc<dyn Backend>>,
    absent: Vec<Absent>,
}

impl Registry {
    /// No backends.
    pub fn empty() -> Self {
        Registry { present: Vec::new(), absent: Vec::new() }
    }

    /// Every backend that this crate has, each using `threads` threads.
    pub fn standard(threads: usize) -> Self {
        let mut registry = Registry::empty();
        crate::naive::register(&mut registry);
        crate::simd::register(&mut registry, threads);
        #[cfg(feature = "candle")]
        crate::candle::register(&mut registry, threads);
        #[cfg(not(feature = "candle"))]
        registry.add_absent("candle/cpu", "not compiled: build with --features candle");
        #[cfg(feature = "libtorch")]
        crate::libtorch::register(&mut registry, threads);
        #[cfg(not(feature = "libtorch"))]
        registry.add_absent(
            "libtorch/cpu",
            "not compiled: run scripts/setup-libtorch and build with --features libtorch",
        );
        #[cfg(feature = "onnxruntime")]
        crate::onnxruntime::register(&mut registry, threads);
        #[cfg(not(feature = "onnxruntime"))]
        registry.add_absent(
            "onnxruntime/cpu",
            "not compiled: run scripts/setup-onnxruntime and build with --features onnxruntime",
        );
        registry
    }

    /// Adds a backend.
    pub fn add(&mut self, backend: impl Backend + 'static) {
        self.present.push(Arc::new(backend));
    }

    /// Adds the reason why a backend is not here.
    pub fn add_absent(&mut self, id: &'static str, reason: impl Into<String>) {
        self.absent.push(Absent { id: BackendId::new(id), reason: reason.into() });
    }

    /// The backends that can run.
    pub fn present(&self) -> &[Arc<dyn Backend>] {
        &self.present
    }

    /// Those that can run and are whole implementations, not a single kernel of one.
    pub fn whole(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.present.iter().filter(|backend| !backend.id().is_choice())
    }

    /// The backends that cannot, with reasons.
    pub fn absent(&self) -> &[Absent] {
        &self.absent
    }

    /// The backend of that name. An implementation alone (`simd`, `candle`) names the first of
    /// its backends, which is its best: the widest instruction set, the CPU before devices.
    pub fn find(&self, name: &str) -> Option<&Arc<dyn Backend>> {
        let exact = self.present.iter().find(|b| b.id().as_str() == name);
        exact.or_else(|| self.present.iter().find(|b| b.id().implementation() == name))
    }

    /// The best backend of each implementation and device: what a comparison is between when
    /// nobody says otherwise. A narrower instruction set is left out where a wider one runs, and so is
    /// a kernel that the library did not choose itself.
    pub fn best(&self) -> Vec<&Arc<dyn Backend>> {
        let is_widest = |b: &Arc<dyn Backend>| {
            b.id().implementation() != "simd" || self.find("simd").is_some_and(|best| best.id() == b.id())
        };
        let is_best = |b: &Arc<dyn Backend>| is_widest(b) && !b.id().is_choice();
        self.present.iter().filter(|b| is_best(b)).collect()
    }
}

/// Whether NVIDIA's driver is loaded. Its library may only be called where it is.
///
/// # Errors
/// The reason for a backend's absence.
#[cfg(any(feature = "candle-cuda", feature = "libtorch"))]
pub(crate) fn nvidia_driver() -> Result<(), String> {
    // The driver itself, its device in a container, and Windows' one under WSL.
    let signs = ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"];
    if cfg!(target_os = "linux") && !signs.iter().any(|sign| std::path::Path::new(sign).exists()) {
        return Err("no NVIDIA driver is loaded".into());
    }
    Ok(())
}
