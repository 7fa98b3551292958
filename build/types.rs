//! Writes the kernels as Rust: a table for the preprocessor (`src/gpu/shader.rs`), and a module of types for each
//! kernel (`src/kernels.rs`), so that a dispatch whose names do not fit its WGSL does not compile.

use std::fmt::Write as _;
use std::path::Path;

use super::facts::{Binding, Constant, Entry, Field, Kernel};

/// The table of files, entry points and bindings.
pub fn table(folder: &Path, kernels: &[Kernel], common: &[String]) -> String {
    let mut text = String::from(
        "/// Every file of `shaders/` that has entry points, by name.\npub static KERNEL_FILES: &[KernelFile] = &[\n",
    );
    for kernel in kernels {
        let path = folder.join(format!("{}.wgsl", kernel.name));
        put(&mut text, 1, "KernelFile {");
        put(&mut text, 2, &format!("name: {:?},", kernel.name));
        put(&mut text, 2, &format!("text: include_str!({path:?}),"));
        put(&mut text, 2, "entries: &[");
        for entry in &kernel.entries {
            put(&mut text, 3, "Entry {");
            put(&mut text, 4, &format!("name: {:?},", entry.name));
            put(&mut text, 4, "bindings: &[");
            for Binding { index, name, write, vec4, .. } in &entry.bindings {
                let line = format!("Binding {{ index: {index}, name: {name:?}, write: {write}, vec4: {vec4} }},");
                put(&mut text, 5, &line);
            }
            put(&mut text, 4, "],");
            put(&mut text, 3, "},");
        }
        put(&mut text, 2, "],");
        put(&mut text, 2, &format!("params_size: {},", kernel.params_size));
        put(&mut text, 1, "},");
    }
    text.push_str("];\n\npub static COMMON_FILES: &[(&str, &str)] = &[\n");
    for name in common {
        put(&mut text, 1, &format!("({name:?}, include_str!({:?})),", folder.join(name)));
    }
    text.push_str("];\n");
    text
}

/// The modules of types.
pub fn modules(kernels: &[Kernel]) -> String {
    let mut text = String::new();
    for (place, kernel) in kernels.iter().enumerate() {
        module(&mut text, kernel, place);
    }
    text
}

/// `place` is the kernel's place in the table.
fn module(text: &mut String, kernel: &Kernel, place: usize) {
    let Kernel { name, head, params, constants, entries, .. } = kernel;
    put(text, 0, &format!("/// `shaders/{name}.wgsl`:"));
    put(text, 0, "/// ```text");
    for line in head {
        put(text, 0, &format!("///{line}"));
    }
    put(text, 0, "/// ```");
    put(text, 0, &format!("pub mod {name} {{"));
    put(text, 1, "use super::{Buffer, Dispatch, Grid, Kernel};");
    if !params.is_empty() {
        params_struct(text, params);
    }
    if !constants.is_empty() {
        constants_struct(text, constants);
    }
    for entry in entries {
        entry_struct(text, kernel, place, entry);
    }
    text.push_str("}\n\n");
}

fn params_struct(text: &mut String, params: &[Field]) {
    put(text, 0, "");
    put(text, 1, "/// What a dispatch tells the kernel.");
    put(text, 1, "#[repr(C)]");
    put(text, 1, "#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]");
    put(text, 1, "pub struct Params {");
    for Field { name, float, array, comment } in params {
        document(text, comment, || format!("`p.{name}`."));
        let kind = match array {
            Some(n) => format!("[[u32; 4]; {n}]"),
            None => if *float { "f32" } else { "u32" }.into(),
        };
        put(text, 2, &format!("pub {name}: {kind},"));
    }
    put(text, 1, "}");
    // By hand: the standard library has defaults of arrays of up to 32.
    put(text, 0, "");
    put(text, 1, "impl Default for Params {");
    put(text, 2, "fn default() -> Params {");
    put(text, 3, "bytemuck::Zeroable::zeroed()");
    put(text, 2, "}");
    put(text, 1, "}");
}

