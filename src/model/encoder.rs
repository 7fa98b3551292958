//! A masked language model as a graph: embedding (the tables' sum, norm), layers of its family, perhaps a norm, head
//! (dense, activation, norm, decoder tied to the word table or not, bias). Only masked rows reach the head.

use super::builder::Builder;
use super::config::{ModelConfig, SizeError};
use super::parameters::{Initialise, Matrix, Parameter};
use super::role::{Norm, Part, Role};
use crate::graph::{Emit, Graph, TensorId};
use crate::ops::batch::BatchLayout;
use crate::ops::counts::MASKED;
use crate::ops::{Activation, Function, Labels, LayerNorm, Table, Variants};

/// What stands behind the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The masked language model's: dense, activation, norm, decoder.
    Words,
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
    /// [masked, vocabulary], or [masked, classes].
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
        let (mut x, words) = embedding(&mut b);
        let mut hidden = vec![x];
        for layer in 0..config.num_hidden_layers {
            b.layer = Some(layer);
            x = family.layer(&mut b, x, &format!("{}.encoder.layer.{layer}", config.kind.prefix()));
            hidden.push(x);
        }
        b.layer = None;
        // The last norm works row by row, so that masked rows are enough here too.
        let mut m = b.graph.gather(x);
        if let Some(name) = family.final_norm(config.kind) {
            m = b.norm(m, Norm::Final, &name);
        }
        if let Head::PooledClasses(_) = head {
            let (w, c) = b.dense(Part::Pooler, "pooler.dense", config.hidden_size, config.hidden_size);
            let h = b.graph.linear(m, w, Some(c), None);
            let h = b.graph.activation(Activation::Tanh, h);
            m = b.dropout(h, config.hidden_dropout_prob);
        }
        let logits = match head {
            Head::Words => word_head(&mut b, m, words),
            Head::Classes(classes) | Head::PooledClasses(classes) => {
                let (w, c) = b.dense(Part::Classifier, "classifier", classes, config.hidden_size);
                b.graph.linear(m, w, Some(c), None)
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

    /// Number of a parameter.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.parameters.iter().position(|p| p.name == name)
    }

    /// Number of the parameter with a role.
    pub fn with_role(&self, role: Role) -> Option<usize> {
        self.parameters.iter().position(|p| p.role == role)
    }

    /// How batches for this model are laid out.
    pub fn batch_layout(&self, variants: &Variants) -> BatchLayout {
        BatchLayout {
            tables: [self.config.vocab_size, self.config.max_position_embeddings, self.config.type_vocab_size],
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
        let config = ModelConfig { hidden_dropout_prob: p, attention_probs_dropout_prob: p, ..self.config.clone() };
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
        let c = &self.config;
        let (d, l) = (u64::from(c.hidden_size), u64::from(c.num_hidden_layers));
        let layer = c.kind.family().layer_flops(c, rows, pairs);
        l * layer + 2 * masked * (d * d + d * u64::from(c.vocab_size))
    }
}

/// The embedding of words, positions and segments, and the table of words: (x [rows, D], table).
fn embedding(b: &mut Builder<'_>) -> (TensorId, TensorId) {
    let (config, kind) = (b.config, b.config.kind);
    let e = format!("{}.embeddings", kind.prefix());
    let pad_row = Initialise::NormalBut(config.pad_token_id);
    let words = b.table(Table::Words, &format!("{e}.word_embeddings.weight"), config.vocab_size, pad_row);
    let position_init = if kind.counts_from_pad() { pad_row } else { Initialise::Normal };
    let name = format!("{e}.position_embeddings.weight");
    let positions = b.table(Table::Positions, &name, config.max_position_embeddings, position_init);
    let name = format!("{e}.token_type_embeddings.weight");
    let segments = b.table(Table::Segments, &name, config.type_vocab_size, Initialise::Normal);
    let x = b.graph.embedding(words, positions, segments);
    let x = b.norm(x, Norm::Embedding, &format!("{e}.LayerNorm"));
    (b.dropout(x, config.hidden_dropout_prob), words)
}

/// The language model's head on masked rows: logits [masked, V].
fn word_head(b: &mut Builder<'_>, m: TensorId, words: TensorId) -> TensorId {
    let (config, d, name) = (b.config, b.config.hidden_size, b.config.kind.head());
    let [dense, norm] = config.kind.family().head_names(config.kind);
    let (w, c) = b.dense(Part::HeadDense, &format!("{name}.{dense}"), d, d);
    let h = b.graph.linear(m, w, Some(c), None);
    let h = b.graph.activation(config.head_activation(), h);
    let h = b.norm(h, Norm::Head, &format!("{name}.{norm}"));
    match config.tie_word_embeddings {
        true => {
            let bias = b.bias(Part::Decoder, &format!("{name}.bias"), config.vocab_size);
            b.graph.linear(h, words, Some(bias), None)
        }
        false => {
            let (w, c) = b.dense(Part::Decoder, &format!("{name}.decoder"), config.vocab_size, d);
            b.graph.linear(h, w, Some(c), None)
        }
    }
}
