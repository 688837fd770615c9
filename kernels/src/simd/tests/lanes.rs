//! Every operation of every instruction set against one number at a time.

use half::{bf16, f16};

use super::normal;
use crate::Element;
use crate::simd::isa::Isa;
use crate::simd::lanes::{Kernel, Lanes, MAX_LANES, TABLE};

/// Numbers with something about them, as many as fill vectors in several ways.
fn specials() -> Vec<f32> {
    let mut x = vec![
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        1e-45,
        -1e-40,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        8_388_607.5,
        8_388_609.0,
        0.49999997,
        -3.5,
        1e10,
        3.3e-5,
    ];
    x.extend(normal(11, 58).iter().map(|&x| x as f32));
    x
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Calls a binary operation on all pairs of specials, rotated against each other.
struct Pairwise;

impl Kernel for Pairwise {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let x = specials();
        for turn in 0..x.len() {
            let mut y = x.clone();
            y.rotate_left(turn);
            for (x, y) in x.chunks_exact(L::N).zip(y.chunks_exact(L::N)) {
                let (a, b) = (lanes.load(x), lanes.load(y));
                let check = |name: &str, got: L::F, expected: &dyn Fn(f32, f32) -> f32| {
                    let mut out = [0.0; MAX_LANES];
                    lanes.store(&mut out, got);
                    for i in 0..L::N {
                        let expected = expected(x[i], y[i]);
                        assert!(
                            same(out[i], expected),
                            "{name}({}, {}) = {}, expected {expected}",
                            x[i],
                            y[i],
                            out[i]
                        );
                    }
                };
                check("add", lanes.add(a, b), &|a, b| a + b);
                check("sub", lanes.sub(a, b), &|a, b| a - b);
                check("mul", lanes.mul(a, b), &|a, b| a * b);
                check("div", lanes.div(a, b), &|a, b| a / b);
                check("sqrt", lanes.sqrt(a), &|a, _| a.sqrt());
                check("neg", lanes.neg(a), &|a, _| -a);
                check("abs", lanes.abs(a), &|a, _| a.abs());
                check("copysign", lanes.copysign(a, b), &f32::copysign);
                check("round", lanes.round(a), &|a, _| a.round_ties_even());
                check("max", lanes.max(a, b), &|a, b| if a > b { a } else { b });
                check("min", lanes.min(a, b), &|a, b| if a < b { a } else { b });
                check("mul_add", lanes.mul_add(a, b, a), &|a, b| a.mul_add(b, a));
                check("neg_mul_add", lanes.neg_mul_add(a, b, a), &|a, b| (-a).mul_add(b, a));
                check("bf16_part", lanes.bf16_part(a), &|a, _| f32::from_bits(a.to_bits() & 0xffff_0000));
                check("bf16_pair", lanes.bf16_pair(a, b), &|a, b| {
                    f32::from_bits(a.to_bits() >> 16 | b.to_bits() & 0xffff_0000)
                });
                check("mul_sub", lanes.mul_sub(a, b, b), &|a, b| a.mul_add(b, -b));
                let (one, two) = (lanes.splat(1.0), lanes.splat(2.0));
                let choose = |mask: L::M| lanes.select(mask, one, two);
                let chosen = |truth: bool| if truth { 1.0 } else { 2.0 };
                check("lt", choose(lanes.lt(a, b)), &|a, b| chosen(a < b));
                check("le", choose(lanes.le(a, b)), &|a, b| chosen(a <= b));
                check("gt", choose(lanes.gt(a, b)), &|a, b| chosen(a > b));
                check("ge", choose(lanes.ge(a, b)), &|a, b| chosen(a >= b));
                check("eq", choose(lanes.eq(a, b)), &|a, b| chosen(a == b));
                check("is_nan", choose(lanes.is_nan(a)), &|a, _| chosen(a.is_nan()));
                let (less, nan) = (lanes.lt(a, b), lanes.is_nan(b));
                check("and", choose(lanes.and(less, lanes.eq(one, one))), &|a, b| chosen(a < b));
                check("or", choose(lanes.or(less, nan)), &|a, b| chosen(a < b || b.is_nan()));
                assert_eq!(lanes.any(less), x.iter().zip(y).any(|(a, b)| a < b), "any");
            }
        }
    }
}

