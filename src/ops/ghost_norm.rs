//! Squared norms of per-example gradients without forming them. Goodfellow 2015 (arXiv 1510.01799); Li et al. 2021, eq.
//! 3 (arXiv 2110.05679); the choice between the two forms of a product as in Bu et al. 2022 (arXiv 2205.10683); the
//! cross term of a tied table is derived in `docs/curvature.md`. Shader: `shaders/ghost_norm.wgsl`.

use super::counts::{MASKED, SENTENCES};
use super::operation::no_rule;
use super::{AttentionVariant, Dims, Family, Lowering, Node, Operation, OutputShape, Rule, Sizes, Tensor};
use crate::gpu::{Buffer, Grid};
use crate::kernels::ghost_norm as kernel;

/// Which of b's columns have norms of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parts {
    /// As many equal parts of all of them, 1 to 4: a norm each, in a column of the result each.
    Equal(u32),
    /// Some of them: one norm.
    Some {
        /// The first vec4 of a row.
        first4: u32,
        /// How many vec4.
        size4: u32,
    },
}

impl Parts {
    /// All columns as one part.
    pub const WHOLE: Parts = Parts::Equal(1);

    /// Norms there are.
    pub fn count(self) -> u32 {
        match self {
            Parts::Equal(parts) => parts,
            Parts::Some { .. } => 1,
        }
    }

    /// The first vec4 of the first part, and the vec4 of each, in rows of `cols4`.
    pub(super) fn of_row(self, cols4: u32) -> [u32; 2] {
        match self {
            Parts::Equal(parts) => [0, cols4 / parts],
            Parts::Some { first4, size4 } => [first4, size4],
        }
    }

    /// The columns of each part, of rows of so many: all of these where it is one, and else whole vec4.
    pub fn columns(self, cols: u32) -> Vec<std::ops::Range<u32>> {
        let wide = if self == Parts::WHOLE { cols } else { cols.next_multiple_of(4) };
        match self {
            Parts::Equal(parts) => (0..parts).map(|i| i * (wide / parts)..(i + 1) * (wide / parts)).collect(),
            Parts::Some { first4, size4 } => std::iter::once(4 * first4..4 * (first4 + size4)).collect(),
        }
    }

    /// Asserts that parts of a matrix of so many vec4 are whole ones of it.
    pub(super) fn check(self, cols4: u32) {
        let fits = match self {
            Parts::Equal(parts) => (1..=4).contains(&parts) && cols4.is_multiple_of(parts),
            Parts::Some { first4, size4 } => size4 > 0 && first4 + size4 <= cols4,
        };
        assert!(fits, "parts are whole vec4");
    }
}

/// Which parameter's squared norms. All give [draws][sentences, 4].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GhostNorm {
    /// (b, a) to those of the weight of a product, for each of some parts of b's columns.
    Product {
        /// Of b's columns.
        parts: Parts,
    },
    /// The same from (b, g), g being the folded inner products of a's rows ([`RowGram`](super::RowGram)).
    Weighted {
        /// Of b's columns.
        parts: Parts,
    },
    /// b to those of a bias, for each part.
    Sum {
        /// Of b's columns.
        parts: Parts,
    },
    /// (b, x, stat) to those of layer norm's scale and shift.
    Scale {
        /// Equal parts of a row that share them.
        heads: u32,
    },
    /// b to those of the word, position and segment table.
    Tables,
    /// (b, h, e) to the cross term of a table that is the head too: b the adjoint of the embedding, h and e the input
    /// of the head and the adjoint of its output at masked positions.
    Tied,
}

impl GhostNorm {
    /// The parts of b's columns that have a norm each.
    fn parts(self) -> Parts {
        match self {
            GhostNorm::Product { parts } | GhostNorm::Weighted { parts } | GhostNorm::Sum { parts } => parts,
            _ => Parts::WHOLE,
        }
    }
}

