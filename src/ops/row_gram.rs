//! Inner products of the rows of each sentence, folded to below the diagonal: what squared norms of per-example gradients
//! need of a layer's input, once for all adjoints. Not differentiated. Shader: `shaders/row_gram.wgsl`.

use super::{AttentionVariant, Lowering, Node, Operation, OutputShape, Tensor};
use crate::gpu::{Count, Dispatch, Grid};

/// a to g, [rows, most]: g[t, s] = 2 a_t·a_s for s < t, ‖a_t‖² for s = t, else 0; s is counted from the first row of t's
/// sentence, and no sentence has more than `most` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGram {
    pub most: u32,
}

impl RowGram {
    pub(super) fn outputs(self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        assert!(
            !inputs[0].probes && matches!(inputs[0].rows, Count::Rows | Count::Masked),
            "rows of tokens, the same for all"
        );
        vec![("", inputs[0].rows, self.most, false)]
    }

    pub(super) fn lower(self, cx: &mut Lowering<'_>, node: &Node) {
        let (a, out) = (node.inputs[0], node.outputs[0]);
        let tensor = cx.graph.tensor(a).clone();
        let most4 = self.most.div_ceil(4);
        let masked = u32::from(tensor.rows == Count::Masked);
        let params = vec![("a4", tensor.cols4()), ("most4", most4), ("most", self.most), ("masked", masked)];
        let buffers = vec![("a", cx.buffer(a)), ("spans", cx.batch.spans.clone()), ("out", cx.buffer(out))];
        let (constants, columns) = match cx.variants.attention(Operation::GhostNorm) {
            AttentionVariant::Subgroup(lanes) => (vec![("SUBGROUP", 1), ("LANES", lanes)], self.most.div_ceil(lanes)),
            _ => (vec![], (self.most * most4).div_ceil(64)),
        };
        let label = cx.graph.tensor(out).name.clone();
        let grid = Grid { count: Count::Sentences, unit: 1, columns, layers: 1 };
        cx.push(Dispatch { label, kernel: "row_gram", entry: "forward", constants, buffers, params, grid });
    }

    /// Iterations of all loops of one invocation, in the `subgroup` variant with so many lanes or in the other.
    pub(crate) fn iterations(self, a: &Tensor, lanes: Option<u32>) -> u64 {
        let a4 = u64::from(a.cols4());
        match lanes {
            Some(lanes) => u64::from(self.most.div_ceil(lanes)) * (a4.div_ceil(4) + 1),
            None => a4,
        }
    }
}
