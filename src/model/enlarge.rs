//! A small model inside a larger architecture, the same function: so that curvatures of models of several sizes are
//! taken over one parametrisation, as in the paper (Liu, Xie, Li, Ma 2023, section 5.2).
//!
//! **Duplication.** Every vector x of width D becomes (x, x, ..., x), r copies; layer norm, whose mean and variance do
//! not change under copying, keeps its scale, shift and ε, copied. A linear layer copies its rows and shares each
//! column out among the copies of its input: W'[o', i'] = W[o(o'), i(i')] / copies(i'). With h times as many heads,
//! each m = r / h times as wide, head number u copies head u mod H, and number j in it copies number j mod (D / H);
//! queries and keys are scaled by m^(-1/4) each, because q'·k' / √(m size) would else be √m times q·k / √size. A head
//! tied to the table of words would add up r copies of each logit; the scale and shift of the norm before it are
//! divided by r instead. That is a choice: with all tables times s and that norm divided by r s it is the same function
//! for every s above 0 (a norm follows the input's tables, and removes their scale within ε over their variance). The
//! methods differ in nothing else: s = 1, 1 / r as in the script released with the paper, or the flattest
//! ([`Law`](super::Law)). With a decoder of its own the tables are input only and no norm makes up for s. Units of the
//! feed-forward layers are copied likewise, and those of an LSTM, whose weights copy them gate by gate; where it has
//! two directions, the two halves of the width are copied each for itself, since the forward units stand before the
//! reverse ones in the larger model too.
//!
//! **Zero** adds units of the feed-forward layers that are zero in every weight. It cannot widen the model: a layer
//! norm over more columns has another mean and variance, and all architectures have layer norms over every width. An
//! LSTM has no such units.
//!
//! **More layers** stand at the end and are zero in every weight, so that they add nothing to a residual stream: the
//! identity with pre-layer-norm. With post-layer-norm, and in an LSTM, each would normalise again what is normalised,
//! which is the identity (within ε over the variance) once scale and shift are 1 and 0; those of the last layer's norm
//! move to the new last one.

use super::config::{ModelConfig, SizeError};
use super::encoder::Encoder;
use super::parameters::{Parameter, Weights};
use super::role::{Norm, Part};

/// How new width is filled. Three methods copy, and differ by the factor s on all tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Enlargement {
    /// s = 1.
    Duplicate,
    /// s = 1 / r: tables divided by the factor of the width, as in the script released with the paper.
    Paper,
    /// The s given here, above 0; [`Law::flattest`](super::Law::flattest) says which has the least trace.
    Balanced(f64),
    /// Zeros in every weight of new units.
    Zero,
}

impl Enlargement {
    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Enlargement::Duplicate => "duplicate",
            Enlargement::Paper => "paper",
            Enlargement::Balanced(_) => "balanced",
            Enlargement::Zero => "zero",
        }
    }

    /// The factor on all tables, in `width` times the width.
    pub fn table_scale(self, width: f64) -> f64 {
        match self {
            Enlargement::Duplicate | Enlargement::Zero => 1.0,
            Enlargement::Paper => 1.0 / width,
            Enlargement::Balanced(scale) => scale,
        }
    }
}

/// The larger sizes; what is `None` grows with the hidden size, or stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Width D.
    pub hidden: Option<u32>,
    /// Layers behind the embedding.
    pub layers: Option<u32>,
    /// Heads of each layer.
    pub heads: Option<u32>,
    /// Feed-forward units of each layer.
    pub intermediate: Option<u32>,
}

impl Size {
    /// The config of the larger model.
    pub(crate) fn config(self, small: &ModelConfig) -> ModelConfig {
        let hidden_size = self.hidden.unwrap_or(small.hidden_size);
        // Heads keep their width by default, feed-forward layers their share.
        let grown = |key: &str, n: u32| match small.kind.has_key(key) {
            true => (u64::from(n) * u64::from(hidden_size) / u64::from(small.hidden_size)) as u32,
            false => n,
        };
        let heads = grown("num_attention_heads", small.num_attention_heads);
        let intermediate = grown("intermediate_size", small.intermediate_size);
        ModelConfig {
            hidden_size,
            num_hidden_layers: self.layers.unwrap_or(small.num_hidden_layers),
            num_attention_heads: self.heads.unwrap_or(heads),
            intermediate_size: self.intermediate.unwrap_or(intermediate),
            ..small.clone()
        }
    }