impl Operation for GhostNorm {
    fn name(&self) -> &'static str {
        "ghost_norm"
    }

    fn title(&self, _: Rule) -> String {
        let what = match self {
            GhostNorm::Product { .. } => "product",
            GhostNorm::Weighted { .. } => "weighted",
            GhostNorm::Sum { .. } => "sum",
            GhostNorm::Scale { .. } => "scale",
            GhostNorm::Tables => "tables",
            GhostNorm::Tied => "tied",
        };
        format!("ghost_norm, {what}")
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let wanted = match self {
            GhostNorm::Sum { .. } | GhostNorm::Tables => 1,
            GhostNorm::Product { .. } | GhostNorm::Weighted { .. } => 2,
            GhostNorm::Scale { .. } | GhostNorm::Tied => 3,
        };
        assert_eq!(inputs.len(), wanted, "ghost_norm: tensors for {self:?}");
        self.parts().check(inputs[0].cols4());
        vec![("", SENTENCES, 4, inputs.iter().any(|t| t.probes))]
    }

    /// As the inner products of pairs of rows that most are, of weighted ones half.
    fn flops(&self, node: &Node, sizes: &Sizes<'_>) -> Option<f64> {
        let b = node.inputs[0];
        let columns = match self.parts() {
            Parts::Equal(_) => sizes.cols(b),
            Parts::Some { size4, .. } => f64::from(4 * size4),
        };
        match self {
            GhostNorm::Product { .. } => {
                Some(sizes.rows(b) * sizes.rows_per_sentence(b) * (columns + sizes.cols(node.inputs[1])))
            }
            GhostNorm::Weighted { .. } => Some(sizes.pairs(b) * columns),
            GhostNorm::Tied => Some(2.0 * sizes.rows(b) * sizes.rows_per_sentence(node.inputs[1]) * sizes.cols(b)),
            GhostNorm::Sum { .. } | GhostNorm::Scale { .. } | GhostNorm::Tables => None,
        }
    }

    fn differentiable(&self) -> bool {
        false
    }

    fn family(&self, _: Rule) -> Option<Family> {
        Some(Family::GhostNorm)
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let out = node.outputs[0];
        let tensor = cx.graph.tensor(node.inputs[0]);
        let parts = self.parts();
        let [first4, size4] = parts.of_row(tensor.cols4());
        let constants = kernel::Constants { parts: parts.count(), ..Default::default() };
        let constants = match cx.variants.attention(Family::GhostNorm) {
            AttentionVariant::Subgroup(lanes) => kernel::Constants { subgroup: true, lanes, ..constants },
            _ => constants,
        };
        let params = kernel::Params {
            a4: node.inputs.get(1).map_or(0, |a| cx.cols4(*a)),
            b4: size4,
            b_row: tensor.cols4(),
            masked: u32::from(tensor.rows == MASKED),
            b_layer: cx.layer(node.inputs[0]),
            out_layer: cx.layer(out),
            ..Default::default()
        };
        let formed = matches!(self, GhostNorm::Product { .. })
            && instantiates(tensor, cx.graph.tensor(node.inputs[1]), parts, cx.dims);
        let inputs: Vec<Buffer> = node.inputs.iter().map(|id| cx.buffer(*id)).collect();
        let input = |i: usize| inputs[i].clone();
        let (spans, ids) = (cx.batch.spans.clone(), cx.batch.ids.clone());
        let grid = Grid { count: SENTENCES, unit: 1, columns: 1, layers: cx.layers(out) };
        let (label, b, out) = (cx.name(out), input(0), cx.buffer(out));
        match self {
            GhostNorm::Product { .. } | GhostNorm::Weighted { .. } | GhostNorm::Sum { .. } => {
                for (i, (b_first, b4)) in slices(size4, parts).enumerate() {
                    let params = kernel::Params { b_first: first4 + b_first, b4, ..params };
                    let constants = kernel::Constants { onto: i > 0, ..constants };
                    let (label, b, spans, out) = (label.clone(), b.clone(), spans.clone(), out.clone());
                    match self {
                        GhostNorm::Product { .. } if formed => {
                            let a = input(1);
                            cx.push(kernel::Instantiated { b, a, spans, out, params, constants }, label, grid);
                        }
                        GhostNorm::Product { .. } => {
                            cx.push(kernel::Product { b, a: input(1), spans, out, params, constants }, label, grid);
                        }
                        GhostNorm::Weighted { .. } => {
                            cx.push(kernel::Weighted { b, a: input(1), spans, out, params, constants }, label, grid);
                        }
                        _ => cx.push(kernel::Sums { b, spans, out, params, constants }, label, grid),
                    }
                }
            }
            GhostNorm::Scale { heads } => {
                let [a, stat] = [1, 2].map(input);
                let params = kernel::Params { heads: *heads, b4: tensor.cols4() / heads, ..params };
                cx.push(kernel::Scale { b, a, spans, stat, out, params, constants }, label, grid);
            }
            GhostNorm::Tables => cx.push(kernel::Tables { b, spans, ids, out, params, constants }, label, grid),
            GhostNorm::Tied => {
                let [a, e] = [1, 2].map(input);
                let (e4, e_layer) = (cx.cols4(node.inputs[2]), cx.layer(node.inputs[2]));
                let params = kernel::Params { e4, e_layer, ..params };
                cx.push(kernel::Tied { b, a, spans, ids, e, out, params, constants }, label, grid);
            }
        }
    }
}

/// vec4 of b's columns that one dispatch takes at most: with pairs of 300 rows, or sums of 900, their loops end before
/// a software driver ends them, and for so many the inner products of a's rows cost little beside them.
const SLICE: u32 = 1024;

/// The columns of b in slices: (first vec4, how many). Parts are few columns and taken whole.
pub(super) fn slices(b4: u32, parts: Parts) -> impl Iterator<Item = (u32, u32)> {
    let most = if parts.count() == 1 { sliced(b4) } else { b4 };
    (0..b4).step_by(most.max(1) as usize).map(move |first| (first, most.min(b4 - first)))
}

/// vec4 of the largest slice.
fn sliced(b4: u32) -> u32 {
    b4.div_ceil(b4.div_ceil(SLICE).max(1))
}

