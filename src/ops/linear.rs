//! Matrix products in three layouts with bias, addend and activation: the bulk of all arithmetic. Shader: `shaders/linear.wgsl`.

use super::{
    Activation, Adjoints, Dims, LinearVariant, Lowering, Node, Op, Operation, OutputShape, Second, Tangents, Tensor,
    TensorId, Variants, column_sum, reduce,
};
use crate::gpu::{Count, Dispatch, Grid};

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

/// What is done to C before it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Epilogue {
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

/// A product. Inputs: A, B, then bias [1, n], addend [m, n] and z [m, n] where they are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Linear {
    pub layout: Layout,
    pub bias: bool,
    pub addend: bool,
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

    /// Rows of the depth that one split sums (TN): as the variants say, and fewer where C has few tiles, so that there is
    /// work for several cores.
    fn split(&self, dims: &Dims, variants: &Variants, a: &Tensor, c: &Tensor) -> u32 {
        let most = variants.sums().split;
        if !matches!(variants.linear(Operation::LinearTn), LinearVariant::Subgroup(_)) {
            return most;
        }
        let tiles = a.cols.div_ceil(self.rows) * c.cols4().div_ceil(self.columns4);
        let fair = (dims.capacity(a.rows) * tiles).div_ceil(ENOUGH_TILES).max(LEAST_SPLIT);
        most.min(fair.next_multiple_of(4))
    }
}

/// Workgroups that keep the cores of a software adapter busy to the end.
const ENOUGH_TILES: u32 = 16;
/// Rows below which another split costs more than it gains.
const LEAST_SPLIT: u32 = 256;

impl Linear {
    pub(super) fn operation(&self) -> Operation {
        match self.layout {
            Layout::NT => Operation::LinearNt,
            Layout::NN => Operation::LinearNn,
            Layout::TN => Operation::LinearTn,
        }
    }

    fn shape(&self, variants: &Variants) -> Shape {
        Shape::of(variants.linear(self.operation()))
    }

    fn bias_input(&self, node: &Node) -> Option<TensorId> {
        self.bias.then(|| node.inputs[2])
    }

    fn addend_input(&self, node: &Node) -> Option<TensorId> {
        self.addend.then(|| node.inputs[2 + usize::from(self.bias)])
    }

    fn slope_input(&self, node: &Node) -> Option<TensorId> {
        let read = matches!(self.epilogue, Epilogue::Slope(_) | Epilogue::Times | Epilogue::Dot);
        read.then(|| node.inputs[node.inputs.len() - 1])
    }

    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
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

    /// Reverse rule of y = x Wᵀ + bias + addend.
    pub(super) fn vjp(&self, g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
        assert_eq!(self.layout, Layout::NT, "only models are differentiated in reverse, and they use NT");
        let (x, w) = (node.inputs[0], node.inputs[1]);
        let product = |layout, addend: bool| Op::Linear(Linear { layout, addend, ..Linear::default() });
        g.contribute(w, |g, before| {
            let name = g.bar(w);
            let inputs: Vec<TensorId> = [y_bar, x].into_iter().chain(before).collect();
            g.push(product(Layout::TN, before.is_some()), &inputs, &name)[0]
        });
        if let Some(bias) = self.bias_input(node) {
            g.contribute(bias, |g, before| {
                let name = g.bar(bias);
                let sum = g.push(Op::ColumnSum, &[y_bar], &name)[0];
                before.map_or(sum, |before| g.add(before, sum))
            });
        }
        g.contribute(x, |g, before| {
            let name = g.bar(x);
            let inputs: Vec<TensorId> = [y_bar, w].into_iter().chain(before).collect();
            g.push(product(Layout::NN, before.is_some()), &inputs, &name)[0]
        });
        if let Some(addend) = self.addend_input(node) {
            g.pass(addend, y_bar);
        }
    }

