//! Layer norm over columns: y = γ (x - mean) / √(var + ε) + β. Ba et al. 2016. Shader: `shaders/layer_norm.wgsl`.

use super::layer_norm_scale::{BETA_SUMS, GAMMA_SUMS};
use super::operation::{self, no_rule};
use super::variant_table::Kind;
use super::{
    Adjoints, Dims, Family, GradientRows, GradientSource, Lowering, Node, NormPart, Operation, OutputShape, Rule,
    Scratch, Second, Sizes, Tangents, Tensor, TensorId, Variants, call, layer_norm_scale, layer_norm_tangent, reduce,
};
use crate::gpu::{Count, Grid};
use crate::kernels::layer_norm as kernel;

/// Layer norm of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// ε, added to the variance.
    pub eps: f32,
    /// The reverse rule for x gives γ̄ and β̄ too, [1, d] each.
    pub sums: bool,
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn by_row(&self) -> bool {
        true
    }

    /// Forward: (x, γ, β) to (y, stat [rows, 4] = mean, 1/√(var + ε)). Vjp(0): (x, γ, stat, ȳ) to x̄; Vjp(1): (x, stat,
    /// ȳ) to (γ̄, β̄), [1, d] each. Jvp: (x, γ, stat, ẋ, γ̇, β̇) to (ẏ, stat_dot [rows, 4] = mean, 1/√(var + ε),
    /// mean(ẋ), mean(x̂ ẋ)). VjpJvp(0): (x, γ, stat_dot, ȳ, ẋ, γ̇, ȳ̇) to the tangent of x̄; VjpJvp(1): (x, stat_dot,
    /// ȳ, ẋ, ȳ̇) to those of γ̄ and β̄. Second: (x, γ, stat_dot, ȳ, ẋ, γ̇) to ⟨ȳ, D²y⟩ of each row, in the first of
    /// four columns.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let vectors = |x: &Tensor, probes| ["weight", "bias"].map(|name| (name, Count::Fixed(1), x.cols, probes));
        match rule {
            Rule::Forward => {
                let [x, gamma, beta] = operation::inputs(self, inputs);
                for t in [gamma, beta] {
                    let fits = (t.rows, t.cols) == (Count::Fixed(1), x.cols);
                    assert!(fits, "layer_norm: {} does not fit {}", t.name, x.name);
                }
                vec![("", x.rows, x.cols, false), ("stat", x.rows, 4, false)]
            }
            Rule::Vjp(0) => {
                let [x, _, _, y_bar] = operation::inputs(self, inputs);
                let sums = vectors(x, y_bar.probes).into_iter().filter(|_| self.sums);
                [("", x.rows, x.cols, y_bar.probes)].into_iter().chain(sums).collect()
            }
            Rule::Vjp(1) => {
                let [x, _, y_bar] = operation::inputs(self, inputs);
                vectors(x, y_bar.probes).into()
            }
            Rule::Jvp => {
                let [x, _, _, _, _, _] = operation::inputs(self, inputs);
                vec![("", x.rows, x.cols, true), ("stat", x.rows, 4, true)]
            }
            Rule::VjpJvp(0) => {
                let [x, _, _, _, _, _, _] = operation::inputs(self, inputs);
                vec![("", x.rows, x.cols, true)]
            }
            Rule::VjpJvp(1) => {
                let [x, _, _, _, _] = operation::inputs(self, inputs);
                vectors(x, true).into()
            }
            Rule::Second => {
                let [x, _, _, _, _, _] = operation::inputs(self, inputs);
                vec![("", x.rows, 4, true)]
            }
            _ => no_rule(self, rule),
        }
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn adds(&self, rule: Rule) -> bool {
        rule == Rule::Vjp(0)
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        let ([x, gamma, beta], [_, stat]) = (node.inputs(), node.outputs());
        if g.wants(gamma) || g.wants(beta) {
            let name = format!("{}~", g.tensor(gamma).name.trim_end_matches(".weight"));
            let sums = g.emit(call(*self, Rule::Vjp(1), &[x, stat, y_bar]), &name);
            g.pass(gamma, sums[0]);
            g.pass(beta, sums[1]);
        }
        g.contribute(x, call(*self, Rule::Vjp(0), &[x, gamma, stat, y_bar]));
    }

    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        layer_norm_tangent::jvp(*self, node, g);
    }

    fn second(&self, node: &Node, g: &mut Second<'_>, y_bar: TensorId) {
        let ([x, gamma, _], [_, stat]) = (node.inputs(), node.outputs());
        let inputs = [x, gamma, g.dot(stat), y_bar, g.dot(x), g.dot(gamma)];
        let terms = g.push(call(*self, Rule::Second, &inputs), "second(norm)");
        g.term(terms, 1.0);
    }

    /// The blocks' sums of γ̄ and of β̄.
    fn scratch(&self, node: &Node, sizes: &Sizes<'_>) -> Vec<(Scratch, u64)> {
        let x = node.inputs[0];
        let bytes = match node.rule {
            Rule::Vjp(1) | Rule::VjpJvp(1) => reduce::column_workspace(sizes, x, node.outputs[0]),
            Rule::Vjp(0) if self.sums => {
                let (x, layers) = (sizes.tensor(x), sizes.layers(node.outputs[0]));
                let block = match subgroup(sizes.variants, x) {
                    Some(_) => block(sizes.dims, sizes.variants, x.rows),
                    None => sizes.variants.sums().block,
                };
                reduce::workspace(sizes.dims, x.rows, block, u64::from(x.cols4()), layers, false)
            }
            _ => return vec![],
        };
        vec![(GAMMA_SUMS, bytes), (BETA_SUMS, bytes)]
    }

    fn family(&self, rule: Rule) -> Option<Family> {
        Some(if matches!(rule, Rule::Vjp(1) | Rule::VjpJvp(1)) { Family::Sums } else { Family::LayerNorm })
    }

    fn gradient_source(&self, node: &Node, output: usize) -> Option<GradientSource> {
        if node.rule != Rule::Vjp(1) {
            return None;
        }
        let [x, stat, b] = node.inputs();
        let part = [NormPart::Scale, NormPart::Shift][output];
        Some(GradientSource::Rows(GradientRows::Normalised { b, x, stat, part }))
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        match node.rule {
            Rule::Forward | Rule::Vjp(0) => self.lower_rows(node, cx),
            Rule::Vjp(_) => layer_norm_scale::lower_sums(cx, node.inputs(), node.outputs()),
            _ => layer_norm_tangent::lower(node, cx),
        }
    }
}

