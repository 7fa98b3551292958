//! Attention along a direction of queries, keys and values: the dispatches of the tangents of its forward and reverse
//! rules, and of its second-order term. Without dropout. Shader: `shaders/attention_tangent.wgsl`.

use super::counts::SENTENCES;
use super::{Attention, AttentionVariant, Family, Lowering, Node, Rule, attention};
use crate::gpu::Grid;
use crate::kernels::attention_tangent as kernel;

/// Emits the dispatches of a rule along a direction; [`Attention`]'s `outputs` says which inputs each has.
pub(super) fn lower(of: &Attention, node: &Node, cx: &mut Lowering<'_>) {
    let input = |i: usize| cx.buffer(node.inputs[i]);
    let layer = |i: usize| cx.layer(node.inputs[i]);
    let out = node.outputs[0];
    let params = kernel::Params { heads: of.heads, scale: of.scale() as f32, ..Default::default() };
    let (constants, grid) = launch(of, node.rule, cx, cx.layers(out));
    let spans = cx.batch.spans.clone();
    let label = cx.name(out);
    match node.rule {
        Rule::Jvp => {
            let [qkv, stat, o, qkv_dot] = [0, 1, 2, 3].map(input);
            let [out, stat_out] = [0, 1].map(|i| cx.buffer(node.outputs[i]));
            let params = kernel::Params {
                qkv_layer: layer(3),
                o_layer: cx.layer(node.outputs[0]),
                stat_layer: cx.layer(node.outputs[1]),
                ..params
            };
            cx.push(kernel::Jvp { qkv, spans, stat, o, qkv_dot, out, stat_out, params, constants }, label, grid);
        }
        Rule::Delta => {
            let [stat_dot, o, o_bar, o_dot, bar_dot] = [0, 1, 2, 3, 4].map(input);
            let params = kernel::Params { o_layer: layer(3), bar_layer: layer(2), stat_layer: cx.layer(out), ..params };
            let out = cx.buffer(out);
            let delta = kernel::Delta { stat_dot, bar_dot, o, o_bar, o_dot, out, params, constants };
            cx.push(delta, label, grid);
        }
        Rule::VjpJvp(_) => {
            let [qkv, delta_of, o_bar, qkv_dot, o_bar_dot] = [0, 1, 2, 3, 4].map(input);
            let params = kernel::Params {
                qkv_layer: layer(3),
                o_layer: layer(4),
                bar_layer: layer(2),
                stat_layer: layer(1),
                ..params
            };
            let out = cx.buffer(out);
            let vjp_jvp = kernel::VjpJvp { qkv, spans, delta_of, o_bar_dot, o_bar, qkv_dot, out, params, constants };
            cx.push(vjp_jvp, label, grid);
        }
        _ => {
            let [qkv, stat, o_bar, qkv_dot] = [0, 1, 2, 3].map(input);
            let params =
                kernel::Params { qkv_layer: layer(3), bar_layer: layer(2), stat_layer: cx.layer(out), ..params };
            let out = cx.buffer(out);
            cx.push(kernel::Second { qkv, spans, stat, o_bar, qkv_dot, out, params, constants }, label, grid);
        }
    }
}

/// The constants of the variant and its grid; `delta` has one form.
fn launch(of: &Attention, rule: Rule, cx: &Lowering<'_>, layers: u32) -> (kernel::Constants, Grid) {
    let size4 = of.padded() / 4;
    let plain = kernel::Constants { size4, ..Default::default() };
    match cx.variants.attention(Family::TangentAttention) {
        AttentionVariant::Subgroup(lanes) if rule != Rule::Delta => {
            let constants = kernel::Constants { subgroup: true, lanes, keys: attention::keys(lanes, size4), ..plain };
            (constants, Grid { count: SENTENCES, unit: 1, columns: of.heads, layers })
        }
        _ => (plain, of.row_grid(layers)),
    }
}
