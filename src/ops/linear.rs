//! Matrix products in three layouts with bias, addend and activation: the bulk of all arithmetic. Shader:
//! `shaders/linear.wgsl`.

use std::ops::Range;

use super::operation::no_rule;
use super::{
    Activation, Adjoints, ColumnSum, Dims, Family, GradientRows, GradientSource, LinearVariant, Lowering, Node,
    Operation, OutputShape, Rule, Scratch, Second, Sizes, Tangents, Tensor, TensorId, Variants, call, column_sum,
    reduce,
};
use crate::gpu::{Count, Grid};
use crate::kernels::linear as kernel;

/// The splits' sums of a product over rows.
const SPLITS: Scratch = Scratch("splits");

/// How the operands lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// C [m, n] = A [m, k] · B [n, k]ᵀ
    #[default]
    NT,
    /// C [m, n] = A [m, k] · B [k, n]
    NN,
    /// C [m, n] = A [k, m]ᵀ · B [k, n]
    TN,
}

impl Layout {
    /// Its part of the variant table.
    fn family(self) -> Family {
        match self {
            Layout::NT => Family::LinearNt,
            Layout::NN => Family::LinearNn,
            Layout::TN => Family::LinearTn,
        }
    }
}

/// What is done to C before it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Nothing.
    #[default]
    None,
    /// A second output f(C).
    Activation(Activation),
    /// C · f'(z), z being the last input.
    Slope(Activation),
    /// C · z, z being the last input.
    Times,
    /// ⟨C, z⟩ of every four columns in place of C, [m, n / 4]; z being the last input.
    Dot,
}

impl Epilogue {
    /// Whether it reads another matrix.
    fn reads(self) -> bool {
        matches!(self, Epilogue::Slope(_) | Epilogue::Times | Epilogue::Dot)
    }
}

/// A product. Inputs: A, B, then bias [1, n] and z [m, n] where they are asked for. Its reverse rules are products in
/// other layouts, and so no rules of their own: they are planned and fused as any other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Linear {
    /// Which of A and B is transposed.
    pub layout: Layout,
    /// Whether a bias [1, n] is added to every row.
    pub bias: bool,
    /// What is done to C before it is stored.
    pub epilogue: Epilogue,
    /// A second output [1, m], the sums of A's columns (TN): with A = ȳ the gradient of a bias.
    pub sums: bool,
}

/// What one workgroup computes.
struct Shape {
    rows: u32,
    /// vec4 of columns.
    columns4: u32,
    /// Whether TN sums A's columns up on the way.
    sums: bool,
}

impl Shape {
    fn of(variant: LinearVariant) -> Shape {
        match variant {
            LinearVariant::Direct => Shape { rows: 32, columns4: 8, sums: false },
            LinearVariant::Tiled => Shape { rows: 64, columns4: 16, sums: false },
            LinearVariant::Cooperative(_) => Shape { rows: 64, columns4: 16, sums: false },
            LinearVariant::Register(block) => Shape { rows: block, columns4: block / 4, sums: false },
            LinearVariant::Subgroup(lanes) => Shape { rows: 4 * lanes, columns4: lanes, sums: true },
        }
    }

    /// Rows of the depth that one split sums (TN): as the variants say, and fewer where C has few tiles, so that there
    /// is work for several cores; all where C has so many that splits only take memory.
    fn split(&self, dims: &Dims, variants: &Variants, a: &Tensor, c: &Tensor) -> u32 {
        let most = variants.sums().split;
        let tiles = a.cols.div_ceil(self.rows) * c.cols4().div_ceil(self.columns4);
        if tiles >= MANY_TILES {
            return dims.capacity(a.rows).next_multiple_of(4).max(most);
        }
        if !matches!(variants.linear(Family::LinearTn), LinearVariant::Subgroup(_)) {
            return most;
        }
        let fair = (dims.capacity(a.rows) * tiles).div_ceil(ENOUGH_TILES).max(LEAST_SPLIT);
        most.min(fair.next_multiple_of(4))
    }
}

