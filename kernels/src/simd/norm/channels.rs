//! Normalizations of [N, C, spatial] with a weight and bias for each channel: batch, group and
//! instance norm.

use super::moments::Moments;
use super::normal::{Affine, Normal, Step, Traffic, load_at, map, normalize};
use super::rows::PAST_CACHES;
use crate::dtype::Element;
use crate::error::BackendError;
use crate::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm};
use crate::operands::{Inputs, Outputs};
use crate::simd::Engine;
use crate::simd::lanes::{Kernel, Lanes, MAX_LANES};

/// Weight and bias of each channel.
#[derive(Clone, Copy)]
struct ChannelAffine<'a, T> {
    weight: Option<&'a [T]>,
    bias: Option<&'a [T]>,
}

impl<'a, T: Element> ChannelAffine<'a, T> {
    fn new(inputs: &'a Inputs) -> Result<Self, BackendError> {
        Ok(ChannelAffine { weight: inputs.optional("weight")?, bias: inputs.optional("bias")? })
    }

    /// Of one channel, for all its elements.
    fn of(&self, channel: usize) -> Affine<'a, T> {
        Affine::One {
            weight: self.weight.map_or(1.0, |w| w[channel].to_f32()),
            bias: self.bias.map_or(0.0, |b| b[channel].to_f32()),
        }
    }

    /// Of some channels with one element each.
    fn each(&self, first: usize, channels: usize) -> Affine<'a, T> {
        Affine::Each {
            weight: self.weight.map(|w| &w[first..first + channels]),
            bias: self.bias.map(|b| &b[first..first + channels]),
        }
    }
}

/// Group norm of some groups, the first of which is number `first` of all groups of all samples.
struct Groups<'a, T> {
    x: &'a [T],
    out: &'a mut [T],
    first: usize,
    /// Groups of a sample.
    groups: usize,
    /// Channels of a group.
    channels: usize,
    spatial: usize,
    eps: f32,
    affine: ChannelAffine<'a, T>,
    past_caches: bool,
}

impl<T: Element> Kernel for Groups<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let len = self.channels * self.spatial;
        for (g, (x, out)) in self.x.chunks_exact(len).zip(self.out.chunks_exact_mut(len)).enumerate() {
            let normal = Normal::new(&Moments::of(lanes, std::iter::once(x), len), self.eps);
            let first = (self.first + g) % self.groups * self.channels;
            if self.spatial == 1 {
                let affine = self.affine.each(first, self.channels);
                normalize(lanes, &normal, affine, x, out, Traffic::of(x, self.past_caches));
                continue;
            }
            // What is read next is the next group, not the next channel.
            let traffic = Traffic::of(x, self.past_caches);
            let runs = x.chunks_exact(self.spatial).zip(out.chunks_exact_mut(self.spatial));
            for (c, (x, out)) in runs.enumerate() {
                normalize(lanes, &normal, self.affine.of(first + c), x, out, traffic);
            }
        }
        lanes.fence();
    }
}

pub(super) fn group_norm<T: Element>(
    engine: &Engine,
    spec: &GroupNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let (_, channels, spatial) = spec.dims();
    grouped::<T>(engine, (spec.groups, channels / spec.groups, spatial), spec.eps, inputs, outputs)
}

/// Group norm with a group for each channel.
pub(super) fn instance_norm<T: Element>(
    engine: &Engine,
    spec: &InstanceNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let (_, channels, spatial) = spec.dims();
    grouped::<T>(engine, (channels, 1, spatial), spec.eps, inputs, outputs)
}

fn grouped<T: Element>(
    engine: &Engine,
    (groups, channels, spatial): (usize, usize, usize),
    eps: f32,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let x = inputs.slice::<T>("x")?;
    if x.is_empty() {
        return Ok(());
    }
    let affine = ChannelAffine::new(inputs)?;
    let len = channels * spatial;
    let past_caches = size_of_val(x) >= PAST_CACHES;
    engine.threads.elements(outputs.slice_mut::<T>("out")?, len, |start, out| {
        let x = &x[start..start + out.len()];
        let first = start / len;
        engine.isa.run(Groups { x, out, first, groups, channels, spatial, eps, affine, past_caches });
    });
    Ok(())
}

