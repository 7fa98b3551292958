//! Sums over rows, the gradient of a bias: out [1, n] = Σ_rows x [rows, n]. Shader: `shaders/column_sum.wgsl`.

use super::operation::{self, no_rule};
use super::{
    Family, GradientRows, GradientSource, Lowering, Node, Operation, OutputShape, Rule, Scratch, Sizes, Tensor,
    TensorId, reduce,
};
use crate::gpu::{Count, Grid};
use crate::kernels::column_sum as kernel;

/// The blocks' sums, where there is more than one block.
pub(super) const SUMS: Scratch = Scratch("column sums");

/// x to Σ_rows x. A function of its own and not a rule of [`Linear`](super::Linear): it stands in gradients beside any
/// product with a bias, and `fuse` merges it with the product that reads the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSum;

impl Operation for ColumnSum {
    fn name(&self) -> &'static str {
        "column_sum"
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let [x] = operation::inputs(self, inputs);
        vec![("", Count::Fixed(1), x.cols, x.probes)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn scratch(&self, node: &Node, sizes: &Sizes<'_>) -> Vec<(Scratch, u64)> {
        vec![(SUMS, reduce::column_workspace(sizes, node.inputs[0], node.outputs[0]))]
    }

    fn family(&self, _: Rule) -> Option<Family> {
        Some(Family::Sums)
    }

    fn gradient_source(&self, node: &Node, _: usize) -> Option<GradientSource> {
        let [b] = node.inputs();
        Some(GradientSource::Rows(GradientRows::Sum { b }))
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([x], [out]) = (node.inputs(), node.outputs());
        lower_sum(cx, x, out);
    }
}

/// The dispatches of out = Σ_rows x.
pub(super) fn lower_sum(cx: &mut Lowering<'_>, x: TensorId, out: TensorId) {
    let (code, fixed) = cx.count(x);
    let (rows, cols4, block) = (cx.graph.tensor(x).rows, cx.cols4(x), cx.variants.sums().block);
    let sums = reduce::blocks(cx, rows, block, u64::from(cols4), out, None, SUMS);
    let lanes = reduce::lanes(cx);
    let groups = cols4.div_ceil(lanes);
    let sum = kernel::Forward {
        x: cx.buffer(x),
        out: sums.target.clone(),
        params: kernel::Params {
            code,
            fixed,
            cols4,
            groups,
            block,
            in_layer: cx.layer(x),
            out_layer: sums.layer,
            heads: 1,
        },
        constants: kernel::Constants { lanes },
    };
    cx.push(sum, cx.name(out), Grid { count: rows, unit: block, columns: groups, layers: cx.layers(out) });
    sums.finish(cx);
}
