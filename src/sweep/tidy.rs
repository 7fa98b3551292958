//! What killed processes leave in a sweep's folders, and its removal.

use std::path::{Path, PathBuf};

use super::attempt::{ATTEMPTS, PUBLISHED, attempts, failed, gone_is_fine, move_published, names, remove_free};
use super::error::RunFailure;
use crate::train;

/// A file that a write left which was cut off.
fn is_half_written(name: &str) -> bool {
    crate::model::is_temporary(name) || [".now-", ".aside-"].iter().any(|part| name.contains(part))
}

/// Removes half-written files of a folder that several write in, where they are older than anybody takes for one.
pub(super) fn remove_old_halves(folder: &Path) {
    for name in names(folder).into_iter().filter(|name| is_half_written(name)) {
        let path = folder.join(name);
        let modified = std::fs::metadata(&path).and_then(|data| data.modified());
        if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > train::Pace::default().stale)) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Folders of a run in which files are written: its own, its models', and those of the answers.
fn written_in(run: &Path) -> Vec<PathBuf> {
    let examined = run.join("examined");
    let answers = names(&examined).into_iter().map(|name| examined.join(name));
    let own = [run.to_path_buf(), run.join("model"), run.join("model-ema"), run.join(ATTEMPTS)];
    own.into_iter().chain(answers).collect()
}

/// Whether a run that is done holds what somebody left who was killed.
pub(super) fn is_untidy(run: &Path) -> bool {
    let left = |folder: &PathBuf| {
        names(folder).iter().any(|name| is_half_written(name) || name.contains(".lock") || name.ends_with(".owner"))
    };
    !attempts(run).is_empty() || run.join(PUBLISHED).exists() || written_in(run).iter().any(left)
}

/// Removes what those left who were killed. Under the run's claim.
pub(super) fn tidy(run: &Path) -> Result<(), RunFailure> {
    move_published(run)?;
    remove_free(run, None).map_err(failed(run))?;
    for folder in written_in(run) {
        for name in names(&folder).into_iter().filter(|name| is_half_written(name)) {
            let path = folder.join(name);
            gone_is_fine(std::fs::remove_file(&path)).map_err(failed(&path))?;
        }
    }
    // Claims of the dead: of the training, and of who died while it took one over.
    for name in names(run).into_iter().filter(|name| name.ends_with(".takeover") || name == train::CLAIM) {
        let path = run.join(name);
        if !train::is_claimed(&path) {
            gone_is_fine(std::fs::remove_file(&path)).map_err(failed(&path))?;
        }
    }
    let _ = std::fs::remove_dir(run.join(ATTEMPTS));
    Ok(())
}
