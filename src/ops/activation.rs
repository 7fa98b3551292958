//! Activations: GELU with the exact erf or by tanh (Hendrycks and Gimpel 2016), ReLU, SiLU. Shader:
//! `shaders/activation.wgsl`.

use super::{Adjoints, Lowering, Node, Op, OutputShape, Rule, Second, Tangents, Tensor, TensorId};
use crate::gpu::{Dispatch, Grid};

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

    /// The kernels' constant for it, which is 0 without being said.
    pub(super) fn constants(self) -> Option<(&'static str, u32)> {
        let code = match self {
            Activation::Gelu => return None,
            Activation::GeluTanh => 1,
            Activation::Relu => 2,
            Activation::Silu => 3,
        };
        Some(("ACTIVATION", code))
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
    let [code, fixed] = cx.count(out);
    let buffers = vec![("x", cx.buffer(x)), ("out", cx.buffer(out))];
    let cols4 = ("cols4", cx.graph.tensor(x).cols4());
    let params = vec![code, fixed, cols4, ("a_layer", cx.layer(x)), ("out_layer", cx.layer(out))];
    let label = cx.graph.tensor(out).name.clone();
    let constants = f.constants().into_iter().collect();
    let grid = Grid { layers: cx.layers(out), ..cx.elementwise(x) };
    cx.push(Dispatch { label, kernel: "activation", entry: "slope", constants, buffers, params, grid });
}

pub(super) fn lower(f: Activation, rule: Rule, cx: &mut Lowering<'_>, node: &Node) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let [code, fixed] = cx.count(out);
    let mut buffers = vec![("x", cx.buffer(x))];
    let mut params = vec![
        code,
        fixed,
        ("cols4", cx.graph.tensor(x).cols4()),
        ("a_layer", cx.layer(x)),
        ("out_layer", cx.layer(out)),
    ];
    let others = [("g", "b_layer"), ("x_dot", "c_layer"), ("g_dot", "d_layer")];
    for ((name, layer), id) in others.into_iter().zip(&node.inputs[1..]) {
        buffers.push((name, cx.buffer(*id)));
        params.push((layer, cx.layer(*id)));
    }
    let entry = match rule {
        Rule::Forward => "forward",
        Rule::VjpJvp => "vjp_jvp",
        Rule::Second => "second",
        _ => "vjp",
    };
    if rule == Rule::Second {
        buffers.push(("terms", cx.buffer(out)));
        params.push(("terms_stride", 4 * cx.graph.tensor(out).cols4()));
    } else {
        buffers.push(("out", cx.buffer(out)));
    }
    let label = cx.graph.tensor(out).name.clone();
    let constants = f.constants().into_iter().collect();
    let grid = Grid { layers: cx.layers(out), ..cx.elementwise(x) };
    cx.push(Dispatch { label, kernel: "activation", entry, constants, buffers, params, grid });
}
