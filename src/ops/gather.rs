//! The rows of masked positions, and their way back. Shader: `shaders/gather.wgsl`.

use super::counts::{MASKED, ROWS};
use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::kernels::gather as kernel;

/// x [rows, d] to its masked rows [masked, d].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather;

impl Operation for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let [x] = operation::inputs(self, inputs);
        match rule {
            Rule::Forward => {
                assert_eq!(x.rows, ROWS, "gather takes rows of tokens");
                vec![("", MASKED, x.cols, x.probes)]
            }
            Rule::Vjp(0) => {
                assert_eq!(x.rows, MASKED, "gather goes back from masked rows");
                vec![("", ROWS, x.cols, x.probes)]
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
            in_layer: cx.layer(x),
            out_layer: cx.layer(out),
            addend_layer: node.addend.map_or(0, |id| cx.layer(id)),
        };
        let plain =
            kernel::Constants { addend: node.addend.is_some(), cols4: cx.cols4(x), ..kernel::Constants::default() };
        let constants = match cx.apart(out).filter(|_| node.rule != Rule::Forward) {
            Some(lanes) => kernel::Constants { uniform: true, lanes, blocks: 64 / lanes, ..plain },
            None => plain,
        };
        let (label, grid) = (cx.name(out), cx.elementwise(out));
        let (x, out) = (cx.buffer(x), cx.buffer(out));
        if node.rule == Rule::Forward {
            let index = cx.batch.index.clone();
            cx.push(kernel::Forward { x, index, out, params, constants }, label, grid);
        } else {
            let (addend, index) = (node.addend.map(|id| cx.buffer(id)), cx.batch.inverse.clone());
            cx.push(kernel::Vjp { x, addend, index, out, params, constants }, label, grid);
        }
    }
}
