//! Folders as the Hugging Face hub's cache has them: `models--ORGANISATION--NAME/snapshots/REVISION`, whose files are
//! links to `blobs`, and `refs/NAME`, each a file with the revision that the name stands for.

use std::path::{Path, PathBuf};

use super::files::ModelError;
use crate::files;

/// Bytes that no name of a revision has.
const REVISION: u64 = 4096;

/// The folder with a model's `config.json`: the one that was named, or where that is one of the hub's cache the
/// snapshot of `refs/main`, else the only one.
///
/// # Errors
/// Several snapshots and no `refs/main`, or one that is not there: lists them.
pub fn model_folder(named: &Path) -> Result<PathBuf, ModelError> {
    let snapshots = named.join("snapshots");
    if named.join("config.json").exists() || !snapshots.is_dir() {
        return Ok(named.into());
    }
    let io = |source| ModelError::Io { path: snapshots.clone(), source };
    let mut revisions = Vec::new();
    for entry in std::fs::read_dir(&snapshots).map_err(io)? {
        let path = entry.map_err(io)?.path();
        revisions.extend(path.is_dir().then_some(path));
    }
    revisions.sort();
    let refs = refs(named);
    if let Some((_, revision)) = refs.iter().find(|(name, _)| name == "main") {
        let folder = snapshots.join(revision);
        return match revisions.contains(&folder) {
            true => Ok(folder),
            false => {
                let there = listed(&revisions, &refs);
                Err(ModelError::format(named, format!("refs/main is {revision}, which is not there{there}")))
            }
        };
    }
    match revisions.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(ModelError::format(&snapshots, "holds no snapshot")),
        several => {
            let there = listed(several, &refs);
            Err(ModelError::format(named, format!("has several snapshots and no refs/main; name one of them{there}")))
        }
    }
}

/// The folder that links in a model's folder may lead to: its own, or in the hub's cache that of all revisions, where
/// `blobs` has the files.
pub(super) fn root_of(folder: &Path) -> PathBuf {
    // Of a folder that is not there, nothing is read.
    let own = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let snapshots = own.parent().filter(|parent| parent.ends_with("snapshots"));
    match snapshots.and_then(Path::parent).filter(|model| model.join("blobs").is_dir()) {
        Some(model) => model.into(),
        None => own,
    }
}

/// The names of revisions, `main` and others, with the revisions.
fn refs(named: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(named.join("refs")).into_iter().flatten().flatten() {
        // Names with a slash lie in folders of their own; they help nobody to choose.
        if let (Ok(name), Ok(revision)) = (entry.file_name().into_string(), files::text(&entry.path(), REVISION)) {
            all.push((name, revision.trim().to_string()));
        }
    }
    all.sort();
    all
}

/// The snapshots, with the names that stand for them.
fn listed(revisions: &[PathBuf], refs: &[(String, String)]) -> String {
    let line = |folder: &PathBuf| {
        let own = |(_, revision): &&(String, String)| folder.file_name().is_some_and(|name| name == revision.as_str());
        let names: Vec<&str> = refs.iter().filter(own).map(|(name, _)| name.as_str()).collect();
        let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        format!("\n  {}{names}", folder.display())
    };
    let all: Vec<String> = revisions.iter().map(line).collect();
    if all.is_empty() { "; there is no snapshot".into() } else { format!(":{}", all.concat()) }
}
