//! Random cotangents at the logits whose second moment is one of the two parts of the loss's own Hessian by a partition
//! of the words into groups. Shader: `shaders/group_draw.wgsl`.
//!
//! With P the distribution over groups and q_v = p_v / P_g that of the words within a group, diag(p) - p pᵀ is the sum
//! of the covariance of which group, and of that of which word of its group (the label dial's two noises).

use super::counts::MASKED;
use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::gpu::Grid;
use crate::kernels::group_draw as kernel;

/// One of the two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupPart {
    /// Which group.
    Between,
    /// Which word of its group.
    Within,
}

/// A draw for a part; its third input holds the number of each word's group, [1, V].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupDraw {
    /// Of which part.
    pub part: GroupPart,
    /// Whether columns of the part's triangular factor are taken in order instead of random signs: draw number
    /// (position · [`columns`](GroupDraw::columns) + y).
    pub exact: bool,
    /// Groups, at most [`GroupDraw::MOST`].
    pub groups: u32,
}

impl GroupDraw {
    /// The most groups: `MOST` of the shader.
    pub const MOST: u32 = 64;

    /// Columns of the triangular factor at a position over so many words.
    pub fn columns(&self, words: u32) -> u32 {
        match self.part {
            GroupPart::Between => self.groups.max(2) - 1,
            GroupPart::Within => words - 1,
        }
    }

    /// The number that `KIND` has in the shader.
    fn code(self) -> u32 {
        u32::from(self.part == GroupPart::Within) + 2 * u32::from(self.exact)
    }
}

impl Operation for GroupDraw {
    fn name(&self) -> &'static str {
        "group_draw"
    }

    fn title(&self, _: Rule) -> String {
        let part = if self.part == GroupPart::Between { "between" } else { "within" };
        format!("group_draw, {part}, {}", if self.exact { "exact" } else { "signs" })
    }

    /// (logits, stat of the loss, groups) to a cotangent [masked, V] per draw.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let [logits, _, groups] = operation::inputs(self, inputs);
        assert!(groups.cols == logits.cols, "a group for each of {} words, not {}", logits.cols, groups.cols);
        assert!(self.groups <= GroupDraw::MOST, "{} groups, at most {}", self.groups, GroupDraw::MOST);
        vec![("", MASKED, logits.cols, true)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([z, stat, groups], [out]) = (node.inputs(), node.outputs());
        let draw = kernel::Forward {
            z: cx.buffer(z),
            stat: cx.buffer(stat),
            group_of: cx.buffer(groups),
            labels: cx.batch.hard.clone(),
            out: cx.buffer(out),
            params: kernel::Params {
                width: cx.graph.tensor(z).cols,
                cols4: cx.cols4(z),
                out_layer: cx.layer(out),
                groups: self.groups,
            },
            constants: kernel::Constants { kind: self.code() },
        };
        let grid = Grid { count: MASKED, unit: 64, columns: 1, layers: cx.layers(out) };
        cx.push(draw, cx.name(out), grid);
    }
}
