//! Dispatches as the adapter sees them, without the names that people gave: what `benches/guard` compares from one
//! version of the code to the next.
//!
//! A [`Program`](super::Program) that is made while `LOWLAND_DISPATCH_LOG` names a folder leaves its list there: a line
//! of JSON for each dispatch at the end of `dispatches`, and each kernel's text once in a file named by its hash.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::GpuError;
use super::program::Dispatch;

const LOG_VARIABLE: &str = "LOWLAND_DISPATCH_LOG";

/// What one dispatch asks of the adapter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// For people; the only field with names in it.
    pub label: String,
    /// Entry point of the kernel.
    pub entry: String,
    /// Hash of the kernel's WGSL with the dispatch's constants in it.
    pub text: String,
    /// Code and fixed value of the count, unit, columns, layers.
    pub grid: [u32; 5],
    /// The parameters as words of the uniform buffer.
    pub params: Vec<u32>,
    /// The buffers given, by binding number.
    pub buffers: Vec<Given>,
}

/// A buffer that a dispatch is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Given {
    /// Number of the binding in the WGSL.
    pub binding: u32,
    /// Size of the buffer.
    pub bytes: u64,
    /// Which of the list's buffers it is, counted in the order in which they are first met.
    pub place: usize,
}

/// A list of dispatches, and the WGSL of their kernels by hash.
pub struct Descriptions {
    /// In the order in which they run.
    pub dispatches: Vec<Description>,
    /// By the hash of [`Description::text`].
    pub texts: HashMap<String, String>,
}

/// Describes a list of dispatches; with `images`, kernels read through storage images where they can.
///
/// # Errors
/// [`GpuError::Kernel`] when a name does not fit its kernel.
pub fn describe(list: &[Dispatch], images: bool) -> Result<Descriptions, GpuError> {
    let mut all = Descriptions { dispatches: Vec::with_capacity(list.len()), texts: HashMap::new() };
    let mut hashes = HashMap::new();
    let mut places = HashMap::new();
    for dispatch in list {
        let file = dispatch.file;
        let key = (file, &dispatch.constants);
        let hash = match hashes.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let text = file.expand(&dispatch.constants, images)?.text;
                let hash = blake3::hash(text.as_bytes()).to_hex()[..16].to_string();
                all.texts.insert(hash.clone(), text);
                new.insert(hash)
            }
        };
        let given = dispatch.bound(file.entry(dispatch.entry)?).map(|(binding, buffer)| {
            let next = places.len();
            Given { binding, bytes: buffer.bytes(), place: *places.entry(buffer.place()).or_insert(next) }
        });
        let grid = dispatch.grid;
        all.dispatches.push(Description {
            label: format!("{}:{} {:?} | {}", file.name, dispatch.entry, dispatch.constants, dispatch.label),
            entry: dispatch.entry.to_string(),
            text: hash.clone(),
            grid: [grid.count.code(), grid.count.fixed(), grid.unit, grid.columns, grid.layers],
            params: bytemuck::pod_collect_to_vec(&dispatch.params),
            buffers: given.collect(),
        });
    }
    Ok(all)
}

/// Leaves a list in the folder that `LOWLAND_DISPATCH_LOG` names, if it does.
pub(super) fn log(list: &[Dispatch], images: bool) -> Result<(), GpuError> {
    let Some(folder) = std::env::var_os(LOG_VARIABLE) else { return Ok(()) };
    let all = describe(list, images)?;
    write(Path::new(&folder), &all).map_err(|e| GpuError::Kernel { kernel: LOG_VARIABLE.into(), detail: e.to_string() })
}

fn write(folder: &Path, all: &Descriptions) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (hash, text) in &all.texts {
        fs::write(folder.join(format!("{hash}.wgsl")), text)?;
    }
    let mut lines = String::new();
    for dispatch in &all.dispatches {
        lines += &serde_json::to_string(dispatch)?;
        lines.push('\n');
    }
    OpenOptions::new().create(true).append(true).open(folder.join("dispatches"))?.write_all(lines.as_bytes())
}