/// Moments of some channels of [N, C, spatial], from channel `first` on.
struct ChannelMoments<'a, T> {
    x: &'a [T],
    dims: (usize, usize, usize),
    first: usize,
    moments: &'a mut [Moments],
}

impl<T: Element> Kernel for ChannelMoments<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (batch, channels, spatial) = self.dims;
        let run = |n: usize, c: usize| &self.x[(n * channels + c) * spatial..][..spatial];
        if spatial >= L::N {
            for (c, moments) in self.moments.iter_mut().enumerate() {
                *moments = Moments::of(lanes, (0..batch).map(|n| run(n, self.first + c)), batch * spatial);
            }
            return;
        }
        // Runs shorter than a vector are brought together first, those of a few channels at a
        // time, because they share cache lines.
        let len = batch * spatial;
        let mut columns = vec![T::from_f32(0.0); MAX_LANES * len];
        for (block, moments) in self.moments.chunks_mut(MAX_LANES).enumerate() {
            let first = self.first + block * MAX_LANES;
            for n in 0..batch {
                for c in 0..moments.len() {
                    columns[c * len + n * spatial..][..spatial].copy_from_slice(run(n, first + c));
                }
            }
            for (column, moments) in columns.chunks_exact(len).zip(moments) {
                *moments = Moments::of(lanes, std::iter::once(column), len);
            }
        }
    }
}

/// A channel of a batch norm that is trained: its moments to come, and its part of the result, a run
/// for each sample.
struct Channel<'a, T> {
    moments: Moments,
    out: Vec<&'a mut [T]>,
}

/// Batch norm of some channels of [N, C, spatial], from channel `first` on: the moments of one, and
/// then its result while it is still in a cache.
struct Channels<'a, 'b, T> {
    x: &'a [T],
    first: usize,
    count: usize,
    spatial: usize,
    channels: &'a mut [Channel<'b, T>],
    eps: f32,
    affine: ChannelAffine<'a, T>,
    past_caches: bool,
}

impl<T: Element> Kernel for Channels<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (count, spatial) = (self.count, self.spatial);
        for (i, channel) in self.channels.iter_mut().enumerate() {
            let c = self.first + i;
            let run = |n: usize| &self.x[(n * count + c) * spatial..][..spatial];
            let samples = channel.out.len();
            channel.moments = Moments::of(lanes, (0..samples).map(run), samples * spatial);
            let normal = Normal::new(&channel.moments, self.eps);
            for (n, out) in channel.out.iter_mut().enumerate() {
                // The next sample of this channel is far away, but the next channel of this sample is not.
                let x = run(n);
                let traffic = Traffic::of(x, self.past_caches);
                normalize(lanes, &normal, self.affine.of(c), x, out, traffic);
            }
        }
        lanes.fence();
    }
}

/// The element-wise step of batch norm on some runs of `spatial` elements, of channels
/// `first`, `first` + 1, … modulo C.
struct ChannelRuns<'a, T> {
    x: &'a [T],
    out: &'a mut [T],
    spatial: usize,
    first: usize,
    normals: &'a [Normal],
    affine: ChannelAffine<'a, T>,
    past_caches: bool,
}

impl<T: Element> Kernel for ChannelRuns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let runs = self.x.chunks_exact(self.spatial).zip(self.out.chunks_exact_mut(self.spatial));
        for (n, (x, out)) in runs.enumerate() {
            let c = (self.first + n) % self.normals.len();
            let traffic = Traffic::of(x, self.past_caches);
            normalize(lanes, &self.normals[c], self.affine.of(c), x, out, traffic);
        }
        lanes.fence();
    }
}

/// The same for [N, C], with channels in the lanes: some samples.
struct Samples<'a, T> {
    x: &'a [T],
    out: &'a mut [T],
    /// Mean, its low part and 1/√(variance + eps), each [C].
    statistics: [&'a [f32]; 3],
    affine: ChannelAffine<'a, T>,
    past_caches: bool,
}

impl<L: Lanes, T: Element> Step<L> for Samples<'_, T> {
    #[inline(always)]
    fn apply(&self, lanes: L, i: usize, x: L::F) -> L::F {
        let [mean, low, rstd] = self.statistics;
        let centred = lanes.sub(lanes.sub(x, load_at(lanes, mean, i)), load_at(lanes, low, i));
        let unit = lanes.mul(centred, load_at(lanes, rstd, i));
        let weight = match self.affine.weight {
            Some(weight) => load_at(lanes, weight, i),
            None => lanes.splat(1.0),
        };
        let bias = match self.affine.bias {
            Some(bias) => load_at(lanes, bias, i),
            None => lanes.splat(0.0),
        };
        lanes.mul_add(unit, weight, bias)
    }
}

