//! Pages about runs and sweeps: one self-contained html file, figures drawn as SVG, nothing loaded from elsewhere.
//!
//! ```no_run
//! let page = lowland::report::write_run("runs/demo".as_ref(), None)?;
//! println!("{}", page.display());
//! # Ok::<(), lowland::report::ReportError>(())
//! ```

mod axis;
mod curvature;
mod figure;
mod html;
mod palette;
mod panels;
mod run;
mod scene;
mod sweep;
mod theory;

use std::path::{Path, PathBuf};

pub use figure::{Axis, Figure, Line};
pub use theory::{write_brackets, write_dyck};

/// Why a page cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A folder without a run's metrics.
    #[error("{}: holds no run (no metrics.jsonl)", .0.display())]
    NoRun(PathBuf),
    /// A folder with neither a run nor a sweep.
    #[error("{}: holds no run (no metrics.jsonl) and no sweep (no table.json, nor in its subfolders)", .0.display())]
    Empty(PathBuf),
    /// A sweep's table that this version does not read.
    #[error("{}: {message}", path.display())]
    Table {
        /// The table's file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A run that is damaged, or what cannot be drawn.
    #[error("{}: {message}", path.display())]
    Run {
        /// The folder or file.
        path: PathBuf,
        /// What it lacks.
        message: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Writes the page about a run, finished or not, and gives its path; `report.html` in the folder unless `out` is given.
///
/// # Errors
/// A folder without `metrics.jsonl`, a line in it that is no JSON, a page that cannot be written.
pub fn write_run(folder: &Path, out: Option<&Path>) -> Result<PathBuf, ReportError> {
    let run = run::Run::read(folder)?;
    let path = out.map_or_else(|| folder.join("report.html"), Path::to_path_buf);
    let page = html::page(&run);
    crate::model::write_synced(&path, page.as_bytes())
        .map_err(|source| ReportError::Io { path: path.clone(), source })?;
    Ok(path)
}

/// Writes the page about a folder: of a run where it holds `metrics.jsonl`, otherwise of the sweeps in it.
///
/// # Errors
/// The errors of [`write_run`] and [`write_sweeps`].
pub fn write(folder: &Path, out: Option<&Path>) -> Result<PathBuf, ReportError> {
    match folder.join("metrics.jsonl").exists() {
        true => write_run(folder, out),
        false => write_sweeps(folder, out),
    }
}

/// Writes the page about sweeps and gives its path, `report.html` in the folder unless `out` is given. Beside it lie
/// each figure as SVG and PNG in `figures/`, and `models`, `summary`, `correlations` and, where one is measured,
/// `collapse` as CSV and JSON in `tables/`. `table.json` is looked for in the folder, in its subfolders and in theirs;
/// tables of one language and one seed of sentences are laid together. All bytes are a function of the tables.
///
/// # Errors
/// A folder without a table, a table that is damaged or of another format, a file that cannot be written.
pub fn write_sweeps(folder: &Path, out: Option<&Path>) -> Result<PathBuf, ReportError> {
    sweep::write(folder, out)
}
