//! Dropout: each number kept with probability 1 - p and scaled by 1 / (1 - p). Srivastava et al. 2014.
//! Linear in x, with the mask a function of (seed, step, stream, place). Shader: `shaders/dropout.wgsl`.

use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::kernels::dropout as kernel;

/// A dropout with its own stream of random numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of dropping a number; the others are divided by 1 - p.
    pub p: f32,
    /// Different in every place of the model.
    pub stream: u32,
}

/// p as a threshold on 32 random bits.
pub fn threshold(p: f32) -> u32 {
    (f64::from(p) * 4_294_967_296.0) as u32
}

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let [x] = operation::inputs(self, inputs);
        match rule {
            // The same numbers are dropped on the way back.
            Rule::Forward | Rule::Vjp(0) => vec![("", x.rows, x.cols, x.probes)],
            _ => no_rule(self, rule),
        }
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    /// Which numbers are dropped hangs on the place of a row among the rows that are computed: of masked rows alone
    /// others are, as independent of each other as before.
    fn by_row(&self) -> bool {
        true
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([x], [out]) = (node.inputs(), node.outputs());
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