/// Workgroups that keep the cores of a software adapter busy to the end.
const ENOUGH_TILES: u32 = 16;
/// Workgroups that keep any adapter busy without splits: a table of 50,000 words and 384 columns in tiles of 64 x 64.
const MANY_TILES: u32 = 4096;
/// Rows below which another split costs more than it gains.
const LEAST_SPLIT: u32 = 256;

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn by_row(&self) -> bool {
        self.layout == Layout::NT && self.epilogue == Epilogue::None
    }

    fn title(&self, _: Rule) -> String {
        let what = match (self.layout, self.epilogue) {
            (_, Epilogue::Dot) => ", second",
            (Layout::NT, _) => "",
            (Layout::NN, _) => ", gradient of the input",
            (Layout::TN, _) => ", gradient of the weight",
        };
        format!("linear{what}")
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let wanted = 2 + usize::from(self.bias) + usize::from(self.epilogue.reads());
        assert_eq!(inputs.len(), wanted, "linear: tensors of a product with what it adds and reads");
        let (a, b) = (inputs[0], inputs[1]);
        let fixed = |t: &Tensor| match t.rows {
            Count::Fixed(n) => n,
            _ => panic!("linear: {} must have a fixed number of rows", t.name),
        };
        let (rows, cols) = match self.layout {
            Layout::NT => {
                assert_eq!(a.cols, b.cols, "linear: {} and {} differ in width", a.name, b.name);
                (a.rows, fixed(b))
            }
            Layout::NN => {
                assert_eq!(a.cols, fixed(b), "linear: {} does not fit {}", a.name, b.name);
                (a.rows, b.cols)
            }
            Layout::TN => {
                assert_eq!(a.rows, b.rows, "linear: {} and {} differ in rows", a.name, b.name);
                (Count::Fixed(a.cols), b.cols)
            }
        };
        for t in &inputs[2..] {
            assert_eq!(t.cols, cols, "linear: {} has the wrong width", t.name);
        }
        let probes = inputs.iter().any(|t| t.probes);
        if self.epilogue == Epilogue::Dot {
            return vec![("", rows, cols.div_ceil(4), probes)];
        }
        let mut outputs = vec![("", rows, cols, probes)];
        if let Epilogue::Activation(_) = self.epilogue {
            outputs.push(("activation", rows, cols, probes));
        }
        if self.sums {
            outputs.push(("sums", Count::Fixed(1), a.cols, a.probes));
        }
        outputs
    }

    fn flops(&self, node: &Node, sizes: &Sizes<'_>) -> Option<f64> {
        let (a, b) = (node.inputs[0], node.inputs[1]);
        let (m, k) =
            if self.layout == Layout::TN { (sizes.cols(a), sizes.rows(a)) } else { (sizes.rows(a), sizes.cols(a)) };
        let n = if self.layout == Layout::NT { sizes.rows(b) } else { sizes.cols(b) };
        Some(2.0 * m * n * k)
    }

    fn adds(&self, _: Rule) -> bool {
        true
    }

    /// B by its rows, which are columns of C (NT) or steps of the depth (NN); C by its rows, columns of A (TN).
    fn in_windows(&self, node: &Node, id: TensorId) -> bool {
        match self.layout {
            Layout::TN => node.outputs[0] == id || node.addend == Some(id),
            _ => node.inputs[1] == id && node.inputs[0] != id,
        }
    }

    fn family(&self, _: Rule) -> Option<Family> {
        Some(self.layout.family())
    }

    /// Reverse rule of y = x Wᵀ + bias + addend.
    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        assert_eq!(self.layout, Layout::NT, "only models are differentiated in reverse, and they use NT");
        let (x, w) = (node.inputs[0], node.inputs[1]);
        let product = |layout, a, b| call(Linear { layout, ..Linear::default() }, Rule::Forward, &[a, b]);
        g.contribute(w, product(Layout::TN, y_bar, x));
        if let Some(bias) = self.bias_input(node) {
            g.contribute(bias, call(ColumnSum, Rule::Forward, &[y_bar]));
        }
        g.contribute(x, product(Layout::NN, y_bar, w));
        if let Some(addend) = node.addend {
            g.pass(addend, y_bar);
        }
    }

    /// Tangent of op(A) op(B) + bias + addend: a product for each operand that moves.
    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        assert_eq!(self.epilogue, Epilogue::None, "tangents are taken before anything is fused");
        let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let mut bias = self.bias_input(node).and_then(|id| g.of(id));
        let mut sum = node.addend.and_then(|id| g.of(id));
        let pairs = [g.of(a).map(|a_dot| (a_dot, b)), g.of(b).map(|b_dot| (a, b_dot))];
        for (left, right) in pairs.into_iter().flatten() {
            let op = Linear { layout: self.layout, bias: bias.is_some(), ..Linear::default() };
            let inputs: Vec<TensorId> = [left, right].into_iter().chain(bias.take()).collect();
            sum = Some(g.push(call(op, Rule::Forward, &inputs).plus(sum), &g.dot(out))[0]);
        }
        assert!(bias.is_none(), "a direction that moves a bias moves its product too");
        g.set(out, sum.expect("some input has a tangent"));
    }

    /// Second-order term of y = x Wᵀ: 2 ⟨ȳ, ẋ Ẇᵀ⟩, where both move.
    fn second(&self, node: &Node, g: &mut Second<'_>, y_bar: TensorId) {
        let (Some(x_dot), Some(w_dot)) = (g.of(node.inputs[0]), g.of(node.inputs[1])) else { return };
        let op = Linear { epilogue: Epilogue::Dot, ..Linear::default() };
        let terms = g.push(call(op, Rule::Forward, &[x_dot, w_dot, y_bar]), "second(linear)");
        g.term(terms, 2.0);
    }

    fn gradient_source(&self, node: &Node, output: usize) -> Option<GradientSource> {
        let (b, a) = (node.inputs[0], node.inputs[1]);
        (self.layout == Layout::TN && output == 0).then_some(GradientSource::Rows(GradientRows::Product { b, a }))
    }

    /// The splits' sums of a weight gradient, and of the gradient of a bias beside it.
    fn scratch(&self, node: &Node, sizes: &Sizes<'_>) -> Vec<(Scratch, u64)> {
        if self.layout != Layout::TN {
            return vec![];
        }
        let Sizes { dims, variants, .. } = *sizes;
        let (a, out) = (sizes.tensor(node.inputs[0]), sizes.tensor(node.outputs[0]));
        let layers = |probes: bool| if probes { dims.probes } else { 1 };
        let split = self.shape(variants).split(dims, variants, a, out);
        let size4 = u64::from(a.cols) * u64::from(out.cols4());
        let mut wanted = vec![(SPLITS, reduce::workspace(dims, a.rows, split, size4, layers(out.probes), false))];
        if self.sums {
            let rows = if self.shape(variants).sums { split } else { variants.sums().block };
            let bytes = reduce::workspace(dims, a.rows, rows, u64::from(a.cols4()), layers(a.probes), false);
            wanted.push((column_sum::SUMS, bytes));
        }
        wanted
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        match self.layout {
            Layout::TN => self.lower_sum(cx, node),
            _ => self.lower_rows(cx, node),
        }
    }
}

