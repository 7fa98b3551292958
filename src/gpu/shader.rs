//! The table of kernels that `build.rs` checked, and the pipelines made from it.

use super::annotations::Variant;
use super::error::GpuError;
use super::shader_text;

/// One `.wgsl` file of `shaders/`.
pub struct KernelFile {
    /// The file's stem, which is also the name of the operation.
    pub name: &'static str,
    pub text: &'static str,
    pub entries: &'static [Entry],
    /// Bytes of its `Params` uniform.
    pub params_size: u32,
}

/// An entry point and the storage buffers that it uses.
pub struct Entry {
    pub name: &'static str,
    pub bindings: &'static [Binding],
}

/// A storage binding, by the name it has in the `.wgsl`.
pub struct Binding {
    pub index: u32,
    pub name: &'static str,
    pub write: bool,
    /// An `array<vec4<f32>>`: read-only ones may be read as images.
    pub vec4: bool,
}

include!(concat!(env!("OUT_DIR"), "/shader_table.rs"));

/// The kernel file of a name.
pub fn kernel_file(name: &str) -> Result<&'static KernelFile, GpuError> {
    KERNEL_FILES
        .iter()
        .find(|k| k.name == name)
        .ok_or_else(|| GpuError::Kernel { kernel: name.into(), detail: "there is no such file in shaders/".into() })
}

impl KernelFile {
    /// The entry point of a name.
    pub fn entry(&self, name: &str) -> Result<&'static Entry, GpuError> {
        self.entries.iter().find(|e| e.name == name).ok_or_else(|| GpuError::Kernel {
            kernel: self.name.into(),
            detail: format!("has no entry point `{name}`"),
        })
    }

    /// The variants that it declares.
    pub fn variants(&self) -> Result<Vec<Variant>, GpuError> {
        shader_text::variants(&format!("{}.wgsl", self.name), self.text).map_err(|e| self.wrong(e))
    }

    /// The text of a variant.
    pub fn expand(&self, constants: &[(&str, u32)], images: bool) -> Result<shader_text::Expanded, GpuError> {
        let own = format!("{}.wgsl", self.name);
        let read = |name: &str| {
            if name == own {
                return Some(self.text.to_string());
            }
            COMMON_FILES.iter().find(|(n, _)| *n == name).map(|(_, text)| text.to_string())
        };
        shader_text::expand(&own, &read, constants, images).map_err(|e| self.wrong(e))
    }

    fn wrong(&self, error: shader_text::TextError) -> GpuError {
        GpuError::Kernel { kernel: self.name.into(), detail: error.to_string() }
    }
}
