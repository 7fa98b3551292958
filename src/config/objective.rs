//! The sections `[objective]` and `[evaluate]`: the words that are predicted, in training and in evaluation.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{ModelConfig, Reach};

/// What a word is predicted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveKind {
    /// A masked word from all others of its sentence.
    #[default]
    Mlm,
    /// Every next word, and the sentence's end, from the words before it.
    Causal,
}

impl ObjectiveKind {
    /// Left out of what is written, so that configs from before there was a choice keep their hash.
    pub(crate) fn is_mlm(&self) -> bool {
        *self == ObjectiveKind::Mlm
    }

    /// What a loss is given for, in words.
    pub fn unit(self) -> &'static str {
        match self {
            ObjectiveKind::Mlm => "masked word",
            ObjectiveKind::Causal => "predicted token",
        }
    }

    /// Refuses a model that would see the words that it is to predict.
    ///
    /// # Errors
    /// In words, with what would be right.
    pub fn check_reach(self, model: &ModelConfig) -> Result<(), String> {
        match (self, model.reach()) {
            (ObjectiveKind::Causal, Reach::Sentence) => Err(format!(
                "\"causal\" predicts a word from those before it, and a model of type \"{}\" that reads a sentence in \
                 both directions has seen the word: its loss would say nothing. Take a model that reads in one \
                 direction (`model.type = \"lstm\"` with `model.bidirectional = false`), or \"mlm\"",
                model.kind.name()
            )),
            _ => Ok(()),
        }
    }
}

/// The next words that are predicted, by the number of words before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PositionRange {
    /// Words before the first that is predicted. A sentence of fewer words predicts its end alone.
    pub from: u32,
    /// From here on nothing is predicted: `{ from = 0, to = 3 }` are the first three words. Left out: up to the
    /// sentence's end, which stands behind all its words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
}

impl PositionRange {
    /// The positions of a sentence of `length` words that are predicted: position k is the word behind k words,
    /// position `length` the end.
    ///
    /// ```
    /// use lowland::config::PositionRange;
    /// assert_eq!(PositionRange::default().of(3), 0..4);
    /// let some = PositionRange { from: 1, to: Some(3) };
    /// assert_eq!([some.of(5), some.of(1), some.of(0)], [1..3, 1..2, 0..1]);
    /// ```
    pub fn of(&self, length: usize) -> Range<usize> {
        let from = (self.from as usize).min(length);
        from..self.to.map_or(length + 1, |to| (to as usize).clamp(from + 1, length + 1))
    }
}

/// The words that are masked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum MaskPolicy {
    /// One word per sentence, drawn uniformly: the paper's objective.
    One,
    /// Each word with this probability, at least one.
    Bernoulli(f64),
    /// A share of a sentence's tokens, some of them left as they are or replaced by random words: BERT's data and the
    /// paper's released code.
    Several(SeveralMasks),
}

/// A share of each sentence's tokens is predicted, and not all of them are hidden (Devlin et al. 2019, section 3.1).
/// With the defaults and `at_most = 5` the masking of the paper's released code.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeveralMasks {
    /// Share of a sentence's tokens (`<s>` and `</s>` are counted, and never chosen) that is predicted: rounded, halves
    /// to even numbers, and at least one word.
    pub share: f64,
    /// Words of a sentence that are predicted at most. Left out: as many as the share makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
    /// Probability that the mask token stands in a chosen word's place.
    pub hidden: f64,
    /// Probability that a random word stands there. Otherwise the word itself stays, and is predicted all the same.
    pub random: f64,
    /// "words" (a random word is one of the language's) or "table" (one of all rows of the model's word table, which is
    /// what the released code does).
    pub random_from: RandomFrom,
    /// Different maskings of a sentence, each as often as the others, as `dup_factor` of the released code; needs
    /// `train.sentences`. 0 masks a sentence anew each time.
    pub maskings: u32,
}