impl Linear {
    fn shape(&self, variants: &Variants) -> Shape {
        Shape::of(variants.linear(self.layout.family()))
    }

    fn bias_input(&self, node: &Node) -> Option<TensorId> {
        self.bias.then(|| node.inputs[2])
    }

    fn epilogue_input(&self, node: &Node) -> Option<TensorId> {
        self.epilogue.reads().then(|| node.inputs[node.inputs.len() - 1])
    }

    /// C by rows of A: NT and NN. Each window of B's rows makes columns of C of its own (NT), or adds to C what its steps
    /// of the depth give (NN).
    fn lower_rows(&self, cx: &mut Lowering<'_>, node: &Node) {
        let windows = cx.windows(node.inputs[1]);
        let last = windows.len() - 1;
        for (i, rows) in windows.into_iter().enumerate() {
            match self.layout {
                Layout::NN if last > 0 => {
                    let step = Linear {
                        bias: self.bias && i == 0,
                        epilogue: if i == last { self.epilogue } else { Epilogue::None },
                        ..*self
                    };
                    step.lower_window(cx, node, rows, i > 0);
                }
                _ => self.lower_window(cx, node, rows, false),
            }
        }
    }

    /// What a window of B's rows gives of C; `onto` what is there already instead of the node's addend.
    fn lower_window(&self, cx: &mut Lowering<'_>, node: &Node, rows_of_b: Range<u32>, onto: bool) {
        let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let Shape { rows: unit, columns4, .. } = self.shape(cx.variants);
        let rows = cx.graph.tensor(a).rows;
        let dot = self.epilogue == Epilogue::Dot;
        // In `Dot` a column of the result stands for four of C.
        let c4 = if dot { cx.graph.tensor(out).cols } else { cx.cols4(out) };
        let taken = rows_of_b.end - rows_of_b.start;
        // One window of B has all of C's columns, and all of the depth.
        let whole = taken == cx.dims.capacity(cx.graph.tensor(b).rows);
        let nt = self.layout == Layout::NT;
        let n4 = if nt && !whole { taken / 4 } else { c4 };
        let tiles_n = n4.div_ceil(columns4);
        let addend = if onto { None } else { node.addend };
        let (bias, z) = (self.bias_input(node), self.epilogue_input(node));
        let (epilogue, f) = match self.epilogue {
            Epilogue::None => (0, None),
            Epilogue::Activation(f) => (1, Some(f)),
            Epilogue::Slope(f) => (2, Some(f)),
            Epilogue::Dot => (3, None),
            Epilogue::Times => (4, None),
        };
        let layer = |id: Option<TensorId>| id.map_or(0, |id| cx.layer(id));
        let product = kernel::Forward {
            a: cx.buffer(a),
            b: cx.rows_of(b, &rows_of_b),
            bias: bias.map(|id| cx.buffer(id)),
            addend: addend.map(|id| cx.buffer(id)),
            z: z.map(|id| cx.buffer(id)),
            out: (!dot).then(|| cx.buffer(out)),
            act: matches!(self.epilogue, Epilogue::Activation(_)).then(|| cx.buffer(node.outputs[1])),
            terms: dot.then(|| cx.buffer(out)),
            params: kernel::Params {
                m_code: rows.code(),
                m_fixed: rows.fixed(),
                k_fixed: if nt || whole { 4 * cx.cols4(a) } else { taken },
                a4: cx.cols4(a),
                b4: cx.cols4(b),
                c4,
                n4,
                a_first: if nt { 0 } else { rows_of_b.start / 4 },
                c_first: if nt { rows_of_b.start / 4 } else { 0 },
                tiles_n,
                a_layer: cx.layer(a),
                b_layer: cx.layer(b),
                c_layer: cx.layer(out),
                bias_layer: layer(bias),
                z_layer: layer(z),
                terms_stride: if z.is_some() { 4 * cx.cols4(out) } else { 0 },
                ..Default::default()
            },
            constants: kernel::Constants {
                layout: u32::from(self.layout == Layout::NN),
                bias: bias.is_some(),
                addend: addend.is_some(),
                onto,
                epilogue,
                activation: f.map_or(0, Activation::code),
                ..constants(cx.variants.linear(self.layout.family()))
            },
        };
        let grid = Grid { count: rows, unit, columns: tiles_n, layers: cx.layers(out) };
        cx.push(product, cx.name(out), grid);
    }

