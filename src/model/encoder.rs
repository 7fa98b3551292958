//! A masked language model as a graph, as `transformers` defines it.
//!
//! `roberta-prelayernorm`: x ← x + attention(norm(x)), x ← x + feed-forward(norm(x)), a norm behind the last layer.
//! `bert`, `roberta`: x ← norm(x + attention(x)), x ← norm(x + feed-forward(x)). All: head = dense, activation, norm,
//! decoder tied to the word table or not, bias. Only masked rows reach the head.

use super::config::{ModelConfig, SizeError};
use super::parameters::{Axis, Initialise, Matrix, Parameter};
use super::role::{Norm, Part, Role};
use crate::graph::{Emit, Graph, TensorId};
use crate::ops::batch::BatchLayout;
use crate::ops::counts::MASKED;
use crate::ops::{Activation, Attention, Labels, Table, Variants};

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

struct Builder<'c> {
    config: &'c ModelConfig,
    graph: Graph,
    matrices: Vec<Matrix>,
    tensors: Vec<TensorId>,
    parameters: Vec<Parameter>,
    /// The layer under construction.
    layer: Option<u32>,
    dropouts: u32,
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
        let mut b = Builder {
            config,
            graph: Graph::default(),
            matrices: vec![],
            tensors: vec![],
            parameters: vec![],
            layer: None,
            dropouts: 0,
        };
        let prefix = config.kind.prefix();
        let e = format!("{prefix}.embeddings");
        let d = config.hidden_size;
        let pad_row = Initialise::NormalBut(config.pad_token_id);
        let words = b.table(Table::Words, &format!("{e}.word_embeddings.weight"), config.vocab_size, pad_row);
        let position_init = if config.kind.counts_from_pad() { pad_row } else { Initialise::Normal };
        let name = format!("{e}.position_embeddings.weight");
        let positions = b.table(Table::Positions, &name, config.max_position_embeddings, position_init);
        let name = format!("{e}.token_type_embeddings.weight");
        let segments = b.table(Table::Segments, &name, config.type_vocab_size, Initialise::Normal);
        let x = b.graph.embedding(words, positions, segments);
        let x = b.norm(x, Norm::Embedding, &format!("{e}.LayerNorm"));
        let mut x = b.dropout(x, config.hidden_dropout_prob);
        let mut hidden = vec![x];
        for layer in 0..config.num_hidden_layers {
            let l = format!("{prefix}.encoder.layer.{layer}");
            b.layer = Some(layer);
            x = match config.kind.is_pre_layer_norm() {
                true => {
                    let h = b.norm(x, Norm::Attention, &format!("{l}.attention.LayerNorm"));
                    let x = b.attention(h, x, &format!("{l}.attention"));
                    let h = b.norm(x, Norm::FeedForward, &format!("{l}.intermediate.LayerNorm"));
                    b.feed_forward(h, x, &l)
                }
                false => {
                    let h = b.attention(x, x, &format!("{l}.attention"));
                    let x = b.norm(h, Norm::Attention, &format!("{l}.attention.output.LayerNorm"));
                    let h = b.feed_forward(x, x, &l);
                    b.norm(h, Norm::FeedForward, &format!("{l}.output.LayerNorm"))
                }
            };
            hidden.push(x);
        }
        b.layer = None;
        // The last norm works row by row, so that masked rows are enough here too.
        let mut m = b.graph.gather(x);
        if config.kind.is_pre_layer_norm() {
            m = b.norm(m, Norm::Final, &format!("{prefix}.LayerNorm"));
        }
        if let Head::PooledClasses(_) = head {
            let (w, c) = b.dense(Part::Pooler, "pooler.dense", d, d);
            let h = b.graph.linear(m, w, Some(c), None);
            let h = b.graph.activation(Activation::Tanh, h);
            m = b.dropout(h, config.hidden_dropout_prob);
        }
        if let Head::Classes(classes) | Head::PooledClasses(classes) = head {
            let (w, c) = b.dense(Part::Classifier, "classifier", classes, d);
            let logits = b.graph.linear(m, w, Some(c), None);
            return Ok(b.finish(head, hidden, logits));
        }
        let head_name = config.kind.head();
        let (dense, norm) = match head_name {
            "lm_head" => ("dense", "layer_norm"),
            _ => ("transform.dense", "transform.LayerNorm"),
        };
        let (w, c) = b.dense(Part::HeadDense, &format!("{head_name}.{dense}"), d, d);
        let h = b.graph.linear(m, w, Some(c), None);
        let h = b.graph.activation(config.head_activation(), h);
        let h = b.norm(h, Norm::Head, &format!("{head_name}.{norm}"));
        let logits = match config.tie_word_embeddings {
            true => {
                let bias = b.bias(Part::Decoder, &format!("{head_name}.bias"), config.vocab_size);
                b.graph.linear(h, words, Some(bias), None)
            }
            false => {
                let (w, c) = b.dense(Part::Decoder, &format!("{head_name}.decoder"), config.vocab_size, d);
                b.graph.linear(h, w, Some(c), None)
            }
        };
        Ok(b.finish(head, hidden, logits))
    }

    /// Columns of the logits.
    pub fn classes(&self) -> u32 {
        self.graph.tensor(self.logits).cols
    }

    /// The graph up to the representations of all tokens after a layer (0 is the embedding), `[tokens, D]`. After the
    /// last layer of a pre-layer-norm encoder that is behind its final norm, as the head sees it.
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
        let mut target = self.hidden[layer];
        if layer + 1 == self.hidden.len() && self.config.kind.is_pre_layer_norm() {
            let tensor = |bias: bool| {
                let role = Role { part: Part::Norm(Norm::Final), bias, layer: None };
                let found = self.with_role(role).expect("an encoder of this kind ends in a norm");
                self.tensors[self.parameters[found].matrix]
            };
            target = graph.layer_norm(target, tensor(false), tensor(true), self.config.layer_norm_eps);
        }
        target
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
        let (d, f, l) = (u64::from(c.hidden_size), u64::from(c.intermediate_size), u64::from(c.num_hidden_layers));
        let layer = 2 * rows * (4 * d * d + 2 * d * f) + 4 * pairs * d;
        l * layer + 2 * masked * (d * d + d * u64::from(c.vocab_size))
    }
}

