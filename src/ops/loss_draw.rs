//! Random cotangents at the logits whose second moment is the loss's own Hessian. Shader: `shaders/loss_draw.wgsl`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::MASKED;
use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::gpu::Grid;
use crate::kernels::loss_draw as kernel;

/// How a cotangent is drawn. With p the model's distribution at a masked position:
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(
    rename = "TraceEstimator",
    description = "The draw at each masked position, made so that the squared norm of an example's gradient has the \
        trace as its mean."
)]
pub enum LossDraw {
    /// √p ∘ r − p ⟨√p, r⟩ with random signs r.
    #[default]
    #[serde(rename = "random-signs")]
    #[schemars(
        description = "Random signs on the square root of the loss's own curvature: the least variance once a model is \
            confident."
    )]
    Signs,
    /// p − e_y with y drawn from p.
    #[serde(rename = "sampled-labels")]
    #[schemars(description = "Labels from the model: the paper's.")]
    Label,
    /// Column y of the triangular factor L of diag(p) − p pᵀ = L Lᵀ (Tanabe and Sagae 1992), for one position a draw,
    /// in order: draw number (position (V − 1) + y). The matrix has rank V − 1, and so many columns.
    #[serde(rename = "exact-labels")]
    #[schemars(description = "Every label, none drawn; costs as many passes as there are words.")]
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
        vec![("", MASKED, logits.cols, true)]
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
        let grid = Grid { count: MASKED, unit: 64, columns: 1, layers: cx.layers(out) };
        cx.push(draw, cx.name(out), grid);
    }
}
