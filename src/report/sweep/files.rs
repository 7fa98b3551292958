//! Tables and figures as files beside the page.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::ReportError;
use super::super::scene::Scene;

/// A row of a table, by column.
pub type Record = Map<String, Value>;

/// Writes a file in a folder that is made where it is not there.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
    let path = folder.join(name);
    let io = |source| ReportError::Io { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(io)?;
    crate::model::write_synced(&path, bytes).map_err(io)
}

/// `NAME.svg` and `NAME.png`.
pub fn figure(folder: &Path, name: &str, scene: &Scene) -> Result<(), ReportError> {
    write(folder, &format!("{name}.svg"), scene.document().as_bytes())?;
    match scene.png() {
        Some(bytes) => write(folder, &format!("{name}.png"), &bytes),
        None => Err(ReportError::Run { path: folder.join(name), message: "is too large to draw".into() }),
    }
}

/// `NAME.csv` and `NAME.json` with the same rows; the columns are all keys in the order in which they first appear.
pub fn table(folder: &Path, name: &str, rows: &[Record]) -> Result<(), ReportError> {
    let mut json = serde_json::to_vec_pretty(rows).expect("records have plain keys");
    json.push(b'\n');
    write(folder, &format!("{name}.json"), &json)?;
    write(folder, &format!("{name}.csv"), &csv(rows))
}

fn csv(rows: &[Record]) -> Vec<u8> {
    let mut columns: Vec<&String> = Vec::new();
    for key in rows.iter().flat_map(Record::keys) {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let cell = |value: Option<&Value>| match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let reason = "memory takes all bytes, and all rows have the same columns";
    writer.write_record(&columns).expect(reason);
    for row in rows {
        writer.write_record(columns.iter().map(|c| cell(row.get(*c)))).expect(reason);
    }
    writer.into_inner().expect(reason)
}
