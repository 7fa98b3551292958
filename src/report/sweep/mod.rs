//! A page, figures and tables about sweeps, a function of their tables alone.

mod collapse;
mod convention;
mod correlations;
mod covariates;
mod effects;
mod effects_page;
mod embeddings;
mod figures;
pub(super) mod files;
mod forest;
mod gauged;
mod laws;
mod markup;
mod page;
mod paper;
mod quantity;
mod rows;
mod section;
mod statement;

use std::path::{Path, PathBuf};

use super::ReportError;
use page::Content;

/// Writes the page about the sweeps in a folder and gives its path; `figures/` and `tables/` lie beside it. The page is
/// `report.html` in the folder unless `out` is given.
pub fn write(folder: &Path, out: Option<&Path>) -> Result<PathBuf, ReportError> {
    let path = out.map_or_else(|| folder.join("report.html"), Path::to_path_buf);
    let beside = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut contents = Vec::new();
    for section in section::read(folder)? {
        let correlations = correlations::all(&section);
        let effects = effects::all(&section);
        let collapse = collapse::all(&section);
        let figures = figures::all(&section, &correlations);
        contents.push(Content { section, correlations, effects, collapse, figures });
    }
    for drawn in contents.iter().flat_map(|c| &c.figures) {
        files::figure(&beside.join("figures"), &drawn.name, &drawn.scene)?;
    }
    let tables = beside.join("tables");
    let gather = |of: &dyn Fn(&Content) -> Vec<files::Record>| contents.iter().flat_map(of).collect::<Vec<_>>();
    files::table(&tables, "models", &gather(&|c| rows::models(&c.section)))?;
    files::table(&tables, "summary", &gather(&|c| rows::summary(&c.section)))?;
    files::table(&tables, "correlations", &gather(&|c| correlations::records(&c.section, &c.correlations)))?;
    let effects = gather(&|c| effects::records(&c.section, &c.effects));
    if !effects.is_empty() {
        files::table(&tables, "effects", &effects)?;
    }
    let collapse = gather(&|c| collapse::records(&c.collapse));
    if !collapse.is_empty() {
        files::table(&tables, "collapse", &collapse)?;
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    files::write(&beside, &name, page::page(&contents).as_bytes())?;
    Ok(path)
}