/// What moves lanes, and what combines them.
struct Across;

impl Kernel for Across {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let x: Vec<f32> = normal(5, 2 * L::N).iter().map(|&x| x as f32).collect();
        let (a, b) = (lanes.load(&x), lanes.load(&x[L::N..]));
        let mut out = vec![0.0; 2 * L::N];
        let (even, odd) = lanes.deinterleave(a, b);
        lanes.store(&mut out, even);
        lanes.store(&mut out[L::N..], odd);
        for i in 0..L::N {
            assert_eq!((out[i], out[L::N + i]), (x[2 * i], x[2 * i + 1]), "deinterleave");
        }
        let (low, high) = lanes.interleave(even, odd);
        lanes.store(&mut out, low);
        lanes.store(&mut out[L::N..], high);
        assert_eq!(out, x, "interleave");

        let first = &x[..L::N];
        let sum: f64 = first.iter().map(|&x| x as f64).sum();
        assert!((lanes.reduce_add(a) as f64 - sum).abs() < 1e-5, "reduce_add");
        assert!((lanes.reduce_add_f64(a) - sum).abs() < 1e-13, "reduce_add_f64");
        assert_eq!(lanes.reduce_max(a), first.iter().fold(f32::MIN, |m, &x| m.max(x)), "reduce_max");
        assert_eq!(lanes.reduce_min(a), first.iter().fold(f32::MAX, |m, &x| m.min(x)), "reduce_min");
        for n in 0..=L::N + 2 {
            lanes.store(&mut out, lanes.select(lanes.first(n), lanes.splat(1.0), lanes.splat(0.0)));
            let expected = (0..L::N).map(|i| if i < n { 1.0 } else { 0.0 });
            assert!(out.iter().copied().take(L::N).eq(expected), "first({n})");
        }

        // A lookup takes the lowest bits of an index and ignores the rest.
        static NUMBERS: [f32; TABLE] = {
            let mut numbers = [0.0; TABLE];
            let mut i = 0;
            while i < TABLE {
                numbers[i] = 0.5 + i as f32;
                i += 1;
            }
            numbers
        };
        for start in 0..TABLE as u32 {
            let index: Vec<f32> =
                (0..L::N as u32).map(|i| f32::from_bits((start + 7 * i) ^ 0xbf80_00e0)).collect();
            lanes.store(&mut out, lanes.lookup(lanes.table(&NUMBERS), lanes.load(&index)));
            for (got, index) in out.iter().zip(&index) {
                assert_eq!(*got, NUMBERS[index.to_bits() as usize % TABLE], "lookup at {index:?}");
            }
        }

        // Scaling by powers of two, down to the last subnormal.
        for n in -250..=250 {
            let scaled = |s: f32| (s as f64 * 2f64.powi(n)) as f32;
            for s in [1.0f32, -1.3, 0.75, f32::from_bits(0x3fff_ffff)] {
                lanes.store(&mut out, lanes.ldexp(lanes.splat(s), lanes.splat(n as f32)));
                assert!(same(out[L::N - 1], scaled(s)), "ldexp({s}, {n}) = {}", out[L::N - 1]);
                if scaled(s).is_normal() && n >= -125 {
                    lanes.store(&mut out, lanes.shift(lanes.splat(s), lanes.splat(n as f32)));
                    assert_eq!(out[L::N - 1], scaled(s), "shift({s}, {n})");
                }
            }
            if (-126..=127).contains(&n) {
                let (x, mut parts) = (1.1 * 2f32.powi(n), [[0.0; MAX_LANES]; 2]);
                let (s, e) = lanes.split(lanes.splat(x));
                lanes.store(&mut parts[0], s);
                lanes.store(&mut parts[1], e);
                assert!(same(parts[0][0], 1.1) && parts[1][0] == n as f32, "split({x})");
            }
        }
        let nan = lanes.splat(f32::NAN);
        lanes.store(&mut out, lanes.shift(nan, nan));
        assert!(out[0].is_nan(), "shift of NaN");
    }
}

/// Conversions and partial vectors of one storage type.
struct Memory<T>(Vec<T>);

