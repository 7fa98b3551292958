//! Matrix products in three layouts with bias, addend and activation: the bulk of all arithmetic. Shader:
//! `shaders/linear.wgsl`.

use super::operation::no_rule;
use super::{
    Activation, Adjoints, ColumnSum, Family, GradientRows, GradientSource, Lowering, Node, Operation, OutputShape,
    Rule, Scratch, Second, Sizes, Tangents, Tensor, TensorId, call,
};
use crate::gpu::Count;

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
    pub(super) fn family(self) -> Family {
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
    /// A second output C · f(z), z being the last input: what a gate lets through.
    Gate(Activation),
    /// Its reverse rule, C being the gradient of what went through: C · f(z), and a second output C · u · f'(z); u and
    /// z being the last inputs.
    GateVjp(Activation),
}

impl Epilogue {
    /// Matrices that it reads.
    fn reads(self) -> usize {
        match self {
            Epilogue::None | Epilogue::Activation(_) => 0,
            Epilogue::Slope(_) | Epilogue::Times | Epilogue::Dot | Epilogue::Gate(_) => 1,
            Epilogue::GateVjp(_) => 2,
        }
    }

    /// Whether it gives a second matrix.
    pub(super) fn gives_two(self) -> bool {
        matches!(self, Epilogue::Activation(_) | Epilogue::Gate(_) | Epilogue::GateVjp(_))
    }
}

/// A product. Inputs: A, B, then bias [1, n] and the epilogue's matrices [m, n] where they are asked for. Its reverse
/// rules are products in other layouts, and so no rules of their own: they are planned and fused as any other.
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
        let wanted = 2 + usize::from(self.bias) + self.epilogue.reads();
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
        if self.epilogue.gives_two() {
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

    /// All but parameters: what is bound by windows, and what lies as a parameter does.
    fn strided(&self, node: &Node, id: TensorId) -> bool {
        match self.layout {
            Layout::TN => !node.outputs.contains(&id) && node.addend != Some(id),
            _ => node.inputs[1] != id && self.bias_input(node) != Some(id) && self.epilogue != Epilogue::Dot,
        }
    }

    fn alike(&self, node: &Node) -> Vec<TensorId> {
        if self.layout == Layout::TN {
            return vec![];
        }
        let matrices = [node.addend, self.epilogue_input(node), self.gated_input(node)];
        node.outputs.iter().copied().chain(matrices.into_iter().flatten()).collect()
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

    fn bilinear(&self) -> bool {
        true
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

    fn scratch(&self, node: &Node, sizes: &Sizes<'_>) -> Vec<(Scratch, u64)> {
        if self.layout == Layout::TN { self.split_sums(node, sizes) } else { vec![] }
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        match self.layout {
            Layout::TN => self.lower_sum(cx, node),
            _ => self.lower_rows(cx, node),
        }
    }
}

impl Linear {
    pub(super) fn bias_input(&self, node: &Node) -> Option<TensorId> {
        self.bias.then(|| node.inputs[2])
    }

    /// z.
    pub(super) fn epilogue_input(&self, node: &Node) -> Option<TensorId> {
        (self.epilogue.reads() > 0).then(|| node.inputs[node.inputs.len() - 1])
    }

    /// u of a gate's reverse rule.
    pub(super) fn gated_input(&self, node: &Node) -> Option<TensorId> {
        (self.epilogue.reads() > 1).then(|| node.inputs[node.inputs.len() - 2])
    }
}
