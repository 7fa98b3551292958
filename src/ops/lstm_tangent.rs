//! An LSTM along a direction: the dispatches of the tangents of its forward and reverse rules, of the adjoints that
//! they need, and of its second-order term. Shader: `shaders/lstm_tangent.wgsl`.

use super::counts::{ROWS, SENTENCES};
use super::lstm_lowering::{By, Frame, Walk};
use super::{Lowering, Lstm, Node, Rule};
use crate::gpu::{Count, Grid};
use crate::kernels::lstm_tangent as tangent;

/// Emits the dispatches of a rule along a direction; [`Lstm`]'s `outputs` says which inputs each has.
pub(super) fn lower(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    match node.rule {
        Rule::Jvp => of.each_direction().for_each(|of| jvp(&of, node, cx)),
        Rule::VjpJvp(_) => vjp_jvp(of, node, cx),
        Rule::Delta => delta(of, node, cx),
        _ => second(of, node, cx),
    }
}

fn params(of: &Lstm) -> tangent::Params {
    let Frame { units, quads, wide4, stored } = Frame::of(of);
    tangent::Params { units, quads, wide4, offset: of.offset(), stored, ..Default::default() }
}

fn jvp(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let [u, weight, state] = node.inputs[3 * of.direction as usize..][..3] else { unreachable!("three per direction") };
    let [previous, made] = node.outputs[1 + 2 * of.direction as usize..][..2] else {
        unreachable!("two per direction")
    };
    let (out, addend) = (node.outputs[0], node.addend);
    let walk = Walk::new(of, cx, out);
    let jvp = tangent::Jvp {
        u: cx.buffer(u),
        weight: cx.buffer(weight),
        state: cx.buffer(state),
        spans: cx.batch.spans.clone(),
        addend: addend.map(|id| cx.buffer(id)),
        out: cx.buffer(out),
        previous_out: cx.buffer(previous),
        state_out: cx.buffer(made),
        params: tangent::Params {
            in_layer: cx.layer(u),
            addend_layer: addend.map_or(0, |id| cx.layer(id)),
            out_layer: cx.layer(out),
            previous_layer: cx.layer(previous),
            state_layer: cx.layer(made),
            ..params(of)
        },
        constants: tangent::Constants { addend: addend.is_some(), ..constants(of, &walk) },
    };
    cx.push(jvp, cx.name(made), walk.grid);
}

fn vjp_jvp(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let ([weight, state, state_dot, delta, bar_dot, back], [out]) = (node.inputs(), node.outputs());
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
            in_layer: cx.layer(bar_dot),
            out_layer: cx.layer(out),
            state_layer: cx.layer(state_dot),
            back_layer: cx.layer(back),
            delta_layer: cx.layer(delta),
            ..params(of)
        },
        constants: constants(of, &walk),
    };
    cx.push(vjp_jvp, cx.name(out), walk.grid);
}

fn delta(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let ([state, h_bar, back], [out]) = (node.inputs(), node.outputs());
    let delta = tangent::Delta {
        state: cx.buffer(state),
        spans: cx.batch.spans.clone(),
        h_bar: cx.buffer(h_bar),
        back: cx.buffer(back),
        delta_out: cx.buffer(out),
        params: tangent::Params {
            in_layer: cx.layer(h_bar),
            out_layer: cx.layer(out),
            back_layer: cx.layer(back),
            ..params(of)
        },
        constants: tangent::Constants { reverse: of.reverse(), shift: of.offset() % 4, ..Default::default() },
    };
    let grid = quads_of(SENTENCES, of, cx.layers(out));
    cx.push(delta, cx.name(out), grid);
}

fn second(of: &Lstm, node: &Node, cx: &mut Lowering<'_>) {
    let ([state, state_dot, delta], [out]) = (node.inputs(), node.outputs());
    let second = tangent::Second {
        state: cx.buffer(state),
        state_dot: cx.buffer(state_dot),
        spans: cx.batch.spans.clone(),
        delta_of: cx.buffer(delta),
        terms: cx.buffer(out),
        params: tangent::Params {
            // Of a row of terms.
            wide4: cx.cols4(out),
            offset: 0,
            out_layer: cx.layer(out),
            state_layer: cx.layer(state_dot),
            delta_layer: cx.layer(delta),
            ..params(of)
        },
        constants: tangent::Constants { reverse: of.reverse(), ..Default::default() },
    };
    let grid = quads_of(ROWS, of, cx.layers(out));
    cx.push(second, cx.name(out), grid);
}

/// An invocation for each vec4 of units of so many things, 64 a workgroup.
fn quads_of(count: Count, of: &Lstm, layers: u32) -> Grid {
    let quads = of.padded() / 4;
    let common = [64, 32, 16, 8, 4, 2, 1].into_iter().find(|d| quads.is_multiple_of(*d)).unwrap_or(1);
    Grid { count, unit: 64 / common, columns: quads / common, layers }
}

fn constants(of: &Lstm, walk: &Walk) -> tangent::Constants {
    let plain = tangent::Constants { reverse: of.reverse(), shift: of.offset() % 4, ..Default::default() };
    match walk.by {
        By::Sentences { lanes, units } => tangent::Constants { subgroup: true, lanes, units, ..plain },
        By::Units { invocations, items } => tangent::Constants { invocations, items, ..plain },
    }
}
