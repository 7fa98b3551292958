//! Layer norm over columns: y = γ (x - mean) / √(var + ε) + β (Ba et al. 2016), and RMSNorm, which takes no mean away:
//! y = γ x / √(mean(x²) + ε) (Zhang & Sennrich 2019). Either with γ or 1 + γ or nothing, with β or without. Shader:
//! `shaders/layer_norm.wgsl`.

use super::layer_norm_scale::{BETA_SUMS, GAMMA_SUMS};
use super::operation::no_rule;
use super::variant_table::{Kind, stores_pairs};
use super::{
    Adjoints, Dims, Family, GradientRows, GradientSource, Lowering, Node, NormPart, Operation, OutputShape, Rule,
    Scratch, Second, Sizes, Tangents, Tensor, TensorId, Variants, call, layer_norm_scale, layer_norm_tangent, reduce,
};
use crate::gpu::{Count, Grid};
use crate::kernels::layer_norm as kernel;

/// Layer norm of rows, or RMSNorm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// ε, added to the variance, or to the mean square.
    pub eps: f32,
    /// Whether the mean is taken away: layer norm; without, RMSNorm.
    pub centre: bool,
    /// The parameters behind x̂.
    pub affine: Affine,
    /// Equal parts of a row that are normalised each on its own, with the same γ and β, [1, d / heads]: heads of
    /// attention. 1: the row as a whole. Parts are whole vec4.
    pub heads: u32,
    /// The reverse rule for x gives γ̄ and β̄ too, [1, d] each.
    pub sums: bool,
}

/// What becomes of the normalised rows x̂: y = s ⊙ x̂ + β.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affine {
    /// y = x̂.
    None,
    /// s = γ, a parameter [1, d].
    Scale {
        /// s = 1 + γ instead.
        one_plus: bool,
        /// β is a parameter too, [1, d]; else 0.
        shift: bool,
    },
}

impl Affine {
    /// y = γ ⊙ x̂.
    pub const SCALE: Affine = Affine::Scale { one_plus: false, shift: false };
    /// y = γ ⊙ x̂ + β.
    pub const SCALE_AND_SHIFT: Affine = Affine::Scale { one_plus: false, shift: true };

    /// Whether γ is there.
    pub fn scales(self) -> bool {
        self != Affine::None
    }

    /// Whether 1 is added to γ.
    pub fn one_plus(self) -> bool {
        matches!(self, Affine::Scale { one_plus: true, .. })
    }

    /// Whether β is there.
    pub fn shifts(self) -> bool {
        matches!(self, Affine::Scale { shift: true, .. })
    }
}

impl LayerNorm {
    /// x̂ = (x - mean) / √(var + ε).
    pub fn new(eps: f64, affine: Affine) -> LayerNorm {
        LayerNorm { eps: eps as f32, centre: true, affine, heads: 1, sums: false }
    }

    /// RMSNorm: x̂ = x / √(mean(x²) + ε).
    pub fn rms(eps: f64, affine: Affine) -> LayerNorm {
        LayerNorm { centre: false, ..LayerNorm::new(eps, affine) }
    }

    /// The same of each of `heads` equal parts of a row.
    pub fn by_head(self, heads: u32) -> LayerNorm {
        LayerNorm { heads, ..self }
    }

    /// Columns of what is normalised together.
    pub(super) fn width(&self, x: &Tensor) -> u32 {
        x.cols / self.heads
    }

    /// How many tensors a rule reads.
    fn arity(&self, rule: Rule) -> usize {
        let (scale, shift) = (usize::from(self.affine.scales()), usize::from(self.affine.shifts()));
        match rule {
            Rule::Forward => 1 + scale + shift,
            Rule::Vjp(0) => 3 + scale,
            Rule::Vjp(1) if scale == 1 => 3,
            Rule::Jvp => 3 + 2 * scale + shift,
            Rule::VjpJvp(0) => 5 + 2 * scale,
            Rule::VjpJvp(1) if scale == 1 => 5,
            Rule::Second => 4 + 2 * scale,
            _ => no_rule(self, rule),
        }
    }
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn title(&self, rule: Rule) -> String {
        let name = if self.centre { self.name() } else { "rms_norm" };
        match rule {
            Rule::Forward => name.into(),
            _ => format!("{name}, {}", rule.name()),
        }
    }

