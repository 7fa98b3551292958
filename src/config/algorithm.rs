//! The key `train.algorithm`: what training does beside the optimiser's plain step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::language::Task;

/// The training algorithm beside the optimiser's plain step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AlgorithmKind {
    /// { kind = "plain" }: nothing.
    Plain(Plain),
    /// { kind = "label-noise", probability }: labels of training sentences replaced at random.
    LabelNoise(LabelNoise),
    /// { kind = "sam", rho }: sharpness-aware minimisation (Foret et al. 2021).
    Sam(Sam),
    /// { kind = "adversarial", task, weight, ... }: against a head that learns a downstream task (Liu et al.
    /// 2023).
    Adversarial(Adversarial),
}

impl Default for AlgorithmKind {
    fn default() -> Self {
        AlgorithmKind::Plain(Plain {})
    }
}

/// Nothing beside the optimiser's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plain {}

/// Labels of training sentences replaced at random; evaluation and measurements keep theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelNoise {
    /// Probability that the label of a masked position is replaced by a word drawn uniformly from the language's words,
    /// its own among them.
    pub probability: f64,
}

impl Default for LabelNoise {
    fn default() -> Self {
        LabelNoise { probability: 0.1 }
    }
}

/// What the length of SAM's ascent is measured in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SamNorm {
    /// The Euclidean length over all parameters.
    #[default]
    Plain,
    /// The length with each block of parameters in units of its own norm: Σ_b |ε_b|² / |w_b|² = rho².
    Block,
}

impl SamNorm {
    /// Left out of what is written, so that configs from before there was a choice keep their hash.
    fn is_plain(&self) -> bool {
        *self == SamNorm::Plain
    }
}

/// Sharpness-aware minimisation: the step from θ takes the gradient at θ + rho g / ‖g‖, g the gradient at θ of the same
/// sentences. A step costs two gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sam {
    /// Length of the ascent, over all parameters.
    pub rho: f64,
    /// "plain" (rho is a Euclidean length) or "block" (rho is relative to the norms of blocks of parameters: each row
    /// of a table of words, positions or segments, each entry of the output bias, else each tensor).
    #[serde(skip_serializing_if = "SamNorm::is_plain")]
    pub norm: SamNorm,
}

impl Default for Sam {
    fn default() -> Self {
        Sam { rho: 0.05, norm: SamNorm::Plain }
    }
}

/// The head that the adversarial algorithm is against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// A linear classifier that is trained alongside by AdamW; the encoder feels its cross-entropy.
    #[default]
    Linear,
    /// Kernel ridge regression, fitted anew in every step; the encoder feels its squared error through the fit.
    Ridge,
}

/// The part of a sentence that a ridge head reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HeadReads {
    /// The representations of all tokens, one after another.
    #[default]
    Tokens,
    /// The hyperbolic tangent of the representation of `<s>`.
    First,
}

/// Minimises the pre-training loss minus `weight` times the loss of a head on the last layer's concatenated token
/// representations. The head is fitted on labelled sentences of its own; its loss that the encoder feels is that on
/// others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adversarial {
    /// Downstream task: "A", "B", "C", "span:K", or "task-K" of a hidden Markov model.
    pub task: String,
    /// "linear" (a classifier that is trained alongside) or "ridge" (kernel ridge regression on the normalised features
    /// of the first 7/8 of each batch, judged on the rest; the gradient goes through the fit, as in the paper's
    /// released code). Left out: linear.
    #[serde(default, skip_serializing_if = "HeadKind::is_linear")]
    pub head: HeadKind,
    /// What `head = "ridge"` reads: "tokens" (all of them one after another, what a linear probe reads) or "first" (the
    /// hyperbolic tangent of the representation of `<s>`, the released code's pooler without its matrix). Left out:
    /// tokens.
    #[serde(default, skip_serializing_if = "HeadReads::is_tokens")]
    pub reads: HeadReads,
    /// Added to the diagonal of the kernel of `head = "ridge"`.
    #[serde(default = "Adversarial::default_ridge", skip_serializing_if = "Adversarial::is_default_ridge")]
    pub ridge: f64,
    /// λ: what the head's loss weighs against the pre-training loss, at full strength.
    #[serde(default = "Adversarial::default_weight")]
    pub weight: f64,
    /// Labels as `lowland probe --with-prior` has them.
    #[serde(default)]
    pub with_prior: bool,
    /// Labelled sentences of each split, of seeds that neither training, evaluation nor probes use.
    #[serde(default = "Adversarial::default_sentences")]
    pub sentences: u32,
    /// Sentences of each split per step, drawn with replacement.
    #[serde(default = "Adversarial::default_batch")]
    pub batch: u32,
    /// Learning rate of the head's AdamW.
    #[serde(default = "Adversarial::default_head_lr")]
    pub head_lr: f64,
    /// Steps of the head before each step of the encoder.
    #[serde(default = "Adversarial::default_head_steps")]
    pub head_steps: u32,
    /// Share of the steps in which the head learns and the encoder does not feel it yet.
    #[serde(default = "Adversarial::default_begin")]
    pub begin: f64,
    /// Share of the steps, after `begin`, over which the weight rises linearly from 0.
    #[serde(default = "Adversarial::default_ramp")]
    pub ramp: f64,
    /// A batch does not reach the encoder when the head's loss on it is above this multiple of the entropy of the
    /// labels, the loss of a head that knows nothing of the sentence.
    #[serde(default = "Adversarial::default_ceiling")]
    pub ceiling: f64,
}

