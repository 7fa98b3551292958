//! Attention with masked rows alone as queries: the dispatches of its forward and reverse rules. Shader:
//! `shaders/attention_masked.wgsl`.

use super::attention::MOST_WRITTEN_OUT;
use super::counts::{MASKED, ROWS};
use super::variant_table::stores_pairs;
use super::{Attention, AttentionVariant, Family, Lowering, Node, Rule, dropout};
use crate::gpu::Grid;
use crate::kernels::attention_masked as kernel;

/// Emits the dispatches of a rule; [`Attention`]'s `outputs` says which inputs each has. The reverse rule is two: of
/// rows as keys, which leaves zeros for queries, and behind it of masked rows as queries.
pub(super) fn lower(of: &Attention, node: &Node, cx: &mut Lowering<'_>) {
    let out = node.outputs[0];
    let (label, layers) = (cx.name(out), cx.layers(out));
    let threshold = dropout::threshold(of.p);
    let params = kernel::Params {
        heads: of.heads,
        scale: of.scale() as f32,
        out_layer: cx.layer(out),
        in_layer: node.inputs.get(3).map_or(0, |o_bar| cx.layer(*o_bar)),
        stream: of.stream,
        threshold,
        keep: 1.0 / (1.0 - of.p),
    };
    let size4 = of.padded() / 4;
    let constants = kernel::Constants { size4, causal: of.causal, dropout: threshold != 0, ..Default::default() };
    let (spans, index) = (cx.batch.spans.clone(), cx.batch.index.clone());
    let queries = of.grid_of(MASKED, layers);
    if node.rule == Rule::Forward {
        let [qkv] = node.inputs().map(|id| cx.buffer(id));
        let [out, stat_out] = node.outputs().map(|id| cx.buffer(id));
        cx.push(kernel::Forward { qkv, spans, out, stat_out, index, params, constants }, label, queries);
        return;
    }
    let (of_keys, keys) = match apart(of, cx) {
        Some(lanes) => {
            let pairs = stores_pairs(lanes);
            let grid = Grid { count: ROWS, unit: lanes, columns: of.heads, layers };
            (kernel::Constants { uniform: true, lanes, pairs, ..constants }, grid)
        }
        None => (constants, of.grid_of(ROWS, layers)),
    };
    let inputs = || node.inputs().map(|id| cx.buffer(id));
    let ([qkv, stat, o, o_bar], qkv_bar) = (inputs(), cx.buffer(out));
    let (of_spans, of_index) = (spans.clone(), index.clone());
    let as_keys =
        kernel::VjpKeys { qkv, spans: of_spans, stat, o, o_bar, qkv_bar, index: of_index, params, constants: of_keys };
    let ([qkv, stat, o, o_bar], out) = (inputs(), cx.buffer(out));
    let as_queries = kernel::Vjp { qkv, spans, stat, o, o_bar, out, index, params, constants };
    cx.push(as_keys, label.clone(), keys);
    cx.push(as_queries, label, queries);
}

/// The lanes of a subgroup that stores a lane's results after another's: where there are many.
fn apart(of: &Attention, cx: &Lowering<'_>) -> Option<u32> {
    let AttentionVariant::Uniform(lanes) = cx.variants.attention(Family::AttentionVjp) else { return None };
    let (wide, rows) = (of.heads * of.padded() / 4, cx.dims.rows);
    let many = u64::from(rows) * u64::from(3 * wide) >= cx.variants.sums().apart;
    let short = lanes * of.padded() / 4 <= MOST_WRITTEN_OUT;
    // No more workgroups than a grid has without a fold.
    (many && short && rows.div_ceil(lanes) * of.heads <= Grid::FOLD).then_some(lanes)
}
