//! The words of a language found by name among the tokens of a model.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::config::ModelConfig;
use super::files::ModelError;
use super::token_ids::TokenIds;
use super::tokenizer::{Frame, TOKENIZER, Tokenizer, VOCABULARY};
use super::vocabulary::SPECIAL_TOKENS;

/// Other spellings of special tokens than those of models that are trained here.
const USUAL: [&str; 6] = ["[CLS]", "[PAD]", "[SEP]", "[MASK]", "[UNK]", "<unk>"];

impl Tokenizer {
    /// The ids of a language's words in a model with this tokenizer, and what is worth a note.
    ///
    /// # Errors
    /// The first word that it has no token for; special tokens that cannot be told; ids that the model has no row for.
    pub(super) fn ids_of(&self, words: &[String], config: &ModelConfig) -> Result<(TokenIds, Vec<String>), String> {
        let mut notes = self.notes.clone();
        let mut found = Vec::with_capacity(words.len());
        for word in words {
            match self.ids.get(word) {
                Some(_) if self.repeated.contains(word) => return Err(format!("has `{word}` twice")),
                Some(id) => found.push(*id),
                None => return Err(self.missing(word, words)),
            }
        }
        let lacking = |what: &str| format!("has no token for the {what}, and no file beside it names one");
        let (bos, eos) = match &self.frame {
            Frame::Ids { bos, eos } => (*bos, *eos),
            Frame::Other(what) => {
                return Err(format!("puts {what} around a sentence; here it is one token before and one behind"));
            }
            Frame::Unsaid => {
                let bos = self.special(&["cls_token", "bos_token"], ["<s>", "[CLS]"])?;
                let eos = self.special(&["sep_token", "eos_token"], ["</s>", "[SEP]"])?;
                (
                    bos.ok_or_else(|| lacking("beginning of a sentence"))?,
                    eos.ok_or_else(|| lacking("end of a sentence"))?,
                )
            }
        };
        if self.frame == Frame::Unsaid && !self.adds_by_class {
            let spell = |id| self.spelling(id).unwrap_or_default();
            notes.push(format!(
                "the model's tokenizer puts nothing around a sentence; it is fed as `{} ... {}` all the same",
                spell(bos),
                spell(eos)
            ));
        }
        let mask = self.special(&["mask_token"], ["<mask>", "[MASK]"])?;
        let ids =
            TokenIds { pad: None, words: found, frame: Some([bos, eos]), plain: None, mask, size: config.vocab_size };
        self.check(&ids, [bos, eos], words, config)?;
        let fed = ids.fed();
        // A padding token that is not in the file has no row either.
        let pad = self.special(&["pad_token"], ["<pad>", "[PAD]"]).ok().flatten().or(config.pad_token_id);
        let pad = pad.filter(|pad| *pad < config.vocab_size && !fed.contains(pad));
        let others: Vec<u32> = (0..config.vocab_size).filter(|id| !fed.contains(id) && Some(*id) != pad).collect();
        if !others.is_empty() {
            let names: Vec<String> =
                others.iter().filter_map(|id| self.spelling(*id)).take(3).map(|token| format!("`{token}`")).collect();
            let named = match names.len() {
                0 => String::new(),
                n => format!(" ({}{})", names.join(", "), if n < others.len() { ", ..." } else { "" }),
            };
            let (n, are) = match others.len() {
                1 => ("1 token".into(), "is no word"),
                n => (format!("{n} tokens"), "are no words"),
            };
            notes.push(format!(
                "the model has {n}{named} that {are} of the language; its softmax is over all its tokens"
            ));
        }
        Ok((TokenIds { pad, ..ids }, notes))
    }

