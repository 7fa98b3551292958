//! Layer norm over columns: y = γ (x - mean) / √(var + ε) + β. Ba et al. 2016. Shader: `shaders/layer_norm.wgsl`.

use super::{Adjoints, Lowering, Node, Op, Operation, OutputShape, Rule, Tensor, TensorId};
use crate::gpu::{Count, Dispatch};

/// Layer norm, or its vjp with respect to x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    pub rule: Rule,
    pub eps: f32,
    /// The vjp adds its last input to the result (a residual's adjoint).
    pub addend: bool,
}

impl LayerNorm {
    /// Forward: (x, γ, β) to (y, stat [rows, 4] = mean, 1/√(var + ε)). Vjp: (x, γ, stat, ȳ, [addend]) to x̄.
    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let x = inputs[0];
        match self.rule {
            Rule::Forward => {
                for t in &inputs[1..] {
                    assert_eq!(
                        (t.rows, t.cols),
                        (Count::Fixed(1), x.cols),
                        "layer norm: {} does not fit {}",
                        t.name,
                        x.name
                    );
                }
                vec![("", x.rows, x.cols, false), ("stat", x.rows, 4, false)]
            }
            _ => vec![("", x.rows, x.cols, inputs[3].probes)],
        }
    }

    pub(super) fn vjp(&self, g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
        let (x, gamma, beta) = (node.inputs[0], node.inputs[1], node.inputs[2]);
        let stat = node.outputs[1];
        if g.wants(gamma) || g.wants(beta) {
            let name = format!("{}~", g.tensor(gamma).name.trim_end_matches(".weight"));
            let sums = g.emit(Op::LayerNormScale, &[x, stat, y_bar], &name);
            g.pass(gamma, sums[0]);
            g.pass(beta, sums[1]);
        }
        g.contribute(x, |g, before| {
            let op = LayerNorm { rule: Rule::Vjp, addend: before.is_some(), ..*self };
            let inputs: Vec<TensorId> = [x, gamma, stat, y_bar].into_iter().chain(before).collect();
            let name = g.bar(x);
            g.push(Op::LayerNorm(op), &inputs, &name)[0]
        });
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (x, out) = (node.inputs[0], node.outputs[0]);
        let [code, fixed] = cx.count(x);
        let tensor = cx.graph.tensor(x);
        let mut params = vec![
            code,
            fixed,
            ("width", tensor.cols),
            ("cols4", tensor.cols4()),
            ("eps", self.eps.to_bits()),
            ("add", u32::from(self.addend)),
            ("y_layer", cx.layer(out)),
        ];
        let mut buffers = vec![("x", cx.buffer(x)), ("gamma", cx.buffer(node.inputs[1])), ("out", cx.buffer(out))];
        let entry = match self.rule {
            Rule::Forward => {
                buffers.push(("beta", cx.buffer(node.inputs[2])));
                buffers.push(("stat_out", cx.buffer(node.outputs[1])));
                params.retain(|(name, _)| *name != "add");
                "forward"
            }
            _ => {
                buffers.push(("stat", cx.buffer(node.inputs[2])));
                buffers.push(("y_bar", cx.buffer(node.inputs[3])));
                if self.addend {
                    buffers.push(("addend", cx.buffer(node.inputs[4])));
                }
                "vjp"
            }
        };
        let lanes = cx.variants.row_lanes(Operation::LayerNorm);
        let grid = cx.rowwise(tensor.rows, lanes, cx.layers(out));
        let label = cx.graph.tensor(out).name.clone();
        cx.push(Dispatch {
            label,
            kernel: "layer_norm",
            entry,
            constants: vec![("LANES", lanes)],
            buffers,
            params,
            grid,
        });
    }
}
