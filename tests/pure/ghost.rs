//! Per-example norms of parameters whose gradients are not what norms are known of.

use lowland::graph::{Count, Emit, GhostError, GramPart, Graph, Role, TensorId};
use lowland::ops::counts::ROWS;
use lowland::ops::{Adjoints, Lowering, Node, Operation, OutputShape, Own, Parts, Rule, Sizes, Tensor, call};

/// A function with a vector of parameters that does not say what its gradient is made of.
#[derive(Debug)]
struct Scaled;

impl Operation for Scaled {
    fn name(&self) -> &'static str {
        "scaled"
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let rows = if rule == Rule::Vjp(1) { Count::Fixed(1) } else { inputs[0].rows };
        vec![("", rows, inputs[0].cols, false)]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        let [x, s] = node.inputs();
        g.contribute(s, call(node.function.clone(), Rule::Vjp(1), &[x, y_bar]));
    }

    fn lower(&self, _: &Node, _: &mut Lowering<'_>) {
        unreachable!("it never runs");
    }
}

/// What norms and inner products of all parameters of a graph with this output end with.
fn refused(mut graph: Graph, y: TensorId) -> [GhostError; 2] {
    let y_bar = graph.input("y_bar", ROWS, graph.tensor(y).cols);
    let adjoints = graph.gradient(&[(y, y_bar)]);
    let parameters: Vec<TensorId> =
        graph.tensors().filter(|(_, t)| t.role == Role::Parameter).map(|(id, _)| id).collect();
    let whole = |_| GramPart::of(&[Parts::WHOLE], |_| true);
    let norms = graph.ghost_norms(&adjoints, &parameters, &|_| vec![Parts::WHOLE]).unwrap_err();
    [norms, graph.ghost_gram(&adjoints, &parameters, 4, &whole).unwrap_err()]
}

#[test]
fn an_operation_that_does_not_say_what_its_gradient_is_made_of_is_named() {
    let mut graph = Graph::default();
    let (x, s) = (graph.input("x", ROWS, 8), graph.parameter("s", 1, 8));
    let y = graph.push(call(Own::new(Scaled), Rule::Forward, &[x, s]), "y")[0];
    let unknown = GhostError::Unknown { parameter: "s".into(), operation: "scaled" };
    assert_eq!(refused(graph, y), [unknown.clone(), unknown.clone()]);
    assert!(unknown.to_string().contains("`scaled` gives `s` its gradient"), "{unknown}");
}

#[test]
fn a_matrix_that_is_used_twice_is_refused_unless_it_is_a_table_and_a_head() {
    let mut graph = Graph::default();
    let (x, w) = (graph.input("x", ROWS, 8), graph.parameter("w", 8, 8));
    let z = graph.linear(x, w, None, None);
    let y = graph.linear(z, w, None, None);
    let shared = GhostError::Shared { parameter: "w".into() };
    assert_eq!(refused(graph, y), [shared.clone(), shared]);
}
