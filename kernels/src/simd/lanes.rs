//! Vectors of f32 lanes: the small trait below which everything is generic.
//!
//! ```text
//! Isa::run(kernel) ─ one dispatch ─→ Lanes::run ─ #[target_feature] ─→ Kernel::run<L: Lanes>
//!                                                                      and all it calls: #[inline(always)]
//! ```
//!
//! A function that takes a `Lanes` token must be `#[inline(always)]`: the instructions are only
//! enabled in the entry of [`Lanes::run`], and code that is not inlined into it is compiled
//! without them, at a tenth of the speed (and still correct).
//!
//! `unsafe` lives in the `lanes_*` files alone. Slices are checked: [`load`](Lanes::load) of a
//! `chunks_exact(L::N)` item, or of a slice whose length the compiler sees, costs no check.

use half::{bf16, f16};

use crate::dtype::{DType, Element};

/// The lanes of the widest instruction set: the size of buffers that hold one vector.
pub const MAX_LANES: usize = 16;

/// The numbers of a [table](Lanes::lookup).
pub const TABLE: usize = 32;

/// Bytes between the vector at hand and the one that is asked for in advance, where memory is gone
/// through in order. The prefetchers of the hardware stop at a page and learn each one anew; out of
/// cache this saves up to a third.
pub(super) const AHEAD: usize = 4096;

/// A computation that can run on any instruction set, with its arguments.
pub trait Kernel {
    /// What it returns.
    type Output;

    /// The computation. Implementations must be `#[inline(always)]`.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Operations on vectors of [`N`](Lanes::N) f32 lanes. The token proves that the CPU has the
/// instructions.
///
/// Every operation acts lane by lane with IEEE 754 single precision, rounding to nearest even,
/// subnormals kept. The exceptions are documented.
pub trait Lanes: Copy + Send + Sync + std::fmt::Debug + 'static {
    /// N numbers.
    type F: Copy;
    /// N truth values.
    type M: Copy;
    /// A [table](Lanes::lookup), in registers where they can hold it.
    type Table: Copy;
    /// The number of lanes.
    const N: usize;
    /// Vector registers of the instruction set: what a register tile may fill.
    const REGISTERS: usize;
    /// Whether [`lookup`](Lanes::lookup) is one instruction.
    const LOOKS_UP: bool = false;

    /// Runs a kernel with the instructions enabled, as a function of its own: its loops share no
    /// registers with what calls it.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// x in every lane.
    fn splat(self, x: f32) -> Self::F;

    /// The first N elements.
    ///
    /// # Panics
    /// When there are fewer.
    fn load(self, x: &[f32]) -> Self::F;

    /// The first N elements, exact in f32. Panics like [`load`](Lanes::load).
    fn load_f16(self, x: &[f16]) -> Self::F;

    /// The first N elements, exact in f32. Panics like [`load`](Lanes::load).
    fn load_bf16(self, x: &[bf16]) -> Self::F;

    /// Writes the first N elements. Panics like [`load`](Lanes::load).
    fn store(self, out: &mut [f32], a: Self::F);

    /// Writes the first N elements, rounded to nearest even. NaN stays NaN.
    fn store_f16(self, out: &mut [f16], a: Self::F);

    /// Writes the first N elements, rounded to nearest even. NaN stays NaN.
    fn store_bf16(self, out: &mut [bf16], a: Self::F);

    /// Writes the first N elements past the caches when their address is a multiple of the
    /// vector's size, else like [`store`](Lanes::store). Needs a [`fence`](Lanes::fence) before
    /// another thread may read.
    #[inline(always)]
    fn stream(self, out: &mut [f32], a: Self::F) {
        self.store(out, a);
    }

    /// Orders all [`stream`](Lanes::stream)s before what follows.
    #[inline(always)]
    fn fence(self) {}

    /// Asks for the cache line of the first element.
    #[inline(always)]
    fn prefetch<T>(self, _x: &[T]) {}

    /// Asks for the cache line some bytes after the first element, in the slice or beyond.
    #[inline(always)]
    fn prefetch_ahead<T>(self, _x: &[T], _bytes: usize) {}

    /// [`prefetch_ahead`](Lanes::prefetch_ahead) of a line that is to be written.
    #[inline(always)]
    fn prefetch_to_write<T>(self, _out: &[T], _bytes: usize) {}

