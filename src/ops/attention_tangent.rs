//! Attention along a direction of queries, keys and values: the tangents of its forward and reverse rules, and its
//! second-order term. Without dropout. Shader: `shaders/attention_tangent.wgsl`.

use super::{
    Attention, AttentionVariant, Lowering, Node, Op, Operation, OutputShape, Rule, Second, Tangents, Tensor, TensorId,
    attention,
};
use crate::gpu::{Count, Grid};
use crate::kernels::attention_tangent as kernel;

/// Which tangent of attention a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// (qkv, stat, o, q̇k̇v̇) to (ȯ, stat_dot [rows, 4 heads] = log Σ exp s, 0, its tangent μ, 0).
    Jvp,
    /// (stat_dot, o, ō, ȯ, ō̇) to [rows, 4 heads] = (log Σ exp s, δ, μ, δ̇).
    Delta,
    /// (qkv, delta, ō, q̇k̇v̇, ō̇) to the tangent of the adjoint of qkv.
    VjpJvp,
    /// (qkv, stat, ō, q̇k̇v̇) to ⟨ō, D²o⟩ of each row and head, in the first of four columns.
    Second,
}

/// A tangent of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionTangent {
    pub kind: Kind,
    pub of: Attention,
}

impl Attention {
    fn tangent(&self, kind: Kind) -> Op {
        assert!(self.p == 0.0, "tangents are taken of models without dropout");
        Op::AttentionTangent(AttentionTangent { kind, of: Attention { rule: Rule::Forward, ..*self } })
    }

    /// Tangent of the forward or the reverse rule.
    pub(super) fn jvp(&self, g: &mut Tangents<'_>, node: &Node) {
        let qkv = node.inputs[0];
        let name = g.dot(node.outputs[0]);
        if self.rule == Rule::Forward {
            let (o, stat) = (node.outputs[0], node.outputs[1]);
            let inputs = [qkv, stat, o, g.wanted(qkv)];
            let made = g.push(self.tangent(Kind::Jvp), &inputs, &name);
            g.set(o, made[0]);
            g.set(stat, made[1]);
            return;
        }
        let (stat, o, o_bar) = (node.inputs[1], node.inputs[2], node.inputs[3]);
        let inputs = [g.wanted(stat), o, o_bar, g.wanted(o), g.wanted(o_bar)];
        let delta = g.push(self.tangent(Kind::Delta), &inputs, "delta")[0];
        let inputs = [qkv, delta, o_bar, g.wanted(qkv), g.wanted(o_bar)];
        let made = g.push(self.tangent(Kind::VjpJvp), &inputs, &name)[0];
        g.set(node.outputs[0], made);
    }

    /// Second-order term of o = attention(qkv).
    pub(super) fn second(&self, g: &mut Second<'_>, node: &Node, o_bar: TensorId) {
        let inputs = [node.inputs[0], node.outputs[1], o_bar, g.dot(node.inputs[0])];
        let terms = g.push(self.tangent(Kind::Second), &inputs, "second(attention)");
        g.term(terms, 1.0);
    }
}

impl AttentionTangent {
    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let wide = self.of.heads * self.of.padded();
        let statistics = 4 * self.of.heads;
        match self.kind {
            Kind::Jvp => vec![("", Count::Rows, wide, true), ("stat", Count::Rows, statistics, true)],
            Kind::Delta => vec![("", Count::Rows, statistics, true)],
            Kind::VjpJvp => {
                assert_eq!(inputs[0].cols, 3 * wide, "attention: {} has the wrong width", inputs[0].name);
                vec![("", Count::Rows, 3 * wide, true)]
            }
            Kind::Second => vec![("", Count::Rows, statistics, true)],
        }
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let input = |i: usize| cx.buffer(node.inputs[i]);
        let layer = |i: usize| cx.layer(node.inputs[i]);
        let out = node.outputs[0];
        let params = kernel::Params { heads: self.of.heads, scale: self.of.scale() as f32, ..Default::default() };
        let (constants, grid) = self.launch(cx, cx.layers(out));
        let spans = cx.batch.spans.clone();
        let label = cx.name(out);
        match self.kind {
            Kind::Jvp => {
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
            Kind::Delta => {
                let [stat_dot, o, o_bar, o_dot, bar_dot] = [0, 1, 2, 3, 4].map(input);
                let params =
                    kernel::Params { o_layer: layer(3), bar_layer: layer(2), stat_layer: cx.layer(out), ..params };
                let out = cx.buffer(out);
                let delta = kernel::Delta { stat_dot, bar_dot, o, o_bar, o_dot, out, params, constants };
                cx.push(delta, label, grid);
            }
            Kind::VjpJvp => {
                let [qkv, delta_of, o_bar, qkv_dot, o_bar_dot] = [0, 1, 2, 3, 4].map(input);
                let params = kernel::Params {
                    qkv_layer: layer(3),
                    o_layer: layer(4),
                    bar_layer: layer(2),
                    stat_layer: layer(1),
                    ..params
                };
                let out = cx.buffer(out);
                let vjp_jvp =
                    kernel::VjpJvp { qkv, spans, delta_of, o_bar_dot, o_bar, qkv_dot, out, params, constants };
                cx.push(vjp_jvp, label, grid);
            }
            Kind::Second => {
                let [qkv, stat, o_bar, qkv_dot] = [0, 1, 2, 3].map(input);
                let params =
                    kernel::Params { qkv_layer: layer(3), bar_layer: layer(2), stat_layer: cx.layer(out), ..params };
                let out = cx.buffer(out);
                cx.push(kernel::Second { qkv, spans, stat, o_bar, qkv_dot, out, params, constants }, label, grid);
            }
        }
    }

    /// The constants of the variant and its grid; `delta` has one form.
    fn launch(&self, cx: &Lowering<'_>, layers: u32) -> (kernel::Constants, Grid) {
        let size4 = self.of.padded() / 4;
        let plain = kernel::Constants { size4, ..Default::default() };
        match cx.variants.attention(Operation::TangentAttention) {
            AttentionVariant::Subgroup(lanes) if self.kind != Kind::Delta => {
                let constants =
                    kernel::Constants { subgroup: true, lanes, keys: attention::keys(lanes, size4), ..plain };
                (constants, Grid { count: Count::Sentences, unit: 1, columns: self.of.heads, layers })
            }
            _ => (plain, self.of.row_grid(layers)),
        }
    }
}
