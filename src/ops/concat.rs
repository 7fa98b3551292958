//! The rows of a whole sentence side by side, a row for each masked position: [rows, D] to [masked, T padded(D)], with
//! zeros behind a sentence of fewer than T tokens; and the way back. What a linear probe reads. Shader:
//! `shaders/concat.wgsl`.

use super::counts::{MASKED, ROWS};
use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::kernels::concat as kernel;

/// Columns of T blocks of D, each padded to a multiple of 4.
pub fn width(tokens: u32, cols: u32) -> u32 {
    tokens * cols.next_multiple_of(4)
}

/// x [rows, cols] to [masked, tokens padded(cols)].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// Tokens of a sentence that have room.
    pub tokens: u32,
    /// Columns of x.
    pub cols: u32,
}

impl Operation for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let [x] = operation::inputs(self, inputs);
        match rule {
            Rule::Forward => {
                assert_eq!(x.rows, ROWS, "concat takes rows of tokens");
                assert_eq!(x.cols, self.cols, "concat: {} has the wrong width", x.name);
                vec![("", MASKED, width(self.tokens, self.cols), x.probes)]
            }
            Rule::Vjp(0) => {
                assert_eq!(x.rows, MASKED, "concat goes back from masked rows");
                vec![("", ROWS, self.cols, x.probes)]
            }
            _ => no_rule(self, rule),
        }
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn adds(&self, rule: Rule) -> bool {
        rule == Rule::Vjp(0)
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([x], [out]) = (node.inputs(), node.outputs());
        let params = kernel::Params {
            width: self.cols,
            cols4: self.cols.div_ceil(4),
            places: self.tokens,
            in_layer: cx.layer(x),
            out_layer: cx.layer(out),
            addend_layer: node.addend.map_or(0, |id| cx.layer(id)),
        };
        let constants = kernel::Constants { addend: node.addend.is_some() };
        let (label, grid, spans) = (cx.name(out), cx.elementwise(out), cx.batch.spans.clone());
        let (x, out) = (cx.buffer(x), cx.buffer(out));
        if node.rule == Rule::Forward {
            let index = cx.batch.index.clone();
            cx.push(kernel::Forward { x, index, spans, out, params, constants }, label, grid);
        } else {
            let addend = node.addend.map(|id| cx.buffer(id));
            cx.push(kernel::Vjp { x, addend, spans, out, params, constants }, label, grid);
        }
    }
}
