//! Multi-head self-attention within each sentence of a batch without padding. Vaswani et al. 2017; the backward pass
//! computes the weights again (Dao 2023). Shader: `shaders/attention.wgsl`.

use super::{Adjoints, AttentionVariant, Lowering, Node, Op, Operation, OutputShape, Rule, Tensor, TensorId, dropout};
use crate::gpu::{Count, Dispatch, Grid};

/// Attention, or its vjp with respect to queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    pub rule: Rule,
    pub heads: u32,
    /// Width of a head; in memory padded to a multiple of 4 with zeros.
    pub size: u32,
    /// Probability of dropping a weight.
    pub p: f32,
    /// Random stream of the dropout.
    pub stream: u32,
}

impl Attention {
    pub(super) fn operation(&self) -> Operation {
        match self.rule {
            Rule::Forward => Operation::AttentionForward,
            _ => Operation::AttentionVjp,
        }
    }

    /// Columns of a head in memory.
    pub fn padded(&self) -> u32 {
        self.size.next_multiple_of(4)
    }

    /// 1/√size.
    pub fn scale(&self) -> f64 {
        1.0 / f64::from(self.size).sqrt()
    }

    /// Rows of a flash tile, as many as 27,136 bytes of workgroup memory hold; `None` for heads that are too wide.
    fn flash_rows(&self) -> Option<u32> {
        match (self.rule, self.padded() / 4) {
            (Rule::Forward, ..=16) | (Rule::Vjp, ..=8) => Some(32),
            (Rule::Forward, ..=32) | (Rule::Vjp, ..=16) => Some(16),
            (Rule::Vjp, ..=32) => Some(8),
            _ => None,
        }
    }

    /// Forward: qkv [rows, 3 heads padded] to (o [rows, heads padded], stat [rows heads, 4], log Σ exp in the first column).
    /// Vjp: (qkv, stat, o, ō) to the adjoint of qkv.
    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let wide = self.heads * self.padded();
        assert_eq!(inputs[0].cols, 3 * wide, "attention: {} has the wrong width", inputs[0].name);
        match self.rule {
            Rule::Forward => vec![("", Count::Rows, wide, false), ("stat", Count::Rows, 4 * self.heads, false)],
            _ => vec![("", Count::Rows, 3 * wide, inputs[3].probes)],
        }
    }

    pub(super) fn vjp(&self, g: &mut Adjoints<'_>, node: &Node, o_bar: TensorId) {
        let (qkv, o, stat) = (node.inputs[0], node.outputs[0], node.outputs[1]);
        let op = Op::Attention(Attention { rule: Rule::Vjp, ..*self });
        g.contribute(qkv, |g, before| {
            let name = g.bar(qkv);
            let qkv_bar = g.push(op, &[qkv, stat, o, o_bar], &name)[0];
            before.map_or(qkv_bar, |before| g.add(before, qkv_bar))
        });
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (qkv, out) = (node.inputs[0], node.outputs[0]);
        let mut buffers = vec![("qkv", cx.buffer(qkv)), ("spans", cx.batch.spans.clone()), ("out", cx.buffer(out))];
        let threshold = dropout::threshold(self.p);
        let mut params = vec![
            ("heads", self.heads),
            ("scale", (self.scale() as f32).to_bits()),
            ("out_layer", cx.layer(out)),
            ("stream", self.stream),
            ("threshold", threshold),
            ("keep", (1.0 / (1.0 - self.p)).to_bits()),
        ];
        let entry = match self.rule {
            Rule::Forward => {
                buffers.push(("stat_out", cx.buffer(node.outputs[1])));
                "forward"
            }
            _ => {
                buffers.push(("stat", cx.buffer(node.inputs[1])));
                buffers.push(("o", cx.buffer(node.inputs[2])));
                buffers.push(("o_bar", cx.buffer(node.inputs[3])));
                params.push(("in_layer", cx.layer(node.inputs[3])));
                "vjp"
            }
        };
        let label = cx.graph.tensor(out).name.clone();
        let size4 = self.padded() / 4;
        let mut constants = vec![("SIZE4", size4), ("DROPOUT", u32::from(threshold != 0))];
        let flash = cx.variants.attention(self.operation()) == AttentionVariant::Flash;
        if let (true, Some(rows)) = (flash, self.flash_rows()) {
            constants.extend([("FLASH", 1), ("ROWS", rows)]);
            // The vjp has a workgroup for its rows as queries and one for them as keys.
            let columns = if self.rule == Rule::Vjp { 2 * self.heads } else { self.heads };
            let grid = Grid { count: Count::Rows, unit: rows, columns, layers: cx.layers(out) };
            cx.push(Dispatch { label, kernel: "attention", entry, constants, buffers, params, grid });
            return;
        }
        if let AttentionVariant::Subgroup(lanes) = cx.variants.attention(self.operation()) {
            // As many rows on the other side as one load of all lanes holds.
            let keys = (lanes / size4).max(1);
            constants.extend([("SUBGROUP", 1), ("LANES", lanes), ("KEYS", keys)]);
            let grid = Grid { count: Count::Sentences, unit: 1, columns: self.heads, layers: cx.layers(out) };
            cx.push(Dispatch { label, kernel: "attention", entry, constants, buffers, params, grid });
            return;
        }
        // (row, head) pairs, 64 a workgroup: heads / gcd columns of blocks of 64 / gcd rows.
        let common = [64, 32, 16, 8, 4, 2, 1].into_iter().find(|d| self.heads.is_multiple_of(*d)).unwrap_or(1);
        let grid = Grid { count: Count::Rows, unit: 64 / common, columns: self.heads / common, layers: cx.layers(out) };
        cx.push(Dispatch { label, kernel: "attention", entry, constants, buffers, params, grid });
    }
}