impl<T: Element + std::fmt::Debug> Kernel for Memory<T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let x = self.0;
        let mut out = [0.0f32; MAX_LANES];
        for x in x.chunks_exact(L::N) {
            lanes.store(&mut out, lanes.load_as(x));
            for (x, &got) in x.iter().zip(&out) {
                assert!(same(got, x.to_f32()), "{x:?} loaded as {got}");
            }
        }
        for len in 0..=L::N {
            lanes.store(&mut out, lanes.load_partial(&x[..len], -7.0));
            for (i, &got) in out[..L::N].iter().enumerate() {
                assert!(same(got, if i < len { x[i].to_f32() } else { -7.0 }), "{len} loaded: {i}");
            }
            let mut short = [T::from_f32(3.0); MAX_LANES + 1];
            lanes.store_partial(&mut short[1..1 + len], lanes.splat(2.0));
            for (i, got) in short.iter().enumerate() {
                assert_eq!(got.to_f32(), if (1..=len).contains(&i) { 2.0 } else { 3.0 }, "{len} stored: {i}");
            }
        }
        // Rounding: every number, its neighbours in f32, the midpoints and theirs, and NaN.
        for x in x.windows(2).filter(|x| x[0].to_f32().is_finite()) {
            let (low, high) = (x[0].to_f32(), x[1].to_f32());
            let middle = ((low as f64 + high as f64) / 2.0) as f32;
            let mut numbers = [f32::NAN; MAX_LANES];
            for (i, number) in [low, high, middle].into_iter().enumerate() {
                for (j, neighbour) in [-1i32, 0, 1].into_iter().enumerate() {
                    numbers[3 * i + j] = f32::from_bits(number.to_bits().wrapping_add_signed(neighbour));
                }
            }
            for numbers in numbers.chunks_exact(L::N) {
                let mut rounded = [T::from_f32(0.0); MAX_LANES];
                lanes.store_as(&mut rounded, lanes.load(numbers));
                let mut streamed = rounded;
                lanes.stream_as(&mut streamed, lanes.load(numbers));
                lanes.fence();
                for i in 0..L::N {
                    let (got, expected) = (rounded[i].to_f32(), T::from_f32(numbers[i]).to_f32());
                    assert!(same(got, expected), "{:e} stored as {got:e}, expected {expected:e}", numbers[i]);
                    assert!(same(streamed[i].to_f32(), expected), "{:e} streamed", numbers[i]);
                }
            }
            // Two vectors, each of which comes back from where `store_two` put it.
            for numbers in numbers.chunks_exact(L::N) {
                let (a, b) = (lanes.load(numbers), lanes.neg(lanes.load(numbers)));
                let (mut rounded, mut back) = ([T::from_f32(0.0); 2 * MAX_LANES], [[0.0; MAX_LANES]; 2]);
                lanes.store_two(&mut rounded, (a, b));
                let (a, b) = lanes.load_two(&rounded);
                lanes.store(&mut back[0], a);
                lanes.store(&mut back[1], b);
                for (i, &number) in numbers.iter().enumerate() {
                    let expected = T::from_f32(number).to_f32();
                    assert!(same(back[0][i], expected), "{number:e} as the first of two");
                    assert!(same(back[1][i], -expected), "{number:e} as the second of two");
                }
            }
        }
    }
}

#[test]
fn operations() {
    for isa in Isa::present() {
        isa.run(Pairwise);
        isa.run(Across);
    }
}

#[test]
fn memory() {
    for isa in Isa::present() {
        isa.run(Memory(specials()));
        isa.run(Memory((0..=u16::MAX).map(f16::from_bits).collect()));
        isa.run(Memory((0..=u16::MAX).map(bf16::from_bits).collect()));
    }
}

#[test]
#[should_panic(expected = "does not fit")]
fn a_short_slice_is_refused() {
    struct Short;
    impl Kernel for Short {
        type Output = f32;
        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> f32 {
            lanes.reduce_add(lanes.load(&[1.0; MAX_LANES][..L::N - 1]))
        }
    }
    match Isa::best() {
        Isa::Scalar(_) => panic!("the slice does not fit either, says Rust itself"),
        isa => isa.run(Short),
    };
}
