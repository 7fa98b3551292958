//! A tokenizer that was given: its tokens are those of the models that are trained on its text, with its ids. Its files
//! go along with every such model, and another model must have the same one to be asked about the text.

use std::path::Path;

use serde_json::Value;

use super::config::ModelConfig;
use super::files::{Loaded, ModelError};
use super::token_ids::TokenIds;
use super::tokenizer::{TOKENIZER, tokenizer_files};
use crate::text::{Pieces, Specials, TOKENIZER_CONFIG, without_mark};

/// A tokenizer with its files.
#[derive(Clone, Debug)]
pub struct OwnTokenizer {
    /// Name and contents; the first is the tokenizer.
    files: Vec<(String, Vec<u8>)>,
    ids: TokenIds,
    specials: Specials,
    /// Spellings of the special tokens by role.
    spelled: Vec<(&'static str, String)>,
}

impl OwnTokenizer {
    /// A tokenizer with the files beside it.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn read(pieces: &Pieces, specials: &Specials) -> Result<OwnTokenizer, ModelError> {
        let folder = pieces.path().parent().unwrap_or(Path::new(""));
        let beside = tokenizer_files(folder).into_iter().filter(|path| !path.ends_with(TOKENIZER));
        let mut files = Vec::new();
        for path in std::iter::once(pieces.path().to_path_buf()).chain(beside) {
            let name =
                if files.is_empty() { TOKENIZER.into() } else { path.file_name().unwrap_or_default().to_owned() };
            match crate::files::read(&path, crate::files::LARGE) {
                Ok(bytes) => files.push((name.to_string_lossy().into_owned(), bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ModelError::Io { path, source }),
            }
        }
        let special = pieces.special_ids();
        let plain = (0..pieces.size()).filter(|id| special.binary_search(id).is_err()).collect();
        let ids = TokenIds::of_tokenizer(pieces.size(), plain, specials.mask, specials.pad);
        let named = [
            ("bos_token", specials.bos),
            ("eos_token", specials.eos),
            ("mask_token", specials.mask),
            ("pad_token", specials.pad),
        ];
        let spelled = named.into_iter().filter_map(|(role, id)| Some((role, pieces.piece(id?)?))).collect();
        Ok(OwnTokenizer { files, ids, specials: specials.clone(), spelled })
    }

    /// The ids of its tokens.
    pub fn ids(&self) -> &TokenIds {
        &self.ids
    }

    /// Its special tokens.
    pub fn specials(&self) -> &Specials {
        &self.specials
    }

