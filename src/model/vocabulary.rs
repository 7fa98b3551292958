//! The tokens of a model that is trained here: four special ones, then the language's words in their order; or those of
//! a tokenizer ([`given`](super::own_tokenizer)); and the files that `AutoTokenizer` reads.
//!
//! There is no token for what is no word of the language: `tokenizer.json` names one, as its form demands, that is not
//! in the vocabulary, so that `AutoTokenizer` refuses an unknown word instead of feeding another token in its place.

use std::collections::HashMap;
use std::path::Path;

use super::files::ModelError;
use super::own_tokenizer::OwnTokenizer;
use super::token_ids::TokenIds;
use crate::text::{Pieces, Specials};

/// Beginning of a sentence.
pub const BOS: u32 = 0;
/// Padding.
pub const PAD: u32 = 1;
/// End of a sentence.
pub const EOS: u32 = 2;
/// A masked word.
pub const MASK: u32 = 3;
/// Spelling of the special tokens, by id.
pub const SPECIAL_TOKENS: [&str; 4] = ["<s>", "<pad>", "</s>", "<mask>"];

/// Named in `tokenizer.json` for unknown words. No token has this spelling, but where a language has such a word, which
/// is then what unknown words become.
const UNKNOWN: &str = "<unk>";

/// The words of a model, or the tokenizer that has them.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    words: Vec<String>,
    numbers: HashMap<String, u32>,
    given: Option<OwnTokenizer>,
}

impl Vocabulary {
    /// The vocabulary of a language.
    pub fn new(words: &[String]) -> Vocabulary {
        let numbers = words.iter().cloned().zip(0..).collect();
        Vocabulary { words: words.to_vec(), numbers, given: None }
    }

    /// That of a tokenizer; the files beside it go along with every model.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of_tokenizer(pieces: &Pieces, specials: &Specials) -> Result<Vocabulary, ModelError> {
        let given = Some(OwnTokenizer::read(pieces, specials)?);
        Ok(Vocabulary { words: vec![], numbers: HashMap::new(), given })
    }

    /// Number of a word in the language.
    pub fn number(&self, word: &str) -> Option<u32> {
        self.numbers.get(word).copied()
    }

    /// The tokenizer, where it was given.
    pub fn given(&self) -> Option<&OwnTokenizer> {
        self.given.as_ref()
    }

    /// Number of tokens, special ones included.
    pub fn len(&self) -> usize {
        self.given.as_ref().map_or(self.words.len() + SPECIAL_TOKENS.len(), |given| given.ids().size())
    }

    /// Whether there is no token but special ones.
    pub fn is_empty(&self) -> bool {
        self.given.is_none() && self.words.is_empty()
    }

    /// Words without the special tokens; of a tokenizer none, whose tokens are no words.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The ids of these words.
    pub fn ids(&self) -> TokenIds {
        self.given.as_ref().map_or_else(|| TokenIds::new(self.words.len()), |given| given.ids().clone())
    }

    /// Writes `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`; of a tokenizer its own files.
    pub fn save(&self, folder: &Path, longest: u32) -> std::io::Result<()> {
        if let Some(given) = &self.given {
            return given.save(folder, longest);
        }
        let tokens: Vec<&str> = SPECIAL_TOKENS.into_iter().chain(self.words.iter().map(String::as_str)).collect();
        std::fs::write(folder.join("vocab.txt"), tokens.join("\n") + "\n")?;
        let special = |id: usize| {
            serde_json::json!({ "id": id, "content": SPECIAL_TOKENS[id], "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true })
        };
        let vocab: serde_json::Map<String, serde_json::Value> =
            tokens.iter().enumerate().map(|(i, t)| (t.to_string(), i.into())).collect();
        let piece = |id: &str| serde_json::json!({ "SpecialToken": { "id": id, "type_id": 0 } });
        let sequence = |id: &str| serde_json::json!({ "Sequence": { "id": id, "type_id": 0 } });
        let in_template =
            |t: &str, id: u32| (t.to_string(), serde_json::json!({ "id": t, "ids": [id], "tokens": [t] }));
        let templates: serde_json::Map<String, serde_json::Value> =
            [in_template("<s>", BOS), in_template("</s>", EOS)].into_iter().collect();
        let tokenizer = serde_json::json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": (0..SPECIAL_TOKENS.len()).map(special).collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [piece("<s>"), sequence("A"), piece("</s>")],
                "pair": [piece("<s>"), sequence("A"), piece("</s>"), sequence("B"), piece("</s>")],
                "special_tokens": templates,
            },
            "decoder": null,
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": UNKNOWN },
        });
        let config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>",
            "cls_token": "<s>", "sep_token": "</s>",
            "model_max_length": longest,
        });
        std::fs::write(folder.join("tokenizer.json"), serde_json::to_string_pretty(&tokenizer)? + "\n")?;
        std::fs::write(folder.join("tokenizer_config.json"), serde_json::to_string_pretty(&config)? + "\n")
    }
}
