//! Sums over the rows of each sentence and all columns, [rows, n] to [sentences, 4], the sum in the first column. Not
//! differentiated. Shader: `shaders/sentence_sum.wgsl`.

use super::counts::{MASKED, ROWS, SENTENCES};
use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::kernels::sentence_sum as kernel;

/// terms to factor Σ terms, plus an addend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SentenceSum {
    /// What the sum is multiplied by.
    pub factor: f32,
}

impl Operation for SentenceSum {
    fn name(&self) -> &'static str {
        "sentence_sum"
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let [terms] = operation::inputs(self, inputs);
        assert!(matches!(terms.rows, ROWS | MASKED), "sums over sentences are of rows of tokens");
        vec![("", SENTENCES, 4, terms.probes)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn adds(&self, _: Rule) -> bool {
        true
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([terms], [out]) = (node.inputs(), node.outputs());
        let tensor = cx.graph.tensor(terms);
        let sum = kernel::Forward {
            terms: cx.buffer(terms),
            spans: cx.batch.spans.clone(),
            addend: node.addend.map(|id| cx.buffer(id)),
            out: cx.buffer(out),
            params: kernel::Params {
                width: tensor.cols,
                cols4: tensor.cols4(),
                masked: u32::from(tensor.rows == MASKED),
                factor: self.factor,
                in_layer: cx.layer(terms),
                out_layer: cx.layer(out),
            },
            constants: kernel::Constants { addend: node.addend.is_some() },
        };
        cx.push(sum, cx.name(out), cx.elementwise(out));
    }
}