    /// a + b
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a − b
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// a·b
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a/b
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// √a
    fn sqrt(self, a: Self::F) -> Self::F;
    /// a·b + c, rounded once. (`Scalar` rounds to f64 in between: in about one case of 2²⁹ that is next to a
    /// tie, and the other neighbour comes out, an error of half an ULP and a little.)
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// c − a·b, rounded once like [`mul_add`](Lanes::mul_add).
    fn neg_mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// a·b − c, rounded once like [`mul_add`](Lanes::mul_add).
    fn mul_sub(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// −a, NaN and zeros included.
    fn neg(self, a: Self::F) -> Self::F;
    /// |a|
    fn abs(self, a: Self::F) -> Self::F;
    /// |a| with the sign of b.
    fn copysign(self, a: Self::F, b: Self::F) -> Self::F;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;

    /// `a > b ? a : b`: when either is NaN, and for two zeros, the *second* operand.
    /// So `max(limit, x)` keeps a NaN of x, and `max(x, so_far)` ignores it.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`: when either is NaN, and for two zeros, the *second* operand.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;

    /// a < b; false for NaN.
    fn lt(self, a: Self::F, b: Self::F) -> Self::M;
    /// a ≤ b; false for NaN.
    fn le(self, a: Self::F, b: Self::F) -> Self::M;
    /// a = b; false for NaN.
    fn eq(self, a: Self::F, b: Self::F) -> Self::M;
    /// Whether a is NaN.
    fn is_nan(self, a: Self::F) -> Self::M;
    /// a > b; false for NaN.
    #[inline(always)]
    fn gt(self, a: Self::F, b: Self::F) -> Self::M {
        self.lt(b, a)
    }
    /// a ≥ b; false for NaN.
    #[inline(always)]
    fn ge(self, a: Self::F, b: Self::F) -> Self::M {
        self.le(b, a)
    }
    /// True in the first n lanes.
    fn first(self, n: usize) -> Self::M;
    /// Both.
    fn and(self, a: Self::M, b: Self::M) -> Self::M;
    /// Either.
    fn or(self, a: Self::M, b: Self::M) -> Self::M;
    /// Whether any lane is true.
    fn any(self, a: Self::M) -> bool;
    /// mask ? a : b
    fn select(self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F;

    /// a·2ⁿ for integral n from −250 to 250, where a and the result are normal numbers. A NaN
    /// stays NaN if n is NaN too. All else is unspecified.
    fn shift(self, a: Self::F, n: Self::F) -> Self::F;

    /// 2ⁿ for integral n from −126 to 127. The result for other n is unspecified.
    #[inline(always)]
    fn exp2i(self, n: Self::F) -> Self::F {
        self.shift(self.splat(1.0), n)
    }

    /// a·2ⁿ, rounded once, for integral n up to 250; one below −250 counts as −250. The result
    /// for other n (NaN, infinities) is unspecified.
    fn ldexp(self, a: Self::F, n: Self::F) -> Self::F;

    /// (s, e) with a = s·2ᵉ and √½ ≤ s < √2, for positive normal a. The result for other a is
    /// unspecified.
    fn split(self, a: Self::F) -> (Self::F, Self::F);

    /// a up to its first eight significant bits, the rest cut off: a bf16. A NaN may become infinite.
    #[inline(always)]
    fn bf16_part(self, a: Self::F) -> Self::F {
        let mut lanes = [0.0; MAX_LANES];
        self.store(&mut lanes, a);
        lanes.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_0000));
        self.load(&lanes)
    }

    /// Pairs of bf16 in the bits of each lane: that of `low`, cut off, in the lower half and that of
    /// `high` in the upper.
    #[inline(always)]
    fn bf16_pair(self, low: Self::F, high: Self::F) -> Self::F {
        let [mut pairs, mut upper] = [[0.0f32; MAX_LANES]; 2];
        self.store(&mut pairs, low);
        self.store(&mut upper, high);
        for (pair, high) in pairs.iter_mut().zip(upper) {
            *pair = f32::from_bits(pair.to_bits() >> 16 | high.to_bits() & 0xffff_0000);
        }
        self.load(&pairs)
    }

