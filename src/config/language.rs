//! The section `[language]`: the source of sentences.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::ConfigError;
use super::text::Files;
use crate::generated::{Generated, Source, Tokens};
use crate::language::{Brackets, Grammar, Hmm, Language, LanguageError, Pcfg, RandomGrammar, RandomHmm};
use crate::text::TextFormat;

/// Kind of a language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LanguageKind {
    /// A probabilistic context-free grammar.
    #[default]
    Pcfg,
    /// A hidden Markov model.
    Hmm,
    /// Brackets that prefer as many opening as closing ones.
    Brackets,
    /// What a causal model generates, restricted to some of its tokens.
    Generated,
    /// Files of text under a tokenizer.
    Text,
}

impl LanguageKind {
    /// The name in a config.
    pub fn name(self) -> &'static str {
        match self {
            LanguageKind::Pcfg => "pcfg",
            LanguageKind::Hmm => "hmm",
            LanguageKind::Brackets => "brackets",
            LanguageKind::Generated => "generated",
            LanguageKind::Text => "text",
        }
    }
}

/// The source of sentences: a rule file or a random grammar; for a hidden Markov model a file of matrices or random
/// ones; for brackets their number and their preference for balance; for text its files and a tokenizer; for a
/// generated language a causal model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageSection {
    /// "pcfg", a probabilistic context-free grammar, "hmm", a hidden Markov model, "brackets", sentences of two words
    /// with a probability that falls with the square of their difference, "text", files under a tokenizer, or
    /// "generated", what a causal model generates, restricted to some of its tokens.
    pub kind: LanguageKind,
    /// Rule file, relative to the config file: one line `LEFT RIGHT [RIGHT] WEIGHT` per rule, `S` the start symbol, `#`
    /// before comments; or, where the first rule has `->`, nltk's text of a PCFG: `NP -> Det N [0.7] | 'dogs' [0.3]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<PathBuf>,
    /// A random layered grammar instead of a rule file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<RandomGrammar>,
    /// File of a hidden Markov model's matrices, relative to the config file: `initial STATE WEIGHT`,
    /// `transition FROM TO WEIGHT` or `emission STATE WORD WEIGHT` a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrices: Option<PathBuf>,
    /// A random hidden Markov model instead of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmm: Option<RandomHmm>,
    /// Words of the shortest sentence of a hidden Markov model; lengths are uniform up to max_length. Left out: all
    /// sentences have max_length words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_length: Option<usize>,
    /// Brackets in every sentence of `kind = "brackets"`; of `kind = "text"` the tokens that a model is fed at once,
    /// special ones included, at most (left out: 128).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Preference of brackets for balance, 0 to 100: P(x) ∝ exp(-kappa (opening - closing)²).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kappa: Option<f64>,
    /// Folder of the causal model of `kind = "generated"`, relative to the config file: `config.json` and
    /// `model.safetensors`, with a tokenizer beside them for the words' spelling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The model's tokens that are words of `kind = "generated"`: 2000, so many of OPT's most frequent ones, or a file
    /// of ids, relative to the config file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// File of sentences of `kind = "generated"`, as `lowland language sample` prints them, relative to the config
    /// file: those of training, in the place of drawn ones. Held-out sentences are drawn from the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentences: Option<PathBuf>,
    /// Files of text, or one, relative to the config file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// The `tokenizer.json` that cuts it, relative to the config file, or the folder that it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// "lines" (a document a line), "documents" (a document a file) or "jsonl" (a JSON object a line, the document in
    /// its field `text`). Left out: lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TextFormat>,
    /// true: examples of `length` tokens are cut out of one stream of all documents, with the token of a document's end
    /// between them; false: an example holds tokens of one document alone. Left out: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pack: Option<bool>,
    /// Share of the documents that models are evaluated and measured on and never trained on, above 0 and below 1: one
    /// at a random place of every 1 / share, the same for every seed. Left out: 0.01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f64>,
    /// Folder for the text's tokens, relative to the config file. Left out: `lowland/text` in the user's cache folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Words of the longest sentence; a grammar's longer ones are drawn again. Brackets and text have `length` instead.
    pub max_length: usize,
}

impl Default for LanguageSection {
    fn default() -> Self {
        LanguageSection {
            kind: LanguageKind::Pcfg,
            rules: None,
            random: None,
            matrices: None,
            hmm: None,
            min_length: None,
            length: None,
            kappa: None,
            model: None,
            tokens: None,
            sentences: None,
            files: None,
            tokenizer: None,
            format: None,
            pack: None,
            held_out: None,
            cache: None,
            max_length: 32,
        }
    }
}

impl LanguageSection {
    /// Reads or makes the language; a generated one is on no adapter yet. Text, whose examples hang on the objective,
    /// is opened by [`text`](Self::text) and counts as none here.
    ///
    /// # Errors
    /// A grammar, matrices or a model that cannot be used, with file and line; no source.
    pub fn open(&self) -> Result<Arc<dyn Language>, ConfigError> {
        let made = self.made().map_err(at_place)?;
        made.ok_or_else(|| {
            let advice = match self.kind {
                LanguageKind::Pcfg => "give `rules = \"FILE\"` or `random = { levels, symbols, rules, vocabulary }`",
                LanguageKind::Hmm => "give `matrices = \"FILE\"` or `hmm = { states, vocabulary }`",
                LanguageKind::Brackets => "give `length` and `kappa`, as 8 and 0.1",
                LanguageKind::Generated => "give `model = \"FOLDER\"` and `tokens`, as 2000",
                LanguageKind::Text => super::text::ADVICE,
            };
            ConfigError { place: "[language]".into(), message: format!("no language: {advice}") }
        })
    }

