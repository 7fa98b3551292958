//! Paths as text. TOML and JSON hold text alone, and a path need not be any.

use std::path::{Path, PathBuf};

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
    /// Every path by a key, those of a list by their places.
    pub(super) fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let language = &mut self.language;
        let tokens = language.tokens.as_mut().and_then(Tokens::file).map(|file| ("language.tokens".to_string(), file));
        let single = [
            ("output", &mut self.output),
            ("language.rules", &mut language.rules),
            ("language.matrices", &mut language.matrices),
            ("language.tokenizer", &mut language.tokenizer),
            ("language.cache", &mut language.cache),
            ("language.model", &mut language.model),
            ("language.sentences", &mut language.sentences),
            ("train.start_from", &mut self.train.start_from),
        ];
        let single = single.into_iter().filter_map(|(key, path)| Some((key.to_string(), path.as_mut()?)));
        let branch = self.train.branch.as_mut().map(|branch| ("train.branch.from".to_string(), &mut branch.from));
        let files = language.files.iter_mut().flat_map(|files| files.list_mut()).enumerate();
        single.chain(branch).chain(tokens).chain(files.map(|(i, path)| (format!("language.files.{i}"), path))).collect()
    }

    /// The same with paths that are text: what is none in them is shown as `\u{fffd}`, and cannot be read back.
    pub fn shown(&self) -> RunConfig {
        let mut shown = self.clone();
        for (_, path) in shown.paths() {
            *path = path.display().to_string().into();
        }
        shown
    }
}