/// Whether a product's gradient is formed rather than taken by pairs of rows. With the rows of a sentence on average of
/// the largest batch, pairs cost T² (d + p) and forming it 2 T d p.
pub(crate) fn instantiates(b: &Tensor, a: &Tensor, parts: Parts, dims: &Dims) -> bool {
    let rows = dims.capacity(b.rows).div_ceil(dims.sentences.max(1));
    let (d, p) = (a.cols, parts.columns(b.cols)[0].len() as u32);
    u64::from(rows) * u64::from(d + p) >= 2 * u64::from(d) * u64::from(p)
}

/// How the loops of a kernel of norms or inner products grow with its sentences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GhostLoops {
    pub(super) form: Form,
    /// vec4 in a row of a, and of one part of b.
    pub(super) a4: u64,
    pub(super) b4: u64,
    pub(super) parts: u64,
    /// Rows are masked positions.
    pub(super) masked: bool,
    /// Of a pair of sentences, and not of one.
    pub(super) pairs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Product,
    Weighted,
    Instantiated,
    Sums,
    Tables,
    Tied,
}

impl GhostLoops {
    /// Iterations of all loops of one invocation, for one draw of a sentence (or a pair of such) of `tokens` tokens and
    /// `positions` masked ones: those of the `subgroup` variant with `lanes` lanes, or of the other.
    pub(crate) fn iterations(&self, tokens: u64, positions: u64, lanes: Option<u32>) -> u64 {
        let rows = if self.masked { positions } else { tokens };
        let width = lanes.map_or(64, u64::from);
        // The subgroup kernels take four vec4 per iteration, and blocks of rows; the others one pair of rows after
        // another.
        let inner = |columns: u64| if lanes.is_some() { columns.div_ceil(4) } else { columns };
        let blocks = rows.div_ceil(width);
        let meetings = match (lanes.is_some(), self.pairs) {
            (true, true) => blocks * blocks,
            (true, false) => blocks * (blocks + 1) / 2,
            (false, _) => (rows * rows).div_ceil(64),
        };
        let shared = |columns: u64| columns.div_ceil(width) * if self.pairs { 2 * rows + 2 } else { rows + 1 };
        match self.form {
            Form::Product => meetings * (inner(self.a4) + self.parts * (inner(self.b4) + 2) + 2) + blocks,
            Form::Weighted => {
                let Some(lanes) = lanes else { return self.parts * meetings * (self.b4 + 1) };
                // Tiles of 2 lanes rows, each over the columns up to its last row, four at once.
                let tile = 2 * u64::from(lanes);
                let columns: u64 = (1..=rows.div_ceil(tile)).map(|i| (i * tile).min(rows).div_ceil(4) + 1).sum();
                self.parts * self.b4.div_ceil(width) * (columns + 1)
            }
            Form::Instantiated => self.parts * shared(self.a4 * self.b4),
            Form::Sums => self.parts * shared(self.b4),
            Form::Tables => meetings * (inner(self.b4) + 2) + blocks,
            Form::Tied => {
                let terms = if lanes.is_some() {
                    tokens.div_ceil(width) * positions.div_ceil(width)
                } else {
                    (tokens * positions).div_ceil(64)
                };
                (1 + u64::from(self.pairs)) * (terms * (inner(self.b4) + 2) + tokens.div_ceil(width))
            }
        }
    }
}

impl GhostNorm {
    /// The loops of its kernel over batches of such sizes.
    pub(crate) fn loops(self, inputs: &[&Tensor], dims: &Dims) -> GhostLoops {
        let mut parts = self.parts();
        if let GhostNorm::Scale { heads } = self {
            parts = Parts::Equal(heads);
        }
        let form = match self {
            GhostNorm::Product { parts } if instantiates(inputs[0], inputs[1], parts, dims) => Form::Instantiated,
            GhostNorm::Product { .. } => Form::Product,
            GhostNorm::Weighted { .. } => Form::Weighted,
            GhostNorm::Sum { .. } | GhostNorm::Scale { .. } => Form::Sums,
            GhostNorm::Tables => Form::Tables,
            GhostNorm::Tied => Form::Tied,
        };
        GhostLoops::of(form, inputs, parts, false)
    }
}

impl GhostLoops {
    pub(super) fn of(form: Form, inputs: &[&Tensor], parts: Parts, pairs: bool) -> GhostLoops {
        let [_, whole] = parts.of_row(inputs[0].cols4());
        let parts = parts.count();
        let in_slices = match form {
            Form::Product | Form::Weighted | Form::Instantiated => parts == 1,
            // A layer norm's sums have three inputs.
            Form::Sums => parts == 1 && inputs.len() == 1,
            _ => false,
        };
        GhostLoops {
            form,
            a4: inputs.get(1).map_or(0, |a| u64::from(a.cols4())),
            b4: u64::from(if in_slices { sliced(whole) } else { whole }),
            parts: u64::from(parts),
            masked: inputs[0].rows == MASKED,
            pairs,
        }
    }
}
