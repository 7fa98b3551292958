//! Squared norms of per-example gradients without forming them. Goodfellow 2015 (arXiv 1510.01799); Li et al. 2021, eq. 3
//! (arXiv 2110.05679); the choice between the two forms of a product as in Bu et al. 2022 (arXiv 2205.10683); the cross term
//! of a tied table is derived in `docs/curvature.md`. Shader: `shaders/ghost_norm.wgsl`.

use super::{AttentionVariant, Lowering, Node, Operation, OutputShape, Tensor};
use crate::gpu::{Count, Dispatch, Grid};

/// Which parameter's squared norms. All give [draws][sentences, 4].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GhostNorm {
    /// (b, a) to those of the weight of a product, for each of `parts` equal parts of b's columns.
    Product { parts: u32 },
    /// b to those of a bias, for each part.
    Sum { parts: u32 },
    /// (b, x, stat) to those of layer norm's scale and shift.
    Scale,
    /// b to those of the word, position and segment table.
    Tables,
    /// (b, h, e) to the cross term of a table that is the head too: b the adjoint of the embedding, h and e the input of the
    /// head and the adjoint of its output at masked positions.
    Tied,
}

impl GhostNorm {
    pub(super) fn outputs(self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if let GhostNorm::Product { parts } | GhostNorm::Sum { parts } = self {
            assert!((1..=4).contains(&parts) && inputs[0].cols4().is_multiple_of(parts), "parts are whole vec4");
        }
        vec![("", Count::Sentences, 4, inputs.iter().any(|t| t.probes))]
    }

    pub(super) fn lower(self, cx: &mut Lowering<'_>, node: &Node) {
        let (b, out) = (node.inputs[0], node.outputs[0]);
        let tensor = cx.graph.tensor(b).clone();
        let masked = tensor.rows == Count::Masked;
        let parts = match self {
            GhostNorm::Product { parts } | GhostNorm::Sum { parts } => parts,
            _ => 1,
        };
        let b4 = tensor.cols4() / parts;
        let mut buffers = vec![("b", cx.buffer(b)), ("spans", cx.batch.spans.clone()), ("out", cx.buffer(out))];
        let mut params =
            vec![("b4", b4), ("masked", u32::from(masked)), ("b_layer", cx.layer(b)), ("out_layer", cx.layer(out))];
        if let Some(a) = node.inputs.get(1) {
            buffers.push(("a", cx.buffer(*a)));
            params.push(("a4", cx.graph.tensor(*a).cols4()));
        }
        let lanes = match cx.variants.attention(Operation::GhostNorm) {
            AttentionVariant::Subgroup(lanes) => Some(lanes),
            _ => None,
        };
        let layers = cx.layers(out);
        let entry = match self {
            GhostNorm::Product { .. } => {
                // Rows of a sentence, on average of the largest batch: Gram costs T² (d + p), forming the gradient 2 T d p.
                let rows = cx.dims.capacity(tensor.rows).div_ceil(cx.dims.sentences.max(1));
                let (d, p) = (cx.graph.tensor(node.inputs[1]).cols, tensor.cols / parts);
                match u64::from(rows) * u64::from(d + p) < 2 * u64::from(d) * u64::from(p) {
                    true => "product",
                    false => "instantiated",
                }
            }
            GhostNorm::Sum { .. } => "sums",
            GhostNorm::Scale => {
                buffers.push(("stat", cx.buffer(node.inputs[2])));
                "scale"
            }
            GhostNorm::Tables => {
                buffers.push(("ids", cx.batch.ids.clone()));
                "tables"
            }
            GhostNorm::Tied => {
                let e = node.inputs[2];
                buffers.extend([("ids", cx.batch.ids.clone()), ("e", cx.buffer(e))]);
                params.extend([("e4", cx.graph.tensor(e).cols4()), ("e_layer", cx.layer(e))]);
                "tied"
            }
        };
        let mut constants = vec![("PARTS", parts)];
        if let Some(lanes) = lanes {
            constants.extend([("SUBGROUP", 1), ("LANES", lanes)]);
        }
        let label = cx.graph.tensor(out).name.clone();
        let grid = Grid { count: Count::Sentences, unit: 1, columns: 1, layers };
        cx.push(Dispatch { label, kernel: "ghost_norm", entry, constants, buffers, params, grid });
    }
}
