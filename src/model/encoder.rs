//! A language model as a graph: its family's embedding, layers, perhaps a norm, and head. Only rows at which something
//! is predicted, the masked ones, reach the head.

use super::builder::Builder;
use super::config::{ModelConfig, SizeError};
use super::parameters::{Matrix, Parameter};
use super::role::{Part, Role};
use crate::graph::{Emit, Graph, TensorId};
use crate::ops::batch::BatchLayout;
use crate::ops::counts::MASKED;
use crate::ops::{Activation, Function, Labels, LayerNorm, Parts, Variants};

/// What stands behind the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The language model's, as its family has it.
    Words,
    /// Nothing: a file may hold an encoder alone, of which features are taken.
    Nothing,
    /// This number of classes from a linear layer on the final representation.
    Classes(u32),
    /// The same behind a pooler: a layer of the model's width, tanh, dropout.
    PooledClasses(u32),
}

/// A model's forward graph and its parameters.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// What it was made of.
    pub config: ModelConfig,
    /// What stands behind the last layer.
    pub head: Head,
    /// The forward pass up to the logits, without a loss.
    pub graph: Graph,
    /// What kernels work on, each one parameter or several.
    pub matrices: Vec<Matrix>,
    /// The graph's tensor of each matrix.
    pub tensors: Vec<TensorId>,
    /// As model files name them, in the order of the file.
    pub parameters: Vec<Parameter>,
    /// Output of the embedding and of each layer, all tokens.
    pub hidden: Vec<TensorId>,
    /// [masked, vocabulary], or [masked, classes]; [masked, D] without a head.
    pub logits: TensorId,
    /// Whether the gradient computes what lies inside a layer again instead of keeping it.
    pub recompute: bool,
}

impl Encoder {
    /// Builds the graph of a config.
    ///
    /// # Errors
    /// What makes the sizes impossible.
    pub fn new(config: &ModelConfig) -> Result<Encoder, SizeError> {
        Encoder::with_head(config, Head::Words)
    }

