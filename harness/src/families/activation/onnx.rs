//! Point-wise functions: attributes only.

use touchstone_kernels::Op;
use touchstone_kernels::op::{Activation, Unary};

use crate::onnx::Mapped;
use crate::onnx::map::whole;
use crate::onnx::node::{Claim, Given, Node, Unmapped, part};

pub(super) fn activation(node: &Node) -> Result<Mapped, Unmapped> {
    let function = match node.message.op_type.as_str() {
        "Gelu" => match node.text("approximate")? {
            b"" | b"none" => Unary::Gelu,
            b"tanh" => Unary::GeluTanh,
            other => {
                let other = String::from_utf8_lossy(other);
                return Err(node.wrong(format!("approximate='{other}', expected none or tanh")).into());
            }
        },
        "Swish" => Unary::Swish { beta: node.number("alpha")?.unwrap_or(1.0) },
        "Sigmoid" => Unary::Sigmoid,
        "Tanh" => Unary::Tanh,
        "Relu" => Unary::Relu,
        "LeakyRelu" => Unary::LeakyRelu { slope: node.number("alpha")?.unwrap_or(0.01) },
        "Elu" => Unary::Elu { alpha: node.number("alpha")?.unwrap_or(1.0) },
        "Softplus" => Unary::Softplus,
        "Mish" => Unary::Mish,
        "HardSwish" => Unary::HardSwish,
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        other => return Err(Unmapped::Outside(format!("{other} is no point-wise function of ours"))),
    };
    let x = node.input(0)?;
    let op = Op::from(Activation { shape: x.shape().to_vec(), function });
    let claims = vec![Claim::whole("out", node.output()?)];
    Ok(whole(part(op, x.dtype()?, vec![Given::whole("x", x)], claims)?))
}
