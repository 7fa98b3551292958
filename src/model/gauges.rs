//! Changes of scale that leave a model's function as it is: some parameters times a, others by a.
//!
//! A trace of squared gradients moves with them: a parameter times a has a gradient 1 / a as large, so that the traces
//! T of those that are multiplied are divided by a², and those of the others multiplied (Dinh et al. 2017).
//!
//! - **Tables against the norm before a tied head.** Behind an embedding norm the tables' scale is forgotten; before
//!   the head it meets 1 / a in the norm's scale and shift. Decoders have no norm behind the embedding: there all that
//!   is written to the residual stream is multiplied with the tables, and every layer reads it through a norm.
//! - **The residual stream**: all that is written to it, the embedding included, where only norms read it. Nothing
//!   stands against it. Of a decoder with a tied head it is the gauge above, since the head is the table of words.
//! - **The norm behind the last layer against what reads it**: the head's dense layer, or a decoder of its own.
//! - **Queries against keys**, weight and bias: scores are their products, which rotations by position leave alone.
//! - **Values against attention's output**: attention's weights sum to 1, so that a value's bias is scaled as it is.
//! - **A norm before a layer against the matrices that read it.**
//!
//! All hold within a norm's ε over the variance it divides by. The least trace over gauges holds two of them still:
//! the residual stream's, which has no least trace, and that of the norm behind the last layer.

use super::encoder::Encoder;
use super::kind::ModelKind;
use super::role::{Norm, Part, Role};

/// What a gauge moves as one: a parameter, or its queries, keys or values where one holds all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Number of the parameter.
    pub parameter: usize,
    /// What it does; [`Part::Query`], [`Part::Key`] or [`Part::Value`] of a parameter that holds them.
    pub part: Part,
}

/// Which change of scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GaugeKind {
    /// The tables against the norm before a tied head.
    Tables,
    /// All that is written to the residual stream.
    Residual,
    /// The norm behind the last layer against what reads it.
    FinalNorm,
    /// A layer's queries against its keys.
    QueryKey,
    /// A layer's values against attention's output.
    ValueOutput,
    /// The norm before a layer's attention against queries, keys and values.
    AttentionNorm,
    /// The norm before a layer's feed-forward part against what reads it.
    FeedForwardNorm,
}

impl GaugeKind {
    /// All of them.
    pub const ALL: [GaugeKind; 7] = [
        GaugeKind::Tables,
        GaugeKind::Residual,
        GaugeKind::FinalNorm,
        GaugeKind::QueryKey,
        GaugeKind::ValueOutput,
        GaugeKind::AttentionNorm,
        GaugeKind::FeedForwardNorm,
    ];

    /// Those inside the layers, over which a trace has a least.
    const IN_LAYERS: [GaugeKind; 4] =
        [GaugeKind::QueryKey, GaugeKind::ValueOutput, GaugeKind::AttentionNorm, GaugeKind::FeedForwardNorm];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            GaugeKind::Tables => "tables",
            GaugeKind::Residual => "residual",
            GaugeKind::FinalNorm => "final_norm",
            GaugeKind::QueryKey => "query_key",
            GaugeKind::ValueOutput => "value_output",
            GaugeKind::AttentionNorm => "attention_norm",
            GaugeKind::FeedForwardNorm => "feed_forward_norm",
        }
    }

    /// What is moved against what.
    fn words(self) -> &'static str {
        match self {
            GaugeKind::Tables => "the tables against the norm before the head",
            GaugeKind::Residual => "all that is written to the residual stream",
            GaugeKind::FinalNorm => "the norm behind the last layer against what reads it",
            GaugeKind::QueryKey => "queries against keys",
            GaugeKind::ValueOutput => "values against attention's output",
            GaugeKind::AttentionNorm => "attention's norm against queries, keys and values",
            GaugeKind::FeedForwardNorm => "the feed-forward layer's norm against what reads it",
        }
    }
}

/// A change of scale that leaves the function as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Which one.
    pub kind: GaugeKind,
    /// The layer that it is of, where each has its own.
    pub layer: Option<u32>,
    /// Of each piece the power of the factor: 1, 0 or -1.
    pub powers: Vec<i32>,
}

impl Gauge {
    /// What is moved against what, in words.
    pub fn name(&self) -> String {
        match self.layer {
            Some(layer) => format!("layer {layer}: {}", self.kind.words()),
            None => self.kind.words().into(),
        }
    }

