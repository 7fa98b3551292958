//! Sums over the rows of each sentence and all columns, [rows, n] to [sentences, 4], the sum in the first column. Not
//! differentiated. Shader: `shaders/sentence_sum.wgsl`.

use super::{Lowering, Node, OutputShape, Tensor};
use crate::gpu::Count;
use crate::kernels::sentence_sum as kernel;

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
        let sum = kernel::Forward {
            terms: cx.buffer(terms),
            spans: cx.batch.spans.clone(),
            addend: self.addend.then(|| cx.buffer(node.inputs[1])),
            out: cx.buffer(out),
            params: kernel::Params {
                width: tensor.cols,
                cols4: tensor.cols4(),
                masked: u32::from(tensor.rows == Count::Masked),
                factor: self.factor,
                in_layer: cx.layer(terms),
                out_layer: cx.layer(out),
                add: u32::from(self.addend),
            },
        };
        cx.push(sum, cx.name(out), cx.elementwise(out));
    }
}
