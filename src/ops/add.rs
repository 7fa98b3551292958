//! out = a + b, elementwise. Shader: `shaders/add.wgsl`.

use super::operation::{self, no_rule};
use super::{
    Adjoints, GradientSource, Lowering, Node, Operation, OutputShape, Rule, Sizes, Tangents, Tensor, TensorId,
};
use crate::kernels::add as kernel;

/// (a, b) to a + b.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add;

impl Operation for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn by_row(&self) -> bool {
        true
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let [a, b] = operation::inputs(self, inputs);
        assert_eq!((a.rows, a.cols), (b.rows, b.cols), "add: {} and {} differ in shape", a.name, b.name);
        vec![("", a.rows, a.cols, a.probes || b.probes)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        for input in node.inputs::<2>() {
            g.pass(input, y_bar);
        }
    }

    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        let sum = match node.inputs::<2>().map(|id| g.of(id)) {
            [Some(a), Some(b)] => g.add(a, b),
            [one, other] => one.or(other).expect("some input has a tangent"),
        };
        g.set(node.outputs[0], sum);
    }

    fn gradient_source(&self, node: &Node, _: usize) -> Option<GradientSource> {
        Some(GradientSource::Sum(node.inputs()))
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([a, b], [out]) = (node.inputs(), node.outputs());
        let (code, fixed) = cx.count(out);
        let sum = kernel::Forward {
            a: cx.buffer(a),
            b: cx.buffer(b),
            out: cx.buffer(out),
            params: kernel::Params {
                code,
                fixed,
                cols4: cx.cols4(out),
                a_layer: cx.layer(a),
                b_layer: cx.layer(b),
                out_layer: cx.layer(out),
                ..Default::default()
            },
        };
        cx.push(sum, cx.name(out), cx.elementwise(out));
    }
}
