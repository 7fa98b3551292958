//! Inner products of per-example gradients without forming them: the Gram matrix whose nonzero eigenvalues are those of
//! the gradients' second moment. The same sums as in [`GhostNorm`](super::GhostNorm), over the rows of two sentences.
//! Shader: `shaders/ghost_gram.wgsl`.

use super::counts::{MASKED, SENTENCES};
use super::ghost_norm::{Form, GhostLoops, Parts, slices};
use super::operation::no_rule;
use super::{AttentionVariant, Family, Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::gpu::{Count, Grid};
use crate::kernels::ghost_gram as kernel;

/// Which parameters' inner products; inputs as of [`GhostNorm`](super::GhostNorm).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GramKind {
    /// (b, a): the weight of a product in `parts` parts, and its bias.
    Product {
        /// Of b's columns.
        parts: Parts,
        /// Whether the bias of the same rows takes part.
        bias: bool,
    },
    /// b: a bias.
    Sum {
        /// Of b's columns.
        parts: Parts,
    },
    /// (b, x, stat): layer norm's scale (bit 0) and shift (bit 1).
    Scale {
        /// Equal parts of a row that share them.
        heads: u32,
    },
    /// b: the word, position and segment table (bits 0 to 2).
    Tables,
    /// (b, h, e): the cross term of a tied table.
    Tied,
}

/// Inner products of all pairs of `most` sentences or fewer, [sentences, most]; only those with column ≤ row are
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GhostGram {
    /// Of what.
    pub kind: GramKind,
    /// The parts that take part, a bit each.
    pub mask: u32,
    /// Columns of the matrix: sentences of the largest batch.
    pub most: u32,
}

/// Multiplications and additions of one dispatch at most.
const DISPATCH: f64 = 1e10;

impl Operation for GhostGram {
    fn name(&self) -> &'static str {
        "ghost_gram"
    }

    fn title(&self, _: Rule) -> String {
        let what = match self.kind {
            GramKind::Product { .. } => "product",
            GramKind::Sum { .. } => "sum",
            GramKind::Scale { .. } => "scale",
            GramKind::Tables => "tables",
            GramKind::Tied => "tied",
        };
        format!("ghost_gram, {what}")
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let wanted = match self.kind {
            GramKind::Sum { .. } | GramKind::Tables => 1,
            GramKind::Product { .. } => 2,
            GramKind::Scale { .. } | GramKind::Tied => 3,
        };
        assert_eq!(inputs.len(), wanted, "ghost_gram: tensors for {:?}", self.kind);
        assert!(inputs.iter().all(|t| !t.probes), "inner products are of one draw");
        vec![("", SENTENCES, self.most, false)]
    }

    /// As the inner products of pairs of rows that they are, for half of the pairs of sentences.
    fn flops(&self, node: &Node, sizes: &Sizes<'_>) -> Option<f64> {
        let (b, rows) = (node.inputs[0], sizes.rows(node.inputs[0]));
        match self.kind {
            GramKind::Product { .. } => Some(rows * rows * (sizes.cols(b) + sizes.cols(node.inputs[1]))),
            GramKind::Tied => Some(2.0 * rows * sizes.rows(node.inputs[1]) * sizes.cols(b)),
            GramKind::Sum { .. } | GramKind::Scale { .. } | GramKind::Tables => None,
        }
    }

    fn adds(&self, _: Rule) -> bool {
        true
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn family(&self, _: Rule) -> Option<Family> {
        Some(Family::GhostNorm)
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let (b, out) = (node.inputs[0], node.outputs[0]);
        let tensor = cx.graph.tensor(b);
        let (parts, bias) = match self.kind {
            GramKind::Product { parts, bias } => (parts, bias),
            GramKind::Sum { parts } => (parts, false),
            _ => (Parts::WHOLE, false),
        };
        let heads = if let GramKind::Scale { heads } = self.kind { heads } else { 1 };
        let columns = |i: usize| node.inputs.get(i).map_or(0, |id| cx.cols4(*id));
        let [first4, size4] = parts.of_row(tensor.cols4());
        let params = kernel::Params {
            a4: columns(1),
            b4: size4 / heads,
            b_row: tensor.cols4(),
            b_first: 0,
            heads,
            e4: if self.kind == GramKind::Tied { columns(2) } else { 0 },
            masked: u32::from(tensor.rows == MASKED),
            most: self.most,
            stride: 4 * cx.cols4(out),
            bias: if bias { 1.0 } else { 0.0 },
            mask: self.mask,
            first: 0,
        };
        let constants = kernel::Constants { parts: parts.count(), addend: node.addend.is_some(), ..Default::default() };
        let constants = match cx.variants.attention(Family::GhostNorm) {
            AttentionVariant::Subgroup(lanes) => kernel::Constants { subgroup: true, lanes, ..constants },
            _ => constants,
        };
        // All pairs in one dispatch would keep an adapter for minutes that nothing can interrupt.
        let tokens = f64::from(cx.dims.capacity(tensor.rows).div_ceil(cx.dims.sentences.max(1)));
        let row = 2.0 * f64::from(self.most) * tokens * tokens * f64::from(4 * (tensor.cols4() + columns(1)));
        let rows = ((DISPATCH / row) as u32).clamp(1, self.most);
        for first in (0..self.most).step_by(rows as usize) {
            let count = Count::Fixed(rows.min(self.most - first));
            let grid = Grid { count, unit: 1, columns: self.most, layers: 1 };
            let in_slices = matches!(self.kind, GramKind::Product { .. } | GramKind::Sum { .. });
            let columns: Vec<(u32, u32)> =
                if in_slices { slices(params.b4, parts).collect() } else { vec![(0, params.b4)] };
            for (i, (b_first, b4)) in columns.into_iter().enumerate() {
                let params = kernel::Params { first, b_first: first4 + b_first, b4, ..params };
                let constants = kernel::Constants { addend: constants.addend && i == 0, onto: i > 0, ..constants };
                self.push(cx, node, params, constants, grid);
            }
        }
    }
}