    /// Refuses sizes that the model does not have.
    fn check(self, small: &ModelConfig) -> Result<(), EnlargeError> {
        if small.kind.is_causal() {
            return Err(EnlargeError::Kind(small.kind.name()));
        }
        let sizes =
            [("heads", "num_attention_heads", self.heads), ("intermediate", "intermediate_size", self.intermediate)];
        match sizes.into_iter().find(|(_, key, size)| size.is_some() && !small.kind.has_key(key)) {
            Some((size, ..)) => Err(EnlargeError::NoSuchSize { size, kind: small.kind.name() }),
            None => Ok(()),
        }
    }
}

/// Largest ε of layer norm with which normalising twice is normalising once, to within what single precision shows.
const SMALL_EPS: f64 = 1e-9;

/// Which axis of a weight belongs to what.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Width {
    /// The model's width D, block by block.
    Hidden,
    /// The heads, one after another: as many numbers as D.
    Heads,
    Intermediate,
    /// An LSTM's units in one direction.
    Units,
    /// The units of each of its four gates.
    Gates,
    /// Words, positions, segments: not enlarged.
    Fixed,
}

/// The number copied to each number of an enlarged axis, with 1 / copies; `None` for zeros.
type Copies = Vec<Option<(usize, f64)>>;

pub(super) struct Growth<'c> {
    pub small: &'c ModelConfig,
    pub large: &'c ModelConfig,
    pub method: Enlargement,
}

/// Why sizes cannot hold a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EnlargeError {
    /// There is no model of these sizes at all.
    #[error(transparent)]
    Model(#[from] SizeError),
    /// A type of model whose larger shapes are not known here.
    #[error("a model of type \"{0}\" is not enlarged: only encoders and LSTMs are")]
    Kind(&'static str),
    /// A size that models of this type do not have.
    #[error("{size}: a model of type \"{kind}\" has none")]
    NoSuchSize {
        /// Which size: heads or intermediate.
        size: &'static str,
        /// The model's type.
        kind: &'static str,
    },
    /// A factor on the tables that is not above 0.
    #[error("tables times {0} are no function of the model; the factor must be above 0")]
    Scale(f64),
    /// Nothing is made smaller.
    #[error("{name}={to} is smaller than the model's {from}")]
    Smaller {
        /// Which size: hidden, layers, heads or intermediate.
        name: &'static str,
        /// The model's.
        from: u32,
        /// What was asked for.
        to: u32,
    },
    /// Duplication takes every number the same number of times.
    #[error("{name}={to} is no multiple of the model's {from}, which duplication needs")]
    NoMultiple {
        /// Which size: hidden, heads or intermediate.
        name: &'static str,
        /// The model's.
        from: u32,
        /// What was asked for.
        to: u32,
    },
    /// Duplication keeps heads whole.
    #[error(
        "{heads} times as many heads in {width} times the width: heads would have to be cut; let heads be a multiple \
         of {from} that divides {}", width * from
    )]
    CutHeads {
        /// Heads by those of the model.
        heads: u32,
        /// Width by that of the model.
        width: u32,
        /// Heads of the model.
        from: u32,
    },
    /// More layers behind a model that has none, whose last norm they would need.
    #[error("a model whose layers end in a norm has none to move without layers")]
    NoLayers,
    /// More layers that end in a norm, each of which normalises again.
    #[error(
        "layer_norm_eps = {0} is too large for more layers that end in a norm: each normalises again, which changes \
         the function by about ε over the variance (at most {SMALL_EPS} is accepted)"
    )]
    LargeEps(f64),
    /// Zeros in more columns, or under another number of heads; duplication can do it.
    #[error(
        "zeros cannot widen hidden={from} to {to} (or change the {heads} heads): layer norm over more columns has \
         another mean and variance. Zeros can add layers and intermediate units"
    )]
    Widened {
        /// The model's width.
        from: u32,
        /// The width that was asked for.
        to: u32,
        /// The model's heads.
        heads: u32,
    },
}

/// The same function in a larger architecture.
///
/// # Errors
/// Why these sizes cannot hold the model, with what would.
pub fn enlarge(
    small: &Encoder,
    weights: &Weights,
    size: Size,
    method: Enlargement,
) -> Result<(Encoder, Weights), EnlargeError> {
    size.check(&small.config)?;
    let config = size.config(&small.config);
    let plan = Growth { small: &small.config, large: &config, method };
    plan.check()?;
    let large = Encoder::new(&config)?;
    let values = large.parameters.iter().map(|parameter| plan.fill(parameter, small, weights)).collect();
    Ok((large, Weights(values)))
}

