//! Sums over the rows of each sentence and all columns, [rows, n] to [sentences, 4], the sum in the first column. Not
//! differentiated. Shader: `shaders/sentence_sum.wgsl`.

use super::{Lowering, Node, OutputShape, Tensor};
use crate::gpu::{Count, Dispatch};

/// `(terms, [addend])` to factor Σ terms + addend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SentenceSum {
    pub factor: f32,
    pub addend: bool,
}

impl SentenceSum {
    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        assert!(matches!(inputs[0].rows, Count::Rows | Count::Masked), "sums over sentences are of rows of tokens");
        vec![("", Count::Sentences, 4, inputs.iter().any(|t| t.probes))]
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (terms, out) = (node.inputs[0], node.outputs[0]);
        let tensor = cx.graph.tensor(terms);
        let params = vec![
            ("width", tensor.cols),
            ("cols4", tensor.cols4()),
            ("masked", u32::from(tensor.rows == Count::Masked)),
            ("factor", self.factor.to_bits()),
            ("in_layer", cx.layer(terms)),
            ("out_layer", cx.layer(out)),
            ("add", u32::from(self.addend)),
        ];
        let mut buffers = vec![("terms", cx.buffer(terms)), ("spans", cx.batch.spans.clone()), ("out", cx.buffer(out))];
        if self.addend {
            buffers.push(("addend", cx.buffer(node.inputs[1])));
        }
        let label = cx.graph.tensor(out).name.clone();
        let grid = cx.elementwise(out);
        cx.push(Dispatch { label, kernel: "sentence_sum", entry: "forward", constants: vec![], buffers, params, grid });
    }
}
