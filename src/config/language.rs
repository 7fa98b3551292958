//! The section `[language]`: the source of sentences.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::ConfigError;
use crate::language::{Grammar, Hmm, Language, LanguageError, Pcfg, RandomGrammar, RandomHmm};

/// Kind of a language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LanguageKind {
    /// A probabilistic context-free grammar.
    #[default]
    Pcfg,
    /// A hidden Markov model.
    Hmm,
}

/// The source of sentences: a rule file or a random grammar; for a hidden Markov model a file of matrices or random
/// ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageSection {
    /// "pcfg", a probabilistic context-free grammar, or "hmm", a hidden Markov model.
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
    /// Words of the longest sentence; a grammar's longer ones are drawn again.
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
            max_length: 32,
        }
    }
}

impl LanguageSection {
    /// Reads or makes the language.
    ///
    /// # Errors
    /// A grammar or matrices that cannot be used, with file and line; no source.
    pub fn open(&self) -> Result<Arc<dyn Language>, ConfigError> {
        let made = self.made().map_err(|e| {
            let place = e.line.map_or(e.file.clone(), |line| format!("{}:{line}", e.file));
            ConfigError { place, message: e.message }
        })?;
        made.ok_or_else(|| {
            let advice = match self.kind {
                LanguageKind::Pcfg => "give `rules = \"FILE\"` or `random = { levels, symbols, rules, vocabulary }`",
                LanguageKind::Hmm => "give `matrices = \"FILE\"` or `hmm = { states, vocabulary }`",
            };
            ConfigError { place: "[language]".into(), message: format!("no language: {advice}") }
        })
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
        }
    }

    /// Names what cannot be, with the key it stands at.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((key.to_string(), message));
        if self.max_length == 0 || self.max_length > 4096 {
            return bad("language.max_length", format!("{} must lie in 1 to 4096", self.max_length));
        }
        let of_grammar = [("rules", self.rules.is_some()), ("random", self.random.is_some())];
        let of_hmm = [("matrices", self.matrices.is_some()), ("hmm", self.hmm.is_some())];
        let (own, other) = match self.kind {
            LanguageKind::Pcfg => (of_grammar, of_hmm),
            LanguageKind::Hmm => (of_hmm, of_grammar),
        };
        if own.iter().all(|(_, given)| *given) {
            return bad("language", format!("has both `{}` and `{}`; keep one", own[0].0, own[1].0));
        }
        if let Some((key, _)) = other.iter().find(|(_, given)| *given) {
            let kind = if self.kind == LanguageKind::Pcfg { "hmm" } else { "pcfg" };
            return bad(&format!("language.{key}"), format!("belongs to `kind = \"{kind}\"`"));
        }
        match (self.kind, self.min_length) {
            (LanguageKind::Pcfg, Some(_)) => bad("language.min_length", "belongs to `kind = \"hmm\"`".into()),
            (LanguageKind::Hmm, Some(least)) if least == 0 || least > self.max_length => bad(
                "language.min_length",
                format!("{least} must lie in 1 to `language.max_length` = {}", self.max_length),
            ),
            _ => Ok(()),
        }
    }
}
