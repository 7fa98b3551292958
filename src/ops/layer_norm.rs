//! Layer norm over columns: y = γ (x - mean) / √(var + ε) + β. Ba et al. 2016. Shader: `shaders/layer_norm.wgsl`.

use super::layer_norm_scale::{BETA_SUMS, GAMMA_SUMS};
use super::lowering::Scratch;
use super::variant_table::Kind;
use super::{
    Adjoints, Dims, Lowering, Node, Op, Operation, OutputShape, Rule, Tensor, TensorId, Variants, layer_norm_scale,
    reduce,
};
use crate::gpu::{Count, Grid};
use crate::kernels::layer_norm as kernel;

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
        let (code, fixed) = cx.count(x);
        let (rows, cols4) = (cx.graph.tensor(x).rows, cx.cols4(x));
        let layers = cx.layers(out);
        let mut params = kernel::Params {
            code,
            fixed,
            width: cx.graph.tensor(x).cols,
            cols4,
            eps: self.eps,
            y_layer: cx.layer(out),
            ..Default::default()
        };
        let mut constants = kernel::Constants { addend: self.addend, ..Default::default() };
        let subgroup = subgroup(cx.variants, cx.graph.tensor(x));
        let (grid, sums) = match subgroup {
            Some(lanes) => {
                let block = block(cx.dims, cx.variants, rows);
                (constants.subgroup, constants.each, params.block) = (lanes, cols4.div_ceil(lanes), block);
                let sum = |out, scratch| reduce::blocks(cx, rows, block, u64::from(cols4), out, None, scratch);
                let sums = self.sums.then(|| [sum(node.outputs[1], GAMMA_SUMS), sum(node.outputs[2], BETA_SUMS)]);
                if let Some([gamma, _]) = &sums {
                    (constants.sums, params.sums_layer) = (true, gamma.layer);
                }
                (Grid { count: rows, unit: block, columns: 1, layers }, sums)
            }
            None => {
                constants.lanes = cx.variants.row_lanes(Operation::LayerNorm);
                (cx.rowwise(rows, constants.lanes, layers), None)
            }
        };
        let input = |i: usize| cx.buffer(node.inputs[i]);
        if self.rule == Rule::Forward {
            let [x, gamma, beta] = [0, 1, 2].map(input);
            let [out, stat_out] = [0, 1].map(|i| cx.buffer(node.outputs[i]));
            let norm = kernel::Forward { x, gamma, beta, out, stat_out, params, constants };
            cx.push(norm, cx.name(node.outputs[0]), grid);
            return;
        }
        let [gamma_bar, beta_bar] = match &sums {
            Some(sums) => sums.each_ref().map(|sum| Some(sum.target.clone())),
            None => [None, None],
        };
        let norm = kernel::Vjp {
            x: input(0),
            gamma: input(1),
            stat: input(2),
            y_bar: input(3),
            addend: self.addend.then(|| input(4)),
            out: cx.buffer(out),
            gamma_bar,
            beta_bar,
            params,
            constants,
        };
        cx.push(norm, cx.name(out), grid);
        if let Some([gamma, beta]) = sums {
            gamma.finish_both(beta, cx);
        } else if self.sums {
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
    ) -> Vec<(Scratch, u64)> {
        if !self.sums {
            return vec![];
        }
        let (x, x_bar) = (tensor(node.inputs[0]), tensor(node.outputs[0]));
        let block = match subgroup(variants, &x) {
            Some(_) => block(dims, variants, x.rows),
            None => variants.sums().block,
        };
        let layers = if x_bar.probes { dims.probes } else { 1 };
        let bytes = reduce::workspace(dims, x.rows, block, u64::from(x.cols4()), layers, false);
        vec![(GAMMA_SUMS, bytes), (BETA_SUMS, bytes)]
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
