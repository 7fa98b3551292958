//! out = a b, elementwise, plus an addend: gates. Linear in each of its inputs, so that every rule is the product
//! again. Shader: `shaders/multiply.wgsl`.

use super::operation::{self, no_rule};
use super::{Adjoints, Lowering, Node, Operation, OutputShape, Rule, Second, Sizes, Tangents, Tensor, TensorId, call};
use crate::kernels::multiply as kernel;

/// (a, b) to a ⊙ b.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiply;

impl Operation for Multiply {
    fn name(&self) -> &'static str {
        "multiply"
    }

    fn by_row(&self) -> bool {
        true
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        if rule != Rule::Forward {
            no_rule(self, rule);
        }
        let [a, b] = operation::inputs(self, inputs);
        assert_eq!((a.rows, a.cols), (b.rows, b.cols), "multiply: {} and {} differ in shape", a.name, b.name);
        vec![("", a.rows, a.cols, a.probes || b.probes)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn adds(&self, _: Rule) -> bool {
        true
    }

    /// ā = b ȳ and b̄ = a ȳ.
    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        let [a, b] = node.inputs();
        g.contribute(a, call(*self, Rule::Forward, &[b, y_bar]));
        g.contribute(b, call(*self, Rule::Forward, &[a, y_bar]));
    }

    /// ẏ = ȧ b + a ḃ, plus the addend's.
    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        let [a, b] = node.inputs();
        let name = g.dot(node.outputs[0]);
        let mut sum = node.addend.and_then(|id| g.of(id));
        for (moving, other) in [(a, b), (b, a)] {
            if let Some(moving) = g.of(moving) {
                sum = Some(g.push(call(*self, Rule::Forward, &[moving, other]).plus(sum), &name)[0]);
            }
        }
        g.set(node.outputs[0], sum.expect("some input has a tangent"));
    }

    fn bilinear(&self) -> bool {
        true
    }

    /// 2 ȳ ȧ ḃ.
    fn second(&self, node: &Node, g: &mut Second<'_>, y_bar: TensorId) {
        let [a, b] = node.inputs().map(|id| g.dot(id));
        let along = g.push(call(*self, Rule::Forward, &[a, b]), "second(multiply)");
        let terms = g.push(call(*self, Rule::Forward, &[along, y_bar]), "second(multiply)");
        g.term(terms, 2.0);
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let ([a, b], [out]) = (node.inputs(), node.outputs());
        let (code, fixed) = cx.count(out);
        let product = kernel::Forward {
            a: cx.buffer(a),
            b: cx.buffer(b),
            addend: node.addend.map(|id| cx.buffer(id)),
            out: cx.buffer(out),
            params: kernel::Params {
                code,
                fixed,
                cols4: cx.cols4(out),
                a_layer: cx.layer(a),
                b_layer: cx.layer(b),
                c_layer: node.addend.map_or(0, |id| cx.layer(id)),
                out_layer: cx.layer(out),
                ..Default::default()
            },
            constants: kernel::Constants { addend: node.addend.is_some() },
        };
        cx.push(product, cx.name(out), cx.elementwise(out));
    }
}
