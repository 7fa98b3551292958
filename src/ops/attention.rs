//! Multi-head self-attention within each sentence of a batch without padding. Vaswani et al. 2017; the backward pass
//! computes the weights again (Dao 2023). Shaders: `shaders/attention.wgsl`, `shaders/attention_masked.wgsl`.

use super::counts::{MASKED, ROWS, SENTENCES};
use super::operation::{self, no_rule};
use super::variant_table::stores_pairs;
use super::{
    Adjoints, AttentionVariant, Dims, Family, Lowering, Node, Operation, OutputShape, Rule, Second, Sizes, Tangents,
    Tensor, TensorId, Variants, attention_masked, attention_tangent, call, dropout,
};
use crate::gpu::{Count, Grid};
use crate::kernels::attention as kernel;

/// Pairs of a token and a vec4 of a head that are written out at most: with 128 kernels take 6 s longer to be ready.
pub(super) const MOST_WRITTEN_OUT: u32 = 64;

/// Attention of sentences to themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Heads H.
    pub heads: u32,
    /// Width of a head; in memory padded to a multiple of 4 with zeros.
    pub size: u32,
    /// Probability of dropping a weight.
    pub p: f32,
    /// Random stream of the dropout.
    pub stream: u32,
    /// Whether a row sees itself and those before it alone.
    pub causal: bool,
    /// Whether masked rows alone are queries; keys and values are of all rows. It has a forward rule and a Vjp.
    pub masked: bool,
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    /// Forward: qkv [rows, 3 heads padded] to (o [rows, heads padded], stat [rows, 4 heads], log Σ exp s in the first
    /// of four columns). Vjp: (qkv, stat, o, ō) to the adjoint of qkv. Jvp: (qkv, stat, o, q̇k̇v̇) to (ȯ, stat_dot
    /// [rows, 4 heads] = log Σ exp s, 0, its tangent μ, 0). Delta: (stat_dot, o, ō, ȯ, ō̇) to [rows, 4 heads] = (log Σ
    /// exp s, δ, μ, δ̇), what VjpJvp needs of a row. VjpJvp: (qkv, delta, ō, q̇k̇v̇, ō̇) to the tangent of the adjoint
    /// of qkv. Second: (qkv, stat, ō, q̇k̇v̇) to ⟨ō, D²o⟩ of each row and head, in the first of four columns. With
    /// `masked` o, ō and stat have masked rows.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let (wide, statistics) = (self.heads * self.padded(), 4 * self.heads);
        if rule != Rule::Delta {
            assert_eq!(inputs[0].cols, 3 * wide, "attention: {} has the wrong width", inputs[0].name);
        }
        if !matches!(rule, Rule::Forward | Rule::Vjp(0)) {
            if self.masked {
                no_rule(self, rule);
            }
            assert!(self.p == 0.0, "tangents are taken of models without dropout");
        }
        let queries = if self.masked { MASKED } else { ROWS };
        match rule {
            Rule::Forward => {
                let [_] = operation::inputs(self, inputs);
                vec![("", queries, wide, false), ("stat", queries, statistics, false)]
            }
            Rule::Vjp(0) => {
                let [_, _, _, o_bar] = operation::inputs(self, inputs);
                assert_eq!(o_bar.rows, queries, "attention: {} is not of the rows of its queries", o_bar.name);
                vec![("", ROWS, 3 * wide, o_bar.probes)]
            }
            Rule::Jvp => {
                let [_, _, _, _] = operation::inputs(self, inputs);
                vec![("", ROWS, wide, true), ("stat", ROWS, statistics, true)]
            }
            Rule::Delta => {
                let [_, _, _, _, _] = operation::inputs(self, inputs);
                vec![("", ROWS, statistics, true)]
            }
            Rule::VjpJvp(0) => {
                let [_, _, _, _, _] = operation::inputs(self, inputs);
                vec![("", ROWS, 3 * wide, true)]
            }
            Rule::Second => {
                let [_, _, _, _] = operation::inputs(self, inputs);
                vec![("", ROWS, statistics, true)]
            }
            _ => no_rule(self, rule),
        }
    }

    /// As many products of all pairs of rows of a sentence as the formulas have, whatever a kernel computes again; of
    /// masked rows with all.
    fn flops(&self, node: &Node, sizes: &Sizes<'_>) -> Option<f64> {
        let products = match node.rule {
            Rule::Forward => 2.0,
            Rule::Vjp(_) => 5.0,
            Rule::Jvp => 5.0,
            Rule::VjpJvp(_) => 12.0,
            Rule::Second => 6.0,
            _ => return None,
        };
        let qkv = node.inputs[0];
        let pairs = match (self.masked, node.rule) {
            (false, _) => sizes.pairs(qkv),
            (true, Rule::Forward) => sizes.rows(node.outputs[0]) * sizes.rows_per_sentence(qkv),
            (true, _) => sizes.rows(node.inputs[2]) * sizes.rows_per_sentence(qkv),
        };
        Some(2.0 * products * pairs * f64::from(self.heads * self.padded()))
    }

    fn family(&self, rule: Rule) -> Option<Family> {
        match rule {
            // One form for all adapters.
            Rule::Forward if self.masked => None,
            Rule::Forward => Some(Family::AttentionForward),
            Rule::Vjp(_) => Some(Family::AttentionVjp),
            Rule::Delta => None,
            _ => Some(Family::TangentAttention),
        }
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, o_bar: TensorId) {
        let ([qkv], [o, stat]) = (node.inputs(), node.outputs());
        g.contribute(qkv, call(*self, Rule::Vjp(0), &[qkv, stat, o, o_bar]));
    }

    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        let name = g.dot(node.outputs[0]);
        if node.rule == Rule::Forward {
            let ([qkv], [o, stat]) = (node.inputs(), node.outputs());
            let made = g.push(call(*self, Rule::Jvp, &[qkv, stat, o, g.wanted(qkv)]), &name);
            g.set(o, made[0]);
            g.set(stat, made[1]);
            return;
        }
        let [qkv, stat, o, o_bar] = node.inputs();
        let inputs = [g.wanted(stat), o, o_bar, g.wanted(o), g.wanted(o_bar)];
        let delta = g.push(call(*self, Rule::Delta, &inputs), "delta")[0];
        let inputs = [qkv, delta, o_bar, g.wanted(qkv), g.wanted(o_bar)];
        let made = g.push(call(*self, Rule::VjpJvp(0), &inputs), &name)[0];
        g.set(node.outputs[0], made);
    }

    fn second(&self, node: &Node, g: &mut Second<'_>, o_bar: TensorId) {
        let ([qkv], [_, stat]) = (node.inputs(), node.outputs());
        let terms = g.push(call(*self, Rule::Second, &[qkv, stat, o_bar, g.dot(qkv)]), "second(attention)");
        g.term(terms, 1.0);
    }

    /// A subgroup goes through all pairs of rows, a block of its lanes with as many as one load holds; in the reverse
    /// rule's tangent it does so twice. Masked rows go over keys, and keys over masked rows, once.
    fn iterations(&self, rule: Rule, tokens: u64, variants: &Variants) -> u64 {
        if self.masked {
            return tokens + 1;
        }
        let (family, loops) = match rule {
            Rule::Forward => (Family::AttentionForward, 1),
            Rule::Vjp(_) => (Family::AttentionVjp, 1),
            Rule::VjpJvp(_) => (Family::TangentAttention, 2),
            _ => (Family::TangentAttention, 1),
        };
        match variants.attention(family) {
            AttentionVariant::Subgroup(lanes) | AttentionVariant::Uniform(lanes) => {
                let met = tokens.div_ceil(u64::from(keys(lanes, self.padded() / 4))) + 1;
                tokens.div_ceil(lanes.into()) * (loops * met + 1)
            }
            _ => 2 * tokens,
        }
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        match node.rule {
            _ if self.masked => attention_masked::lower(self, node, cx),
            Rule::Forward | Rule::Vjp(_) => self.lower_rules(node, cx),
            _ => attention_tangent::lower(self, node, cx),
        }
    }
}

