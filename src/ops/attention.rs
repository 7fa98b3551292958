//! Multi-head self-attention within each sentence of a batch without padding. Vaswani et al. 2017; the backward pass
//! computes the weights again (Dao 2023). Shader: `shaders/attention.wgsl`.

use super::{Adjoints, AttentionVariant, Lowering, Node, Op, Operation, OutputShape, Rule, Tensor, TensorId, dropout};
use crate::gpu::{Count, Grid};
use crate::kernels::attention as kernel;

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
        let out = node.outputs[0];
        let threshold = dropout::threshold(self.p);
        let (constants, grid) = self.launch(cx, cx.layers(out));
        let params = kernel::Params {
            heads: self.heads,
            scale: self.scale() as f32,
            out_layer: cx.layer(out),
            in_layer: if self.rule == Rule::Vjp { cx.layer(node.inputs[3]) } else { 0 },
            stream: self.stream,
            threshold,
            keep: 1.0 / (1.0 - self.p),
        };
        let constants = kernel::Constants { dropout: threshold != 0, ..constants };
        let input = |i: usize| cx.buffer(node.inputs[i]);
        let spans = cx.batch.spans.clone();
        match self.rule {
            Rule::Forward => {
                let (qkv, stat_out) = (input(0), cx.buffer(node.outputs[1]));
                let forward = kernel::Forward { qkv, spans, out: cx.buffer(out), stat_out, params, constants };
                cx.push(forward, cx.name(out), grid);
            }
            _ => {
                let [qkv, stat, o, o_bar] = [0, 1, 2, 3].map(input);
                let vjp = kernel::Vjp { qkv, spans, stat, o, o_bar, out: cx.buffer(out), params, constants };
                cx.push(vjp, cx.name(out), grid);
            }
        }
    }

    /// The constants of the variant and its grid.
    fn launch(&self, cx: &Lowering<'_>, layers: u32) -> (kernel::Constants, Grid) {
        let size4 = self.padded() / 4;
        let plain = kernel::Constants { size4, ..Default::default() };
        match (cx.variants.attention(self.operation()), self.flash_rows()) {
            (AttentionVariant::Flash, Some(rows)) => {
                // The vjp has a workgroup for its rows as queries and one for them as keys.
                let columns = if self.rule == Rule::Vjp { 2 * self.heads } else { self.heads };
                let grid = Grid { count: Count::Rows, unit: rows, columns, layers };
                (kernel::Constants { flash: true, rows, ..plain }, grid)
            }
            (AttentionVariant::Subgroup(lanes), _) => {
                let constants = kernel::Constants { subgroup: true, lanes, keys: keys(lanes, size4), ..plain };
                (constants, Grid { count: Count::Sentences, unit: 1, columns: self.heads, layers })
            }
            _ => (plain, self.row_grid(layers)),
        }
    }

    /// A grid of (row, head) pairs, 64 a workgroup: heads / gcd columns of blocks of 64 / gcd rows.
    pub(super) fn row_grid(&self, layers: u32) -> Grid {
        let common = [64, 32, 16, 8, 4, 2, 1].into_iter().find(|d| self.heads.is_multiple_of(*d)).unwrap_or(1);
        Grid { count: Count::Rows, unit: 64 / common, columns: self.heads / common, layers }
    }
}

/// Rows on the other side that one load of all lanes holds, at least 1.
pub(super) fn keys(lanes: u32, size4: u32) -> u32 {
    (lanes / size4).max(1)
}
