//! Grouped keys and values (Ainslie et al. 2023): each of the G heads of keys and of values serves heads / G heads of
//! queries that follow one another. x = (q, k, v) of (heads, G, G) heads to heads of each, and the way back: sums over
//! a group. Shader: `shaders/repeat_heads.wgsl`.

use super::operation::{self, no_rule};
use super::{Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::kernels::repeat_heads as kernel;

/// Keys and values given to every head of queries of their group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatHeads {
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys, and of values; divides `heads`.
    pub groups: u32,
    /// Width of a head; in memory padded to a multiple of 4 with zeros.
    pub size: u32,
}

impl RepeatHeads {
    /// Columns of a head in memory.
    pub fn padded(&self) -> u32 {
        self.size.next_multiple_of(4)
    }

    fn columns(&self, rule: Rule) -> [u32; 2] {
        let (few, all) = ((self.heads + 2 * self.groups) * self.padded(), 3 * self.heads * self.padded());
        if rule == Rule::Forward { [few, all] } else { [all, few] }
    }
}

impl Operation for RepeatHeads {
    fn name(&self) -> &'static str {
        "repeat_heads"
    }

    fn by_row(&self) -> bool {
        true
    }

    /// Forward: x [rows, (heads + 2 groups) padded] to [rows, 3 heads padded]. Vjp(0): back.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let [x] = operation::inputs(self, inputs);
        if !matches!(rule, Rule::Forward | Rule::Vjp(0)) {
            no_rule(self, rule);
        }
        assert!(self.heads.is_multiple_of(self.groups), "repeat_heads: {self:?} has groups of different sizes");
        let [from, to] = self.columns(rule);
        assert_eq!(x.cols, from, "repeat_heads: {} has the wrong width", x.name);
        vec![("", x.rows, to, x.probes)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([x], [out]) = (node.inputs(), node.outputs());
        let (code, fixed) = cx.count(out);
        let params = kernel::Params {
            code,
            fixed,
            size4: self.padded() / 4,
            heads: self.heads,
            groups: self.groups,
            in_cols4: cx.cols4(x),
            out_cols4: cx.cols4(out),
            in_layer: cx.layer(x),
            out_layer: cx.layer(out),
        };
        let (label, grid) = (cx.name(out), cx.elementwise(out));
        let (x, out) = (cx.buffer(x), cx.buffer(out));
        match node.rule {
            Rule::Forward => cx.push(kernel::Forward { x, out, params }, label, grid),
            _ => cx.push(kernel::Vjp { x, out, params }, label, grid),
        }
    }
}