impl Adversarial {
    /// All defaults for a task.
    pub fn on(task: &str) -> Adversarial {
        Adversarial {
            task: task.into(),
            head: HeadKind::Linear,
            reads: HeadReads::Tokens,
            ridge: Adversarial::default_ridge(),
            weight: Adversarial::default_weight(),
            with_prior: false,
            sentences: Adversarial::default_sentences(),
            batch: Adversarial::default_batch(),
            head_lr: Adversarial::default_head_lr(),
            head_steps: Adversarial::default_head_steps(),
            begin: Adversarial::default_begin(),
            ramp: Adversarial::default_ramp(),
            ceiling: Adversarial::default_ceiling(),
        }
    }

    fn default_ridge() -> f64 {
        1e-3
    }
    fn is_default_ridge(ridge: &f64) -> bool {
        *ridge == Adversarial::default_ridge()
    }
    fn default_weight() -> f64 {
        0.1
    }
    fn default_sentences() -> u32 {
        4096
    }
    fn default_batch() -> u32 {
        128
    }
    fn default_head_lr() -> f64 {
        1e-3
    }
    fn default_head_steps() -> u32 {
        1
    }
    fn default_begin() -> f64 {
        0.1
    }
    fn default_ramp() -> f64 {
        0.1
    }
    fn default_ceiling() -> f64 {
        1.0
    }

    /// λ at a step counted from 0.
    ///
    /// ```
    /// use lowland::config::Adversarial;
    /// let algorithm = Adversarial { weight: 1.0, begin: 0.2, ramp: 0.2, ..Adversarial::on("A") };
    /// assert_eq!([1, 2, 3, 4, 9].map(|step| algorithm.weight_at(step, 10)), [0.0, 0.5, 1.0, 1.0, 1.0]);
    /// ```
    pub fn weight_at(&self, step: u64, steps: u64) -> f64 {
        let share = |s: f64| (s * steps as f64).round();
        let past = step as f64 - share(self.begin);
        if past < 0.0 { 0.0 } else { self.weight * ((past + 1.0) / share(self.ramp).max(1.0)).min(1.0) }
    }
}

impl HeadKind {
    /// Left out of what is written, so that configs from before there was a choice keep their hash.
    fn is_linear(&self) -> bool {
        *self == HeadKind::Linear
    }
}

impl HeadReads {
    /// Left out of what is written, as [`HeadKind::is_linear`].
    fn is_tokens(&self) -> bool {
        *self == HeadReads::Tokens
    }
}

impl AlgorithmKind {
    /// Whether it is the plain one, which a config need not say.
    pub(super) fn is_plain(&self) -> bool {
        *self == AlgorithmKind::default()
    }

    /// Names what cannot be, with the key it stands at.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((format!("train.algorithm.{key}"), message));
        match self {
            AlgorithmKind::LabelNoise(o) if !(0.0..=1.0).contains(&o.probability) => {
                bad("probability", format!("{} must lie in 0 to 1", o.probability))
            }
            AlgorithmKind::Sam(o) if !(o.rho > 0.0 && o.rho.is_finite()) => {
                bad("rho", format!("{} must be positive", o.rho))
            }
            AlgorithmKind::Adversarial(o) => o.check(),
            _ => Ok(()),
        }
    }
}

impl Adversarial {
    fn check(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((format!("train.algorithm.{key}"), message));
        if let Err(error) = self.task.parse::<Task>() {
            return bad("task", error.to_string());
        }
        if !(self.weight >= 0.0 && self.weight.is_finite()) {
            return bad("weight", format!("{} must be 0 or positive", self.weight));
        }
        for (key, value, most) in [
            ("sentences", self.sentences, 1 << 20),
            ("batch", self.batch, 1 << 16),
            ("head_steps", self.head_steps, 100),
        ] {
            if value == 0 || value > most {
                return bad(key, format!("{value} must lie in 1 to {most}"));
            }
        }
        if !(self.head_lr > 0.0 && self.head_lr.is_finite()) {
            return bad("head_lr", format!("{} must be positive", self.head_lr));
        }
        for (key, value) in [("begin", self.begin), ("ramp", self.ramp)] {
            if !(0.0..=1.0).contains(&value) {
                return bad(key, format!("{value} is a share of the steps, 0 to 1"));
            }
        }
        if !(self.ceiling > 0.0 && self.ceiling.is_finite()) {
            return bad("ceiling", format!("{} must be positive", self.ceiling));
        }
        if !(self.ridge > 0.0 && self.ridge.is_finite()) {
            return bad("ridge", format!("{} must be positive", self.ridge));
        }
        let of_linear = [
            ("head_lr", self.head_lr != Adversarial::default_head_lr()),
            ("head_steps", self.head_steps != Adversarial::default_head_steps()),
            ("ceiling", self.ceiling != Adversarial::default_ceiling()),
        ];
        match self.head {
            HeadKind::Linear if !Adversarial::is_default_ridge(&self.ridge) => {
                return bad("ridge", "belongs to `head = \"ridge\"`".into());
            }
            HeadKind::Linear if self.reads != HeadReads::Tokens => {
                return bad("reads", "belongs to `head = \"ridge\"`; a linear head reads all tokens".into());
            }
            HeadKind::Ridge if self.batch < 8 => {
                return bad("batch", format!("{} must be at least 8: an eighth of it judges the fit", self.batch));
            }
            HeadKind::Ridge => {
                if let Some((key, _)) = of_linear.into_iter().find(|(_, given)| *given) {
                    return bad(
                        key,
                        "belongs to `head = \"linear\"`; a ridge is fitted anew and its loss is bounded".into(),
                    );
                }
            }
            HeadKind::Linear => {}
        }
        Ok(())
    }
}
