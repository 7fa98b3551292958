//! Activations: GELU with the exact erf or by tanh (Hendrycks and Gimpel 2016), ReLU, SiLU. Shader:
//! `shaders/activation.wgsl`.

use super::{Adjoints, Lowering, Node, Op, OutputShape, Rule, Second, Tangents, Tensor, TensorId};
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
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 4] = [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu];

    /// The value of the kernels' constant `ACTIVATION`.
    pub(super) fn code(self) -> u32 {
        match self {
            Activation::Gelu => 0,
            Activation::GeluTanh => 1,
            Activation::Relu => 2,
            Activation::Silu => 3,
        }
    }
}

/// Forward: x. Vjp, which is the jvp too: (x, g) to f'(x) g. VjpJvp: (x, ȳ, ẋ, ȳ̇). Second: (x, ȳ, ẋ) to a number a vec4.
pub(super) fn outputs(rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
    let x = inputs[0];
    for t in &inputs[1..] {
        assert_eq!((x.rows, x.cols), (t.rows, t.cols), "activation: {} and {} differ", x.name, t.name);
    }
    let cols = if rule == Rule::Second { x.cols4() } else { x.cols };
    vec![("", x.rows, cols, inputs.iter().any(|t| t.probes))]
}

pub(super) fn vjp(f: Activation, g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
    let x = node.inputs[0];
    g.contribute(x, |g, before| {
        let name = g.bar(x);
        let x_bar = g.push(Op::Activation(f, Rule::Vjp), &[x, y_bar], &name)[0];
        before.map_or(x_bar, |before| g.add(before, x_bar))
    });
}

/// Both ẏ and the cotangent's product are a product with the slope.
pub(super) fn jvp(f: Activation, rule: Rule, g: &mut Tangents<'_>, node: &Node) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let name = g.dot(out);
    let tangent = match rule {
        Rule::Forward => g.push(Op::Activation(f, Rule::Vjp), &[x, g.wanted(x)], &name)[0],
        _ => {
            let y_bar = node.inputs[1];
            g.push(Op::Activation(f, Rule::VjpJvp), &[x, y_bar, g.wanted(x), g.wanted(y_bar)], &name)[0]
        }
    };
    g.set(out, tangent);
}

pub(super) fn second(f: Activation, g: &mut Second<'_>, node: &Node, y_bar: TensorId) {
    let x = node.inputs[0];
    let terms = g.push(Op::Activation(f, Rule::Second), &[x, y_bar, g.dot(x)], "second(activation)");
    g.term(terms, 1.0);
}

/// x to f'(x).
pub(super) fn lower_slope(f: Activation, cx: &mut Lowering<'_>, node: &Node) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let (params, constants) = settings(f, cx, node);
    let slope = kernel::Slope { x: cx.buffer(x), out: cx.buffer(out), params, constants };
    cx.push(slope, cx.name(out), grid(cx, node));
}

pub(super) fn lower(f: Activation, rule: Rule, cx: &mut Lowering<'_>, node: &Node) {
    let (params, constants) = settings(f, cx, node);
    let input = |i: usize| cx.buffer(node.inputs[i]);
    let out = cx.buffer(node.outputs[0]);
    let (label, grid) = (cx.name(node.outputs[0]), grid(cx, node));
    match rule {
        Rule::Forward => cx.push(kernel::Forward { x: input(0), out, params, constants }, label, grid),
        Rule::VjpJvp => {
            let [x, g, x_dot, g_dot] = [0, 1, 2, 3].map(input);
            cx.push(kernel::VjpJvp { x, g, x_dot, g_dot, out, params, constants }, label, grid);
        }
        Rule::Second => {
            let [x, g, x_dot] = [0, 1, 2].map(input);
            let params = kernel::Params { terms_stride: 4 * cx.cols4(node.outputs[0]), ..params };
            cx.push(kernel::Second { x, g, x_dot, terms: out, params, constants }, label, grid);
        }
        _ => cx.push(kernel::Vjp { x: input(0), g: input(1), out, params, constants }, label, grid),
    }
}

fn settings(f: Activation, cx: &Lowering<'_>, node: &Node) -> (kernel::Params, kernel::Constants) {
    let (code, fixed) = cx.count(node.outputs[0]);
    let layer = |i: usize| node.inputs.get(i).map_or(0, |id| cx.layer(*id));
    let params = kernel::Params {
        code,
        fixed,
        cols4: cx.cols4(node.inputs[0]),
        a_layer: layer(0),
        b_layer: layer(1),
        c_layer: layer(2),
        d_layer: layer(3),
        out_layer: cx.layer(node.outputs[0]),
        ..Default::default()
    };
    (params, kernel::Constants { activation: f.code() })
}

fn grid(cx: &Lowering<'_>, node: &Node) -> Grid {
    Grid { layers: cx.layers(node.outputs[0]), ..cx.elementwise(node.inputs[0]) }
}