impl<T: Element> Kernel for Samples<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let channels = self.statistics[0].len();
        let out = std::mem::take(&mut self.out);
        for (x, out) in self.x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
            map(lanes, x, out, Traffic::of(x, self.past_caches), &self);
        }
        lanes.fence();
    }
}

pub(super) fn batch_norm<T: Element>(
    engine: &Engine,
    spec: &BatchNorm,
    inputs: &Inputs,
    outputs: &mut Outputs,
) -> Result<(), BackendError> {
    let dims @ (batch, channels, spatial) = spec.dims();
    let x = inputs.slice::<T>("x")?;
    let (mean, var) = (inputs.slice::<T>("running_mean")?, inputs.slice::<T>("running_var")?);
    let affine = ChannelAffine::new(inputs)?;
    let mut moments: Vec<Moments> = mean
        .iter()
        .zip(var)
        .map(|(mean, var)| Moments::known(mean.to_f32() as f64, var.to_f32() as f64))
        .collect();

    let past_caches = size_of_val(x) >= PAST_CACHES;
    let train = spec.mode == BatchNormMode::Train;
    let at_once = train && spatial >= MAX_LANES && !x.is_empty();
    if train {
        let bands = engine.threads.worth(x.len()).min(channels);
        if at_once {
            let of = |moments: &Moments| Channel { moments: *moments, out: Vec::with_capacity(batch) };
            let mut parts: Vec<Channel<T>> = moments.iter().map(of).collect();
            for (n, run) in outputs.slice_mut::<T>("out")?.chunks_exact_mut(spatial).enumerate() {
                parts[n % channels].out.push(run);
            }
            engine.threads.runs(&mut parts, bands, |first, parts| {
                let (count, eps) = (channels, spec.eps);
                engine.isa.run(Channels {
                    x,
                    first,
                    count,
                    spatial,
                    channels: parts,
                    eps,
                    affine,
                    past_caches,
                });
            });
            moments = parts.into_iter().map(|part| part.moments).collect();
        } else {
            engine.threads.runs(&mut moments, bands, |first, moments| {
                engine.isa.run(ChannelMoments { x, dims, first, moments });
            });
        }
        let n = (batch * spatial) as f64;
        let m = spec.momentum as f64;
        let updated =
            |old: T, new: f64| T::from_f32(T::DTYPE.round((1.0 - m) * old.to_f32() as f64 + m * new) as f32);
        let running = outputs.slice_mut("running_mean")?;
        for ((to, &old), moments) in running.iter_mut().zip(mean).zip(&moments) {
            *to = updated(old, moments.mean());
        }
        let running = outputs.slice_mut("running_var")?;
        for ((to, &old), moments) in running.iter_mut().zip(var).zip(&moments) {
            *to = updated(old, moments.variance * n / (n - 1.0));
        }
    }

    if x.is_empty() || at_once {
        return Ok(());
    }
    let normals: Vec<Normal> = moments.iter().map(|moments| Normal::new(moments, spec.eps)).collect();
    let out = outputs.slice_mut::<T>("out")?;
    if spatial == 1 && channels >= MAX_LANES {
        let part = |part: fn(&Normal) -> f32| normals.iter().map(part).collect::<Vec<f32>>();
        let (mean, low, rstd) = (part(|n| n.mean), part(|n| n.mean_low), part(|n| n.rstd));
        engine.threads.elements(out, channels, |start, out| {
            let x = &x[start..start + out.len()];
            let statistics = [&mean[..], &low[..], &rstd[..]];
            engine.isa.run(Samples { x, out, statistics, affine, past_caches });
        });
    } else {
        engine.threads.elements(out, spatial, |start, out| {
            let x = &x[start..start + out.len()];
            let (first, normals) = (start / spatial % channels, &normals[..]);
            engine.isa.run(ChannelRuns { x, out, spatial, first, normals, affine, past_caches });
        });
    }
    Ok(())
}
