//! Paths as text. TOML and JSON hold text alone, and a path need not be any.

use std::path::{Path, PathBuf};

use super::language::LanguageSection;
use super::run::RunConfig;
use crate::generated::Tokens;

/// Writes a path that people read and no program reads back; for `#[serde(serialize_with)]`.
pub(crate) fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// A path as text, for a file in `folder` that relative paths start from: absolute where that is UTF-8, else relative.
/// `None` where neither is text.
pub fn path_in(folder: &Path, path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    if path.to_str().is_some() {
        return Some(path);
    }
    let folder = std::path::absolute(folder).ok()?;
    let shared = folder.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(shared).map(|_| std::path::Component::ParentDir);
    let relative: PathBuf = up.chain(path.components().skip(shared)).collect();
    relative.to_str().is_some().then_some(relative)
}

impl RunConfig {
    /// The places where paths stand, whether or not there is one.
    pub(super) fn paths(&mut self) -> [Option<&mut PathBuf>; 7] {
        let RunConfig { output, language, train, .. } = self;
        let LanguageSection { rules, matrices, model, sentences, tokens, .. } = language;
        let tokens = match tokens {
            Some(Tokens::File(file)) => Some(file),
            Some(Tokens::MostFrequent(_)) | None => None,
        };
        let [output, rules, matrices, model, sentences, start] =
            [output, rules, matrices, model, sentences, &mut train.start_from].map(Option::as_mut);
        [output, rules, matrices, model, sentences, tokens, start]
    }

    /// The same with paths that are text: what is none in them is shown as `\u{fffd}`, and cannot be read back.
    pub fn shown(&self) -> RunConfig {
        let mut shown = self.clone();
        for path in shown.paths().into_iter().flatten() {
            *path = path.display().to_string().into();
        }
        shown
    }
}
