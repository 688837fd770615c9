//! What the five normalizations have in common.

use touchstone_kernels::op::norm::Affine;
use touchstone_kernels::op::{BatchNorm, BatchNormMode, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
use touchstone_kernels::{Op, Operation};

/// `(x − mean)/√(var + eps)·weight + bias`, or without the mean.
pub(super) trait Norm: Operation {
    /// Which elements are normalized together, and with which weight.
    fn layout(&self) -> Layout;

    /// Added to the variance, or to the mean square.
    fn eps(&self) -> f32;

    /// The same with another eps.
    fn with_eps(&self, eps: f32) -> Op;

    /// The same without weight and bias.
    fn bare(&self) -> Op;

    /// Whether the mean is subtracted.
    fn is_centred(&self) -> bool {
        true
    }

    /// Whether the statistics are those of `x`, and not given.
    fn computes_statistics(&self) -> bool {
        true
    }

    /// Added to each weight.
    fn weight_offset(&self) -> f32 {
        0.0
    }
}

/// The normalization behind an operation, if it is one.
pub(super) fn norm(op: &Op) -> Option<&dyn Norm> {
    fn of<N: Norm>(op: &Op) -> Option<&dyn Norm> {
        op.get::<N>().map(|norm| norm as &dyn Norm)
    }
    of::<LayerNorm>(op)
        .or_else(|| of::<RmsNorm>(op))
        .or_else(|| of::<BatchNorm>(op))
        .or_else(|| of::<GroupNorm>(op))
        .or_else(|| of::<InstanceNorm>(op))
}

/// How the elements of a tensor fall into groups, and which weight each has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Groups.
    groups: usize,
    /// Elements in each.
    pub(super) len: usize,
    /// Elements of a group that lie together; between two such runs lie those of the other groups.
    run: usize,
    /// Neighbouring elements with the same weight.
    step: usize,
    /// Weights.
    weights: usize,
}

impl Layout {
    /// Groups of neighbours, each element with a weight of its own.
    fn rows((rows, width): (usize, usize)) -> Self {
        Layout { groups: rows, len: width, run: width, step: 1, weights: width }
    }

    /// The elements of each group.
    pub(super) fn members(&self) -> Vec<Vec<usize>> {
        let Layout { groups, len, run, .. } = *self;
        let group = |g: usize| (0..len).map(|i| (i / run * groups + g) * run + i % run).collect();
        // A group that is one run has no others in between.
        let neighbours = |g: usize| (g * len..(g + 1) * len).collect();
        (0..groups).map(|g| if run == len { neighbours(g) } else { group(g) }).collect()
    }

    /// How many elements there are.
    pub(super) fn count(&self) -> usize {
        self.groups * self.len
    }

    /// The index of an element's weight and bias.
    pub(super) fn weight_of(&self, element: usize) -> usize {
        element / self.step % self.weights
    }
}

const BARE: Affine = Affine { weight: false, bias: false };

impl Norm for LayerNorm {
    fn layout(&self) -> Layout {
        Layout::rows(self.rows_and_width())
    }

    fn eps(&self) -> f32 {
        self.eps
    }

    fn with_eps(&self, eps: f32) -> Op {
        LayerNorm { eps, ..self.clone() }.into()
    }

    fn bare(&self) -> Op {
        LayerNorm { affine: BARE, ..self.clone() }.into()
    }
}

impl Norm for RmsNorm {
    fn layout(&self) -> Layout {
        Layout::rows(self.rows_and_width())
    }

    fn eps(&self) -> f32 {
        self.eps
    }

    fn with_eps(&self, eps: f32) -> Op {
        RmsNorm { eps, ..self.clone() }.into()
    }

    fn bare(&self) -> Op {
        RmsNorm { weight: false, weight_offset: 0.0, ..self.clone() }.into()
    }

    fn is_centred(&self) -> bool {
        false
    }

    fn weight_offset(&self) -> f32 {
        self.weight_offset
    }
}

impl Norm for BatchNorm {
    fn layout(&self) -> Layout {
        let (n, channels, spatial) = self.dims();
        Layout { groups: channels, len: n * spatial, run: spatial, step: spatial, weights: channels }
    }

    fn eps(&self) -> f32 {
        self.eps
    }

    fn with_eps(&self, eps: f32) -> Op {
        BatchNorm { eps, ..self.clone() }.into()
    }

    fn bare(&self) -> Op {
        BatchNorm { affine: BARE, ..self.clone() }.into()
    }

    fn computes_statistics(&self) -> bool {
        self.mode == BatchNormMode::Train
    }
}

impl Norm for GroupNorm {
    fn layout(&self) -> Layout {
        let (n, channels, spatial) = self.dims();
        let len = channels / self.groups * spatial;
        Layout { groups: n * self.groups, len, run: len, step: spatial, weights: channels }
    }

    fn eps(&self) -> f32 {
        self.eps
    }

    fn with_eps(&self, eps: f32) -> Op {
        GroupNorm { eps, ..self.clone() }.into()
    }

    fn bare(&self) -> Op {
        GroupNorm { affine: BARE, ..self.clone() }.into()
    }
}

impl Norm for InstanceNorm {
    fn layout(&self) -> Layout {
        let (n, channels, spatial) = self.dims();
        Layout { groups: n * channels, len: spatial, run: spatial, step: spatial, weights: channels }
    }

    fn eps(&self) -> f32 {
        self.eps
    }

    fn with_eps(&self, eps: f32) -> Op {
        InstanceNorm { eps, ..self.clone() }.into()
    }

    fn bare(&self) -> Op {
        InstanceNorm { affine: BARE, ..self.clone() }.into()
    }
}

#[cfg(test)]
mod tests {
    use touchstone_kernels::Problem;

    use super::*;

    fn layout(text: &str) -> Layout {
        norm(&text.parse::<Problem>().unwrap().op).unwrap().layout()
    }

    #[test]
    fn groups_and_weights_are_where_the_shapes_say() {
        let rows = layout("layer_norm f32 shape=2x3");
        assert_eq!(rows.members(), [[0, 1, 2], [3, 4, 5]]);
        assert_eq!((0..6).map(|i| rows.weight_of(i)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        let channels = layout("batch_norm f32 shape=2x2x3");
        assert_eq!(channels.members(), [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]);
        assert_eq!(channels.weight_of(7), 0);
        let one_sample = layout("batch_norm f32 shape=1x2x3");
        assert_eq!(one_sample.members(), [[0, 1, 2], [3, 4, 5]]);
        let groups = layout("group_norm f32 shape=1x4x2 groups=2");
        assert_eq!(groups.members(), [[0, 1, 2, 3], [4, 5, 6, 7]]);
        assert_eq!((0..8).map(|i| groups.weight_of(i)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 3, 3]);
        // Nothing to normalize.
        assert!(layout("instance_norm f32 shape=2x3x0").members().iter().all(Vec::is_empty));
        assert_eq!(
            layout("batch_norm f32 shape=2x3x0 mode=infer").members(),
            [const { Vec::<usize>::new() }; 3]
        );
    }
}