    /// A table, to look up in.
    fn table(self, table: &'static [f32; TABLE]) -> Self::Table;
    /// In each lane the number of the table at the lowest five bits of that lane's index.
    fn lookup(self, table: Self::Table, index: Self::F) -> Self::F;

    /// The sum of all lanes, added in pairs.
    fn reduce_add(self, a: Self::F) -> f32;
    /// The largest lane. A NaN may or may not be returned.
    fn reduce_max(self, a: Self::F) -> f32;
    /// The smallest lane. A NaN may or may not be returned.
    fn reduce_min(self, a: Self::F) -> f32;

    /// (a₀ b₀ a₁ b₁ …) as two vectors.
    fn interleave(self, a: Self::F, b: Self::F) -> (Self::F, Self::F);
    /// The even and the odd elements of the sequence a, b: undoes [`interleave`](Lanes::interleave).
    fn deinterleave(self, a: Self::F, b: Self::F) -> (Self::F, Self::F);

    /// The sum of all lanes in f64.
    #[inline(always)]
    fn reduce_add_f64(self, a: Self::F) -> f64 {
        let mut lanes = [0.0; MAX_LANES];
        self.store(&mut lanes, a);
        lanes[..Self::N].iter().map(|&x| x as f64).sum()
    }

    /// [`load`](Lanes::load) from any storage type.
    #[inline(always)]
    fn load_as<T: Element>(self, x: &[T]) -> Self::F {
        // The casts are between a type and itself, and vanish.
        match T::DTYPE {
            DType::F32 => self.load(bytemuck::cast_slice(x)),
            DType::F16 => self.load_f16(bytemuck::cast_slice(x)),
            DType::BF16 => self.load_bf16(bytemuck::cast_slice(x)),
        }
    }

    /// [`store`](Lanes::store) to any storage type.
    #[inline(always)]
    fn store_as<T: Element>(self, out: &mut [T], a: Self::F) {
        match T::DTYPE {
            DType::F32 => self.store(bytemuck::cast_slice_mut(out), a),
            DType::F16 => self.store_f16(bytemuck::cast_slice_mut(out), a),
            DType::BF16 => self.store_bf16(bytemuck::cast_slice_mut(out), a),
        }
    }

    /// The first 2·N elements as two vectors, in an order that [`store_two`](Lanes::store_two) undoes.
    /// Panics like [`load`](Lanes::load).
    #[inline(always)]
    fn load_two<T: Element>(self, x: &[T]) -> (Self::F, Self::F) {
        (self.load_as(x), self.load_as(&x[Self::N..]))
    }

    /// Two vectors from [`load_two`](Lanes::load_two) of this type, in the order of the elements.
    #[inline(always)]
    fn in_order<T: Element>(self, two: (Self::F, Self::F)) -> (Self::F, Self::F) {
        two
    }

    /// Writes the first 2·N elements, rounded to nearest even, in the order of
    /// [`load_two`](Lanes::load_two). NaN stays NaN. Panics like [`load`](Lanes::load).
    #[inline(always)]
    fn store_two<T: Element>(self, out: &mut [T], (a, b): (Self::F, Self::F)) {
        self.store_as(out, a);
        self.store_as(&mut out[Self::N..], b);
    }

    /// [`stream`](Lanes::stream) to any storage type; f16 and bf16 are stored the ordinary way.
    #[inline(always)]
    fn stream_as<T: Element>(self, out: &mut [T], a: Self::F) {
        match T::DTYPE {
            DType::F32 => self.stream(bytemuck::cast_slice_mut(out), a),
            DType::F16 | DType::BF16 => self.store_as(out, a),
        }
    }

    /// All elements of a slice of at most N; `fill` in the lanes after them.
    ///
    /// # Panics
    /// When there are more than N.
    #[inline(always)]
    fn load_partial<T: Element>(self, x: &[T], fill: f32) -> Self::F {
        load_buffered(self, x, fill)
    }

    /// Writes the first lanes to a slice of at most N.
    ///
    /// # Panics
    /// When it is longer than N.
    #[inline(always)]
    fn store_partial<T: Element>(self, out: &mut [T], a: Self::F) {
        let mut lanes = [T::zeroed(); MAX_LANES];
        self.store_as(&mut lanes, a);
        out.copy_from_slice(&lanes[..Self::N][..out.len()]);
    }
}

/// [`load_partial`](Lanes::load_partial) by way of a buffer.
#[inline(always)]
pub(super) fn load_buffered<L: Lanes, T: Element>(lanes: L, x: &[T], fill: f32) -> L::F {
    let mut buffer = [T::zeroed(); MAX_LANES];
    buffer[..L::N][..x.len()].copy_from_slice(x);
    lanes.select(lanes.first(x.len()), lanes.load_as(&buffer), lanes.splat(fill))
}

/// [`lookup`](Lanes::lookup) by way of a buffer.
#[inline(always)]
pub(super) fn lookup_buffered<L: Lanes>(lanes: L, table: &[f32; TABLE], index: L::F) -> L::F {
    let mut buffer = [0.0; MAX_LANES];
    lanes.store(&mut buffer, index);
    for lane in &mut buffer {
        *lane = table[lane.to_bits() as usize % TABLE];
    }
    lanes.load(&buffer)
}

/// The first N elements as an array.
#[inline(always)]
pub(super) fn head<T, const N: usize>(x: &[T]) -> &[T; N] {
    match x.first_chunk() {
        Some(array) => array,
        None => too_short(N, x.len()),
    }
}

/// The first N elements as an array, to be written.
#[inline(always)]
pub(super) fn head_mut<T, const N: usize>(x: &mut [T]) -> &mut [T; N] {
    let len = x.len();
    match x.first_chunk_mut() {
        Some(array) => array,
        None => too_short(N, len),
    }
}

#[cold]
#[inline(never)]
fn too_short(lanes: usize, found: usize) -> ! {
    panic!("a vector of {lanes} lanes does not fit into a slice of {found}")
}
