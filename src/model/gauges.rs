//! Changes of scale that leave a model's function as it is: some parameters times a, others by a.
//!
//! A trace of squared gradients moves with them: a parameter times a has a gradient 1 / a as large, so that the traces
//! T of those that are multiplied are divided by a², and those of the others multiplied (Dinh et al. 2017).
//!
//! - **Tables against the norm before a tied head.** Behind an embedding norm the tables' scale is forgotten; before
//!   the head it meets 1 / a in the norm's scale and shift. Decoders have no norm behind the embedding: there all that
//!   is written to the residual stream is multiplied with the tables, and every layer reads it through a norm.
//! - **Queries against keys**, weight and bias: scores are their products, which rotations by position leave alone.
//! - **Values against attention's output**: attention's weights sum to 1, so that a value's bias is scaled as it is.
//! - **A norm before a layer against the matrices that read it.**
//!
//! All hold within a norm's ε over the variance that it divides by. Held still, here, are the scale of the residual
//! stream itself, which has no least trace, and that of a final norm against the head's dense layer or a decoder of
//! its own.

use super::encoder::Encoder;
use super::kind::ModelKind;
use super::role::{Norm, Part};

/// What a gauge moves as one: a parameter, or its queries, keys or values where one holds all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Number of the parameter.
    pub parameter: usize,
    /// What it does; [`Part::Query`], [`Part::Key`] or [`Part::Value`] of a parameter that holds them.
    pub part: Part,
}

/// A change of scale that leaves the function as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// What is moved against what.
    pub name: String,
    /// Of each piece the power of the factor: 1, 0 or -1.
    pub powers: Vec<i32>,
}

/// Why a type of model lacks gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGauge {
    /// A decoder of its own.
    #[error("the head is not tied: the trace falls as the tables grow, and no scale of theirs is the flattest")]
    Untied,
    /// No parameters in the norm before a tied head.
    #[error("the norm before the head has no parameters that could take up the tables' scale")]
    BareNorm,
    /// Layers that read the residual stream without a norm.
    #[error("layers read the residual stream without a norm, so that its scale cannot move with the tables'")]
    Stream,
    /// No attention.
    #[error("an LSTM has no attention, of whose scales the least trace is")]
    Lstm,
    /// Queries and keys behind norms.
    #[error("queries and keys are normalised: the trace falls as their matrices grow, and no scale is the flattest")]
    NormalisedQueries,
}

impl Encoder {
    /// The pieces of all parameters, in their order.
    pub fn pieces(&self) -> Vec<Piece> {
        let parts = |part: Part| match part {
            Part::QueryKeyValue => vec![Part::Query, Part::Key, Part::Value],
            own => vec![own],
        };
        let of = |parameter: usize| {
            parts(self.parameters[parameter].role.part).into_iter().map(move |part| Piece { parameter, part })
        };
        (0..self.parameters.len()).flat_map(of).collect()
    }

    /// The gauge of the tables against the norm before the head.
    ///
    /// # Errors
    /// Why there is none.
    pub fn table_gauge(&self, pieces: &[Piece]) -> Result<Gauge, NoGauge> {
        let config = &self.config;
        if !config.tie_word_embeddings {
            return Err(NoGauge::Untied);
        }
        let before = if config.kind.is_causal() { Norm::Final } else { Norm::Head };
        if config.kind.is_causal() && !config.kind.family().reads_normed(config) {
            return Err(NoGauge::Stream);
        }
        if !self.parameters.iter().any(|p| p.role.part == Part::Norm(before)) {
            return Err(NoGauge::BareNorm);
        }
        let written = [Part::AttentionOutput, Part::FeedForwardOutput];
        let power = |piece: &Piece| match piece.part {
            Part::Table(_) => 1,
            part if config.kind.is_causal() && written.contains(&part) => 1,
            part if part == Part::Norm(before) => -1,
            _ => 0,
        };
        let name = "the tables against the norm before the head".into();
        Ok(Gauge { name, powers: pieces.iter().map(power).collect() })
    }

    /// The gauges inside the layers.
    ///
    /// # Errors
    /// Why a type of model has none.
    pub fn layer_gauges(&self, pieces: &[Piece]) -> Result<Vec<Gauge>, NoGauge> {
        match self.config.kind {
            ModelKind::Lstm => return Err(NoGauge::Lstm),
            ModelKind::Olmo2 => return Err(NoGauge::NormalisedQueries),
            _ => {}
        }
        let normed = self.config.kind.family().reads_normed(&self.config);
        let mut gauges = Vec::new();
        for layer in 0..self.config.num_hidden_layers {
            let mut gauge = |name: &str, power: &dyn Fn(Part, bool) -> i32| {
                let of = |piece: &Piece| {
                    let role = self.parameters[piece.parameter].role;
                    if role.layer == Some(layer) { power(piece.part, role.bias) } else { 0 }
                };
                let powers: Vec<i32> = pieces.iter().map(of).collect();
                // A norm without parameters takes up nothing.
                if powers.contains(&1) && powers.contains(&-1) {
                    gauges.push(Gauge { name: format!("layer {layer}: {name}"), powers });
                }
            };
            gauge("queries against keys", &|part, _| match part {
                Part::Query => 1,
                Part::Key => -1,
                _ => 0,
            });
            gauge("values against attention's output", &|part, bias| match part {
                Part::Value => 1,
                Part::AttentionOutput if !bias => -1,
                _ => 0,
            });
            if normed {
                gauge("attention's norm against queries, keys and values", &|part, bias| match part {
                    Part::Norm(Norm::Attention) => 1,
                    Part::Query | Part::Key | Part::Value if !bias => -1,
                    _ => 0,
                });
                gauge("the feed-forward layer's norm against what reads it", &|part, bias| match part {
                    Part::Norm(Norm::FeedForward) => 1,
                    Part::FeedForwardInput | Part::Gate if !bias => -1,
                    _ => 0,
                });
            }
        }
        Ok(gauges)
    }

    /// The piece of a parameter that a number of it belongs to, counted from the parameter's first.
    pub fn piece_of(&self, parameter: usize, number: usize) -> usize {
        let parameter = &self.parameters[parameter];
        if parameter.role.part != Part::QueryKeyValue {
            return 0;
        }
        match parameter.projected(number, self.config.head_size() as usize) {
            Some((Part::Query, _)) => 0,
            Some((Part::Key, _)) => 1,
            _ => 2,
        }
    }
}