    /// A name for JSON: `tables`, `query_key.0`.
    pub fn key(&self) -> String {
        match self.layer {
            Some(layer) => format!("{}.{layer}", self.kind.name()),
            None => self.kind.name().into(),
        }
    }
}

/// Why a type of model lacks a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGauge {
    /// A decoder of its own.
    #[error("the head is not tied: the trace falls as the tables grow, and no scale of theirs is the flattest")]
    Untied,
    /// The head is the table of words.
    #[error("the head is the table of words and has no scale of its own: this one moves with the tables alone")]
    Tied,
    /// No parameters in the norm that would have to be multiplied.
    #[error("the norm has no parameters that could take up a scale")]
    BareNorm,
    /// Layers that read the residual stream without a norm.
    #[error("layers read the residual stream as it is, without a norm before them, so that its scale cannot move")]
    Stream,
    /// No attention.
    #[error("an LSTM has no attention, of whose scales the least trace is")]
    Lstm,
    /// What an LSTM adds to the residual stream.
    #[error("an LSTM's output lies between -1 and 1, and no parameter scales what it adds to the residual stream")]
    Bounded,
    /// Queries and keys behind norms.
    #[error("queries and keys are normalised: the trace falls as their matrices grow, and no scale is the flattest")]
    NormalisedQueries,
    /// No layers.
    #[error("the model has no layers")]
    NoLayers,
}

impl Encoder {
    /// The pieces of all parameters, in their order.
    pub fn pieces(&self) -> Vec<Piece> {
        let of = |parameter: usize| self.pieces_of(parameter).iter().map(move |part| Piece { parameter, part: *part });
        (0..self.parameters.len()).flat_map(of).collect()
    }

    /// What the pieces of a parameter do.
    pub(super) fn pieces_of(&self, parameter: usize) -> &[Part] {
        match &self.parameters[parameter].role.part {
            Part::QueryKeyValue => &[Part::Query, Part::Key, Part::Value],
            own => std::slice::from_ref(own),
        }
    }

    /// The gauges of a kind: one, or one a layer.
    ///
    /// # Errors
    /// Why a type of model has none.
    pub fn gauges(&self, kind: GaugeKind, pieces: &[Piece]) -> Result<Vec<Gauge>, NoGauge> {
        self.has_gauge(kind)?;
        let layers: Vec<Option<u32>> = match GaugeKind::IN_LAYERS.contains(&kind) {
            true if self.config.num_hidden_layers == 0 => return Err(NoGauge::NoLayers),
            true => (0..self.config.num_hidden_layers).map(Some).collect(),
            false => vec![None],
        };
        let of = |layer: Option<u32>| {
            let power = |piece: &Piece| {
                let role = Role { part: piece.part, ..self.parameters[piece.parameter].role };
                if layer.is_none() || role.layer == layer { self.power(kind, role) } else { 0 }
            };
            Gauge { kind, layer, powers: pieces.iter().map(power).collect() }
        };
        let gauges: Vec<Gauge> = layers.into_iter().map(of).collect();
        // Nothing stands against the residual stream but norms that forget its scale.
        let sides: &[i32] = if kind == GaugeKind::Residual { &[1] } else { &[1, -1] };
        match gauges.iter().all(|gauge| sides.iter().all(|side| gauge.powers.contains(side))) {
            true => Ok(gauges),
            false => Err(NoGauge::BareNorm),
        }
    }

    /// All gauges inside the layers.
    ///
    /// # Errors
    /// Why a type of model has none.
    pub fn layer_gauges(&self, pieces: &[Piece]) -> Result<Vec<Gauge>, NoGauge> {
        match self.gauges(GaugeKind::QueryKey, pieces) {
            Err(NoGauge::NoLayers) => Ok(vec![]),
            Err(why) => Err(why),
            Ok(_) => Ok(self.gauges_of(&GaugeKind::IN_LAYERS, pieces)),
        }
    }

    /// All gauges over which the trace has a least: the tables' and those inside the layers, as far as there are any.
    pub fn balanced_gauges(&self, pieces: &[Piece]) -> Vec<Gauge> {
        let mut gauges = self.gauges_of(&GaugeKind::IN_LAYERS, pieces);
        gauges.extend(self.gauges_of(&[GaugeKind::Tables], pieces));
        gauges
    }

