//! Tables of sweeps as they are found in folders, laid together where they are of one language and one objective.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::super::ReportError;
use crate::sweep::{LOOKUP, Row, Table, Task};

/// Sweeps whose models were evaluated, measured and probed on the same sentences of one language by one objective.
pub struct Section {
    /// Begins the names of its figures; empty where there is one section.
    pub prefix: String,
    pub tables: Vec<Table>,
}

/// A model of a section.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    pub table: &'a Table,
    pub row: &'a Row,
    /// Another sweep before it has the same run at the same step.
    pub repeat: bool,
}

impl<'a> Model<'a> {
    /// What bootstrap draws have together with it: the checkpoints of its run, or of the training that it came from.
    pub fn drawn_with(&self) -> &'a str {
        self.row.drawn_with.as_deref().unwrap_or(&self.row.run)
    }
}

/// The rows of the lookup table, which is no trained model.
pub fn is_lookup(row: &Row) -> bool {
    row.run == LOOKUP
}

/// A model in another gauge than its own: the same function again, whose trace says nothing of what it learned.
pub fn is_regauged(row: &Row) -> bool {
    row.values.keys().any(|key| key.starts_with("gauge."))
}

impl Section {
    pub fn language(&self) -> &str {
        &self.tables[0].language
    }

    /// All models in order, the lookup table among them.
    pub fn models(&self) -> Vec<Model<'_>> {
        let mut models: Vec<Model<'_>> = Vec::new();
        for table in &self.tables {
            for row in &table.rows {
                let same = |m: &Model<'_>| m.row.run == row.run && m.row.step == row.step;
                let repeat = models.iter().any(same);
                models.push(Model { table, row, repeat });
            }
        }
        models
    }

    /// Trained models, each once and in its own gauge.
    pub fn trained(&self) -> Vec<Model<'_>> {
        self.models().into_iter().filter(|m| !m.repeat && !is_lookup(m.row) && !is_regauged(m.row)).collect()
    }

    /// Models in other gauges than their own.
    pub fn regauged(&self) -> usize {
        self.models().into_iter().filter(|m| !m.repeat && is_regauged(m.row)).count()
    }

    /// Tasks of all tables, each once.
    pub fn tasks(&self) -> Vec<&Task> {
        let mut tasks: Vec<&Task> = Vec::new();
        for task in self.tables.iter().flat_map(|t| &t.tasks) {
            if !tasks.iter().any(|t| t.task == task.task) {
                tasks.push(task);
            }
        }
        tasks
    }

    /// Interventions, each once; their order gives colours.
    pub fn interventions(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for table in &self.tables {
            if !all.contains(&table.intervention.as_str()) {
                all.push(&table.intervention);
            }
        }
        all
    }

    /// The parametrisation that most trained models with curvature have; the first by name among equals.
    pub fn parametrisation(&self) -> Option<String> {
        let mut counts: std::collections::BTreeMap<&str, usize> = Default::default();
        for m in self.trained().iter().filter(|m| m.row.curvature.is_some()) {
            *counts.entry(&m.row.parametrisation).or_default() += 1;
        }
        let most = counts.values().max()?;
        counts.iter().find(|(_, n)| *n == most).map(|(name, _)| name.to_string())
    }
}

/// `table.json` in a folder, or in its subfolders and theirs; sections in the order of their sweeps' names.
pub fn read(folder: &Path) -> Result<Vec<Section>, ReportError> {
    let mut tables = Vec::new();
    for path in find(folder)? {
        let table = read_table(&path)?;
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    if tables.is_empty() {
        return Err(ReportError::Empty(folder.into()));
    }
    // Not in the order of paths, so that where the tables lie changes nothing.
    tables
        .sort_by(|a: &Table, b| (&a.name, &a.intervention, &a.language).cmp(&(&b.name, &b.intervention, &b.language)));
    let mut sections: Vec<Section> = Vec::new();
    for table in tables {
        let of = |t: &Table| (t.language_hash.clone(), t.seed, t.objective);
        let same = |s: &&mut Section| of(&s.tables[0]) == of(&table);
        match sections.iter_mut().find(same) {
            Some(section) => section.tables.push(table),
            None => sections.push(Section { prefix: String::new(), tables: vec![table] }),
        }
    }
    if sections.len() > 1 {
        for (i, section) in sections.iter_mut().enumerate() {
            section.prefix = format!("language{}-", i + 1);
        }
    }
    Ok(sections)
}

fn find(folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut level = vec![folder.to_path_buf()];
    let mut found = Vec::new();
    for depth in 0..3 {
        let mut next = Vec::new();
        for folder in level {
            let table = folder.join("table.json");
            if table.is_file() {
                found.push(table);
            } else if depth < 2 {
                next.extend(subfolders(&folder)?);
            }
        }
        level = next;
    }
    Ok(found)
}

/// Subfolders in the order of their names; a folder that is not there has none.
fn subfolders(folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let io = |source| ReportError::Io { path: folder.into(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(io(e)),
    };
    let paths: Result<Vec<PathBuf>, std::io::Error> = entries.map(|e| e.map(|e| e.path())).collect();
    let mut folders: Vec<PathBuf> = paths.map_err(io)?.into_iter().filter(|p| p.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

fn read_table(path: &Path) -> Result<Table, ReportError> {
    let text = std::fs::read_to_string(path).map_err(|source| ReportError::Io { path: path.into(), source })?;
    let wrong = |message| ReportError::Table { path: path.into(), message };
    let table: Table = serde_json::from_str(&text).map_err(|e| wrong(format!("is no table of a sweep: {e}")))?;
    match table.format {
        Table::FORMAT => Ok(table),
        found => Err(wrong(format!("has format {found}, and this program reads {}", Table::FORMAT))),
    }
}