impl Default for SeveralMasks {
    fn default() -> Self {
        SeveralMasks {
            share: 0.15,
            at_most: None,
            hidden: 0.8,
            random: 0.1,
            random_from: RandomFrom::Words,
            maskings: 0,
        }
    }
}

impl SeveralMasks {
    /// Words of a sentence of `length` words that are predicted.
    ///
    /// ```
    /// use lowland::config::SeveralMasks;
    /// let masks = SeveralMasks { at_most: Some(5), ..SeveralMasks::default() };
    /// assert_eq!([1, 7, 8, 16, 60].map(|length| masks.predicted(length)), [1, 1, 2, 3, 5]);
    /// ```
    pub fn predicted(&self, length: usize) -> usize {
        let share = ((length + 2) as f64 * self.share).round_ties_even() as usize;
        share.max(1).min(self.at_most.map_or(length, |most| most as usize)).min(length)
    }
}

/// What a random word is drawn from, uniformly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RandomFrom {
    /// The language's words.
    #[default]
    Words,
    /// All rows of the model's word table, special tokens and unused rows among them.
    Table,
}

/// The labels that a masked position is trained towards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LabelKind {
    /// The word that stood there.
    Sampled,
    /// The exact conditional distribution, a soft label.
    Expected,
    /// Between the two: the conditional, and parts of the noise that the word that stood there adds to it.
    Mix(LabelMix),
}

impl LabelKind {
    /// Whether labels are distributions over words, made of the exact conditionals.
    pub fn is_soft(&self) -> bool {
        *self != LabelKind::Sampled
    }
}

/// Labels p + between n_b + within n_w: p the exact conditional, n_b the noise of which group of words the one that
/// stood there is in, n_w that of which word of its group it is. Expected gradient and minimiser are those of sampled
/// labels whatever the factors are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelMix {
    /// Factor on the noise between groups; 1 is that of sampled labels, 0 none.
    pub between: f64,
    /// Factor on the noise within groups.
    pub within: f64,
    /// Groups of words: word number v of the vocabulary is in group v modulo this, the sentence's end behind the last
    /// word likewise.
    pub groups: u32,
}

impl Default for LabelMix {
    fn default() -> Self {
        LabelMix { between: 1.0, within: 1.0, groups: 2 }
    }
}

impl LabelMix {
    /// Names what cannot be, with the key it stands at.
    fn check(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((format!("objective.labels.mix.{key}"), message));
        for (key, factor) in [("between", self.between), ("within", self.within)] {
            if !(factor >= 0.0 && factor.is_finite()) {
                return bad(key, format!("{factor} must be 0 or positive; 1 is the noise of sampled labels"));
            }
        }
        if self.groups < 2 {
            return bad("groups", format!("{} must be at least 2: one group has no noise between", self.groups));
        }
        Ok(())
    }
}

/// The words to predict, and their labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveSection {
    /// "mlm" (masked words from all others) or "causal" (every next word, and the sentence's end, from the words before
    /// it; for models that read in one direction).
    #[serde(skip_serializing_if = "ObjectiveKind::is_mlm")]
    pub kind: ObjectiveKind,
    /// "one" (one word per sentence, the paper's objective), { bernoulli = 0.15 }, or { several = { share = 0.15, ... }
    /// } (the paper's released code). Of "mlm".
    pub mask: MaskPolicy,
    /// { from = 0, to = 8 }: the next words that have so many words before them, in training, evaluation and
    /// measurement alike. Of "causal". Left out: all of a sentence and its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<PositionRange>,
    /// "sampled" (the word that stood there), "expected" (the exact conditional as a soft label), or { mix = { between
    /// = 1.0, within = 0.1, groups = 2 } } (the conditional with parts of the words' noise).
    pub labels: LabelKind,
}

impl Default for ObjectiveSection {
    fn default() -> Self {
        ObjectiveSection {
            kind: ObjectiveKind::Mlm,
            mask: MaskPolicy::One,
            positions: None,
            labels: LabelKind::Sampled,
        }
    }
}

