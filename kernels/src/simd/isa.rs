//! Instruction sets as values.
//!
//! A token such as [`Avx2`] can only be obtained from its `detect`, so holding one *proves* that
//! this CPU has the instructions; that proof is what makes the safe methods of
//! [`Lanes`] sound. [`Isa`] is a token whose kind is known only at run time.

use std::fmt;

use super::lanes::{Kernel, Lanes};
use super::pairs::Pairs;
use super::tiles::Tiles;

macro_rules! tokens {
    ($($(#[cfg($cfg:meta)])? $(#[doc = $doc:literal])* $token:ident = $detect:expr;)+) => {$(
        $(#[cfg($cfg)])?
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $token(());

        $(#[cfg($cfg)])?
        impl $token {
            /// The token, when this CPU has the instructions.
            pub fn detect() -> Option<Self> {
                ($detect).then_some($token(()))
            }
        }
    )+};
}

tokens! {
    /// Plain Rust, one element at a time: every CPU.
    Scalar = true;
    #[cfg(target_arch = "x86_64")]
    /// AVX2 with FMA and F16C: eight lanes, x86-64 since 2013.
    Avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    #[cfg(target_arch = "x86_64")]
    /// AVX-512 F, BW, DQ and VL: sixteen lanes.
    Avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && Avx2::detect().is_some();
    #[cfg(target_arch = "aarch64")]
    /// Arm's Advanced SIMD: four lanes, every aarch64 CPU.
    Neon = std::arch::is_aarch64_feature_detected!("neon");
}

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Sixteen lanes of AVX-512, and matrix products in AMX tiles.
    #[cfg(target_arch = "x86_64")]
    Amx(Avx512, Tiles),
    /// Sixteen lanes of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// Eight lanes of AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Four lanes of Advanced SIMD.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// One lane of plain Rust.
    Scalar(Scalar),
}

impl Isa {
    /// The instruction sets that this CPU has, best first. The last one is always `scalar`.
    pub fn present() -> Vec<Isa> {
        let candidates = [
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().zip(Tiles::detect()).map(|(lanes, tiles)| Isa::Amx(lanes, tiles)),
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().map(Isa::Avx512),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Isa::Avx2),
            #[cfg(target_arch = "aarch64")]
            Neon::detect().map(Isa::Neon),
            Scalar::detect().map(Isa::Scalar),
        ];
        candidates.into_iter().flatten().collect()
    }

    /// The backends of instruction sets that cannot run here, with the reason.
    pub fn absent() -> Vec<(&'static str, &'static str)> {
        let mut absent = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if Avx512::detect().is_none() || Tiles::detect().is_none() {
                absent.push(("simd/amx", "this CPU lacks AMX for bf16, or the system does not allow it"));
            }
            if Avx512::detect().is_none() {
                absent.push(("simd/avx512", "this CPU lacks AVX-512 F, BW, DQ and VL"));
            }
            if Avx2::detect().is_none() {
                absent.push(("simd/avx2", "this CPU lacks AVX2, FMA or F16C"));
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        absent.extend([
            ("simd/amx", "x86-64 only"),
            ("simd/avx512", "x86-64 only"),
            ("simd/avx2", "x86-64 only"),
        ]);
        #[cfg(target_arch = "aarch64")]
        if Neon::detect().is_none() {
            absent.push(("simd/neon", "this CPU lacks Advanced SIMD"));
        }
        #[cfg(not(target_arch = "aarch64"))]
        absent.push(("simd/neon", "aarch64 only"));
        absent
    }

    /// The widest instruction set of this CPU.
    pub fn best() -> Isa {
        Isa::present()[0]
    }

    /// The name of the backend that uses it.
    pub const fn id(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx(..) => "simd/amx",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "simd/avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "simd/avx2",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => "simd/neon",
            Isa::Scalar(_) => "simd/scalar",
        }
    }

    /// Its own name: `amx`, `avx512`, `avx2`, `neon`, `scalar`.
    pub fn name(self) -> &'static str {
        self.id().trim_start_matches("simd/")
    }

    /// The tiles, where it has them.
    pub fn tiles(self) -> Option<Tiles> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx(_, tiles) => Some(tiles),
            _ => None,
        }
    }

    /// The products of pairs of bf16, where its vectors have them: not all of AVX-512 do.
    pub fn pairs(self) -> Option<Pairs> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx(..) | Isa::Avx512(_) => Pairs::detect(),
            _ => None,
        }
    }

    /// The number of f32 lanes of a vector.
    pub const fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx(..) | Isa::Avx512(_) => Avx512::N,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => Avx2::N,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => Neon::N,
            Isa::Scalar(_) => Scalar::N,
        }
    }

    /// Runs a kernel compiled for this instruction set: the one dispatch of a call.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx(token, _) | Isa::Avx512(token) => token.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => token.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(token) => token.run(kernel),
            Isa::Scalar(token) => token.run(kernel),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