impl Attention {
    /// Columns of a head in memory.
    pub fn padded(&self) -> u32 {
        self.size.next_multiple_of(4)
    }

    /// 1/√size.
    pub fn scale(&self) -> f64 {
        1.0 / f64::from(self.size).sqrt()
    }

    /// Rows of a flash tile, as many as 27,136 bytes of workgroup memory hold; `None` for heads that are too wide.
    fn flash_rows(&self, rule: Rule) -> Option<u32> {
        match (rule, self.padded() / 4) {
            (Rule::Forward, ..=16) | (Rule::Vjp(_), ..=8) => Some(32),
            (Rule::Forward, ..=32) | (Rule::Vjp(_), ..=16) => Some(16),
            (Rule::Vjp(_), ..=32) => Some(8),
            _ => None,
        }
    }

    fn lower_rules(&self, node: &Node, cx: &mut Lowering<'_>) {
        let out = node.outputs[0];
        let threshold = dropout::threshold(self.p);
        let (constants, grid) = self.launch(node.rule, cx, cx.layers(out));
        let params = kernel::Params {
            heads: self.heads,
            scale: self.scale() as f32,
            out_layer: cx.layer(out),
            in_layer: node.inputs.get(3).map_or(0, |o_bar| cx.layer(*o_bar)),
            stream: self.stream,
            threshold,
            keep: 1.0 / (1.0 - self.p),
        };
        let constants = kernel::Constants { dropout: threshold != 0, ..constants };
        let spans = cx.batch.spans.clone();
        match node.rule {
            Rule::Forward => {
                let [qkv] = node.inputs().map(|id| cx.buffer(id));
                let [out, stat_out] = node.outputs().map(|id| cx.buffer(id));
                let forward = kernel::Forward { qkv, spans, out, stat_out, params, constants };
                cx.push(forward, cx.name(node.outputs[0]), grid);
            }
            _ => {
                let [qkv, stat, o, o_bar] = node.inputs().map(|id| cx.buffer(id));
                let vjp = kernel::Vjp { qkv, spans, stat, o, o_bar, out: cx.buffer(out), params, constants };
                cx.push(vjp, cx.name(out), grid);
            }
        }
    }