impl ObjectiveSection {
    /// The positions that are predicted of a sentence of `length` words under "causal": as [`PositionRange::of`].
    pub fn predicted(&self, length: usize) -> Range<usize> {
        self.positions.unwrap_or_default().of(length)
    }

    /// Different maskings of a sentence; 0 for ever new ones.
    pub fn maskings(&self) -> u32 {
        match self.mask {
            MaskPolicy::Several(masks) => masks.maskings,
            MaskPolicy::One | MaskPolicy::Bernoulli(_) => 0,
        }
    }

    /// Names what cannot be, with the key it stands at.
    pub(super) fn check(&self, sentences: Option<u64>) -> Result<(), (String, String)> {
        self.check_kind()?;
        if let LabelKind::Mix(mix) = &self.labels {
            mix.check()?;
        }
        let bad = |key: &str, message: String| Err((format!("objective.mask.{key}"), message));
        match self.mask {
            MaskPolicy::Bernoulli(p) if !(p > 0.0 && p <= 1.0) => bad("bernoulli", format!("{p} must lie in (0, 1]")),
            MaskPolicy::Several(masks) => {
                if !(masks.share > 0.0 && masks.share <= 1.0) {
                    return bad("several.share", format!("{} must lie in (0, 1]", masks.share));
                }
                if masks.at_most == Some(0) {
                    return bad("several.at_most", "must be at least 1; leave it out for no bound".into());
                }
                for (key, p) in [("several.hidden", masks.hidden), ("several.random", masks.random)] {
                    if !(0.0..=1.0).contains(&p) {
                        return bad(key, format!("{p} must lie in 0 to 1"));
                    }
                }
                if masks.hidden + masks.random > 1.0 + 1e-12 {
                    let message = format!("{} and `hidden` {} are more than 1 together", masks.random, masks.hidden);
                    return bad("several.random", message);
                }
                if masks.maskings > 0 && sentences.is_none() {
                    let message = "needs a finite set of sentences to come back to; set `train.sentences`";
                    return bad("several.maskings", message.into());
                }
                Ok(())
            }
            MaskPolicy::One | MaskPolicy::Bernoulli(_) => Ok(()),
        }
    }

    /// Names a key that belongs to the other kind, and a range of no position.
    fn check_kind(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: &str| Err((format!("objective.{key}"), message.to_string()));
        match (self.kind, self.positions) {
            (ObjectiveKind::Causal, _) if self.mask != MaskPolicy::One => {
                bad("mask", "belongs to `objective.kind = \"mlm\"`: \"causal\" masks nothing")
            }
            (ObjectiveKind::Mlm, Some(_)) => {
                bad("positions", "belongs to `objective.kind = \"causal\"`; what \"mlm\" masks is `objective.mask`")
            }
            (_, Some(PositionRange { from, to: Some(to) })) if to <= from => {
                bad("positions.to", &format!("{to} must be above `from`, {from}: no position lies between them"))
            }
            _ => Ok(()),
        }
    }
}

/// The positions of a held-out sentence that a model is asked about, with nothing else masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// One, drawn uniformly: every sentence weighs the same.
    #[default]
    One,
    /// Every one in turn: every position of every sentence weighs the same, so that long sentences weigh more.
    All,
}

/// The evaluation on held-out sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateSection {
    /// Held-out sentences (of another seed) for the loss and the excess loss.
    pub sentences: u32,
    /// "one" (one masked word a sentence, drawn uniformly) or "all" (each word of a sentence masked in turn, averaged
    /// over all positions of all sentences, as the paper's released code evaluates). Never more than one word is masked
    /// at once, whatever `objective.mask` says. Of `objective.kind` "mlm": "causal" asks about all that it predicts.
    #[serde(skip_serializing_if = "Positions::is_one")]
    pub positions: Positions,
}

impl Positions {
    /// Left out of what is written, so that configs from before there was a choice keep their hash.
    fn is_one(&self) -> bool {
        *self == Positions::One
    }
}

impl Default for EvaluateSection {
    fn default() -> Self {
        EvaluateSection { sentences: 2000, positions: Positions::One }
    }
}
