//! Heads that lie side by side without padding, put to their place among the heads of a wider matrix: how queries, keys
//! and values of their own products, of different numbers of heads or normalised, come together for attention. Linear
//! in x, and what is there already is the addend. Shader: `shaders/place_heads.wgsl`.

use super::operation::{self, no_rule};
use super::{Adjoints, Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor, TensorId, call};
use crate::kernels::place_heads as kernel;

/// Heads at their place among others, where the rest is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceHeads {
    /// Heads that are put to their place.
    pub heads: u32,
    /// Width of a head; in the wider matrix padded to a multiple of 4 with zeros.
    pub size: u32,
    /// Heads before them.
    pub first: u32,
    /// Heads of the wider matrix.
    pub of: u32,
}

impl PlaceHeads {
    /// Columns of a head in the wider matrix.
    pub fn padded(&self) -> u32 {
        self.size.next_multiple_of(4)
    }
}

impl Operation for PlaceHeads {
    fn name(&self) -> &'static str {
        "place_heads"
    }

    fn by_row(&self) -> bool {
        true
    }

    /// Forward: x [rows, heads size] to [rows, of padded]. Vjp(0): back.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let [x] = operation::inputs(self, inputs);
        assert!(self.first + self.heads <= self.of, "place_heads: {self:?} has no room");
        let [narrow, wide] = [self.heads * self.size, self.of * self.padded()];
        let (from, to) = match rule {
            Rule::Forward => (narrow, wide),
            Rule::Vjp(0) => (wide, narrow),
            _ => no_rule(self, rule),
        };
        assert_eq!(x.cols, from, "place_heads: {} has the wrong width", x.name);
        vec![("", x.rows, to, x.probes)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn adds(&self, rule: Rule) -> bool {
        rule == Rule::Forward
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        g.contribute(node.inputs[0], call(*self, Rule::Vjp(0), &[y_bar]));
        if let Some(addend) = node.addend {
            g.pass(addend, y_bar);
        }
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([x], [out]) = (node.inputs(), node.outputs());
        let (code, fixed) = cx.count(out);
        let params = kernel::Params {
            code,
            fixed,
            size: self.size,
            size4: self.padded() / 4,
            heads: self.heads,
            first: self.first,
            in_cols4: cx.cols4(x),
            out_cols4: cx.cols4(out),
            in_layer: cx.layer(x),
            out_layer: cx.layer(out),
            addend_layer: node.addend.map_or(0, |id| cx.layer(id)),
        };
        let constants = kernel::Constants { addend: node.addend.is_some() };
        let (label, grid) = (cx.name(out), cx.elementwise(out));
        let (x, out, addend) = (cx.buffer(x), cx.buffer(out), node.addend.map(|id| cx.buffer(id)));
        match node.rule {
            Rule::Forward => cx.push(kernel::Forward { x, addend, out, params, constants }, label, grid),
            _ => cx.push(kernel::Vjp { x, out, params, constants }, label, grid),
        }
    }
}
