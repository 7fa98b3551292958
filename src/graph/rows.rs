//! Rows that nobody reads: the loss reads masked rows alone, so that what stands between the last attention and the
//! loss need not be computed of any other.

use std::collections::{HashMap, HashSet};

use super::{Emit, Graph, Node, Role, TensorId};
use crate::ops::counts::{MASKED, ROWS};
use crate::ops::{Function, Rule};

/// Whether every row of the results hangs on the same row of the inputs alone.
fn by_row(node: &Node) -> bool {
    node.rule == Rule::Forward && node.operation().by_row()
}

fn gathers(node: &Node) -> bool {
    matches!((&node.function, node.rule), (Function::Gather(_), Rule::Forward))
}

impl Graph {
    /// Takes the masked rows as early as they can be taken: of a layer's operations that work row by row and lead to
    /// nothing but masked rows. Their results then have masked rows only. The numbers are the same but for what dropout
    /// drops, since its random numbers hang on the place of a row. For forward graphs.
    pub fn gather_early(&mut self) {
        let mut whole: HashSet<TensorId> = HashSet::new();
        for node in self.nodes().iter().rev() {
            let all = match node {
                node if gathers(node) => false,
                node if by_row(node) => node.outputs.iter().any(|o| whole.contains(o)),
                node => {
                    whole.extend(&node.outputs);
                    true
                }
            };
            if all {
                whole.extend(node.reads());
            }
        }
        let light = |graph: &Graph, id: TensorId| {
            let tensor = graph.tensor(id);
            tensor.rows == ROWS && tensor.role == Role::Value && !whole.contains(&id)
        };
        // Results of gathers that are not needed any more, and new ones of what is still there in whole.
        let (mut same, mut gathered): (HashMap<TensorId, TensorId>, HashMap<TensorId, TensorId>) = Default::default();
        for mut node in std::mem::take(self.nodes_mut()) {
            if gathers(&node) && gathered_input(&node, self, &light) {
                same.insert(node.outputs[0], node.inputs[0]);
                continue;
            }
            node.reads_mut().for_each(|i| *i = same.get(i).copied().unwrap_or(*i));
            if by_row(&node) && node.outputs.iter().all(|o| light(self, *o)) {
                for input in node.reads_mut() {
                    if self.tensor(*input).rows == ROWS {
                        let known = gathered.get(input).copied();
                        let masked = known.unwrap_or_else(|| self.gather(*input));
                        gathered.insert(*input, masked);
                        *input = masked;
                    }
                }
                node.outputs.iter().for_each(|o| self.set_rows(*o, MASKED));
            }
            self.nodes_mut().push(node);
        }
    }

    /// Lets attention compute masked rows alone where no other row of what it makes is read, keys and values being of
    /// all rows still. Behind [`gather_early`](Self::gather_early) that is the last one of a model that masks; a causal
    /// one predicts nearly all rows, and stays as it is. The numbers are the same. For forward graphs that are
    /// differentiated once at most: such an attention has no tangents.
    pub fn gather_queries(&mut self) {
        let mut readers: HashMap<TensorId, Vec<bool>> = HashMap::new();
        for node in self.nodes() {
            node.reads().for_each(|id| readers.entry(*id).or_default().push(gathers(node)));
        }
        let masked_alone = |id: &TensorId| readers.get(id).is_some_and(|all| all.iter().all(|gathers| *gathers));
        // What has masked rows by itself, and results of gathers of it, which are not needed any more.
        let (mut taken, mut same): (HashSet<TensorId>, HashMap<TensorId, TensorId>) = Default::default();
        for mut node in std::mem::take(self.nodes_mut()) {
            if gathers(&node) && taken.contains(&node.inputs[0]) {
                same.insert(node.outputs[0], node.inputs[0]);
                continue;
            }
            node.reads_mut().for_each(|i| *i = same.get(i).copied().unwrap_or(*i));
            if let Function::Attention(op) = &mut node.function
                && (node.rule, op.masked, op.causal) == (Rule::Forward, false, false)
                && masked_alone(&node.outputs[0])
                && !readers.contains_key(&node.outputs[1])
            {
                op.masked = true;
                taken.insert(node.outputs[0]);
                node.outputs.iter().for_each(|o| self.set_rows(*o, MASKED));
            }
            self.nodes_mut().push(node);
        }
    }
}

/// Whether a gather's input has masked rows only by now.
fn gathered_input(node: &Node, graph: &Graph, light: &dyn Fn(&Graph, TensorId) -> bool) -> bool {
    graph.tensor(node.inputs[0]).rows == MASKED || light(graph, node.inputs[0])
}

#[cfg(test)]
mod tests {
    use super::gathers;
    use crate::graph::{Count, Emit, Graph, TensorId};
    use crate::model::{Encoder, ModelConfig, ModelKind};
    use crate::ops::counts::{MASKED, ROWS};
    use crate::ops::{Attention, Function, Labels, Rule};

