//! Random cotangents at the logits whose second moment is the loss's own Hessian. Shader: `shaders/loss_draw.wgsl`.

use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::gpu::{Count, Grid};
use crate::kernels::loss_draw as kernel;

/// How a cotangent is drawn. With p the model's distribution at a masked position:
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossDraw {
    /// p − e_y with y drawn from p.
    Label,
    /// √p ∘ r − p ⟨√p, r⟩ with random signs r.
    Signs,
    /// Column y of the triangular factor L of diag(p) − p pᵀ = L Lᵀ (Tanabe and Sagae 1992), one position per draw,
    /// in order: draw number (position (V − 1) + y). The matrix has rank V − 1 and V − 1 columns.
    Exact,
}

impl LossDraw {
    /// The number that `KIND` has in the shader.
    pub fn code(self) -> u32 {
        match self {
            LossDraw::Label => 0,
            LossDraw::Signs => 1,
            LossDraw::Exact => 2,
        }
    }
}

impl Operation for LossDraw {
    fn name(&self) -> &'static str {
        "loss_draw"
    }

    fn title(&self, _: Rule) -> String {
        let what = match self {
            LossDraw::Label => "label",
            LossDraw::Signs => "signs",
            LossDraw::Exact => "exact",
        };
        format!("loss_draw, {what}")
    }

    /// (logits, stat of the loss) to a cotangent [masked, V] per draw.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let [logits, _] = operation::inputs(self, inputs);
        vec![("", Count::Masked, logits.cols, true)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([z, stat], [out]) = (node.inputs(), node.outputs());
        let draw = kernel::Forward {
            z: cx.buffer(z),
            stat: cx.buffer(stat),
            labels: cx.batch.hard.clone(),
            out: cx.buffer(out),
            params: kernel::Params { width: cx.graph.tensor(z).cols, cols4: cx.cols4(z), out_layer: cx.layer(out) },
            constants: kernel::Constants { kind: self.code() },
        };
        let grid = Grid { count: Count::Masked, unit: 64, columns: 1, layers: cx.layers(out) };
        cx.push(draw, cx.name(out), grid);
    }
}