    /// Writes its files, and a `tokenizer_config.json` where it came without one.
    pub(super) fn save(&self, folder: &Path, longest: u32) -> std::io::Result<()> {
        for (name, bytes) in &self.files {
            std::fs::write(folder.join(name), bytes)?;
        }
        if self.files.iter().any(|(name, _)| name == TOKENIZER_CONFIG) {
            return Ok(());
        }
        let mut config =
            serde_json::json!({ "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest });
        for (role, spelling) in &self.spelled {
            config[*role] = spelling.as_str().into();
        }
        std::fs::write(folder.join(TOKENIZER_CONFIG), serde_json::to_string_pretty(&config)? + "\n")
    }

    /// The ids of special tokens as `config.json` names them.
    pub(super) fn name_in(&self, config: &mut Value) {
        for (key, id) in [("bos_token_id", self.specials.bos), ("eos_token_id", self.specials.eos)] {
            config[key] = id.into();
        }
    }

    /// The ids under a model that has the same tokenizer, and what is worth a note.
    ///
    /// # Errors
    /// Another tokenizer, with what differs; too few rows.
    pub fn ids_in(&self, model: &Loaded) -> Result<(TokenIds, Vec<String>), ModelError> {
        let mut notes = Vec::new();
        let path = model.folder.join(TOKENIZER);
        match crate::files::read(&path, crate::files::LARGE) {
            Ok(bytes) => {
                let differs = |message| ModelError::Format { path: path.clone(), message };
                self.compare(&bytes).map_err(differs)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => notes.push(format!(
                "{}: no {TOKENIZER}, so that its tokenizer could not be compared; it is taken to be that of the text",
                model.folder.display()
            )),
            Err(source) => return Err(ModelError::Io { path, source }),
        }
        let config: &ModelConfig = &model.encoder.config;
        if config.vocab_size < self.ids.size() as u32 {
            let message = format!(
                "has {} rows of tokens (vocab_size), and the text's tokenizer has {} tokens",
                config.vocab_size,
                self.ids.size()
            );
            return Err(ModelError::Format { path: model.folder.clone(), message });
        }
        Ok((self.ids.with_rows(config.vocab_size), notes))
    }

    /// That a `tokenizer.json` cuts text as this one does.
    fn compare(&self, theirs: &[u8]) -> Result<(), String> {
        let own = &self.files[0].1;
        if own == theirs {
            return Ok(());
        }
        let read = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
            serde_json::from_str::<Value>(without_mark(text)).map_err(|e| e.to_string())
        };
        let (own, theirs) = (read(own)?, read(theirs)?);
        let other = "; the model's own tokenizer is to be `language.tokenizer`";
        let (own_words, words) = (tokens(&own), tokens(&theirs));
        if let Some((token, id)) = words.iter().find(|(token, id)| own_words.get(*token) != Some(*id)) {
            let ours = own_words.get(token).map_or("has no such token".into(), |id| format!("gives it {id}"));
            return Err(format!("gives `{token}` the id {id}, and the tokenizer of the text {ours}{other}"));
        }
        if let Some((token, _)) = own_words.iter().find(|(token, _)| !words.contains_key(*token)) {
            return Err(format!("has no token `{token}`, which the tokenizer of the text has{other}"));
        }
        for (key, what) in [
            ("normalizer", "cuts text in another way than the tokenizer of the text"),
            ("pre_tokenizer", "cuts text in another way than the tokenizer of the text"),
            ("added_tokens", "finds added tokens in another way than the tokenizer of the text"),
            ("post_processor", "puts other special tokens around a text than the tokenizer of the text"),
        ] {
            if !alike(&own[key], &theirs[key]) {
                return Err(format!("{what} (`{key}`){other}"));
            }
        }
        if merges(&own) != merges(&theirs) {
            return Err(format!("merges pieces in another way than the tokenizer of the text (`model.merges`){other}"));
        }
        let without_merges = |json: &Value| {
            let mut model = json["model"].as_object().cloned().unwrap_or_default();
            model.remove("merges");
            Value::Object(model)
        };
        let (own, theirs) = (without_merges(&own), without_merges(&theirs));
        let keys = own.as_object().into_iter().chain(theirs.as_object()).flat_map(|model| model.keys());
        match keys.into_iter().find(|key| !alike(&own[key.as_str()], &theirs[key.as_str()])) {
            Some(key) => Err(format!("cuts text in another way than the tokenizer of the text (`model.{key}`){other}")),
            None => Ok(()),
        }
    }
}

/// Whether two values say the same, a key that is left out, null, false or empty being nothing.
fn alike(a: &Value, b: &Value) -> bool {
    let nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    match (a, b) {
        (Value::Object(one), Value::Object(two)) => one.keys().chain(two.keys()).all(|key| alike(&a[key], &b[key])),
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(a, b)| alike(a, b))
        }
        _ => a == b || (nothing(a) && nothing(b)),
    }
}

/// Every token with its id.
fn tokens(json: &Value) -> std::collections::BTreeMap<String, u64> {
    let vocabulary = &json["model"]["vocab"];
    let mapped = vocabulary.as_object().into_iter().flatten().filter_map(|(t, id)| Some((t.clone(), id.as_u64()?)));
    // A unigram model lists tokens with their scores.
    let listed = vocabulary.as_array().into_iter().flatten().enumerate();
    let listed = listed.filter_map(|(i, pair)| Some((pair[0].as_str()?.to_string(), i as u64)));
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter_map(|token| Some((token["content"].as_str()?.to_string(), token["id"].as_u64()?)));
    mapped.chain(listed).chain(added).collect()
}

/// Merges of a BPE model, which files write as pairs or with a blank between.
fn merges(json: &Value) -> Vec<String> {
    let one = |merge: &Value| match merge.as_array() {
        Some(pair) => pair.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        None => merge.as_str().unwrap_or_default().to_string(),
    };
    json["model"]["merges"].as_array().into_iter().flatten().map(one).collect()
}