    /// The encoder alone: in place of logits stand the final representations of masked positions.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn body(config: &ModelConfig) -> Result<Encoder, SizeError> {
        Encoder::with_head(config, Head::Nothing)
    }

    /// The encoder with a linear classifier on the final representations of masked positions, `classifier.weight`
    /// [classes, D] and `classifier.bias`, instead of the language model's head.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn classifier(config: &ModelConfig, classes: u32) -> Result<Encoder, SizeError> {
        Encoder::with_head(config, Head::Classes(classes))
    }

    /// [`classifier`](Self::classifier) behind a pooler, `pooler.dense.weight` [D, D] and `pooler.dense.bias`, tanh and
    /// the model's dropout of hidden states.
    ///
    /// # Errors
    /// What makes the sizes impossible.
    pub fn pooled_classifier(config: &ModelConfig, classes: u32) -> Result<Encoder, SizeError> {
        Encoder::with_head(config, Head::PooledClasses(classes))
    }

    fn with_head(config: &ModelConfig, head: Head) -> Result<Encoder, SizeError> {
        config.check()?;
        let (mut b, family) = (Builder::new(config), config.kind.family());
        let (mut x, words) = family.embed(&mut b);
        let mut hidden = vec![x];
        for layer in 0..config.num_hidden_layers {
            b.layer = Some(layer);
            x = family.layer(&mut b, x, layer);
            hidden.push(x);
        }
        b.layer = None;
        // The last norm works row by row, so that masked rows are enough here too.
        let gathered = b.graph.gather(x);
        let mut m = family.final_norm(&mut b, gathered);
        if let Head::PooledClasses(_) = head {
            let (w, c) = b.dense(Part::Pooler, "pooler.dense", config.hidden_size, config.hidden_size, true);
            let h = b.graph.linear(m, w, c, None);
            let h = b.graph.activation(Activation::Tanh, h);
            m = b.dropout(h, config.hidden_dropout_prob);
        }
        let logits = match head {
            Head::Words => family.word_head(&mut b, m, words),
            Head::Nothing => m,
            Head::Classes(classes) | Head::PooledClasses(classes) => {
                let (w, c) = b.dense(Part::Classifier, "classifier", classes, config.hidden_size, true);
                b.graph.linear(m, w, c, None)
            }
        };
        let Builder { graph, matrices, tensors, parameters, .. } = b;
        let config = config.clone();
        Ok(Encoder { config, head, graph, matrices, tensors, parameters, hidden, logits, recompute: false })
    }

    /// Columns of the logits.
    pub fn classes(&self) -> u32 {
        self.graph.tensor(self.logits).cols
    }

    /// The graph up to the representations of all tokens after a layer (0 is the embedding), `[tokens, D]`. After the
    /// last layer of an encoder with a final norm that is behind this norm, as the head sees it.
    pub fn representations(&self, layer: usize) -> (Graph, TensorId) {
        let mut graph = self.graph.clone();
        let target = self.represent(&mut graph, layer);
        graph.prune(&[target]);
        graph.fuse();
        (graph, target)
    }

    /// The same representations in a copy of the encoder's graph, to which the final norm is appended where there is
    /// one.
    pub(super) fn represent(&self, graph: &mut Graph, layer: usize) -> TensorId {
        let target = self.hidden[layer];
        match self.final_norm() {
            Some((norm, parameters)) if layer + 1 == self.hidden.len() => graph.normalise(target, norm, parameters),
            _ => target,
        }
    }

    /// The norm behind the last layer, of all rows or of masked ones, with its parameters.
    fn final_norm(&self) -> Option<(LayerNorm, &[TensorId])> {
        let last = self.hidden.last()?;
        let gathered =
            self.graph.nodes().iter().find(|n| matches!(n.function, Function::Gather(_)) && n.inputs == [*last]);
        let rows = [Some(last), gathered.map(|n| &n.outputs[0])];
        self.graph.nodes().iter().find_map(|node| match node.function {
            Function::LayerNorm(norm) if rows.contains(&node.inputs.first()) => Some((norm, &node.inputs[1..])),
            _ => None,
        })
    }

    /// Numbers in all parameters; a tied table counts once.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    /// How a matrix's rows (a vector's columns) fall to its parameters in their order, or to as many equal `pieces` of
    /// a parameter that has it alone.
    pub fn parts(&self, matrix: usize, pieces: usize) -> Vec<Parts> {
        let own: Vec<[u32; 2]> = self.parameters.iter().filter(|p| p.matrix == matrix).map(Parameter::rows4).collect();
        let equal = own.iter().all(|[_, size4]| *size4 == own[0][1]);
        match own.len() {
            1 => vec![Parts::Equal(pieces as u32)],
            together if equal => vec![Parts::Equal(together as u32)],
            _ => own.into_iter().map(|[first4, size4]| Parts::Some { first4, size4 }).collect(),
        }
    }

    /// Number of a parameter.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.parameters.iter().position(|p| p.name == name)
    }

    /// Number of the parameter with a role.
    pub fn with_role(&self, role: Role) -> Option<usize> {
        self.parameters.iter().position(|p| p.role == role)
    }

    /// Rows of the tables of words, positions and segments; 0 of those that it has not.
    pub fn table_rows(&self) -> [u32; 3] {
        self.config.kind.family().tables(&self.config)
    }

    /// How batches for this model are laid out.
    pub fn batch_layout(&self, variants: &Variants) -> BatchLayout {
        BatchLayout {
            tables: self.table_rows(),
            first_position: self.config.first_position(),
            segment: variants.sums().segment,
        }
    }

    /// The graph with the loss of the labels at its end: (graph, loss [masked, 4]).
    pub fn with_loss(&self, labels: Labels) -> (Graph, TensorId) {
        let mut graph = self.graph.clone();
        let loss = graph.cross_entropy(self.logits, labels);
        (graph, loss)
    }

    /// The same model with nothing dropped, as it is evaluated and measured.
    pub fn without_dropout(&self) -> Encoder {
        self.with_dropout(0.0)
    }

    /// The same model with hidden states and attention weights dropped with probability `p`, in [0, 1).
    pub fn with_dropout(&self, p: f64) -> Encoder {
        let config = ModelConfig {
            hidden_dropout_prob: p,
            embedding_dropout_prob: p,
            attention_probs_dropout_prob: p,
            ..self.config.clone()
        };
        Encoder::with_head(&config, self.head).expect("a config that was good before")
    }

    /// The graph with loss and gradient: (graph, loss, loss weights [masked, 4], gradient of each matrix).
    pub fn with_gradient(&self, labels: Labels) -> (Graph, TensorId, TensorId, Vec<TensorId>) {
        let (mut graph, loss) = self.with_loss(labels);
        let weight = graph.input("weight", MASKED, 4);
        let forward = graph.nodes().len();
        let adjoints = graph.gradient(&[(loss, weight)]);
        let gradients = self.tensors.iter().map(|t| adjoints[t]).collect();
        if self.recompute {
            graph.recompute(forward, &self.hidden);
        }
        (graph, loss, weight, gradients)
    }

    /// Multiplications and additions of one forward pass over batches of these sizes; a gradient takes three times as
    /// many.
    pub fn forward_flops(&self, rows: u64, masked: u64, pairs: u64) -> u64 {
        let (c, family) = (&self.config, self.config.kind.family());
        u64::from(c.num_hidden_layers) * family.layer_flops(c, rows, pairs) + family.head_flops(c, masked)
    }
}
