//! How an LSTM's forward and reverse rules become dispatches: one per direction, which goes through time inside.
//! Shader: `shaders/lstm.wgsl`.

use super::counts::SENTENCES;
use super::{Lowering, Lstm, LstmVariant, Node, Rule, TensorId, Variants, lstm_tangent};
use crate::gpu::Grid;
use crate::kernels::lstm as kernel;

/// Sentences of a workgroup, `units`.
const BLOCK: u32 = 8;
/// Invocations of a workgroup at most, `units`: what every adapter has.
const MOST_INVOCATIONS: u32 = 128;
/// Units that a lane of a subgroup has room for: beyond, the loop over them is more code than a processor keeps at
/// hand.
const MOST_OF_SUBGROUP: u32 = 128;

/// What the invocations of a workgroup share out.
pub(super) enum By {
    /// Sentences over the lanes of a subgroup, each lane with all units.
    Sentences { lanes: u32, units: u32 },
    /// Units, `items` groups of four an invocation at most.
    Units { invocations: u32, items: u32 },
}

/// The launch of a rule that goes through time.
pub(super) struct Walk {
    pub by: By,
    pub grid: Grid,
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
    pub fn new(of: &Lstm, cx: &Lowering<'_>, out: TensorId) -> Walk {
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
        Rule::Forward => of.each_direction().for_each(|of| forward(&of, node, cx)),
        Rule::Vjp(_) => vjp(of, node, cx),
        _ => lstm_tangent::lower(of, node, cx),
    }
}

/// What the parameters of all rules have in common.
pub(super) struct Frame {
    pub units: u32,
    pub quads: u32,
    pub wide4: u32,
    pub stored: u32,
}

impl Frame {
    pub fn of(of: &Lstm) -> Frame {
        let wide4 = (of.units * of.directions).div_ceil(4);
        // The last direction fills up the row.
        let stored = if of.direction + 1 == of.directions { 4 * wide4 - of.offset() } else { of.units };
        Frame { units: of.units, quads: of.padded() / 4, wide4, stored }
    }
}

fn params(of: &Lstm) -> kernel::Params {
    let Frame { units, quads, wide4, stored } = Frame::of(of);
    kernel::Params { units, quads, wide4, offset: of.offset(), stored, ..Default::default() }
}

fn forward(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let [u, weight, bias] = node.inputs[3 * of.direction as usize..][..3] else { unreachable!("three per direction") };
    let [previous, state] = node.outputs[1 + 2 * of.direction as usize..][..2] else {
        unreachable!("two per direction")
    };
    let (out, addend) = (node.outputs[0], node.addend);
    let walk = Walk::new(of, cx, out);
    let forward = kernel::Forward {
        u: cx.buffer(u),
        weight: cx.buffer(weight),
        bias: cx.buffer(bias),
        spans: cx.batch.spans.clone(),
        addend: addend.map(|id| cx.buffer(id)),
        out: cx.buffer(out),
        previous_out: cx.buffer(previous),
        state_out: cx.buffer(state),
        params: kernel::Params {
            in_layer: cx.layer(u),
            addend_layer: addend.map_or(0, |id| cx.layer(id)),
            out_layer: cx.layer(out),
            previous_layer: cx.layer(previous),
            state_layer: cx.layer(state),
            ..params(of)
        },
        constants: kernel::Constants { addend: addend.is_some(), ..constants(of, &walk) },
    };
    cx.push(forward, cx.name(state), walk.grid);
}

fn vjp(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let ([weight, state, h_bar], [out]) = (node.inputs(), node.outputs());
    let walk = Walk::new(of, cx, out);
    let vjp = kernel::Vjp {
        weight: cx.buffer(weight),
        state: cx.buffer(state),
        spans: cx.batch.spans.clone(),
        h_bar: cx.buffer(h_bar),
        z_bar_out: cx.buffer(out),
        params: kernel::Params { in_layer: cx.layer(h_bar), out_layer: cx.layer(out), ..params(of) },
        constants: constants(of, &walk),
    };
    cx.push(vjp, cx.name(out), walk.grid);
}

fn constants(of: &Lstm, walk: &Walk) -> kernel::Constants {
    let plain = kernel::Constants { reverse: of.reverse(), shift: of.offset() % 4, ..Default::default() };
    match walk.by {
        By::Sentences { lanes, units } => kernel::Constants { subgroup: true, lanes, units, ..plain },
        By::Units { invocations, items } => kernel::Constants { invocations, items, ..plain },
    }
}
