//! Parses and validates every kernel of `shaders/` in every variant it declares, so that a bad kernel is an error of
//! `cargo build` with the line of the `.wgsl` file, and writes the table of kernels that `src/gpu/shader.rs` reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[path = "src/gpu/shader_text.rs"]
#[allow(dead_code)]
mod shader_text;

#[path = "build/uniform_reads.rs"]
mod uniform_reads;

use naga::valid::{Capabilities, ValidationFlags, Validator};

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it")).join("shader_table.rs");
    println!("cargo:rerun-if-changed=shaders");
    println!("cargo:rerun-if-changed=src/gpu/shader_text.rs");
    println!("cargo:rerun-if-changed=build/uniform_reads.rs");
    match table(&root.join("shaders")) {
        Ok(text) => std::fs::write(&out, text).expect("OUT_DIR can be written"),
        Err(message) => {
            for line in message.lines() {
                println!("cargo:warning={line}");
            }
            eprintln!("{message}");
            std::process::exit(1);
        }
    }
}

/// The Rust text of the table, or what is wrong.
fn table(folder: &Path) -> Result<String, String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".wgsl"))
        .collect();
    names.sort();
    let mut text = String::from("pub static KERNEL_FILES: &[KernelFile] = &[\n");
    for name in &names {
        text.push_str(&entry(folder, name)?);
    }
    text.push_str("];\n");
    let mut common: Vec<String> = std::fs::read_dir(folder.join("common"))
        .map_err(|e| format!("{}/common: {e}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    common.sort();
    text.push_str("pub static COMMON_FILES: &[(&str, &str)] = &[\n");
    for name in common {
        let path = folder.join("common").join(&name);
        writeln!(text, "(\"common/{name}\", include_str!({path:?})),").expect("a String takes it");
    }
    text.push_str("];\n");
    Ok(text)
}

fn entry(folder: &Path, name: &str) -> Result<String, String> {
    let read = |other: &str| std::fs::read_to_string(folder.join(other)).ok();
    let source = read(name).ok_or_else(|| format!("shaders/{name} cannot be read"))?;
    // What the entry points use in any variant.
    let mut used: BTreeMap<String, BTreeSet<Binding>> = BTreeMap::new();
    for constants in variants(&source) {
        let constants: Vec<(&str, u32)> = constants.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        check(name, &read, &constants, true)?;
        let (module, info) = check(name, &read, &constants, false)?;
        for (i, point) in module.entry_points.iter().enumerate() {
            used.entry(point.name.clone()).or_default().extend(bindings(&module, info.get_entry_point(i)));
        }
    }
    let (module, _) = check(name, &read, &[], false)?;
    let mut text = String::new();
    let path = folder.join(name);
    let stem = name.trim_end_matches(".wgsl");
    writeln!(text, "KernelFile {{ name: {stem:?}, text: include_str!({path:?}), entries: &[").expect("fits");
    for (point, bindings) in used {
        let indices: BTreeSet<u32> = bindings.iter().map(|b| b.0).collect();
        if bindings.len() > 8 || indices.len() < bindings.len() {
            return Err(format!(
                "shaders/{name}: `{point}` uses {} storage buffers in its variants at {} places; at most 8, each its own",
                bindings.len(),
                indices.len()
            ));
        }
        writeln!(text, "Entry {{ name: {point:?}, bindings: &[").expect("fits");
        for (index, name, write, image) in bindings {
            writeln!(text, "Binding {{ index: {index}, name: {name:?}, write: {write}, vec4: {image} }},")
                .expect("fits");
        }
        text.push_str("] },\n");
    }
    text.push_str("], fields: &[\n");
    let mut size = 0;
    for (_, global) in module.global_variables.iter() {
        if global.space == naga::AddressSpace::Uniform && global.binding.as_ref().is_some_and(|b| b.binding == 8) {
            let naga::TypeInner::Struct { members, span } = &module.types[global.ty].inner else {
                return Err(format!("shaders/{name}: binding 8 must be a struct of u32 and f32"));
            };
            size = *span;
            for member in members {
                let member_name = member.name.clone().unwrap_or_default();
                writeln!(text, "Field {{ name: {member_name:?}, offset: {} }},", member.offset).expect("fits");
            }
        }
    }
    writeln!(text, "], params_size: {size} }},").expect("fits");
    Ok(text)
}

/// Index, name, whether it is written, whether it holds `vec4<f32>`.
type Binding = (u32, String, bool, bool);

/// The storage buffers that an entry point uses.
fn bindings(module: &naga::Module, info: &naga::valid::FunctionInfo) -> Vec<Binding> {
    let mut all = Vec::new();
    for (handle, global) in module.global_variables.iter() {
        let (Some(binding), false) = (&global.binding, info[handle].is_empty()) else {
            continue;
        };
        if let naga::AddressSpace::Storage { access } = global.space {
            let write = access.contains(naga::StorageAccess::STORE);
            all.push((binding.binding, global.name.clone().unwrap_or_default(), write, is_vec4(module, global)));
        }
    }
    all
}

fn is_vec4(module: &naga::Module, global: &naga::GlobalVariable) -> bool {
    matches!(&module.types[global.ty].inner, naga::TypeInner::Array { base, .. }
        if matches!(module.types[*base].inner,
            naga::TypeInner::Vector { size: naga::VectorSize::Quad, scalar: naga::Scalar::F32 }))
}

/// The constants of each `//@variant` line: `//@variant name: ROWS=32 LANES=8`, and none for the file as it stands.
fn variants(source: &str) -> Vec<Vec<(String, u32)>> {
    let mut all = vec![Vec::new()];
    for line in source.lines() {
        if let Some((_, list)) = line.strip_prefix("//@variant ").and_then(|rest| rest.split_once(':')) {
            let pairs = list.split_whitespace().filter_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                Some((name.to_string(), value.parse().ok()?))
            });
            all.push(pairs.collect());
        }
    }
    all
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
        | Capabilities::COOPERATIVE_MATRIX;
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
                "`{}` reads the uniform `{uniform}` here and in a loop before, but not before that loop; see build/uniform_reads.rs",
                point.name
            );
            return Err(describe(at(Some(span.location(&expanded.text))), message));
        }
    }
    Ok((module, info))
}
