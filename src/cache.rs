//! The folder in which this program may keep what can be made again.

use std::path::PathBuf;

/// `lowland` in the user's cache folder; `None` where there is none.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    Some(base.join("lowland"))
}
