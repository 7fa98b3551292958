//! Dropout: each number kept with probability 1 - p and scaled by 1 / (1 - p). Srivastava et al. 2014.
//! Linear in x, with the mask a function of (seed, step, stream, place). Shader: `shaders/dropout.wgsl`.

use super::{Adjoints, Lowering, Node, Op, OutputShape, Tensor, TensorId};
use crate::kernels::dropout as kernel;

/// A dropout with its own stream of random numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    pub p: f32,
    /// Different in every place of the model.
    pub stream: u32,
}

/// p as a threshold on 32 random bits.
pub fn threshold(p: f32) -> u32 {
    (f64::from(p) * 4_294_967_296.0) as u32
}

impl Dropout {
    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        vec![("", inputs[0].rows, inputs[0].cols, inputs[0].probes)]
    }

    pub(super) fn vjp(&self, g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
        let (x, op) = (node.inputs[0], Op::Dropout(*self));
        g.contribute(x, |g, before| {
            let name = g.bar(x);
            let x_bar = g.push(op, &[y_bar], &name)[0];
            before.map_or(x_bar, |before| g.add(before, x_bar))
        });
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (x, out) = (node.inputs[0], node.outputs[0]);
        let (code, fixed) = cx.count(out);
        let dropout = kernel::Forward {
            x: cx.buffer(x),
            out: cx.buffer(out),
            params: kernel::Params {
                code,
                fixed,
                cols4: cx.cols4(out),
                a_layer: cx.layer(x),
                out_layer: cx.layer(out),
                scale: 1.0 / (1.0 - self.p),
                stream: self.stream,
                threshold: threshold(self.p),
                ..Default::default()
            },
        };
        cx.push(dropout, cx.name(out), cx.elementwise(out));
    }
}