    fn by_row(&self) -> bool {
        true
    }

    /// Forward: (x, γ, β) to (y, stat [rows, 4] = mean, 1/√(var + ε)). Vjp(0): (x, stat, ȳ, γ) to x̄; Vjp(1): (x, stat,
    /// ȳ) to (γ̄, β̄), [1, d] each. Jvp: (x, stat, ẋ, γ, γ̇, β̇) to (ẏ, stat_dot [rows, 4] = mean, 1/√(var + ε),
    /// mean(ẋ), mean(x̂ ẋ)). VjpJvp(0): (x, stat_dot, ȳ, ẋ, ȳ̇, γ, γ̇) to the tangent of x̄; VjpJvp(1): (x, stat_dot,
    /// ȳ, ẋ, ȳ̇) to those of γ̄ and β̄. Second: (x, stat_dot, ȳ, ẋ, γ, γ̇) to ⟨ȳ, D²y⟩ of each row, in the first of
    /// four columns. With heads `stat` and the like have four columns a head. Without a scale or shift all of γ or β is
    /// left out. With RMSNorm mean and mean(ẋ) are 0, and var is the mean square.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        assert_eq!(inputs.len(), self.arity(rule), "layer_norm: tensors for {rule:?} of {self:?}");
        let (x, heads) = (inputs[0], self.heads);
        let whole = heads == 1 || x.cols.is_multiple_of(4 * heads);
        assert!(whole, "layer_norm: {} does not fall into {heads} parts of whole vec4", x.name);
        let vectors = |probes| {
            let names = if self.affine.shifts() { &["weight", "bias"][..] } else { &["weight"] };
            names.iter().map(move |name| (*name, Count::Fixed(1), self.width(x), probes))
        };
        match rule {
            Rule::Forward => {
                for t in &inputs[1..] {
                    let fits = (t.rows, t.cols) == (Count::Fixed(1), self.width(x));
                    assert!(fits, "layer_norm: {} does not fit {}", t.name, x.name);
                }
                vec![("", x.rows, x.cols, false), ("stat", x.rows, 4 * heads, false)]
            }
            Rule::Vjp(0) => {
                let probes = inputs[2].probes;
                [("", x.rows, x.cols, probes)].into_iter().chain(vectors(probes).filter(|_| self.sums)).collect()
            }
            Rule::Vjp(_) => vectors(inputs[2].probes).collect(),
            Rule::Jvp => vec![("", x.rows, x.cols, true), ("stat", x.rows, 4 * heads, true)],
            Rule::VjpJvp(0) => vec![("", x.rows, x.cols, true)],
            Rule::VjpJvp(_) => vectors(true).collect(),
            _ => vec![("", x.rows, 4 * heads, true)],
        }
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn adds(&self, rule: Rule) -> bool {
        rule == Rule::Vjp(0)
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        let (x, vectors, [_, stat]) = (node.inputs[0], &node.inputs[1..], node.outputs());
        if vectors.iter().any(|id| g.wants(*id)) {
            let name = format!("{}~", g.tensor(vectors[0]).name.trim_end_matches(".weight"));
            let sums = g.emit(call(*self, Rule::Vjp(1), &[x, stat, y_bar]), &name);
            vectors.iter().zip(sums).for_each(|(id, sum)| g.pass(*id, sum));
        }
        let inputs: Vec<TensorId> = [x, stat, y_bar].into_iter().chain(vectors.first().copied()).collect();
        g.contribute(x, call(*self, Rule::Vjp(0), &inputs));
    }

    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        layer_norm_tangent::jvp(*self, node, g);
    }

    fn second(&self, node: &Node, g: &mut Second<'_>, y_bar: TensorId) {
        let (x, [_, stat]) = (node.inputs[0], node.outputs());
        let scale = node.inputs.get(1).into_iter().flat_map(|gamma| [*gamma, g.dot(*gamma)]);
        let inputs: Vec<TensorId> = [x, g.dot(stat), y_bar, g.dot(x)].into_iter().chain(scale).collect();
        let terms = g.push(call(*self, Rule::Second, &inputs), "second(norm)");
        g.term(terms, 1.0);
    }

    /// The blocks' sums of γ̄ and of β̄.
    fn scratch(&self, node: &Node, sizes: &Sizes<'_>) -> Vec<(Scratch, u64)> {
        let x = node.inputs[0];
        let bytes = match node.rule {
            Rule::Vjp(1) | Rule::VjpJvp(1) => self.workspace(sizes, x, node.outputs[0], sizes.variants.sums().block),
            Rule::Vjp(0) if self.sums => {
                let block = match self.subgroup(sizes.variants, sizes.dims, sizes.tensor(x)) {
                    Some(Lanes { block, .. }) => block,
                    None => sizes.variants.sums().block,
                };
                self.workspace(sizes, x, node.outputs[1], block)
            }
            _ => return vec![],
        };
        vec![(GAMMA_SUMS, bytes), (BETA_SUMS, if self.affine.shifts() { bytes } else { 0 })]
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
        Some(GradientSource::Rows(GradientRows::Normalised { b, x, stat, heads: self.heads, part }))
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        match node.rule {
            Rule::Forward | Rule::Vjp(0) => self.lower_rows(node, cx),
            Rule::Vjp(_) => layer_norm_scale::lower_sums(cx, self.heads, node.inputs(), &node.outputs),
            _ => layer_norm_tangent::lower(*self, node, cx),
        }
    }
}

