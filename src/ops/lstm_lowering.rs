//! How an LSTM's rules become dispatches: one a direction, which goes through time inside.

use super::{Lowering, Lstm, Node, Rule, TensorId};
use crate::gpu::{Count, Grid};
use crate::kernels::{lstm as kernel, lstm_tangent as tangent};

/// Sentences of a workgroup, `units`.
const BLOCK: u32 = 8;
/// Invocations of a workgroup at most, `units`: what every adapter has.
const MOST_LANES: u32 = 256;

/// The launch of a rule that goes through time.
struct Walk {
    lanes: u32,
    /// Groups of four units of an invocation.
    items: u32,
    grid: Grid,
}

impl Walk {
    fn new(of: &Lstm, layers: u32) -> Walk {
        // As many as go back through time: two parts of a block, four units each.
        let items = 2 * of.padded() / 4;
        let lanes = items.next_power_of_two().clamp(64, MOST_LANES);
        let grid = Grid { count: Count::Sentences, unit: BLOCK, columns: 1, layers };
        Walk { lanes, items: items.div_ceil(lanes).next_power_of_two(), grid }
    }
}

/// Emits the dispatches of a rule.
pub(super) fn lower(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    match node.rule {
        Rule::Forward | Rule::Jvp => {
            for direction in 0..of.directions {
                forth(&Lstm { direction, ..*of }, node, cx);
            }
        }
        Rule::Vjp(_) => vjp(of, node, cx),
        Rule::VjpJvp(_) => vjp_jvp(of, node, cx),
        Rule::Delta => delta(of, node, cx),
        _ => second(of, node, cx),
    }
}

/// What all parameters have in common.
fn units(of: &Lstm) -> (u32, u32, u32, u32) {
    let wide4 = (of.units * of.directions).div_ceil(4);
    // The last direction fills up the row.
    let stored = if of.direction + 1 == of.directions { 4 * wide4 - of.offset() } else { of.units };
    (of.units, of.padded() / 4, wide4, stored)
}

fn forth(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let inputs = &node.inputs[3 * of.direction as usize..][..3];
    let made = &node.outputs[1 + 2 * of.direction as usize..][..2];
    let (out, addend) = (node.outputs[0], node.addend);
    let (label, walk) = (cx.name(made[1]), Walk::new(of, cx.layers(out)));
    let (units, quads, wide4, stored) = units(of);
    let layer = |id: TensorId| cx.layer(id);
    let buffer = |id: TensorId| cx.buffer(id);
    if node.rule == Rule::Forward {
        let forward = kernel::Forward {
            u: buffer(inputs[0]),
            weight: buffer(inputs[1]),
            bias: buffer(inputs[2]),
            spans: cx.batch.spans.clone(),
            addend: addend.map(buffer),
            out: buffer(out),
            previous_out: buffer(made[0]),
            state_out: buffer(made[1]),
            params: kernel::Params {
                units,
                quads,
                wide4,
                offset: of.offset(),
                stored,
                in_layer: layer(inputs[0]),
                addend_layer: addend.map_or(0, layer),
                out_layer: layer(out),
                previous_layer: layer(made[0]),
                state_layer: layer(made[1]),
                ..Default::default()
            },
            constants: kernel::Constants { addend: addend.is_some(), ..constants(of, &walk) },
        };
        cx.push(forward, label, walk.grid);
        return;
    }
    let jvp = tangent::Jvp {
        u: buffer(inputs[0]),
        weight: buffer(inputs[1]),
        state: buffer(inputs[2]),
        spans: cx.batch.spans.clone(),
        addend: addend.map(buffer),
        out: buffer(out),
        previous_out: buffer(made[0]),
        state_out: buffer(made[1]),
        params: tangent::Params {
            units,
            quads,
            wide4,
            offset: of.offset(),
            stored,
            in_layer: layer(inputs[0]),
            addend_layer: addend.map_or(0, layer),
            out_layer: layer(out),
            previous_layer: layer(made[0]),
            state_layer: layer(made[1]),
            ..Default::default()
        },
        constants: tangent::Constants { addend: addend.is_some(), ..tangent_constants(of, &walk) },
    };
    cx.push(jvp, label, walk.grid);
}

