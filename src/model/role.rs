//! What a parameter is in its model: set where an encoder makes it, so that nothing is read out of names.

use crate::ops::Table;

/// Which layer norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Norm {
    /// Behind the embedding.
    Embedding,
    /// Of a layer's attention: before it with pre-layer-norm, behind it with post-layer-norm and OLMo 2.
    Attention,
    /// Of a layer's feed-forward part, likewise.
    FeedForward,
    /// Of a layer's queries, all heads together.
    Query,
    /// Of its keys, likewise.
    Key,
    /// Of a layer's LSTM: before it.
    LstmInput,
    /// Behind the sum of an LSTM's input and output.
    LstmOutput,
    /// Behind the last layer: of pre-layer-norm encoders, of decoders and of LSTMs.
    Final,
    /// Before the decoder.
    Head,
}

/// Which way an LSTM reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the first token on.
    Forward,
    /// From the last token back.
    Reverse,
}

/// The function that a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Rows by word, position or segment.
    Table(Table),
    /// The scale or shift of a layer norm.
    Norm(Norm),
    /// The projection to attention's queries.
    Query,
    /// The projection to attention's keys.
    Key,
    /// The projection to attention's values.
    Value,
    /// The projections to queries, keys and values in one.
    QueryKeyValue,
    /// From the heads back to the model's width.
    AttentionOutput,
    /// From the model's width to what gates the feed-forward units.
    Gate,
    /// From the model's width to the feed-forward units.
    FeedForwardInput,
    /// From the feed-forward units back.
    FeedForwardOutput,
    /// From the model's width to an LSTM's gates: input, forget, cell, output, each of as many rows as it has units.
    GatesOfInput(Direction),
    /// From an LSTM's units at the step before to its gates.
    GatesOfState(Direction),
    /// The head's own layer of the model's width.
    HeadDense,
    /// From the model's width to words. With a tied head only its bias is a parameter.
    Decoder,
    /// Between `<s>` and the classes of a task: a layer of the model's width and tanh.
    Pooler,
    /// From the model's width to the classes of a task.
    Classifier,
}

/// What a parameter is; no two parameters of a model have the same role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    /// What it does.
    pub part: Part,
    /// What is added: a bias, or a norm's shift. The rest multiply.
    pub bias: bool,
    /// The layer that it belongs to, from 0.
    pub layer: Option<u32>,
}

impl Role {
    /// Whether it belongs to what stands behind the encoder.
    pub fn is_head(self) -> bool {
        matches!(self.part, Part::HeadDense | Part::Norm(Norm::Head) | Part::Decoder | Part::Pooler | Part::Classifier)
    }

    /// Whether its first axis are the words of the vocabulary.
    pub fn is_over_words(self) -> bool {
        matches!(self.part, Part::Table(Table::Words) | Part::Decoder)
    }

    /// The group of parameters of one depth: "embeddings", "layer 3", "final layer norm" or "head".
    pub fn depth(self) -> String {
        match (self.layer, self.part) {
            (Some(layer), _) => format!("layer {layer}"),
            (None, Part::Table(_) | Part::Norm(Norm::Embedding)) => "embeddings".into(),
            (None, Part::Norm(Norm::Final)) => "final layer norm".into(),
            _ => "head".into(),
        }
    }
}