    /// That every id that is fed has one meaning and a row.
    fn check(
        &self,
        ids: &TokenIds,
        [bos, eos]: [u32; 2],
        words: &[String],
        config: &ModelConfig,
    ) -> Result<(), String> {
        let mut meaning: HashMap<u32, &str> = HashMap::new();
        let specials = [(bos, "beginning of a sentence"), (eos, "end of a sentence")];
        for (id, what) in specials.into_iter().chain(ids.mask.map(|mask| (mask, "masked word"))) {
            if id >= config.vocab_size {
                return Err(format!("gives the {what} the id {id}, config.json has vocab_size {}", config.vocab_size));
            }
            meaning.insert(id, what);
        }
        if let Some(mask) = ids.mask.filter(|mask| [bos, eos].contains(mask)) {
            return Err(format!("gives the masked word and the end of a sentence one id, {mask}"));
        }
        for (id, word) in ids.words.iter().zip(words) {
            if *id >= config.vocab_size {
                return Err(format!("gives `{word}` the id {id}, config.json has vocab_size {}", config.vocab_size));
            }
            if let Some(other) = meaning.insert(*id, word) {
                return Err(format!("gives `{word}` the id {id}, which is that of `{other}` too"));
            }
        }
        check_padding(ids, config).map_err(|id| {
            format!(
                "gives `{}` the id {id}, which config.json calls padding (pad_token_id): it would have no position",
                self.spelling(id).unwrap_or_default()
            )
        })
    }

    fn missing(&self, word: &str, words: &[String]) -> String {
        let missing = words.iter().filter(|w| !self.ids.contains_key(*w)).count();
        let known: HashSet<&str> = words.iter().map(String::as_str).collect();
        let named = self.named.values().map(|(token, _)| token.as_str());
        let specials: HashSet<&str> = named.chain(SPECIAL_TOKENS).chain(USUAL).collect();
        let mut others: Vec<(&u32, &str)> = self.ids.iter().map(|(token, id)| (id, token.as_str())).collect();
        others.retain(|(_, token)| !known.contains(token) && !specials.contains(token));
        let instead = match others.iter().min() {
            Some((id, other)) => format!("; it has `{other}` (id {id}), which is no word of the language"),
            None => String::new(),
        };
        format!(
            "has no token for the language's word `{word}` ({missing} of its {} words are missing){instead}",
            words.len()
        )
    }
}

/// That no token has the id of padding in a model whose positions are counted over what is no padding; else that id.
fn check_padding(ids: &TokenIds, config: &ModelConfig) -> Result<(), u32> {
    match config.pad_token_id {
        Some(pad) if config.kind.counts_from_pad() && ids.fed().contains(&pad) => Err(pad),
        _ => Ok(()),
    }
}

/// The ids of a language's words in the model of a folder, matched by name, and what is worth a note. Where no file
/// tells the words they are taken to be in the order of a model that is trained here.
///
/// # Errors
/// With the file: what cannot be matched, and the first word that has no token.
pub fn match_words(
    folder: &Path,
    words: &[String],
    config: &ModelConfig,
) -> Result<(TokenIds, Vec<String>), ModelError> {
    if let Some(tokenizer) = Tokenizer::read(folder)? {
        let error = |message| ModelError::Format { path: tokenizer.file.clone(), message };
        return tokenizer.ids_of(words, config).map_err(error);
    }
    let error = |message| ModelError::Format { path: folder.into(), message };
    let ids = TokenIds::new(words.len());
    if ids.size() != config.vocab_size as usize {
        return Err(error(format!(
            "no {TOKENIZER} or {VOCABULARY} tells its words, and it has {} tokens where the language has {} words and \
             {} special tokens",
            config.vocab_size,
            words.len(),
            SPECIAL_TOKENS.len()
        )));
    }
    check_padding(&ids, config).map_err(|id| {
        error(format!(
            "no {TOKENIZER} or {VOCABULARY} tells its words, and config.json calls id {id} padding, not id {}",
            super::PAD
        ))
    })?;
    let note = format!(
        "{}: no {TOKENIZER} or {VOCABULARY}, so that its words could not be compared; they are taken to be {}, then \
         the language's in byte order",
        folder.display(),
        SPECIAL_TOKENS.join(", ")
    );
    Ok((ids, vec![note]))
}
