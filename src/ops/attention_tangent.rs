//! Attention along a direction of queries, keys and values: the tangents of its forward and reverse rules, and its
//! second-order term. Without dropout. Shader: `shaders/attention_tangent.wgsl`.

use super::{
    Attention, AttentionVariant, Lowering, Node, Op, Operation, OutputShape, Rule, Second, Tangents, Tensor, TensorId,
};
use crate::gpu::{Count, Dispatch, Grid};

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
        let (entry, names): (_, &[&'static str]) = match self.kind {
            Kind::Jvp => ("jvp", &["qkv", "stat", "o", "qkv_dot"]),
            Kind::Delta => ("delta", &["stat_dot", "o", "o_bar", "o_dot", "bar_dot"]),
            Kind::VjpJvp => ("vjp_jvp", &["qkv", "delta_of", "o_bar", "qkv_dot", "o_bar_dot"]),
            Kind::Second => ("second", &["qkv", "stat", "o_bar", "qkv_dot"]),
        };
        let input = |name: &str| names.iter().position(|n| *n == name).map(|i| node.inputs[i]);
        let layer = |cx: &Lowering<'_>, name: &str| input(name).map_or(0, |id| cx.layer(id));
        let out = node.outputs[0];
        let mut buffers: Vec<_> = names.iter().zip(&node.inputs).map(|(n, id)| (*n, cx.buffer(*id))).collect();
        buffers.push(("out", cx.buffer(out)));
        let (o_layer, stat_layer) = match self.kind {
            Kind::Jvp => {
                buffers.push(("stat_out", cx.buffer(node.outputs[1])));
                (cx.layer(out), cx.layer(node.outputs[1]))
            }
            Kind::Delta => (layer(cx, "o_dot"), cx.layer(out)),
            Kind::VjpJvp => (layer(cx, "o_bar_dot"), layer(cx, "delta_of")),
            Kind::Second => (0, cx.layer(out)),
        };
        let params = vec![
            ("heads", self.of.heads),
            ("scale", (self.of.scale() as f32).to_bits()),
            ("qkv_layer", layer(cx, "qkv_dot")),
            ("o_layer", o_layer),
            ("bar_layer", layer(cx, "o_bar")),
            ("stat_layer", stat_layer),
        ];
        let label = cx.graph.tensor(out).name.clone();
        let size4 = self.of.padded() / 4;
        let mut constants = vec![("SIZE4", size4)];
        let layers = cx.layers(out);
        let kernel = "attention_tangent";
        if self.kind != Kind::Delta {
            buffers.push(("spans", cx.batch.spans.clone()));
            if let AttentionVariant::Subgroup(lanes) = cx.variants.attention(Operation::TangentAttention) {
                let keys = (lanes / size4).max(1);
                constants.extend([("SUBGROUP", 1), ("LANES", lanes), ("KEYS", keys)]);
                let grid = Grid { count: Count::Sentences, unit: 1, columns: self.of.heads, layers };
                cx.push(Dispatch { label, kernel, entry, constants, buffers, params, grid });
                return;
            }
        }
        let common = [64, 32, 16, 8, 4, 2, 1].into_iter().find(|d| self.of.heads.is_multiple_of(*d)).unwrap_or(1);
        let grid = Grid { count: Count::Rows, unit: 64 / common, columns: self.of.heads / common, layers };
        cx.push(Dispatch { label, kernel, entry, constants, buffers, params, grid });
    }
}