impl GhostGram {
    /// The loops of its kernel.
    pub(crate) fn loops(&self, inputs: &[&Tensor]) -> GhostLoops {
        let (form, parts) = match self.kind {
            GramKind::Product { parts, .. } => (Form::Product, parts),
            GramKind::Sum { parts } => (Form::Sums, parts),
            GramKind::Scale { heads } => (Form::Sums, Parts::Equal(heads)),
            GramKind::Tables => (Form::Tables, Parts::WHOLE),
            GramKind::Tied => (Form::Tied, Parts::WHOLE),
        };
        GhostLoops::of(form, inputs, parts, true)
    }

    fn push(
        &self,
        cx: &mut Lowering<'_>,
        node: &Node,
        params: kernel::Params,
        constants: kernel::Constants,
        grid: Grid,
    ) {
        let input = |i: usize| cx.buffer(node.inputs[i]);
        let (spans, ids) = (cx.batch.spans.clone(), cx.batch.ids.clone());
        let addend = node.addend.filter(|_| constants.addend).map(|id| cx.buffer(id));
        let (label, b, out) = (cx.name(node.outputs[0]), input(0), cx.buffer(node.outputs[0]));
        match self.kind {
            GramKind::Product { .. } => {
                let a = input(1);
                cx.push(kernel::Product { b, a, spans, addend, out, params, constants }, label, grid);
            }
            GramKind::Sum { .. } => cx.push(kernel::Sums { b, spans, addend, out, params, constants }, label, grid),
            GramKind::Scale { .. } => {
                let [a, stat] = [1, 2].map(input);
                cx.push(kernel::Scale { b, a, spans, stat, addend, out, params, constants }, label, grid);
            }
            GramKind::Tables => {
                cx.push(kernel::Tables { b, spans, ids, addend, out, params, constants }, label, grid);
            }
            GramKind::Tied => {
                let [a, e] = [1, 2].map(input);
                cx.push(kernel::Tied { b, a, spans, ids, e, addend, out, params, constants }, label, grid);
            }
        }
    }
}