impl LayerNorm {
    /// The subgroup that works on a row, if one does: rows that take more than 32 vec4 of every lane make long code.
    fn subgroup(&self, variants: &Variants, dims: &Dims, x: &Tensor) -> Option<Lanes> {
        let cols4 = self.width(x).div_ceil(4);
        let (lanes, uniform) = match variants.row(Family::LayerNorm).kind {
            Kind::RowSubgroup(lanes) => (lanes, false),
            Kind::RowUniform(lanes) => (lanes, true),
            _ => return None,
        };
        let short = self.heads == 1 && cols4 <= MOST_ALONG;
        let rows = dims.capacity(x.rows);
        // The sums of all blocks take memory.
        let blocks = short && u64::from(rows / SHORT_BLOCK) * u64::from(cols4) <= MOST_SUMS;
        // A folded grid has workgroups behind its last row.
        let uniform = uniform
            && blocks
            && cols4.is_multiple_of(lanes)
            && rows.div_ceil(lanes) <= Grid::FOLD
            && u64::from(rows) * u64::from(cols4) >= variants.sums().apart;
        let block = if blocks { SHORT_BLOCK } else { block(dims, variants, x.rows) };
        (cols4 <= 32 * lanes).then_some(Lanes { lanes, uniform, along: if short { cols4 } else { 0 }, block })
    }

    /// Bytes of workspace for the sums over blocks of as many rows of x, into γ̄.
    fn workspace(&self, sizes: &Sizes<'_>, x: TensorId, gamma_bar: TensorId, block: u32) -> u64 {
        let (x, layers) = (sizes.tensor(x), sizes.layers(gamma_bar));
        reduce::workspace(sizes.dims, x.rows, block, u64::from(self.width(x).div_ceil(4)), layers, false)
    }