fn vjp(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let ([weight, state, h_bar], [out]) = (node.inputs(), node.outputs());
    let (units, quads, wide4, stored) = units(of);
    let walk = Walk::new(of, cx.layers(out));
    let vjp = kernel::Vjp {
        weight: cx.buffer(weight),
        state: cx.buffer(state),
        spans: cx.batch.spans.clone(),
        h_bar: cx.buffer(h_bar),
        z_bar_out: cx.buffer(out),
        params: kernel::Params {
            units,
            quads,
            wide4,
            offset: of.offset(),
            stored,
            in_layer: cx.layer(h_bar),
            out_layer: cx.layer(out),
            ..Default::default()
        },
        constants: constants(of, &walk),
    };
    cx.push(vjp, cx.name(out), walk.grid);
}

fn vjp_jvp(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let ([weight, state, state_dot, delta, bar_dot, back], [out]) = (node.inputs(), node.outputs());
    let (units, quads, wide4, stored) = units(of);
    let walk = Walk::new(of, cx.layers(out));
    let vjp_jvp = tangent::VjpJvp {
        weight: cx.buffer(weight),
        state: cx.buffer(state),
        spans: cx.batch.spans.clone(),
        state_dot: cx.buffer(state_dot),
        h_bar: cx.buffer(bar_dot),
        back: cx.buffer(back),
        delta_of: cx.buffer(delta),
        z_bar_out: cx.buffer(out),
        params: tangent::Params {
            units,
            quads,
            wide4,
            offset: of.offset(),
            stored,
            in_layer: cx.layer(bar_dot),
            out_layer: cx.layer(out),
            state_layer: cx.layer(state_dot),
            back_layer: cx.layer(back),
            delta_layer: cx.layer(delta),
            ..Default::default()
        },
        constants: tangent_constants(of, &walk),
    };
    cx.push(vjp_jvp, cx.name(out), walk.grid);
}

fn delta(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let ([state, h_bar, back], [out]) = (node.inputs(), node.outputs());
    let (units, quads, wide4, stored) = units(of);
    let delta = tangent::Delta {
        state: cx.buffer(state),
        spans: cx.batch.spans.clone(),
        h_bar: cx.buffer(h_bar),
        back: cx.buffer(back),
        delta_out: cx.buffer(out),
        params: tangent::Params {
            units,
            quads,
            wide4,
            offset: of.offset(),
            stored,
            in_layer: cx.layer(h_bar),
            out_layer: cx.layer(out),
            back_layer: cx.layer(back),
            ..Default::default()
        },
        constants: tangent::Constants { reverse: of.reverse(), ..Default::default() },
    };
    let grid = quads_of(Count::Sentences, quads, cx.layers(out));
    cx.push(delta, cx.name(out), grid);
}

fn second(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let ([state, state_dot, delta], [out]) = (node.inputs(), node.outputs());
    let (units, quads, _, stored) = units(of);
    let second = tangent::Second {
        state: cx.buffer(state),
        state_dot: cx.buffer(state_dot),
        spans: cx.batch.spans.clone(),
        delta_of: cx.buffer(delta),
        terms: cx.buffer(out),
        params: tangent::Params {
            units,
            quads,
            // Of a row of terms.
            wide4: cx.cols4(out),
            stored,
            out_layer: cx.layer(out),
            state_layer: cx.layer(state_dot),
            delta_layer: cx.layer(delta),
            ..Default::default()
        },
        constants: tangent::Constants { reverse: of.reverse(), ..Default::default() },
    };
    let grid = quads_of(Count::Rows, quads, cx.layers(out));
    cx.push(second, cx.name(out), grid);
}

/// An invocation for each vec4 of units of so many things, 64 a workgroup.
fn quads_of(count: Count, quads: u32, layers: u32) -> Grid {
    let common = [64, 32, 16, 8, 4, 2, 1].into_iter().find(|d| quads.is_multiple_of(*d)).unwrap_or(1);
    Grid { count, unit: 64 / common, columns: quads / common, layers }
}

fn constants(of: &Lstm, walk: &Walk) -> kernel::Constants {
    kernel::Constants { reverse: of.reverse(), lanes: walk.lanes, items: walk.items, ..Default::default() }
}

fn tangent_constants(of: &Lstm, walk: &Walk) -> tangent::Constants {
    tangent::Constants { reverse: of.reverse(), lanes: walk.lanes, items: walk.items, ..Default::default() }
}
