//! Parses and validates every kernel of `shaders/` in every variant it declares, so that a bad kernel is an error of
//! `cargo build` with the line of the `.wgsl` file, and writes the kernels as Rust: the table that `src/gpu/shader.rs`
//! reads, and the types of `src/kernels.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[path = "src/gpu/annotations.rs"]
mod annotations;

#[path = "src/gpu/shader_text.rs"]
mod shader_text;

#[path = "build/facts.rs"]
mod facts;

#[path = "build/types.rs"]
mod types;

#[path = "build/uniform_reads.rs"]
mod uniform_reads;

use naga::valid::{Capabilities, ValidationFlags, Validator};

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it"));
    for read in ["shaders", "build", "src/gpu/annotations.rs", "src/gpu/shader_text.rs"] {
        println!("cargo:rerun-if-changed={read}");
    }
    match write(&root.join("shaders"), &out) {
        Ok(()) => {}
        Err(message) => {
            for line in message.lines() {
                println!("cargo:warning={line}");
            }
            eprintln!("{message}");
            std::process::exit(1);
        }
    }
}

/// Writes both files, or says what is wrong.
fn write(folder: &Path, out: &Path) -> Result<(), String> {
    let kernels = wgsl(folder)?.iter().map(|name| kernel(folder, name)).collect::<Result<Vec<_>, _>>()?;
    let common: Vec<String> =
        wgsl(&folder.join("common"))?.into_iter().map(|name| format!("common/{name}.wgsl")).collect();
    for name in &common {
        // Those that no kernel imports, too.
        shader_text::lines(name, &|other| read(folder, other)).map_err(|e| e.to_string())?;
    }
    let write = |name: &str, text: String| std::fs::write(out.join(name), text).expect("OUT_DIR can be written");
    write("shader_table.rs", types::table(folder, &kernels, &common));
    write("kernels.rs", types::modules(&kernels));
    Ok(())
}

/// The stems of a folder's `.wgsl` files, sorted.
fn wgsl(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut stems: Vec<String> = names.filter_map(|name| name.strip_suffix(".wgsl").map(String::from)).collect();
    stems.sort();
    Ok(stems)
}

fn read(folder: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(folder.join(name)).ok()
}

/// Checks a kernel in all its variants, as it stands first, with buffers and with images.
fn kernel(folder: &Path, stem: &str) -> Result<facts::Kernel, String> {
    let name = format!("{stem}.wgsl");
    let read = |other: &str| read(folder, other);
    let lines = shader_text::lines(&name, &read).map_err(|e| e.to_string())?;
    let text = read(&name).ok_or_else(|| format!("shaders/{name} cannot be read"))?;
    let variants = shader_text::variants(&name, &text).map_err(|e| e.to_string())?;
    let mut facts = facts::Facts::new(stem, &lines);
    for constants in std::iter::once(vec![]).chain(variants.iter().map(|v| v.given())) {
        check(&name, &read, &constants, true)?;
        let (module, info) = check(&name, &read, &constants, false)?;
        facts.see(&module, &info)?;
    }
    facts.finish(&variants)
}

fn check(
    name: &str,
    read: &dyn Fn(&str) -> Option<String>,
    constants: &[(&str, u32)],
    images: bool,
) -> Result<(naga::Module, naga::valid::ModuleInfo), String> {
    let expanded = shader_text::expand(name, read, constants, images).map_err(|e| e.to_string())?;
    let at = |location: Option<naga::SourceLocation>| match location {
        Some(location) => expanded.locate(location.line_number as usize),
        None => format!("shaders/{name}"),
    };
    let describe =
        |place: String, message: String| format!("{place}: {message} (constants {constants:?}, images {images})");
    let module = naga::front::wgsl::parse_str(&expanded.text)
        .map_err(|e| describe(at(e.location(&expanded.text)), e.message().to_string()))?;
    let capabilities = Capabilities::SUBGROUP
        | Capabilities::SHADER_FLOAT16
        | Capabilities::STORAGE_TEXTURE_16BIT_NORM_FORMATS
        | Capabilities::COOPERATIVE_MATRIX
        | Capabilities::SHADER_INT64
        | Capabilities::FLOAT64
        | Capabilities::IMMEDIATES;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).map_err(|e| {
        let location = e.location(&expanded.text);
        let mut message = e.as_inner().to_string();
        let mut source = std::error::Error::source(e.as_inner());
        while let Some(inner) = source {
            write!(message, ": {inner}").expect("fits");
            source = inner.source();
        }
        describe(at(location), message)
    })?;
    for point in &module.entry_points {
        if let Some((uniform, span)) = uniform_reads::late_reads(&module, &point.function).into_iter().next() {
            let message = format!(
                "`{}` reads the uniform `{uniform}` here and in a loop before, but not before that loop; see \
                 build/uniform_reads.rs",
                point.name
            );
            return Err(describe(at(Some(span.location(&expanded.text))), message));
        }
    }
    Ok((module, info))
}