    fn gauges_of(&self, kinds: &[GaugeKind], pieces: &[Piece]) -> Vec<Gauge> {
        kinds.iter().flat_map(|kind| self.gauges(*kind, pieces).unwrap_or_default()).collect()
    }

    fn has_gauge(&self, kind: GaugeKind) -> Result<(), NoGauge> {
        let config = &self.config;
        let normed = config.kind.family().reads_normed(config);
        let (causal, tied) = (config.kind.is_causal(), config.tie_word_embeddings);
        let lstm = config.kind == ModelKind::Lstm;
        match kind {
            GaugeKind::Tables if !tied => Err(NoGauge::Untied),
            GaugeKind::Tables if causal && !normed => Err(NoGauge::Stream),
            GaugeKind::Residual if lstm => Err(NoGauge::Bounded),
            GaugeKind::Residual if !normed => Err(NoGauge::Stream),
            GaugeKind::Residual | GaugeKind::FinalNorm if causal && tied => Err(NoGauge::Tied),
            GaugeKind::Tables | GaugeKind::Residual | GaugeKind::FinalNorm => Ok(()),
            _ if lstm => Err(NoGauge::Lstm),
            GaugeKind::QueryKey if config.kind == ModelKind::Olmo2 => Err(NoGauge::NormalisedQueries),
            GaugeKind::AttentionNorm | GaugeKind::FeedForwardNorm if !normed => Err(NoGauge::Stream),
            _ => Ok(()),
        }
    }

    /// The power of a gauge's factor for a parameter, or for the part of it that `role` says.
    fn power(&self, kind: GaugeKind, role: Role) -> i32 {
        let causal = self.config.kind.is_causal();
        let (part, weight) = (role.part, !role.bias);
        let written = matches!(part, Part::AttentionOutput | Part::FeedForwardOutput);
        match (kind, part) {
            (GaugeKind::Tables, Part::Table(_)) => 1,
            (GaugeKind::Tables, _) if causal && written => 1,
            (GaugeKind::Tables, Part::Norm(Norm::Final)) if causal => -1,
            (GaugeKind::Tables, Part::Norm(Norm::Head)) => -1,
            (GaugeKind::Residual, Part::Table(_)) if causal => 1,
            (GaugeKind::Residual, Part::Norm(Norm::Embedding)) => 1,
            (GaugeKind::Residual, _) if written => 1,
            (GaugeKind::FinalNorm, Part::Norm(norm)) if self.last_norm() == Some((norm, role.layer)) => 1,
            (GaugeKind::FinalNorm, Part::HeadDense) if weight => -1,
            (GaugeKind::FinalNorm, Part::Decoder) if causal && weight => -1,
            (GaugeKind::QueryKey, Part::Query) | (GaugeKind::ValueOutput, Part::Value) => 1,
            (GaugeKind::QueryKey, Part::Key) => -1,
            (GaugeKind::ValueOutput, Part::AttentionOutput) if weight => -1,
            (GaugeKind::AttentionNorm, Part::Norm(Norm::Attention)) => 1,
            (GaugeKind::AttentionNorm, Part::Query | Part::Key | Part::Value) if weight => -1,
            (GaugeKind::FeedForwardNorm, Part::Norm(Norm::FeedForward)) => 1,
            (GaugeKind::FeedForwardNorm, Part::FeedForwardInput | Part::Gate) if weight => -1,
            _ => 0,
        }
    }

    /// The norm behind the last layer, with the layer that it is a part of: one of the model's own, or the one in which
    /// layers without a norm before them end, or without layers the embedding's.
    fn last_norm(&self) -> Option<(Norm, Option<u32>)> {
        let last = self.config.num_hidden_layers.checked_sub(1);
        let candidates =
            [(Norm::Final, None), last.map_or((Norm::Embedding, None), |last| (Norm::FeedForward, Some(last)))];
        let normed = self.config.kind.family().reads_normed(&self.config);
        let is_there = |(norm, layer): &(Norm, Option<u32>)| {
            self.parameters.iter().any(|p| p.role.part == Part::Norm(*norm) && p.role.layer == *layer)
        };
        // Behind layers with norms before them stands one of the model's own, with parameters or without.
        candidates.into_iter().take(if normed { 1 } else { 2 }).find(is_there)
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
