//! Matrix products in three layouts with bias, addend and GELU: the bulk of all arithmetic. Shader: `shaders/linear.wgsl`.

use super::{
    Adjoints, Dims, LinearVariant, Lowering, Node, Op, Operation, OutputShape, Tensor, TensorId, Variants, reduce,
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
    /// A second output gelu(C).
    Gelu,
    /// C · gelu'(z), z being the last input.
    Slope,
}

/// A product. Inputs: A, B, then bias [1, n], addend [m, n] and z [m, n] where they are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Linear {
    pub layout: Layout,
    pub bias: bool,
    pub addend: bool,
    pub epilogue: Epilogue,
}

impl Linear {
    pub(super) fn operation(&self) -> Operation {
        match self.layout {
            Layout::NT => Operation::LinearNt,
            Layout::NN => Operation::LinearNn,
            Layout::TN => Operation::LinearTn,
        }
    }

    fn bias_input(&self, node: &Node) -> Option<TensorId> {
        self.bias.then(|| node.inputs[2])
    }

    fn addend_input(&self, node: &Node) -> Option<TensorId> {
        self.addend.then(|| node.inputs[2 + usize::from(self.bias)])
    }

    fn slope_input(&self, node: &Node) -> Option<TensorId> {
        (self.epilogue == Epilogue::Slope).then(|| node.inputs[node.inputs.len() - 1])
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
        let mut outputs = vec![("", rows, cols, probes)];
        if self.epilogue == Epilogue::Gelu {
            outputs.push(("gelu", rows, cols, probes));
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

    /// Bytes of workspace: the splits' sums of a weight gradient.
    pub(super) fn workspace(
        &self,
        dims: &Dims,
        variants: &Variants,
        node: &Node,
        tensor: &dyn Fn(TensorId) -> Tensor,
    ) -> u64 {
        if self.layout != Layout::TN {
            return 0;
        }
        let out = tensor(node.outputs[0]);
        let layers = if out.probes { dims.probes } else { 1 };
        let size4 = u64::from(tensor(node.inputs[0]).cols) * u64::from(out.cols4());
        reduce::workspace(dims, tensor(node.inputs[0]).rows, variants.sums().split, size4, layers, false)
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let (ta, tb, tc) = (cx.graph.tensor(a), cx.graph.tensor(b), cx.graph.tensor(out));
        let (unit, across, mut constants) = match cx.variants.linear(self.operation()) {
            LinearVariant::Direct => (32, 8, vec![]),
            LinearVariant::Tiled => (64, 16, vec![("TILED", 1)]),
            LinearVariant::Cooperative(size) => (64, 16, vec![("COOPERATIVE", 1), ("SMALL", size)]),
            LinearVariant::Register(block) => (block, block / 4, vec![("REGISTER", 1), ("BLOCK", block)]),
            LinearVariant::Subgroup(lanes) => {
                // More rows share the loads of B; with 8 lanes or over rows of the depth that costs more than it saves.
                let rows = if lanes == 16 && self.layout != Layout::TN { 32 } else { 16 };
                (rows, lanes, vec![("SUBGROUP", 1), ("LANES", lanes), ("ROWS", rows)])
            }
        };
        let tiles_n = tc.cols4().div_ceil(across);
        let mut params = vec![
            ("a4", ta.cols4()),
            ("b4", tb.cols4()),
            ("c4", tc.cols4()),
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
            let split = cx.variants.sums().split;
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
                params.push(("add", 2));
            }
            buffers.push(("out", sums.target.clone()));
            params.push(("c_layer", sums.layer));
            cx.push(Dispatch { label, kernel: "linear", entry: "forward", constants, buffers, params, grid });
            sums.finish(cx);
            return;
        }
        params.extend([
            ("m_code", ta.rows.code()),
            ("m_fixed", ta.rows.fixed()),
            ("k_fixed", 4 * ta.cols4()),
            ("c_layer", cx.layer(out)),
            ("add", u32::from(self.bias) | u32::from(self.addend) << 1),
        ]);
        if let Some(bias) = self.bias_input(node) {
            buffers.push(("bias", cx.buffer(bias)));
            params.push(("bias_layer", cx.layer(bias)));
        }
        if let Some(addend) = addend {
            buffers.push(("addend", cx.buffer(addend)));
        }
        if self.layout == Layout::NN {
            constants.push(("LAYOUT", 1));
        }
        match self.epilogue {
            Epilogue::None => {}
            Epilogue::Gelu => {
                constants.push(("EPILOGUE", 1));
                buffers.push(("act", cx.buffer(node.outputs[1])));
            }
            Epilogue::Slope => {
                constants.push(("EPILOGUE", 2));
                if let Some(z) = self.slope_input(node) {
                    buffers.push(("z", cx.buffer(z)));
                    params.push(("z_layer", cx.layer(z)));
                }
            }
        }
        buffers.push(("out", cx.buffer(out)));
        let grid = Grid { count: ta.rows, unit, columns: tiles_n, layers };
        cx.push(Dispatch { label, kernel: "linear", entry: "forward", constants, buffers, params, grid });
    }
}
