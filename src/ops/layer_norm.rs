//! Layer norm over columns: y = γ (x - mean) / √(var + ε) + β. Ba et al. 2016. Shader: `shaders/layer_norm.wgsl`.

use super::variant_table::Kind;
use super::{
    Adjoints, Dims, Lowering, Node, Op, Operation, OutputShape, Rule, Tensor, TensorId, Variants, layer_norm_scale,
    reduce,
};
use crate::gpu::{Count, Dispatch, Grid};

/// Layer norm, or its vjp with respect to x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    pub rule: Rule,
    pub eps: f32,
    /// The vjp adds its last input to the result (a residual's adjoint).
    pub addend: bool,
    /// The vjp gives γ̄ and β̄ too, [1, d] each.
    pub sums: bool,
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
            _ => {
                let probes = inputs[3].probes;
                let mut outputs = vec![("", x.rows, x.cols, probes)];
                if self.sums {
                    outputs.extend(["weight", "bias"].map(|name| (name, Count::Fixed(1), x.cols, probes)));
                }
                outputs
            }
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
            ("y_layer", cx.layer(out)),
        ];
        let mut constants = vec![];
        let mut buffers = vec![("x", cx.buffer(x)), ("gamma", cx.buffer(node.inputs[1])), ("out", cx.buffer(out))];
        let entry = match self.rule {
            Rule::Forward => {
                buffers.push(("beta", cx.buffer(node.inputs[2])));
                buffers.push(("stat_out", cx.buffer(node.outputs[1])));
                "forward"
            }
            _ => {
                buffers.push(("stat", cx.buffer(node.inputs[2])));
                buffers.push(("y_bar", cx.buffer(node.inputs[3])));
                if self.addend {
                    buffers.push(("addend", cx.buffer(node.inputs[4])));
                    constants.push(("ADDEND", 1));
                }
                "vjp"
            }
        };
        let label = cx.graph.tensor(out).name.clone();
        let layers = cx.layers(out);
        let kernel = "layer_norm";
        if let Some(lanes) = subgroup(cx.variants, tensor) {
            constants.extend([("SUBGROUP", lanes), ("EACH", tensor.cols4().div_ceil(lanes))]);
            let (rows, block) = (tensor.rows, block(cx.dims, cx.variants, tensor.rows));
            params.push(("block", block));
            let grid = Grid { count: rows, unit: block, columns: 1, layers };
            let cols4 = u64::from(tensor.cols4());
            let sums = self.sums.then(|| {
                let gamma = reduce::blocks(cx, rows, block, cols4, node.outputs[1], None);
                let beta = reduce::blocks(cx, rows, block, cols4, node.outputs[2], None);
                constants.push(("SUMS", 1));
                buffers.extend([("gamma_bar", gamma.target.clone()), ("beta_bar", beta.target.clone())]);
                params.push(("sums_layer", gamma.layer));
                (gamma, beta)
            });
            cx.push(Dispatch { label, kernel, entry, constants, buffers, params, grid });
            if let Some((gamma, beta)) = sums {
                gamma.finish_both(beta, cx);
            }
            return;
        }
        let lanes = cx.variants.row_lanes(Operation::LayerNorm);
        let grid = cx.rowwise(tensor.rows, lanes, layers);
        constants.push(("LANES", lanes));
        cx.push(Dispatch { label, kernel, entry, constants, buffers, params, grid });
        if self.sums {
            let [y_bar, stat] = [node.inputs[3], node.inputs[2]];
            layer_norm_scale::lower_sums(cx, [x, stat, y_bar], [node.outputs[1], node.outputs[2]]);
        }
    }

    /// Bytes of workspace: the blocks' sums of γ̄ and of β̄.
    pub(super) fn workspace(
        &self,
        dims: &Dims,
        variants: &Variants,
        node: &Node,
        tensor: &dyn Fn(TensorId) -> Tensor,
    ) -> Vec<u64> {
        if !self.sums {
            return vec![];
        }
        let (x, x_bar) = (tensor(node.inputs[0]), tensor(node.outputs[0]));
        let block = match subgroup(variants, &x) {
            Some(_) => block(dims, variants, x.rows),
            None => variants.sums().block,
        };
        let layers = if x_bar.probes { dims.probes } else { 1 };
        vec![reduce::workspace(dims, x.rows, block, u64::from(x.cols4()), layers, false); 2]
    }
}

/// Lanes of the subgroup that works on a row, if it does: rows that take more than 32 vec4 of every lane make long code.
fn subgroup(variants: &Variants, x: &Tensor) -> Option<u32> {
    match variants.row(Operation::LayerNorm).kind {
        Kind::RowSubgroup(lanes) if x.cols4() <= 32 * lanes => Some(lanes),
        _ => None,
    }
}

/// Rows that a subgroup goes over: enough workgroups for several cores, and no longer sums than elsewhere.
fn block(dims: &Dims, variants: &Variants, rows: Count) -> u32 {
    (dims.capacity(rows) / 32).max(16).min(variants.sums().block)
}
