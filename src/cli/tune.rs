//! `lowland selftest --tune CONFIG`: the variant table timed on a config's own shapes, and the fastest kept for its
//! runs.

use serde_json::json;

use super::arguments::Selftest;
use super::failure::Failure;
use super::print;
use crate::config;
use crate::gpu::Gpu;
use crate::ops::{Family, Variants};
use crate::train::{self, Tuning};

pub fn run(gpu: &Gpu, config: &std::path::Path, arguments: &Selftest) -> Result<(), Failure> {
    let resolved = config::load(config, &arguments.overrides)?;
    super::text::prepare(&resolved.config)?;
    print::notes_of(&resolved.config);
    let tuning = train::tune(gpu, &resolved, &print::note)?;
    let path = tuning.keep().map_err(|e| Failure::io("the cache folder".as_ref(), &e))?;
    match arguments.json.json {
        true => {
            let mut value = json!(tuning);
            value["file"] = print::path(&path);
            print::json(&value)?;
        }
        false => print::line(&text(gpu, &tuning, &path))?,
    }
    Ok(())
}

/// One line per row of the table: `*` the fastest, which is kept, `-` the one chosen without measuring where it is
/// another.
fn text(gpu: &Gpu, tuning: &Tuning, path: &std::path::Path) -> String {
    let chosen = Variants::choose(gpu.capabilities());
    let mut out = format!("{}\n{}\n\n", tuning.subject.adapter, tuning.subject.shapes);
    for operation in Family::ALL {
        for m in tuning.measured.iter().filter(|m| m.operation == operation.name()) {
            let mark = match &m.variant {
                name if *name == tuning.variants.row(operation).name => "*",
                name if *name == chosen.row(operation).name => "-",
                _ => " ",
            };
            out += &format!("{mark} {:<20}{:<14}{:>10.3} ms\n", m.operation, m.variant, m.seconds * 1e3);
        }
    }
    out + &format!(
        "\n* kept for runs of these shapes on this adapter, - chosen where nothing is kept\n{}",
        path.display()
    )
}
