//! How an LSTM's rules become dispatches: one a direction, which goes through time inside.

use super::{Lowering, Lstm, LstmVariant, Node, Rule, TensorId, Variants};
use crate::gpu::{Count, Grid};
use crate::kernels::{lstm as kernel, lstm_tangent as tangent};
use crate::ops::counts::{ROWS, SENTENCES};

/// Sentences of a workgroup, `units`.
const BLOCK: u32 = 8;
/// Invocations of a workgroup at most, `units`: what every adapter has.
const MOST_INVOCATIONS: u32 = 128;
/// Units that a lane of a subgroup has room for: beyond, the loop over them is more code than a processor keeps at
/// hand.
const MOST_OF_SUBGROUP: u32 = 128;

/// What the invocations of a workgroup share out.
enum By {
    /// Sentences over the lanes of a subgroup, each lane with all units.
    Sentences { lanes: u32, units: u32 },
    /// Units, `items` groups of four an invocation at most.
    Units { invocations: u32, items: u32 },
}

/// The launch of a rule that goes through time.
struct Walk {
    by: By,
    grid: Grid,
}

impl By {
    fn of(lstm: &Lstm, variants: &Variants) -> By {
        match variants.lstm() {
            LstmVariant::Subgroup(lanes) if lstm.units <= MOST_OF_SUBGROUP => {
                By::Sentences { lanes, units: lstm.units }
            }
            _ => {
                // As many as go back through time: two parts of a block, four units each.
                let items = 2 * lstm.padded() / 4;
                let invocations = items.next_power_of_two().clamp(64, MOST_INVOCATIONS);
                By::Units { invocations, items: items.div_ceil(invocations).next_power_of_two() }
            }
        }
    }
}

impl Walk {
    fn new(of: &Lstm, cx: &Lowering<'_>, out: TensorId) -> Walk {
        let by = By::of(of, cx.variants);
        let unit = match by {
            By::Sentences { lanes, .. } => 4 * lanes,
            By::Units { .. } => BLOCK,
        };
        Walk { by, grid: Grid { count: SENTENCES, unit, columns: 1, layers: cx.layers(out) } }
    }
}

/// Iterations of all loops of an invocation for a token, in the rule with most.
pub(super) fn iterations_a_token(of: &Lstm, variants: &Variants) -> u64 {
    let (units, quads) = (u64::from(of.units), u64::from(of.padded() / 4));
    match By::of(of, variants) {
        By::Sentences { .. } => 1 + quads + units,
        By::Units { invocations, items } => {
            let forth = (8 * quads).div_ceil(u64::from(invocations)) * (1 + quads);
            1 + forth.max(u64::from(items) * (1 + units))
        }
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
    let (label, walk) = (cx.name(made[1]), Walk::new(of, cx, out));
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
    let walk = Walk::new(of, cx, out);
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
    let walk = Walk::new(of, cx, out);
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
        constants: tangent::Constants { reverse: of.reverse(), shift: of.offset() % 4, ..Default::default() },
    };
    let grid = quads_of(SENTENCES, quads, cx.layers(out));
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
    let grid = quads_of(ROWS, quads, cx.layers(out));
    cx.push(second, cx.name(out), grid);
}

/// An invocation for each vec4 of units of so many things, 64 a workgroup.
fn quads_of(count: Count, quads: u32, layers: u32) -> Grid {
    let common = [64, 32, 16, 8, 4, 2, 1].into_iter().find(|d| quads.is_multiple_of(*d)).unwrap_or(1);
    Grid { count, unit: 64 / common, columns: quads / common, layers }
}

fn constants(of: &Lstm, walk: &Walk) -> kernel::Constants {
    let plain = kernel::Constants { reverse: of.reverse(), shift: of.offset() % 4, ..Default::default() };
    match walk.by {
        By::Sentences { lanes, units } => kernel::Constants { subgroup: true, lanes, units, ..plain },
        By::Units { invocations, items } => kernel::Constants { invocations, items, ..plain },
    }
}

fn tangent_constants(of: &Lstm, walk: &Walk) -> tangent::Constants {
    let plain = tangent::Constants { reverse: of.reverse(), shift: of.offset() % 4, ..Default::default() };
    match walk.by {
        By::Sentences { lanes, units } => tangent::Constants { subgroup: true, lanes, units, ..plain },
        By::Units { invocations, items } => tangent::Constants { invocations, items, ..plain },
    }
}