    /// The constants of the variant and its grid.
    fn launch(&self, rule: Rule, cx: &Lowering<'_>, layers: u32) -> (kernel::Constants, Grid) {
        let size4 = self.padded() / 4;
        let plain = kernel::Constants { size4, causal: self.causal, ..Default::default() };
        let family = if rule == Rule::Forward { Family::AttentionForward } else { Family::AttentionVjp };
        match (cx.variants.attention(family), self.flash_rows(rule)) {
            (AttentionVariant::Flash, Some(rows)) => {
                // The vjp has a workgroup for its rows as queries and one for them as keys.
                let columns = if rule == Rule::Vjp(0) { 2 * self.heads } else { self.heads };
                let grid = Grid { count: ROWS, unit: rows, columns, layers };
                (kernel::Constants { flash: true, rows, ..plain }, grid)
            }
            (AttentionVariant::Subgroup(lanes) | AttentionVariant::Uniform(lanes), _) => {
                let mut constants = kernel::Constants { subgroup: true, lanes, keys: keys(lanes, size4), ..plain };
                if let Some(split) = self.split(cx.dims, lanes) {
                    (constants.split, constants.tokens) = (split, cx.dims.longest);
                    constants.uniform = self.stores_apart(rule, cx, split);
                    constants.pairs = constants.uniform && stores_pairs(lanes);
                }
                let columns = self.heads / constants.split.max(1);
                (constants, Grid { count: SENTENCES, unit: 1, columns, layers })
            }
            _ => (plain, self.row_grid(layers)),
        }
    }

    /// Heads that a subgroup has at once where all sentences are as short as its lanes, so that all that is loaded is a
    /// lane's own, and the code for all their tokens is short.
    fn split(&self, dims: &Dims, lanes: u32) -> Option<u32> {
        let (longest, size4) = (dims.longest, self.padded() / 4);
        let short = (1..=lanes).contains(&longest) && longest * size4 <= MOST_WRITTEN_OUT;
        let two = 2 * longest <= lanes && self.heads.is_multiple_of(2);
        short.then_some(if two { 2 } else { 1 })
    }

    /// Whether results are stored a lane after another's: where there are many.
    fn stores_apart(&self, rule: Rule, cx: &Lowering<'_>, split: u32) -> bool {
        let (family, matrices) = match rule {
            Rule::Forward => (Family::AttentionForward, 1),
            _ => (Family::AttentionVjp, 3),
        };
        let stored = u64::from(cx.dims.rows) * u64::from(matrices * self.heads * self.padded() / 4);
        matches!(cx.variants.attention(family), AttentionVariant::Uniform(_))
            && stored >= cx.variants.sums().apart
            && cx.dims.sentences * self.heads / split <= Grid::FOLD
    }

    /// A grid of (row, head) pairs, 64 per workgroup.
    pub(super) fn row_grid(&self, layers: u32) -> Grid {
        self.grid_of(ROWS, layers)
    }

    /// A grid of pairs of what is counted and a head, 64 per workgroup: heads / gcd columns of blocks of 64 / gcd.
    pub(super) fn grid_of(&self, count: Count, layers: u32) -> Grid {
        let common = [64, 32, 16, 8, 4, 2, 1].into_iter().find(|d| self.heads.is_multiple_of(*d)).unwrap_or(1);
        Grid { count, unit: 64 / common, columns: self.heads / common, layers }
    }
}

/// Rows on the other side that one load of all lanes holds, at least 1.
pub(super) fn keys(lanes: u32, size4: u32) -> u32 {
    (lanes / size4).max(1)
}