/// Whether [`enlarge`] can make the larger model, by the sizes alone.
///
/// # Errors
/// Why these sizes cannot hold the model, with what would.
pub fn check_enlarge(small: &ModelConfig, size: Size, method: Enlargement) -> Result<(), EnlargeError> {
    size.check(small)?;
    let config = size.config(small);
    Growth { small, large: &config, method }.check()?;
    Encoder::new(&config)?;
    Ok(())
}

impl Growth<'_> {
    pub(super) fn check(&self) -> Result<(), EnlargeError> {
        let (s, l) = (self.small, self.large);
        let sizes = [
            ("hidden", s.hidden_size, l.hidden_size),
            ("layers", s.num_hidden_layers, l.num_hidden_layers),
            ("heads", s.num_attention_heads, l.num_attention_heads),
            ("intermediate", s.intermediate_size, l.intermediate_size),
        ];
        if let Some((name, from, to)) = sizes.into_iter().find(|(_, from, to)| to < from) {
            return Err(EnlargeError::Smaller { name, from, to });
        }
        match self.method {
            Enlargement::Balanced(scale) if !(scale > 0.0 && scale.is_finite()) => {
                return Err(EnlargeError::Scale(scale));
            }
            Enlargement::Duplicate | Enlargement::Paper | Enlargement::Balanced(_) => {
                let divides = |i: usize| sizes[i].2.is_multiple_of(sizes[i].1);
                if let Some(i) = [0, 2, 3].into_iter().find(|i| !divides(*i)) {
                    let (name, from, to) = sizes[i];
                    return Err(EnlargeError::NoMultiple { name, from, to });
                }
                let (r, h) = (l.hidden_size / s.hidden_size, l.num_attention_heads / s.num_attention_heads);
                if !r.is_multiple_of(h) {
                    return Err(EnlargeError::CutHeads { heads: h, width: r, from: s.num_attention_heads });
                }
            }
            Enlargement::Zero => {
                if (l.hidden_size, l.num_attention_heads) != (s.hidden_size, s.num_attention_heads) {
                    return Err(EnlargeError::Widened {
                        from: s.hidden_size,
                        to: l.hidden_size,
                        heads: s.num_attention_heads,
                    });
                }
            }
        }
        if self.closing_norm().is_some() && l.num_hidden_layers > s.num_hidden_layers {
            if s.num_hidden_layers == 0 {
                return Err(EnlargeError::NoLayers);
            }
            if s.layer_norm_eps > SMALL_EPS {
                return Err(EnlargeError::LargeEps(s.layer_norm_eps));
            }
        }
        Ok(())
    }

    /// The norm in which a layer ends, if there is one.
    pub(super) fn closing_norm(&self) -> Option<Norm> {
        self.small.kind.family().closing_norm(self.small.kind)
    }

    /// What is copied where along an axis.
    fn copies(&self, width: Width, fixed: usize) -> Copies {
        // So many blocks, each copied into the block of its number.
        let blocks = |blocks: usize, from: u32, to: u32| -> Copies {
            let (from, to) = (from as usize / blocks, to as usize / blocks);
            (0..blocks * to).map(|i| Some((i / to * from + i % to % from, from as f64 / to as f64))).collect()
        };
        let tiled = |from, to| blocks(1, from, to);
        let (s, l) = (self.small, self.large);
        match width {
            Width::Fixed => tiled(fixed as u32, fixed as u32),
            Width::Hidden => blocks(s.kind.family().blocks(s), s.hidden_size, l.hidden_size),
            Width::Units => tiled(s.units(), l.units()),
            Width::Gates => blocks(4, 4 * s.units(), 4 * l.units()),
            Width::Heads => {
                let (size, wide) = (s.head_size() as usize, l.head_size() as usize);
                let share = f64::from(s.hidden_size) / f64::from(l.hidden_size);
                let from = |i: usize| (i / wide % s.num_attention_heads as usize) * size + i % wide % size;
                (0..l.hidden_size as usize).map(|i| Some((from(i), share))).collect()
            }
            Width::Intermediate => match self.method {
                Enlargement::Zero => (0..l.intermediate_size as usize)
                    .map(|i| (i < s.intermediate_size as usize).then_some((i, 1.0)))
                    .collect(),
                _ => tiled(s.intermediate_size, l.intermediate_size),
            },
        }
    }

    /// Copies of each number of an axis.
    pub(super) fn multiple(&self, width: Width) -> f64 {
        let (s, l) = (self.small, self.large);
        match width {
            Width::Fixed => 1.0,
            Width::Hidden | Width::Heads => f64::from(l.hidden_size) / f64::from(s.hidden_size),
            Width::Units | Width::Gates => f64::from(l.units()) / f64::from(s.units()),
            Width::Intermediate if self.method == Enlargement::Zero => 1.0,
            Width::Intermediate => f64::from(l.intermediate_size) / f64::from(s.intermediate_size),
        }
    }

    /// Values of one parameter of the larger model.
    fn fill(&self, parameter: &Parameter, small: &Encoder, weights: &Weights) -> Vec<f32> {
        let role = parameter.role;
        let mut source = role;
        let (first_new, new_last) = (self.small.num_hidden_layers, self.large.num_hidden_layers.saturating_sub(1));
        if let Some(layer) = role.layer
            && self.large.num_hidden_layers > self.small.num_hidden_layers
        {
            let moves = self.closing_norm().is_some_and(|last| role.part == Part::Norm(last));
            if moves && layer == new_last {
                source.layer = Some(first_new - 1);
            } else if layer >= first_new || (moves && layer == first_new - 1) {
                let untouched = if matches!(role.part, Part::Norm(_)) && !role.bias { 1.0 } else { 0.0 };
                return vec![untouched; parameter.len()];
            }
        }
        let from = small.with_role(source).expect("the smaller model has all parameters but those of new layers");
        let values = &weights.0[from];
        let [rows, cols] = axes(role.part);
        let scale = self.scale(role.part);
        match parameter.shape.as_slice() {
            [_, _] => {
                let shape = &small.parameters[from].shape;
                let (rows, cols_copied) = (self.copies(rows, shape[0]), self.copies(cols, shape[1]));
                let wide = shape[1];
                // Rows are outputs; columns are inputs, shared out among their copies. A table's columns are outputs
                // too.
                let shares = !matches!(role.part, Part::Table(_));
                let at = |r: &Option<(usize, f64)>, c: &Option<(usize, f64)>| match (r, c) {
                    (Some((r, _)), Some((c, share))) => {
                        (f64::from(values[r * wide + c]) * scale * if shares { *share } else { 1.0 }) as f32
                    }
                    _ => 0.0,
                };
                rows.iter().flat_map(|r| cols_copied.iter().map(move |c| (r, c))).map(|(r, c)| at(r, c)).collect()
            }
            _ => {
                let copies = self.copies(rows, values.len());
                let at = |i: &Option<(usize, f64)>| i.map_or(0.0, |(i, _)| (f64::from(values[i]) * scale) as f32);
                copies.iter().map(at).collect()
            }
        }
    }

    /// Factor on a parameter beside the sharing out of inputs.
    fn scale(&self, part: Part) -> f64 {
        let (s, l) = (self.small, self.large);
        let width = self.multiple(Width::Hidden);
        let tables = self.method.table_scale(width);
        match part {
            Part::Query | Part::Key => (f64::from(s.head_size()) / f64::from(l.head_size())).powf(0.25),
            Part::Table(_) => tables,
            Part::Norm(Norm::Head) if s.tie_word_embeddings => 1.0 / (width * tables),
            _ => 1.0,
        }
    }
}

/// What the axes of a parameter are; a vector has the first.
pub(super) fn axes(part: Part) -> [Width; 2] {
    use Width::{Fixed, Gates, Heads, Hidden, Intermediate, Units};
    match part {
        Part::Table(_) | Part::Decoder | Part::Classifier => [Fixed, Hidden],
        Part::Query | Part::Key | Part::Value | Part::QueryKeyValue => [Heads, Hidden],
        Part::AttentionOutput => [Hidden, Heads],
        Part::GatesOfInput(_) => [Gates, Hidden],
        Part::GatesOfState(_) => [Gates, Units],
        Part::FeedForwardInput | Part::Gate => [Intermediate, Hidden],
        Part::FeedForwardOutput => [Hidden, Intermediate],
        Part::Norm(_) | Part::HeadDense | Part::Pooler => [Hidden, Hidden],
    }
}