impl LayerNorm {
    /// Forward, and x̄ with or without γ̄ and β̄ beside it.
    fn lower_rows(&self, node: &Node, cx: &mut Lowering<'_>) {
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
        let mut constants = kernel::Constants { addend: node.addend.is_some(), ..Default::default() };
        let subgroup = subgroup(cx.variants, cx.graph.tensor(x));
        let (grid, sums) = match subgroup {
            Some(lanes) => {
                let block = block(cx.dims, cx.variants, rows);
                (constants.subgroup, constants.lanes, constants.each) = (true, lanes, cols4.div_ceil(lanes));
                params.block = block;
                let sum = |out, scratch| reduce::blocks(cx, rows, block, u64::from(cols4), out, None, scratch);
                let sums = self.sums.then(|| [sum(node.outputs[1], GAMMA_SUMS), sum(node.outputs[2], BETA_SUMS)]);
                if let Some([gamma, _]) = &sums {
                    (constants.sums, params.sums_layer) = (true, gamma.layer);
                }
                (Grid { count: rows, unit: block, columns: 1, layers }, sums)
            }
            None => {
                constants.lanes = cx.variants.row_lanes(Family::LayerNorm);
                (cx.rowwise(rows, constants.lanes, layers), None)
            }
        };
        if node.rule == Rule::Forward {
            let [x, gamma, beta] = node.inputs().map(|id| cx.buffer(id));
            let [out, stat_out] = node.outputs().map(|id| cx.buffer(id));
            let norm = kernel::Forward { x, gamma, beta, out, stat_out, params, constants };
            cx.push(norm, cx.name(node.outputs[0]), grid);
            return;
        }
        let [gamma_bar, beta_bar] = match &sums {
            Some(sums) => sums.each_ref().map(|sum| Some(sum.target.clone())),
            None => [None, None],
        };
        let [_, gamma, stat, y_bar] = node.inputs();
        let norm = kernel::Vjp {
            x: cx.buffer(x),
            gamma: cx.buffer(gamma),
            stat: cx.buffer(stat),
            y_bar: cx.buffer(y_bar),
            addend: node.addend.map(|id| cx.buffer(id)),
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
            layer_norm_scale::lower_sums(cx, [x, stat, y_bar], [node.outputs[1], node.outputs[2]]);
        }
    }
}

/// Lanes of the subgroup that works on a row, if it does: rows that take more than 32 vec4 of every lane make long
/// code.
fn subgroup(variants: &Variants, x: &Tensor) -> Option<u32> {
    match variants.row(Family::LayerNorm).kind {
        Kind::RowSubgroup(lanes) if x.cols4() <= 32 * lanes => Some(lanes),
        _ => None,
    }
}

/// Rows that a subgroup goes over: enough workgroups for several cores, and no longer sums than elsewhere.
fn block(dims: &Dims, variants: &Variants, rows: Count) -> u32 {
    (dims.capacity(rows) / 32).max(16).min(variants.sums().block)
}
