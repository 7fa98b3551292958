//! Matrices side by side: queries, keys and values that are made one by one and attended to together. Linear in all of
//! its inputs, and its transpose takes the columns apart. Shader: `shaders/join.wgsl`.

use std::sync::Arc;

use super::operation::no_rule;
use super::{Adjoints, Lowering, Node, Operation, OutputShape, Rule, Sizes, Tangents, Tensor, TensorId, call};
use crate::gpu::Grid;
use crate::kernels::join as kernel;

/// (a, b, ..) to (a | b | ..).
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// Columns of each matrix, multiples of 4.
    pub cols: Arc<[u32]>,
}

impl Operation for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn by_row(&self) -> bool {
        true
    }

    /// Forward: one matrix of each number of columns to [rows, all columns]. Vjp(i): ȳ to the columns of matrix i.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        match rule {
            Rule::Forward => {
                assert!(self.cols.iter().all(|n| n.is_multiple_of(4)), "join: {:?} are no whole vec4", self.cols);
                let rows = inputs[0].rows;
                let shapes = inputs.iter().map(|t| (t.rows, t.cols));
                assert!(shapes.eq(self.cols.iter().map(|n| (rows, *n))), "join: other shapes than {:?}", self.cols);
                vec![("", rows, self.cols.iter().sum(), inputs.iter().any(|t| t.probes))]
            }
            Rule::Vjp(i) => vec![("", inputs[0].rows, self.cols[usize::from(i)], inputs[0].probes)],
            _ => no_rule(self, rule),
        }
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        for (i, input) in node.inputs.iter().enumerate() {
            g.contribute(*input, call(self.clone(), Rule::Vjp(i as u8), &[y_bar]));
        }
    }

    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        let tangents: Vec<TensorId> = node.inputs.iter().map(|id| g.wanted(*id)).collect();
        let name = g.dot(node.outputs[0]);
        let tangent = g.push(call(self.clone(), node.rule, &tangents), &name)[0];
        g.set(node.outputs[0], tangent);
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let [out] = node.outputs();
        let begins = |i: usize| self.cols[..i].iter().sum::<u32>() / 4;
        // What is copied: the tensor of the part, where it begins in its input and in the output.
        let parts: Vec<(TensorId, TensorId, u32, u32)> = match node.rule {
            Rule::Vjp(i) => vec![(out, node.inputs[0], begins(usize::from(i)), 0)],
            _ => node.inputs.iter().enumerate().map(|(i, x)| (*x, *x, 0, begins(i))).collect(),
        };
        for (part, x, in_at, out_at) in parts {
            let (code, fixed) = cx.count(out);
            let params = kernel::Params {
                code,
                fixed,
                cols4: cx.cols4(part),
                in_cols4: cx.cols4(x),
                in_at,
                out_cols4: cx.cols4(out),
                out_at,
                in_layer: cx.layer(x),
                out_layer: cx.layer(out),
            };
            let grid = Grid { layers: cx.layers(out), ..cx.elementwise(part) };
            cx.push(kernel::Copy { x: cx.buffer(x), out: cx.buffer(out), params }, cx.name(out), grid);
        }
    }
}
