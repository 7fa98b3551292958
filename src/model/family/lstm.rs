//! LSTMs with the layers of the paper's released code: x ← norm(x + LSTM(norm(x))), where the LSTM has two directions
//! of D / 2 units each, their outputs side by side, or one of D; a norm behind the last layer; BERT's embedding and
//! head.
//!
//! Both biases of a gate, of the input and of the state, are parameters, as in `torch.nn.LSTM`: only their sum counts,
//! and their gradients are equal.

use super::{Decoder, Family, JsonMap, Reach, masked};
use crate::graph::{LstmWeights, TensorId};
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, SizeError, spread};
use crate::model::kind::ModelKind;
use crate::model::parameters::{Axis, Initialise};
use crate::model::role::{Direction, Norm, Part};
use crate::ops::lstm::MOST_UNITS;

pub(super) struct Lstm;

impl Family for Lstm {
    fn keys(&self, _: ModelKind) -> &'static [(&'static str, &'static str)] {
        &[
            ("vocab_size", "vocab_size"),
            ("hidden_size", "hidden_size"),
            ("num_hidden_layers", "num_hidden_layers"),
            ("bidirectional", "bidirectional"),
            ("hidden_act", "hidden_act"),
            ("hidden_dropout_prob", "hidden_dropout_prob"),
            ("max_position_embeddings", "max_position_embeddings"),
            ("type_vocab_size", "type_vocab_size"),
            ("initializer_range", "initializer_range"),
            ("lstm_initializer_range", "lstm_initializer_range"),
            ("layer_norm_eps", "layer_norm_eps"),
            ("pad_token_id", "pad_token_id"),
            ("tie_word_embeddings", "tie_word_embeddings"),
        ]
    }

    fn absent(&self, _: ModelKind) -> serde_json::Value {
        serde_json::json!({
            "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "bidirectional": true,
            "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
            "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0, "tie_word_embeddings": true,
        })
    }

    fn read(&self, _: ModelKind, given: &mut JsonMap) -> Result<(), String> {
        masked::read(given)
    }

    fn write(&self, _: &ModelConfig, map: &mut JsonMap) {
        masked::write(map);
    }

    fn decoder(&self, kind: ModelKind) -> Decoder {
        masked::decoder(kind)
    }

    fn check(&self, c: &ModelConfig) -> Result<(), SizeError> {
        if c.bidirectional && !c.hidden_size.is_multiple_of(2) {
            return Err(SizeError::OddWidth(c.hidden_size));
        }
        if c.units() > MOST_UNITS {
            return Err(SizeError::WideLstm { units: c.units(), most: MOST_UNITS });
        }
        c.lstm_initializer_range.map_or(Ok(()), |range| spread("lstm_initializer_range", range))
    }

    fn shape(&self, c: &ModelConfig) -> String {
        match c.bidirectional {
            true => format!("LSTM of {} units in each direction", c.units()),
            false => format!("LSTM of {} units in one direction", c.units()),
        }
    }

    fn embed(&self, b: &mut Builder<'_>) -> (TensorId, TensorId) {
        masked::embed(b)
    }

    fn layer(&self, b: &mut Builder<'_>, x: TensorId, layer: u32) -> TensorId {
        let name = &format!("{}.encoder.layer.{layer}", b.config.kind.prefix());
        let h = b.norm(x, Norm::LstmInput, &format!("{name}.PreAttentionLayerNorm"));
        let forward = direction(b, name, Direction::Forward);
        let reverse = b.config.bidirectional.then(|| direction(b, name, Direction::Reverse));
        let y = b.graph.lstm(h, forward, reverse, Some(x));
        b.norm(y, Norm::LstmOutput, &format!("{name}.PostAttentionLayerNorm"))
    }

    fn final_norm(&self, b: &mut Builder<'_>, x: TensorId) -> TensorId {
        b.norm(x, Norm::Final, &format!("{}.encoder.FinalLayerNorm", b.config.kind.prefix()))
    }

    fn word_head(&self, b: &mut Builder<'_>, m: TensorId, words: TensorId) -> TensorId {
        masked::head(b, m, words, ["transform.dense_act", "transform.LayerNorm"])
    }

    fn closing_norm(&self, _: ModelKind) -> Option<Norm> {
        Some(Norm::LstmOutput)
    }

    fn reach(&self, c: &ModelConfig) -> Reach {
        if c.bidirectional { Reach::Sentence } else { Reach::Past }
    }

    /// Forward units first.
    fn blocks(&self, c: &ModelConfig) -> usize {
        c.directions() as usize
    }

    fn layer_flops(&self, c: &ModelConfig, rows: u64, _: u64) -> u64 {
        let (d, units, directions) = (u64::from(c.hidden_size), u64::from(c.units()), u64::from(c.directions()));
        2 * rows * directions * 4 * units * (d + units)
    }

    fn head_flops(&self, c: &ModelConfig, masked: u64) -> u64 {
        masked::head_flops(c.hidden_size.into(), c.vocab_size.into(), masked)
    }
}

/// The parameters of one direction of a layer. In memory the four gates of a unit lie side by side.
fn direction(b: &mut Builder<'_>, layer: &str, direction: Direction) -> LstmWeights {
    let (d, units) = (b.config.hidden_size, b.config.units());
    let range = b.config.lstm_initializer_range.unwrap_or_else(|| f64::from(units).powf(-0.5));
    let end = if direction == Direction::Reverse { "_reverse" } else { "" };
    let mut make = |part: Part, bias: bool, called: &str, shape: &[u32]| {
        let name = format!("{layer}.lstm.{called}_l0{end}");
        let gates = Axis::Gates { units };
        let (rows, cols, axes) = match *shape {
            [rows, cols] => (rows, cols, [gates, Axis::Plain(0)]),
            _ => (1, shape[0], [Axis::Plain(0), gates]),
        };
        let (matrix, tensor) = b.matrix(&name, rows, cols, !bias);
        b.parameter(b.role(part, bias), name, shape, Initialise::Uniform(range), axes, matrix);
        tensor
    };
    let (input, state) = (Part::GatesOfInput(direction), Part::GatesOfState(direction));
    LstmWeights {
        input: make(input, false, "weight_ih", &[4 * units, d]),
        recurrent: make(state, false, "weight_hh", &[4 * units, units]),
        input_bias: make(input, true, "bias_ih", &[4 * units]),
        recurrent_bias: make(state, true, "bias_hh", &[4 * units]),
    }
}