impl Builder<'_> {
    fn finish(self, head: Head, hidden: Vec<TensorId>, logits: TensorId) -> Encoder {
        let Builder { config, graph, matrices, tensors, parameters, .. } = self;
        Encoder { config: config.clone(), head, graph, matrices, tensors, parameters, hidden, logits, recompute: false }
    }

    fn matrix(&mut self, name: &str, rows: u32, cols: u32, decay: bool) -> (usize, TensorId) {
        let tensor = self.graph.parameter(name, rows, cols);
        self.matrices.push(Matrix { name: name.into(), rows, cols, decay });
        self.tensors.push(tensor);
        (self.matrices.len() - 1, tensor)
    }

    fn role(&self, part: Part, bias: bool) -> Role {
        Role { part, bias, layer: self.layer }
    }

    /// A parameter at some rows and columns of a matrix.
    fn parameter(
        &mut self,
        role: Role,
        name: String,
        shape: &[u32],
        initialise: Initialise,
        [rows, cols]: [Axis; 2],
        matrix: usize,
    ) {
        let shape = shape.iter().map(|n| *n as usize).collect();
        self.parameters.push(Parameter { name, role, shape, initialise, matrix, rows, cols });
    }

    /// A parameter that fills its matrix.
    fn whole(&mut self, part: Part, bias: bool, name: &str, shape: &[u32], initialise: Initialise) -> TensorId {
        let (rows, cols) = match shape {
            [rows, cols] => (*rows, *cols),
            _ => (1, shape[0]),
        };
        // Weight decay applies to matrices.
        let (matrix, tensor) = self.matrix(name, rows, cols, shape.len() == 2);
        self.parameter(self.role(part, bias), name.into(), shape, initialise, [Axis::Plain(0); 2], matrix);
        tensor
    }

    fn table(&mut self, table: Table, name: &str, rows: u32, initialise: Initialise) -> TensorId {
        self.whole(Part::Table(table), false, name, &[rows, self.config.hidden_size], initialise)
    }

    fn bias(&mut self, part: Part, name: &str, n: u32) -> TensorId {
        self.whole(part, true, name, &[n], Initialise::Zeros)
    }

    /// Weight and bias of a linear layer.
    fn dense(&mut self, part: Part, name: &str, out: u32, inp: u32) -> (TensorId, TensorId) {
        let weight = self.whole(part, false, &format!("{name}.weight"), &[out, inp], Initialise::Normal);
        (weight, self.bias(part, &format!("{name}.bias"), out))
    }

    fn norm(&mut self, x: TensorId, norm: Norm, name: &str) -> TensorId {
        let (part, d) = (Part::Norm(norm), self.graph.tensor(x).cols);
        let gamma = self.whole(part, false, &format!("{name}.weight"), &[d], Initialise::Ones);
        let beta = self.bias(part, &format!("{name}.bias"), d);
        self.graph.layer_norm(x, gamma, beta, self.config.layer_norm_eps)
    }

    fn dropout(&mut self, x: TensorId, p: f64) -> TensorId {
        self.dropouts += 1;
        self.graph.dropout(x, p, self.dropouts)
    }

    /// A linear layer whose output is dropped out and added to a residual.
    fn dense_into(&mut self, x: TensorId, w: TensorId, bias: TensorId, residual: TensorId) -> TensorId {
        let p = self.config.hidden_dropout_prob;
        if p == 0.0 {
            return self.graph.linear(x, w, Some(bias), Some(residual));
        }
        let y = self.graph.linear(x, w, Some(bias), None);
        let y = self.dropout(y, p);
        self.graph.add(residual, y)
    }

    fn attention(&mut self, h: TensorId, residual: TensorId, name: &str) -> TensorId {
        let (d, heads, size) = (self.config.hidden_size, self.config.num_attention_heads, self.config.head_size());
        self.dropouts += 1;
        let p = self.config.attention_probs_dropout_prob as f32;
        let op = Attention { heads, size, p, stream: self.dropouts };
        let wide = heads * op.padded();
        let (matrix, qkv) = self.matrix(&format!("{name}.self.qkv.weight"), 3 * wide, d, true);
        let (bias_matrix, bias) = self.matrix(&format!("{name}.self.qkv.bias"), 1, 3 * wide, false);
        let parts = [(Part::Query, "query"), (Part::Key, "key"), (Part::Value, "value")];
        for (i, (part, called)) in parts.into_iter().enumerate() {
            let heads = Axis::Heads { offset: i as u32 * wide, size };
            let make = |what: &str| format!("{name}.self.{called}.{what}");
            let (weight, bias) = ([heads, Axis::Plain(0)], [Axis::Plain(0), heads]);
            self.parameter(self.role(part, false), make("weight"), &[d, d], Initialise::Normal, weight, matrix);
            self.parameter(self.role(part, true), make("bias"), &[d], Initialise::Zeros, bias, bias_matrix);
        }
        let projected = self.graph.linear(h, qkv, Some(bias), None);
        let o = self.graph.attention(projected, op);
        let weight = format!("{name}.output.dense.weight");
        let (matrix, w) = self.matrix(&weight, d, wide, true);
        let axes = [Axis::Plain(0), Axis::Heads { offset: 0, size }];
        let role = self.role(Part::AttentionOutput, false);
        self.parameter(role, weight, &[d, d], Initialise::Normal, axes, matrix);
        let c = self.bias(Part::AttentionOutput, &format!("{name}.output.dense.bias"), d);
        self.dense_into(o, w, c, residual)
    }

    fn feed_forward(&mut self, h: TensorId, residual: TensorId, layer: &str) -> TensorId {
        let (d, f) = (self.config.hidden_size, self.config.intermediate_size);
        let (w, c) = self.dense(Part::FeedForwardInput, &format!("{layer}.intermediate.dense"), f, d);
        let z = self.graph.linear(h, w, Some(c), None);
        let a = self.graph.activation(self.config.hidden_act.activation(), z);
        let (w, c) = self.dense(Part::FeedForwardOutput, &format!("{layer}.output.dense"), d, f);
        self.dense_into(a, w, c, residual)
    }
}