    /// Forward, and x̄ with or without γ̄ and β̄ beside it.
    fn lower_rows(&self, node: &Node, cx: &mut Lowering<'_>) {
        let (x, out) = (node.inputs[0], node.outputs[0]);
        let (code, fixed) = cx.count(x);
        let (rows, heads) = (cx.graph.tensor(x).rows, self.heads);
        let width = self.width(cx.graph.tensor(x));
        let (cols4, layers) = (width.div_ceil(4), cx.layers(out));
        let mut params = kernel::Params {
            code,
            fixed,
            heads,
            width,
            cols4,
            eps: self.eps,
            y_layer: cx.layer(out),
            ..Default::default()
        };
        let mut constants = kernel::Constants {
            addend: node.addend.is_some(),
            rms: !self.centre,
            scale: self.affine.scales(),
            one_plus: self.affine.one_plus(),
            shift: self.affine.shifts(),
            ..Default::default()
        };
        let subgroup = self.subgroup(cx.variants, cx.dims, cx.graph.tensor(x));
        let (grid, sums) = match subgroup {
            Some(Lanes { lanes, uniform, along, block }) => {
                let forward = node.rule == Rule::Forward;
                let block = if forward && along > 0 { lanes } else { block };
                (constants.subgroup, constants.lanes, constants.each) = (true, lanes, cols4.div_ceil(lanes));
                (constants.uniform, constants.along) = (uniform, along);
                constants.pairs = uniform && stores_pairs(lanes);
                params.block = block * heads;
                let sums = self.sums.then(|| layer_norm_scale::blocks(cx, x, block, &node.outputs[1..]));
                if let Some((gamma, _)) = &sums {
                    (constants.sums, params.sums_layer) = (true, gamma.layer);
                }
                (Grid { count: rows, unit: block, columns: 1, layers }, sums)
            }
            None => {
                constants.lanes = cx.variants.row_lanes(Family::LayerNorm);
                (Grid { columns: heads, ..cx.rowwise(rows, constants.lanes, layers) }, None)
            }
        };
        if node.rule == Rule::Forward {
            let [gamma, beta] = [1, 2].map(|i| node.inputs.get(i).map(|id| cx.buffer(*id)));
            let ([out, stat_out], x) = (node.outputs().map(|id| cx.buffer(id)), cx.buffer(x));
            let norm = kernel::Forward { x, gamma, beta, out, stat_out, params, constants };
            cx.push(norm, cx.name(node.outputs[0]), grid);
            return;
        }
        let (stat, y_bar) = (node.inputs[1], node.inputs[2]);
        let target = |sum: &reduce::Blocks| sum.target.clone();
        let norm = kernel::Vjp {
            x: cx.buffer(x),
            gamma: node.inputs.get(3).map(|id| cx.buffer(*id)),
            stat: cx.buffer(stat),
            y_bar: cx.buffer(y_bar),
            addend: node.addend.map(|id| cx.buffer(id)),
            out: cx.buffer(out),
            gamma_bar: sums.as_ref().map(|(gamma, _)| target(gamma)),
            beta_bar: sums.as_ref().and_then(|(_, beta)| beta.as_ref().map(target)),
            params,
            constants,
        };
        cx.push(norm, cx.name(out), grid);
        if let Some((gamma, beta)) = sums {
            gamma.finish_with(beta, cx);
        } else if self.sums {
            layer_norm_scale::lower_sums(cx, self.heads, [x, stat, y_bar], &node.outputs[1..]);
        }
    }
}

/// How a subgroup works on rows.
struct Lanes {
    lanes: u32,
    /// Stores a lane's results after another's.
    uniform: bool,
    /// vec4 of a row if a lane takes a whole one (forward), else 0.
    along: u32,
    /// Rows of a block, the same however results are stored, so that sums over rows are too.
    block: u32,
}

/// vec4 of a row up to which a lane takes a whole one.
const MOST_ALONG: u32 = 64;

/// Rows of a block, as ROWS of `shaders/common/layer_norm_subgroup.wgsl`, where the sums of all blocks are no more than
/// so many vec4.
const SHORT_BLOCK: u32 = 16;
const MOST_SUMS: u64 = 1 << 16;

/// Rows that a subgroup goes over where there are more sums: enough workgroups for several cores, and no longer sums
/// than elsewhere.
fn block(dims: &Dims, variants: &Variants, rows: Count) -> u32 {
    (dims.capacity(rows) / 32).max(16).min(variants.sums().block)
}