    #[test]
    fn the_last_layers_products_are_of_masked_rows() {
        for kind in ModelKind::ALL {
            let config = ModelConfig { kind, num_hidden_layers: 2, ..ModelConfig::default() };
            let encoder = Encoder::new(&config).unwrap().without_dropout();
            let rows = |graph: &crate::graph::Graph| {
                let products = graph.nodes().iter().filter(|n| matches!(n.function, Function::Linear(_)));
                products.map(|n| graph.tensor(n.outputs[0]).rows).collect::<Vec<_>>()
            };
            let before = encoder.with_loss(Labels::Hard).0;
            let mut early = encoder.clone();
            early.graph.gather_early();
            let after = early.with_loss(Labels::Hard).0;
            let (r, m) = (ROWS, MASKED);
            let (each, last): (&[Count], &[Count]) = match kind {
                // An LSTM reads all rows: its gates of the input, in each direction.
                ModelKind::Lstm => (&[r, r], &[r, r]),
                // One more of the feed-forward.
                ModelKind::Llama | ModelKind::Qwen2 | ModelKind::Mistral | ModelKind::Olmo => {
                    (&[r, r, r, r, r], &[r, m, m, m, m])
                }
                // Queries, keys and values each for itself.
                ModelKind::Olmo2 => (&[r, r, r, r, r, r, r], &[r, r, r, m, m, m, m]),
                // Queries, keys and values; output; two of the feed-forward.
                _ => (&[r, r, r, r], &[r, m, m, m]),
            };
            // Then the head's two, or a decoder's one.
            let head: &[Count] = if kind.is_causal() { &[m] } else { &[m, m] };
            assert_eq!(rows(&before), [each, each, head].concat());
            assert_eq!(rows(&after), [each, last, head].concat());
            assert_eq!(after.tensor(early.logits).rows, m);
            // What is gathered already stays as it is.
            let mut twice = early.clone();
            twice.graph.gather_early();
            assert_eq!(format!("{:?}", twice.graph), format!("{:?}", early.graph));
        }
    }

    #[test]
    fn queries_of_the_last_attention_are_of_masked_rows() {
        for kind in ModelKind::ALL {
            let config = ModelConfig { kind, num_hidden_layers: 2, ..ModelConfig::default() };
            let mut encoder = Encoder::new(&config).unwrap();
            encoder.graph.gather_early();
            let before = encoder.graph.clone();
            encoder.graph.gather_queries();
            let gathers = |graph: &Graph| graph.nodes().iter().filter(|n| gathers(n)).count();
            let attention = |graph: &Graph| {
                let nodes = graph.nodes().iter().filter(|n| matches!(n.function, Function::Attention(_)));
                nodes.map(|n| graph.tensor(n.outputs[0]).rows).collect::<Vec<_>>()
            };
            let masks = !kind.is_causal() && kind != ModelKind::Lstm;
            let last = if masks { MASKED } else { ROWS };
            let layers: &[Count] = if kind == ModelKind::Lstm { &[] } else { &[ROWS, last] };
            assert_eq!(attention(&encoder.graph), layers, "{}", kind.name());
            // What is added to its projection is gathered still.
            assert_eq!(gathers(&before) - gathers(&encoder.graph), usize::from(masks), "{}", kind.name());
            assert_eq!(encoder.graph.tensor(encoder.logits).rows, MASKED);
            let mut twice = encoder.clone();
            twice.graph.gather_early();
            twice.graph.gather_queries();
            assert_eq!(format!("{:?}", twice.graph), format!("{:?}", encoder.graph));
            // Back, what comes from the projection is not spread over all rows before attention takes it.
            let (graph, ..) = encoder.with_gradient(Labels::Hard);
            let reverse = graph.nodes().iter().filter(|n| n.function.name() == "attention" && n.rule == Rule::Vjp(0));
            let taken: Vec<Count> = reverse.map(|n| graph.tensor(n.inputs[3]).rows).collect();
            assert_eq!(taken, layers.iter().rev().copied().collect::<Vec<_>>(), "{}", kind.name());
        }
    }

    #[test]
    fn attention_that_others_read_has_all_rows() {
        let op = Attention { heads: 1, size: 4, p: 0.0, stream: 0, causal: false, masked: false };
        let of = |build: &dyn Fn(&mut Graph, TensorId)| {
            let mut graph = Graph::default();
            let qkv = graph.input("qkv", ROWS, 12);
            let o = graph.attention(qkv, op);
            build(&mut graph, o);
            graph.gather_queries();
            graph.tensor(o).rows
        };
        assert_eq!(of(&|_, _| {}), ROWS);
        assert_eq!(of(&|graph, o| _ = graph.gather(o)), MASKED);
        assert_eq!(of(&|graph, o| _ = (graph.gather(o), graph.add(o, o))), ROWS);
    }
}
