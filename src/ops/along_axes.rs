//! Cotangents at the logits put along four directions of the words' space, with their second moment, the loss's own
//! Hessian, as it was. Shader: `shaders/along_axes.wgsl`.

use super::counts::MASKED;
use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::gpu::{Count, Grid};
use crate::kernels::along_axes as kernel;

/// u₀ to u₀ + p ∘ ((f − m) α): its part along p ∘ (f − m) drawn anew, a sign for each direction.
///
/// Where the directions are those along which the gradient is large, as the principal axes of the rows of the output
/// table are, gradients for different directions are nearly orthogonal and their squared norms have less scatter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlongAxes;

impl Operation for AlongAxes {
    fn name(&self) -> &'static str {
        "along_axes"
    }

    /// (logits, stat of the loss, coordinates [V, 4], drawn cotangents) to cotangents [masked, V] per draw.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let [logits, _, axes, drawn] = operation::inputs(self, inputs);
        assert_eq!((axes.rows, axes.cols), (Count::Fixed(logits.cols), 4), "four coordinates of each word");
        assert_eq!((drawn.rows, drawn.cols), (MASKED, logits.cols), "cotangents at the logits");
        vec![("", MASKED, logits.cols, drawn.probes)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([z, stat, axes, drawn], [out]) = (node.inputs(), node.outputs());
        let along = kernel::Forward {
            z: cx.buffer(z),
            stat: cx.buffer(stat),
            axes: cx.buffer(axes),
            drawn: cx.buffer(drawn),
            labels: cx.batch.hard.clone(),
            out: cx.buffer(out),
            params: kernel::Params { width: cx.graph.tensor(z).cols, cols4: cx.cols4(z), out_layer: cx.layer(out) },
        };
        let grid = Grid { count: MASKED, unit: 64, columns: 1, layers: cx.layers(out) };
        cx.push(along, cx.name(out), grid);
    }
}
