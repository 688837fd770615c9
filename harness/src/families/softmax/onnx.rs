//! Softmax and LogSoftmax, which from version 13 on sum over one axis.

use touchstone_kernels::Op;
use touchstone_kernels::op::Softmax;

use crate::onnx::Mapped;
use crate::onnx::map::whole;
use crate::onnx::node::{Claim, Given, Node, Unmapped, part};

pub(super) fn softmax(node: &Node) -> Result<Mapped, Unmapped> {
    over_axis(node, false)
}

pub(super) fn log_softmax(node: &Node) -> Result<Mapped, Unmapped> {
    over_axis(node, true)
}

fn over_axis(node: &Node, log: bool) -> Result<Mapped, Unmapped> {
    let x = node.input(0)?;
    let axis = node.axis(-1, x.shape().len())?;
    let op = Op::from(Softmax { shape: x.shape().to_vec(), axis, log, scale: 1.0 });
    let claims = vec![Claim::whole("out", node.output()?)];
    Ok(whole(part(op, x.dtype()?, vec![Given::whole("x", x)], claims)?))
}