    /// Tangent of op(A) op(B) + bias + addend: a product for each operand that moves.
    pub(super) fn jvp(&self, g: &mut Tangents<'_>, node: &Node) {
        assert_eq!(self.epilogue, Epilogue::None, "tangents are taken before anything is fused");
        let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let mut bias = self.bias_input(node).and_then(|id| g.of(id));
        let mut sum = self.addend_input(node).and_then(|id| g.of(id));
        let pairs = [g.of(a).map(|a_dot| (a_dot, b)), g.of(b).map(|b_dot| (a, b_dot))];
        for (left, right) in pairs.into_iter().flatten() {
            let op = Linear { layout: self.layout, bias: bias.is_some(), addend: sum.is_some(), ..Linear::default() };
            let inputs: Vec<TensorId> = [left, right].into_iter().chain(bias.take()).chain(sum).collect();
            let name = g.dot(out);
            sum = Some(g.push(Op::Linear(op), &inputs, &name)[0]);
        }
        assert!(bias.is_none(), "a direction that moves a bias moves its product too");
        g.set(out, sum.expect("some input has a tangent"));
    }

    /// Second-order term of y = x Wᵀ: 2 ⟨ȳ, ẋ Ẇᵀ⟩.
    pub(super) fn second(&self, g: &mut Second<'_>, node: &Node, y_bar: TensorId) {
        let op = Linear { epilogue: Epilogue::Dot, ..Linear::default() };
        let inputs = [g.dot(node.inputs[0]), g.dot(node.inputs[1]), y_bar];
        let terms = g.push(Op::Linear(op), &inputs, "second(linear)");
        g.term(terms, 2.0);
    }

