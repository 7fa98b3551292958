//! Inner products of per-example gradients without forming them: the Gram matrix whose nonzero eigenvalues are those of the
//! gradients' second moment. The same sums as in [`GhostNorm`](super::GhostNorm), over the rows of two sentences.
//! Shader: `shaders/ghost_gram.wgsl`.

use super::ghost_norm::{Form, GhostLoops};
use super::{AttentionVariant, Lowering, Node, Operation, OutputShape, Tensor};
use crate::gpu::{Count, Dispatch, Grid};

/// Which parameters' inner products; inputs as of [`GhostNorm`](super::GhostNorm), then what is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GramKind {
    /// (b, a): the weight of a product in `parts` parts, and its bias.
    Product { parts: u32, bias: bool },
    /// b: a bias.
    Sum { parts: u32 },
    /// (b, x, stat): layer norm's scale (bit 0) and shift (bit 1).
    Scale,
    /// b: the word, position and segment table (bits 0 to 2).
    Tables,
    /// (b, h, e): the cross term of a tied table.
    Tied,
}

/// Inner products of all pairs of `most` sentences or fewer, [sentences, most]; only those with column ≤ row are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GhostGram {
    pub kind: GramKind,
    /// The parts that take part, a bit each.
    pub mask: u32,
    pub addend: bool,
    pub most: u32,
}

/// Multiplications and additions of one dispatch at most.
const DISPATCH: f64 = 1e10;

impl GhostGram {
    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        assert!(inputs.iter().all(|t| !t.probes), "inner products are of one draw");
        vec![("", Count::Sentences, self.most, false)]
    }

    /// The loops of its kernel.
    pub(crate) fn loops(&self, inputs: &[&Tensor]) -> GhostLoops {
        let (form, parts) = match self.kind {
            GramKind::Product { parts, .. } => (Form::Product, parts),
            GramKind::Sum { parts } => (Form::Sums, parts),
            GramKind::Scale => (Form::Sums, 1),
            GramKind::Tables => (Form::Tables, 1),
            GramKind::Tied => (Form::Tied, 1),
        };
        GhostLoops::of(form, inputs, parts, true)
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (b, out) = (node.inputs[0], node.outputs[0]);
        let tensor = cx.graph.tensor(b).clone();
        let (entry, parts, bias, names): (_, u32, bool, &[&'static str]) = match self.kind {
            GramKind::Product { parts, bias } => ("product", parts, bias, &["b", "a"]),
            GramKind::Sum { parts } => ("sums", parts, false, &["b"]),
            GramKind::Scale => ("scale", 1, false, &["b", "a", "stat"]),
            GramKind::Tables => ("tables", 1, false, &["b"]),
            GramKind::Tied => ("tied", 1, false, &["b", "a", "e"]),
        };
        let mut buffers: Vec<_> = names.iter().zip(&node.inputs).map(|(n, id)| (*n, cx.buffer(*id))).collect();
        buffers.extend([("spans", cx.batch.spans.clone()), ("out", cx.buffer(out))]);
        if self.addend {
            buffers.push(("addend", cx.buffer(node.inputs[names.len()])));
        }
        if matches!(self.kind, GramKind::Tables | GramKind::Tied) {
            buffers.push(("ids", cx.batch.ids.clone()));
        }
        let columns = |i: usize| node.inputs.get(i).map_or(0, |id| cx.graph.tensor(*id).cols4());
        let params = |first: u32| {
            vec![
                ("a4", columns(1)),
                ("b4", tensor.cols4() / parts),
                ("e4", if self.kind == GramKind::Tied { columns(2) } else { 0 }),
                ("masked", u32::from(tensor.rows == Count::Masked)),
                ("most", self.most),
                ("stride", 4 * cx.graph.tensor(out).cols4()),
                ("bias", (if bias { 1.0f32 } else { 0.0 }).to_bits()),
                ("mask", self.mask),
                ("add", u32::from(self.addend)),
                ("first", first),
            ]
        };
        let mut constants = vec![("PARTS", parts)];
        if let AttentionVariant::Subgroup(lanes) = cx.variants.attention(Operation::GhostNorm) {
            constants.extend([("SUBGROUP", 1), ("LANES", lanes)]);
        }
        let label = cx.graph.tensor(out).name.clone();
        // All pairs in one dispatch would keep an adapter for minutes that nothing can interrupt.
        let tokens = f64::from(cx.dims.capacity(tensor.rows).div_ceil(cx.dims.sentences.max(1)));
        let row = 2.0 * f64::from(self.most) * tokens * tokens * f64::from(4 * (tensor.cols4() + columns(1)));
        let rows = ((DISPATCH / row) as u32).clamp(1, self.most);
        for first in (0..self.most).step_by(rows as usize) {
            let count = Count::Fixed(rows.min(self.most - first));
            let grid = Grid { count, unit: 1, columns: self.most, layers: 1 };
            cx.push(Dispatch {
                label: label.clone(),
                kernel: "ghost_gram",
                entry,
                constants: constants.clone(),
                buffers: buffers.clone(),
                params: params(first),
                grid,
            });
        }
    }
}