    /// The generated language; `None` for a language of another kind, and where no source is given.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn generated(&self) -> Result<Option<Generated>, ConfigError> {
        self.source().map(|source| Generated::open(&source).map_err(at_place)).transpose()
    }

    /// Where a generated language comes from.
    fn source(&self) -> Option<Source> {
        let (model, tokens) = (self.model.clone()?, self.tokens.clone()?);
        let source = Source { model, tokens, sentences: self.sentences.clone(), max_length: self.max_length };
        (self.kind == LanguageKind::Generated).then_some(source)
    }

    /// The language; `None` where no source is given.
    fn made(&self) -> Result<Option<Arc<dyn Language>>, LanguageError> {
        let most = self.max_length;
        match self.kind {
            LanguageKind::Pcfg => {
                let grammar = match (&self.rules, &self.random) {
                    (Some(path), _) => Grammar::read(path)?,
                    (None, Some(shape)) => Grammar::random(shape)?,
                    (None, None) => return Ok(None),
                };
                Ok(Some(Arc::new(Pcfg::new(grammar, most)?)))
            }
            LanguageKind::Hmm => {
                let least = self.min_length.unwrap_or(most);
                match (&self.matrices, &self.hmm) {
                    (Some(path), _) => Ok(Some(Arc::new(Hmm::read(path, least, most)?))),
                    (None, Some(shape)) => Ok(Some(Arc::new(Hmm::random(shape, least, most)?))),
                    (None, None) => Ok(None),
                }
            }
            LanguageKind::Brackets => {
                let (Some(length), Some(kappa)) = (self.length, self.kappa) else { return Ok(None) };
                let wrong = |message| LanguageError { file: "[language]".into(), line: None, message };
                Ok(Some(Arc::new(Brackets::new(length, kappa).map_err(wrong)?)))
            }
            LanguageKind::Generated => match self.source() {
                Some(source) => Ok(Some(Arc::new(Generated::open(&source)?))),
                None => Ok(None),
            },
            LanguageKind::Text => Ok(None),
        }
    }

    /// Tokens that a model is fed of the longest sentence.
    pub fn longest(&self) -> u32 {
        match (self.kind, self.length) {
            (LanguageKind::Text, _) => self.cutting(false).length as u32,
            (LanguageKind::Brackets, Some(length)) => length as u32 + 2,
            _ => self.max_length as u32 + 2,
        }
    }

    /// Names what cannot be, with the key it stands at.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((key.to_string(), message));
        if self.max_length == 0 || self.max_length > 4096 {
            return bad("language.max_length", format!("{} must lie in 1 to 4096", self.max_length));
        }
        let own = |kind: LanguageKind| if self.kind == LanguageKind::Text { self.kind } else { kind };
        let keys = [
            (LanguageKind::Text, "files", self.files.is_some()),
            (LanguageKind::Text, "tokenizer", self.tokenizer.is_some()),
            (LanguageKind::Text, "format", self.format.is_some()),
            (LanguageKind::Text, "pack", self.pack.is_some()),
            (LanguageKind::Text, "held_out", self.held_out.is_some()),
            (LanguageKind::Text, "cache", self.cache.is_some()),
            (LanguageKind::Pcfg, "rules", self.rules.is_some()),
            (LanguageKind::Pcfg, "random", self.random.is_some()),
            (LanguageKind::Hmm, "matrices", self.matrices.is_some()),
            (LanguageKind::Hmm, "hmm", self.hmm.is_some()),
            (LanguageKind::Hmm, "min_length", self.min_length.is_some()),
            (own(LanguageKind::Brackets), "length", self.length.is_some()),
            (LanguageKind::Brackets, "kappa", self.kappa.is_some()),
            (LanguageKind::Generated, "model", self.model.is_some()),
            (LanguageKind::Generated, "tokens", self.tokens.is_some()),
            (LanguageKind::Generated, "sentences", self.sentences.is_some()),
        ];
        if let Some((kind, key, _)) = keys.iter().find(|(kind, _, given)| *given && *kind != self.kind) {
            return bad(&format!("language.{key}"), format!("belongs to `kind = \"{}\"`", kind.name()));
        }
        for (one, other) in [("rules", "random"), ("matrices", "hmm")] {
            let given = |name: &str| keys.iter().any(|(_, key, given)| *key == name && *given);
            if given(one) && given(other) {
                return bad("language", format!("has both `{one}` and `{other}`; keep one"));
            }
        }
        if let Some(least) = self.min_length
            && (least == 0 || least > self.max_length)
        {
            let message = format!("{least} must lie in 1 to `language.max_length` = {}", self.max_length);
            return bad("language.min_length", message);
        }
        if self.kind == LanguageKind::Text {
            return self.check_text();
        }
        if let Some(length) = self.length {
            if !(1..=4096).contains(&length) {
                return bad("language.length", format!("{length} must lie in 1 to 4096"));
            }
            if ![LanguageSection::default().max_length, length].contains(&self.max_length) {
                return bad("language.max_length", "brackets have `language.length`".into());
            }
        }
        match self.kappa {
            Some(kappa) if !(0.0..=100.0).contains(&kappa) => {
                bad("language.kappa", format!("{kappa} must lie in 0 to 100"))
            }
            _ => Ok(()),
        }
    }
}

fn at_place(error: LanguageError) -> ConfigError {
    let place = error.line.map_or(error.file.clone(), |line| format!("{}:{line}", error.file));
    ConfigError { place, message: error.message }
}
