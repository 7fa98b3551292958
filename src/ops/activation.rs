//! Activations: GELU with the exact erf or by tanh (Hendrycks and Gimpel 2016), ReLU, SiLU, tanh. Shader:
//! `shaders/activation.wgsl`.

use super::operation::no_rule;
use super::{Adjoints, Lowering, Node, Operation, OutputShape, Rule, Second, Sizes, Tangents, Tensor, TensorId, call};
use crate::gpu::Grid;
use crate::kernels::activation as kernel;

/// A function of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x Φ(x), by the error function.
    #[default]
    Gelu,
    /// x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2
    GeluTanh,
    /// max(x, 0), its slope 0 at 0 as in PyTorch.
    Relu,
    /// x / (1 + e⁻ˣ)
    Silu,
    /// tanh x, of poolers.
    Tanh,
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 5] =
        [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu, Activation::Tanh];

    /// The value of the kernels' constant `ACTIVATION`.
    pub(super) fn code(self) -> u32 {
        match self {
            Activation::Gelu => 0,
            Activation::GeluTanh => 1,
            Activation::Relu => 2,
            Activation::Silu => 3,
            Activation::Tanh => 4,
        }
    }
}

impl Operation for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn by_row(&self) -> bool {
        true
    }

    /// Forward, Slope: x. Vjp, which is the jvp too: (x, g) to f'(x) g. VjpJvp: (x, ȳ, ẋ, ȳ̇). Second: (x, ȳ, ẋ) to one
    /// number per vec4.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let wanted = match rule {
            Rule::Forward | Rule::Slope => 1,
            Rule::Vjp(0) => 2,
            Rule::Second => 3,
            Rule::VjpJvp(0) => 4,
            _ => no_rule(self, rule),
        };
        assert_eq!(inputs.len(), wanted, "activation: tensors for {rule:?}");
        let x = inputs[0];
        for t in &inputs[1..] {
            assert_eq!((x.rows, x.cols), (t.rows, t.cols), "activation: {} and {} differ", x.name, t.name);
        }
        let cols = if rule == Rule::Second { x.cols4() } else { x.cols };
        vec![("", x.rows, cols, inputs.iter().any(|t| t.probes))]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        let [x] = node.inputs();
        g.contribute(x, call(*self, Rule::Vjp(0), &[x, y_bar]));
    }

    /// Both ẏ and the cotangent's product are a product with the slope.
    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        let tangent = match node.rule {
            Rule::Forward => {
                let [x] = node.inputs();
                call(*self, Rule::Vjp(0), &[x, g.wanted(x)])
            }
            _ => {
                let [x, y_bar] = node.inputs();
                call(*self, Rule::VjpJvp(0), &[x, y_bar, g.wanted(x), g.wanted(y_bar)])
            }
        };
        let [out] = node.outputs();
        let tangent = g.push(tangent, &g.dot(out))[0];
        g.set(out, tangent);
    }

    fn second(&self, node: &Node, g: &mut Second<'_>, y_bar: TensorId) {
        let [x] = node.inputs();
        let terms = g.push(call(*self, Rule::Second, &[x, y_bar, g.dot(x)]), "second(activation)");
        g.term(terms, 1.0);
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let layer = |i: usize| node.inputs.get(i).map_or(0, |id| cx.layer(*id));
        let (x, [out]) = (node.inputs[0], node.outputs());
        let (code, fixed) = cx.count(out);
        let params = kernel::Params {
            code,
            fixed,
            cols4: cx.cols4(x),
            a_layer: layer(0),
            b_layer: layer(1),
            c_layer: layer(2),
            d_layer: layer(3),
            out_layer: cx.layer(out),
            ..Default::default()
        };
        let constants = kernel::Constants { activation: self.code() };
        let (label, grid) = (cx.name(out), Grid { layers: cx.layers(out), ..cx.elementwise(x) });
        let terms_stride = 4 * cx.cols4(out);
        let (x, out) = (cx.buffer(x), cx.buffer(out));
        match node.rule {
            Rule::Slope => cx.push(kernel::Slope { x, out, params, constants }, label, grid),
            Rule::Vjp(_) => {
                let [_, g] = node.inputs().map(|id| cx.buffer(id));
                cx.push(kernel::Vjp { x, g, out, params, constants }, label, grid);
            }
            Rule::VjpJvp(_) => {
                let [_, g, x_dot, g_dot] = node.inputs().map(|id| cx.buffer(id));
                cx.push(kernel::VjpJvp { x, g, x_dot, g_dot, out, params, constants }, label, grid);
            }
            Rule::Second => {
                let [_, g, x_dot] = node.inputs().map(|id| cx.buffer(id));
                let params = kernel::Params { terms_stride, ..params };
                cx.push(kernel::Second { x, g, x_dot, terms: out, params, constants }, label, grid);
            }
            _ => cx.push(kernel::Forward { x, out, params, constants }, label, grid),
        }
    }
}
