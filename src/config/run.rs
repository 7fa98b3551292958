//! A run config as a whole. The comments on its sections are what `lowland config explain` prints and what editors show
//! from the schema.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MeasureSection;
use super::algorithm::{Adversarial, AlgorithmKind, HeadReads};
use super::language::LanguageSection;
use super::model::ModelSection;
use super::objective::{EvaluateSection, ObjectiveKind, ObjectiveSection, Positions};
use super::train::{OptimizerKind, TrainSection};
use crate::model::Reach;
use crate::ops::{KernelChoice, VariantError};

/// One run: a language, a model, an objective, training, evaluation, curvature along the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of everything random: sentences, masks, initial weights, dropout.
    pub seed: u64,
    /// Folder of the run. Left out: `runs/NAME-HASH`, with the name of the config file and the hash of the config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// The source of sentences.
    pub language: LanguageSection,
    /// The model's sizes, under Hugging Face's names.
    pub model: ModelSection,
    /// The words to predict, and their labels.
    pub objective: ObjectiveSection,
    /// The training of the model.
    pub train: TrainSection,
    /// The evaluation on held-out sentences.
    pub evaluate: EvaluateSection,
    /// Curvature along the way. Left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure: Option<MeasureSection>,
    /// The use of the adapter.
    #[serde(skip_serializing_if = "AdapterSection::is_default")]
    pub adapter: AdapterSection,
}

/// The use of the adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterSection {
    /// Kernel variants other than the ones chosen for the adapter, as { linear = "tiled", attention = "row" };
    /// `lowland selftest --time` lists them. `--variant` goes before it.
    pub variant: BTreeMap<String, String>,
}

impl AdapterSection {
    fn is_default(&self) -> bool {
        *self == AdapterSection::default()
    }

    /// The variants asked for.
    ///
    /// # Errors
    /// A name that is not in the table.
    pub fn kernel_choice(&self) -> Result<KernelChoice, VariantError> {
        let mut kernel_choice = KernelChoice::default().asked_at("adapter.variant");
        for (operation, variant) in &self.variant {
            kernel_choice.add(operation, variant)?;
        }
        Ok(kernel_choice)
    }
}

/// Steps beyond all use.
const MOST_STEPS: u64 = 1 << 40;

impl RunConfig {
    /// Peak learning rate of the config's model.
    pub fn peak_lr(&self) -> f64 {
        let width = self.model.model_config(64, self.language.longest()).hidden_size;
        self.train.peak_lr(width)
    }

    /// Names what cannot be, with the key it stands at.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((key.to_string(), message));
        let t = &self.train;
        if let Err(error) = self.adapter.kernel_choice() {
            return bad("adapter.variant", error.to_string());
        }
        self.language.check()?;
        self.measure.as_ref().map_or(Ok(()), MeasureSection::check)?;
        if t.steps > MOST_STEPS {
            return bad("train.steps", format!("{} must be at most {MOST_STEPS}", t.steps));
        }
        if t.batch_size == 0 || t.batch_size > 1 << 20 {
            return bad("train.batch_size", format!("{} must lie in 1 to {}", t.batch_size, 1 << 20));
        }
        if t.micro_batch == Some(0.into()) {
            return bad("train.micro_batch", "must be at least 1".into());
        }
        if !(t.clip >= 0.0 && t.clip.is_finite()) {
            return bad("train.clip", format!("{} must be 0 (off) or positive", t.clip));
        }
        if let Some(scale) = t.loss_scale
            && !(scale > 0.0 && scale.is_finite() && scale.log2().fract() == 0.0 && scale.log2().abs() <= 32.0)
        {
            return bad("train.loss_scale", format!("{scale} must be a power of two, as 1024"));
        }
        let lr = t.optimizer.lr();
        if !(lr >= 0.0 && lr.is_finite()) {
            return bad("train.optimizer.lr", format!("{lr} must be 0 or positive"));
        }
        match &t.optimizer {
            OptimizerKind::AdamW(o) => {
                if o.betas.iter().any(|b| !(0.0..1.0).contains(b)) {
                    return bad("train.optimizer.betas", format!("{:?} must lie in [0, 1)", o.betas));
                }
                if !(o.eps.is_finite() && o.eps > 0.0) {
                    return bad("train.optimizer.eps", format!("{} must be positive", o.eps));
                }
                if !(o.weight_decay.is_finite() && o.weight_decay >= 0.0) {
                    return bad("train.optimizer.weight_decay", format!("{} must be 0 or positive", o.weight_decay));
                }
            }
            OptimizerKind::Sgd(o) => {
                if !(0.0..1.0).contains(&o.momentum) {
                    return bad("train.optimizer.momentum", format!("{} must lie in [0, 1)", o.momentum));
                }
                if !(o.weight_decay.is_finite() && o.weight_decay >= 0.0) {
                    return bad("train.optimizer.weight_decay", format!("{} must be 0 or positive", o.weight_decay));
                }
            }
        }
        t.algorithm.check()?;
        if matches!(t.algorithm, AlgorithmKind::LabelNoise(_)) && self.objective.labels.is_soft() {
            let message = "noise replaces sampled labels; set `objective.labels = \"sampled\"`";
            return bad("train.algorithm", message.into());
        }
        t.check_course()?;
        if t.sentences == Some(0) {
            return bad("train.sentences", "must be at least 1; leave it out for ever new sentences".into());
        }
        self.objective.check(t.sentences)?;
        if self.model.vocab_multiple_of.is_some_and(|n| n == 0 || n > 1 << 16) {
            return bad("model.vocab_multiple_of", format!("must lie in 1 to {}", 1 << 16));
        }
        if let Some((key, renamed)) = self.model.foreign_key() {
            let instead = renamed.map_or(String::new(), |own| format!("; it has `{own}`"));
            let message = format!("a model of type \"{}\" has no such key{instead}", self.model.kind.name());
            return bad(&format!("model.{key}"), message);
        }
        let longest = self.language.longest();
        let model = self.model.model_config(64, longest);
        if let Err(error) = model.check() {
            return bad("model", error.to_string());
        }
        if let Err(message) = self.objective.kind.check_reach(&model) {
            return bad("objective.kind", message);
        }
        if let AlgorithmKind::Adversarial(Adversarial { reads: HeadReads::First, .. }) = self.train.algorithm
            && model.reach() == Reach::Past
        {
            let message = "\"first\" reads <s>, where a model that reads in one direction has seen no word";
            return bad("train.algorithm.reads", message.into());
        }
        if self.objective.kind == ObjectiveKind::Causal && self.evaluate.positions != Positions::One {
            let message = "belongs to `objective.kind = \"mlm\"`; of next words `objective.positions` says which";
            return bad("evaluate.positions", message.into());
        }
        let needed = model.positions_for(longest);
        if model.max_position_embeddings < needed {
            return bad(
                "model.max_position_embeddings",
                format!(
                    "{} is too few for sentences of {} tokens: {needed} are needed",
                    model.max_position_embeddings, longest
                ),
            );
        }
        Ok(())
    }
}