fn constants_struct(text: &mut String, constants: &[Constant]) {
    let plain = constants.iter().all(|c| c.default == 0);
    put(text, 0, "");
    put(text, 1, "/// What a variant is compiled with; by default what stands in the WGSL.");
    put(text, 1, &format!("#[derive(Clone, Copy, Debug, {}PartialEq, Eq)]", if plain { "Default, " } else { "" }));
    put(text, 1, "pub struct Constants {");
    for Constant { name, default, flag, comment } in constants {
        document(text, comment, || match flag {
            true => format!("Whether `{name}` is 1."),
            false => format!("`{name}`, {default} by default."),
        });
        put(text, 2, &format!("pub {}: {},", name.to_lowercase(), if *flag { "bool" } else { "u32" }));
    }
    put(text, 1, "}");
    if !plain {
        put(text, 0, "");
        put(text, 1, "impl Default for Constants {");
        put(text, 2, "fn default() -> Constants {");
        put(text, 3, "Constants {");
        for Constant { name, default, flag, .. } in constants {
            let value = if *flag { "false".to_string() } else { default.to_string() };
            put(text, 4, &format!("{}: {value},", name.to_lowercase()));
        }
        put(text, 3, "}");
        put(text, 2, "}");
        put(text, 1, "}");
    }
    put(text, 0, "");
    put(text, 1, "impl Constants {");
    put(text, 2, "/// The names and values that are not those of the WGSL.");
    put(text, 2, "fn given(self) -> Vec<(&'static str, u32)> {");
    put(text, 3, &format!("let all: [(&'static str, u32, u32); {}] = [", constants.len()));
    for Constant { name, default, flag, .. } in constants {
        let field = name.to_lowercase();
        let value = if *flag { format!("u32::from(self.{field})") } else { format!("self.{field}") };
        put(text, 4, &format!("({name:?}, {value}, {default}),"));
    }
    put(text, 3, "];");
    put(text, 3, "let given = all.into_iter().filter(|(_, value, default)| value != default);");
    put(text, 3, "given.map(|(name, value, _)| (name, value)).collect()");
    put(text, 2, "}");
    put(text, 1, "}");
}

fn entry_struct(text: &mut String, kernel: &Kernel, place: usize, entry: &Entry) {
    let name = pascal(&entry.name);
    put(text, 0, "");
    put(text, 1, &format!("/// The entry point `{}` with all that it takes.", entry.name));
    put(text, 1, "#[derive(Clone)]");
    put(text, 1, &format!("pub struct {name} {{"));
    for Binding { index, name, write, optional, comment, .. } in &entry.bindings {
        let how = if *write { "written" } else { "read" };
        document(text, comment, || format!("Binding {index}, {how}."));
        let kind = if *optional { "Option<Buffer>" } else { "Buffer" };
        put(text, 2, &format!("pub {name}: {kind},"));
    }
    if !kernel.params.is_empty() {
        put(text, 2, "/// Its parameters.");
        put(text, 2, "pub params: Params,");
    }
    if !kernel.constants.is_empty() {
        put(text, 2, "/// Its variant.");
        put(text, 2, "pub constants: Constants,");
    }
    put(text, 1, "}");
    put(text, 0, "");
    put(text, 1, &format!("impl Kernel for {name} {{"));
    put(text, 2, "fn dispatch(self, label: String, grid: Grid) -> Dispatch {");
    put(text, 3, "Dispatch {");
    put(text, 4, "label,");
    put(text, 4, &format!("file: &crate::gpu::KERNEL_FILES[{place}],"));
    put(text, 4, &format!("entry: {:?},", entry.name));
    let constants = if kernel.constants.is_empty() { "vec![]" } else { "self.constants.given()" };
    put(text, 4, &format!("constants: {constants},"));
    let buffer = |b: &Binding| if b.optional { format!("self.{}", b.name) } else { format!("Some(self.{})", b.name) };
    let buffers: Vec<String> = entry.bindings.iter().map(buffer).collect();
    put(text, 4, &format!("buffers: vec![{}],", buffers.join(", ")));
    let params = if kernel.params.is_empty() { "vec![]" } else { "bytemuck::bytes_of(&self.params).to_vec()" };
    put(text, 4, &format!("params: {params},"));
    put(text, 4, "grid,");
    put(text, 3, "}");
    put(text, 2, "}");
    put(text, 1, "}");
}

/// The documentation of a field: its comment in the WGSL, else something else.
fn document(text: &mut String, comment: &[String], other: impl Fn() -> String) {
    if comment.is_empty() {
        put(text, 2, &format!("/// {}", other()));
    }
    for line in comment {
        // Brackets and angles are no links and no HTML here.
        let plain: String =
            line.chars().flat_map(|c| ['\\'].into_iter().filter(move |_| "[]<>*_".contains(c)).chain([c])).collect();
        put(text, 2, &format!("/// {plain}"));
    }
}

/// `square_sum` as `SquareSum`.
fn pascal(name: &str) -> String {
    let upper = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').filter(|word| !word.is_empty()).map(upper).collect()
}

/// One line of Rust, indented by `level` levels.
fn put(text: &mut String, level: usize, line: &str) {
    let indent = if line.is_empty() { 0 } else { 4 * level };
    writeln!(text, "{:indent$}{line}", "").expect("a String takes it");
}
