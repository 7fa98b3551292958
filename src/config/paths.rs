//! Paths as text. TOML and JSON hold text alone, and a path need not be any.

use std::path::{Path, PathBuf};

use super::run::RunConfig;

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
    pub(super) fn paths(&mut self) -> [&mut Option<PathBuf>; 4] {
        let language = &mut self.language;
        [&mut self.output, &mut language.rules, &mut language.matrices, &mut self.train.start_from]
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