    /// C as a sum over rows, cut into splits: TN. In windows of C's rows there is one split.
    fn lower_sum(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let (ta, tc) = (cx.graph.tensor(a), cx.graph.tensor(out));
        let shape = self.shape(cx.variants);
        let windows = cx.windows(out);
        let rows = ta.rows;
        let split = match windows.len() {
            1 => shape.split(cx.dims, cx.variants, ta, tc),
            _ => cx.dims.capacity(rows).next_multiple_of(4),
        };
        let size4 = u64::from(ta.cols) * u64::from(tc.cols4());
        // One split adds the addend itself; several leave it to the sum of their results.
        let single = reduce::workspace(cx.dims, rows, split, size4, 1, false) == 0;
        let (own, left) = if single { (node.addend, None) } else { (None, node.addend) };
        let sums = reduce::blocks(cx, rows, split, size4, out, left, SPLITS);
        let bias_bar = if self.sums { node.outputs.get(1).copied() } else { None };
        let also = bias_bar
            .filter(|_| shape.sums)
            .map(|bias_bar| reduce::blocks(cx, rows, split, u64::from(ta.cols4()), bias_bar, None, column_sum::SUMS));
        let one = windows.len() == 1;
        for window in windows {
            let m_fixed = window.end.min(ta.cols) - window.start;
            let (tiles_n, tiles_m) = (tc.cols4().div_ceil(shape.columns4), m_fixed.div_ceil(shape.rows));
            let product = kernel::Forward {
                a: cx.buffer(a),
                b: cx.buffer(b),
                bias: None,
                addend: own.map(|id| cx.rows_of(id, &window)),
                z: None,
                out: Some(if one { sums.target.clone() } else { cx.rows_of(out, &window) }),
                act: also.as_ref().map(|also| also.target.clone()),
                terms: None,
                params: kernel::Params {
                    m_fixed,
                    k_code: rows.code(),
                    k_fixed: rows.fixed(),
                    split,
                    a4: ta.cols4(),
                    b4: cx.cols4(b),
                    c4: tc.cols4(),
                    n4: tc.cols4(),
                    a_first: window.start / 4,
                    tiles_n,
                    tiles_m,
                    a_layer: cx.layer(a),
                    b_layer: cx.layer(b),
                    c_layer: sums.layer,
                    sums_layer: also.as_ref().map_or(0, |also| also.layer),
                    ..Default::default()
                },
                constants: kernel::Constants {
                    layout: 2,
                    addend: own.is_some(),
                    sums: also.is_some(),
                    ..constants(cx.variants.linear(self.layout.family()))
                },
            };
            let grid = Grid { count: rows, unit: split, columns: tiles_n * tiles_m, layers: cx.layers(out) };
            cx.push(product, cx.name(out), grid);
        }
        match (also, bias_bar) {
            (Some(also), _) => sums.finish_with(Some(also), cx),
            (None, Some(bias_bar)) => {
                sums.finish(cx);
                column_sum::lower_sum(cx, a, bias_bar);
            }
            (None, None) => sums.finish(cx),
        }
    }
}

/// The constants of a way to run.
fn constants(variant: LinearVariant) -> kernel::Constants {
    let plain = kernel::Constants::default();
    match variant {
        LinearVariant::Direct => plain,
        LinearVariant::Tiled => kernel::Constants { tiled: true, ..plain },
        LinearVariant::Cooperative(small) => kernel::Constants { cooperative: true, small, ..plain },
        LinearVariant::Register(block) => kernel::Constants { register: true, block, ..plain },
        LinearVariant::Subgroup(lanes) => kernel::Constants { subgroup: true, lanes, ..plain },
    }
}
