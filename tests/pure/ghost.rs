//! Per-example norms of parameters whose gradients are not what norms are known of.

use lowland::graph::{Count, Emit, GhostError, GramPart, Graph, Role, TensorId};
use lowland::model::{Encoder, HiddenAct, ModelConfig, ModelKind};
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

#[test]
fn parameters_that_share_a_matrix_are_its_parts_whatever_their_sizes() {
    // Heads of 6 numbers are 2 vec4 each.
    let config = |groups: u32| ModelConfig {
        kind: ModelKind::Llama,
        hidden_size: 24,
        num_attention_heads: 4,
        num_key_value_heads: Some(groups),
        hidden_act: HiddenAct::Silu,
        attention_bias: true,
        ..ModelConfig::default()
    };
    let parts = |config: &ModelConfig, name: &str, pieces: usize| {
        let encoder = Encoder::new(config).unwrap();
        encoder.parts(encoder.parameters[encoder.find(name).unwrap()].matrix, pieces)
    };
    for name in ["model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.k_proj.bias"] {
        let some = |first4, size4| Parts::Some { first4, size4 };
        assert_eq!(parts(&config(2), name, 3), [some(0, 8), some(8, 4), some(12, 4)], "{name}");
        assert_eq!(parts(&config(1), name, 3), [some(0, 8), some(8, 2), some(10, 2)], "{name}");
        assert_eq!(parts(&config(4), name, 3), [Parts::Equal(3)], "{name}");
    }
    assert_eq!(parts(&config(2), "model.layers.0.self_attn.o_proj.weight", 1), [Parts::WHOLE]);
    let gpt2 = ModelConfig { kind: ModelKind::Gpt2, hidden_act: HiddenAct::GeluNew, ..ModelConfig::default() };
    assert_eq!(parts(&gpt2, "transformer.h.0.attn.c_attn.weight", 3), [Parts::Equal(3)]);
    // One of three, and two that lie beside one another.
    let three = parts(&config(2), "model.layers.0.self_attn.q_proj.weight", 3);
    let keys = GramPart { mask: 1, parts: three[1] };
    assert_eq!(GramPart::of(&three, |i| i == 1), [keys]);
    assert_eq!(GramPart::of(&three, |_| true).len(), 3);
    assert_eq!(GramPart::of(&[Parts::Equal(3)], |i| i != 0), [GramPart { mask: 6, parts: Parts::Equal(3) }]);
    assert_eq!(GramPart::of(&three, |_| false), []);
}