    /// Bytes of workspace: the splits' sums of a weight gradient, and of the gradient of a bias beside it.
    pub(super) fn workspace(
        &self,
        dims: &Dims,
        variants: &Variants,
        node: &Node,
        tensor: &dyn Fn(TensorId) -> Tensor,
    ) -> Vec<u64> {
        if self.layout != Layout::TN {
            return vec![];
        }
        let (a, out) = (tensor(node.inputs[0]), tensor(node.outputs[0]));
        let layers = |probes: bool| if probes { dims.probes } else { 1 };
        let split = self.shape(variants).split(dims, variants, &a, &out);
        let size4 = u64::from(a.cols) * u64::from(out.cols4());
        let mut wanted = vec![reduce::workspace(dims, a.rows, split, size4, layers(out.probes), false)];
        if self.sums {
            let rows = if self.shape(variants).sums { split } else { variants.sums().block };
            wanted.push(reduce::workspace(dims, a.rows, rows, u64::from(a.cols4()), layers(a.probes), false));
        }
        wanted
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let (ta, tb, tc) = (cx.graph.tensor(a), cx.graph.tensor(b), cx.graph.tensor(out));
        let shape = self.shape(cx.variants);
        let Shape { rows: unit, columns4, .. } = shape;
        let mut constants = match cx.variants.linear(self.operation()) {
            LinearVariant::Direct => vec![],
            LinearVariant::Tiled => vec![("TILED", 1)],
            LinearVariant::Cooperative(size) => vec![("COOPERATIVE", 1), ("SMALL", size)],
            LinearVariant::Register(block) => vec![("REGISTER", 1), ("BLOCK", block)],
            LinearVariant::Subgroup(lanes) => vec![("SUBGROUP", 1), ("LANES", lanes)],
        };
        // In `Dot` a column of the result stands for four of C.
        let c4 = if self.epilogue == Epilogue::Dot { tc.cols } else { tc.cols4() };
        let tiles_n = c4.div_ceil(columns4);
        let a4 = ta.cols4();
        let mut params = vec![
            ("a4", a4),
            ("b4", tb.cols4()),
            ("c4", c4),
            ("tiles_n", tiles_n),
            ("a_layer", cx.layer(a)),
            ("b_layer", cx.layer(b)),
        ];
        let mut buffers = vec![("a", cx.buffer(a)), ("b", cx.buffer(b))];
        let layers = cx.layers(out);
        let addend = self.addend_input(node);
        let label = tc.name.clone();
        if self.layout == Layout::TN {
            let tiles_m = ta.cols.div_ceil(unit);
            let split = shape.split(cx.dims, cx.variants, ta, tc);
            let rows = ta.rows;
            let size4 = u64::from(ta.cols) * u64::from(tc.cols4());
            params.extend([
                ("m_fixed", ta.cols),
                ("k_code", rows.code()),
                ("k_fixed", rows.fixed()),
                ("split", split),
                ("tiles_m", tiles_m),
            ]);
            constants.push(("LAYOUT", 2));
            let grid = Grid { count: rows, unit: split, columns: tiles_n * tiles_m, layers };
            // One split adds the addend itself; several leave it to the sum of their results.
            let single = reduce::workspace(cx.dims, rows, split, size4, 1, false) == 0;
            let sums = reduce::blocks(cx, rows, split, size4, out, addend.filter(|_| !single));
            if let (true, Some(addend)) = (single, addend) {
                buffers.push(("addend", cx.buffer(addend)));
                constants.push(("ADDEND", 1));
            }
            buffers.push(("out", sums.target.clone()));
            params.push(("c_layer", sums.layer));
            let mut bias = None;
            if let (true, true, Some(out)) = (self.sums, shape.sums, node.outputs.get(1)) {
                let also = reduce::blocks(cx, rows, split, u64::from(a4), *out, None);
                buffers.push(("act", also.target.clone()));
                params.push(("sums_layer", also.layer));
                constants.push(("SUMS", 1));
                bias = Some(also);
            }
            cx.push(Dispatch { label, kernel: "linear", entry: "forward", constants, buffers, params, grid });
            match (bias, node.outputs.get(1)) {
                (Some(bias), _) => sums.finish_both(bias, cx),
                (None, Some(out)) => {
                    sums.finish(cx);
                    column_sum::lower_sum(cx, a, *out);
                }
                (None, None) => sums.finish(cx),
            }
            return;
        }
        params.extend([
            ("m_code", ta.rows.code()),
            ("m_fixed", ta.rows.fixed()),
            ("k_fixed", 4 * ta.cols4()),
            ("c_layer", cx.layer(out)),
        ]);
        if let Some(bias) = self.bias_input(node) {
            buffers.push(("bias", cx.buffer(bias)));
            params.push(("bias_layer", cx.layer(bias)));
            constants.push(("BIAS", 1));
        }
        if let Some(addend) = addend {
            buffers.push(("addend", cx.buffer(addend)));
            constants.push(("ADDEND", 1));
        }
        if self.layout == Layout::NN {
            constants.push(("LAYOUT", 1));
        }
        match self.epilogue {
            Epilogue::None => {}
            Epilogue::Activation(f) => {
                constants.push(("EPILOGUE", 1));
                constants.extend(f.constants());
                buffers.push(("act", cx.buffer(node.outputs[1])));
            }
            Epilogue::Slope(_) | Epilogue::Times | Epilogue::Dot => {
                match self.epilogue {
                    Epilogue::Slope(f) => constants.extend([("EPILOGUE", 2)].into_iter().chain(f.constants())),
                    Epilogue::Times => constants.push(("EPILOGUE", 4)),
                    _ => constants.push(("EPILOGUE", 3)),
                }
                params.push(("terms_stride", 4 * tc.cols4()));
                if let Some(z) = self.slope_input(node) {
                    buffers.push(("z", cx.buffer(z)));
                    params.push(("z_layer", cx.layer(z)));
                }
            }
        }
        buffers.push((if self.epilogue == Epilogue::Dot { "terms" } else { "out" }, cx.buffer(out)));
        let grid = Grid { count: ta.rows, unit, columns: tiles_n, layers };
        cx.push(Dispatch { label, kernel: "linear", entry: "forward", constants, buffers, params, grid });
    }
}
