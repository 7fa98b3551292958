//! Inner products of the rows of each sentence, folded to below the diagonal: what squared norms of per-example
//! gradients need of a layer's input, once for all adjoints. Not differentiated. Shader: `shaders/row_gram.wgsl`.

use super::counts::{MASKED, ROWS, SENTENCES};
use super::operation::{self, no_rule};
use super::{AttentionVariant, Family, Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::gpu::Grid;
use crate::kernels::row_gram as kernel;

/// a to g, [rows, most]: g[t, s] = 2 a_t·a_s for s < t, ‖a_t‖² for s = t, else 0; s is counted from the first row of
/// t's sentence, and no sentence has more than `most` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGram {
    /// Columns of g: rows of the longest sentence.
    pub most: u32,
}

impl Operation for RowGram {
    fn name(&self) -> &'static str {
        "row_gram"
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let [a] = operation::inputs(self, inputs);
        assert!(!a.probes && matches!(a.rows, ROWS | MASKED), "rows of tokens, the same for all");
        vec![("", a.rows, self.most, false)]
    }

    /// Half of the pairs, each a multiplication and an addition.
    fn flops(&self, node: &Node, sizes: &Sizes<'_>) -> Option<f64> {
        let [a] = node.inputs();
        Some(sizes.pairs(a) * sizes.cols(a))
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn family(&self, _: Rule) -> Option<Family> {
        Some(Family::GhostNorm)
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([a], [out]) = (node.inputs(), node.outputs());
        let tensor = cx.graph.tensor(a);
        let most4 = self.most.div_ceil(4);
        let masked = u32::from(tensor.rows == MASKED);
        let (constants, columns) = match cx.variants.attention(Family::GhostNorm) {
            AttentionVariant::Subgroup(lanes) => {
                (kernel::Constants { subgroup: true, lanes }, self.most.div_ceil(lanes))
            }
            _ => (Default::default(), (self.most * most4).div_ceil(64)),
        };
        let gram = kernel::Forward {
            a: cx.buffer(a),
            spans: cx.batch.spans.clone(),
            out: cx.buffer(out),
            params: kernel::Params { a4: tensor.cols4(), most4, most: self.most, masked },
            constants,
        };
        let grid = Grid { count: SENTENCES, unit: 1, columns, layers: 1 };
        cx.push(gram, cx.name(out), grid);
    }
}

impl RowGram {
    /// Iterations of all loops of one invocation, in the `subgroup` variant with `lanes` lanes or in the other.
    pub(crate) fn iterations(self, a: &Tensor, lanes: Option<u32>) -> u64 {
        let a4 = u64::from(a.cols4());
        match lanes {
            Some(lanes) => u64::from(self.most.div_ceil(lanes)) * (a4.div_ceil(4) + 1),
            None => a4,
        }
    }
}
