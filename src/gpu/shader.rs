//! The table of kernels that `build.rs` checked, and the pipelines made from it.

use std::hash::{Hash, Hasher};

use super::annotations::Variant;
use super::error::GpuError;
use super::shader_text;

/// One `.wgsl` file of `shaders/`, or one of your own: a `static` with the text and the bindings of its entry points,
/// run by a [`Launch`](super::Launch). Its text may import the files of `shaders/common`. Bindings 8 (`Params`) and 9
/// (`Step`) are bound without being listed.
pub struct KernelFile {
    /// The file's stem, which is also the name of the operation.
    pub name: &'static str,
    /// The WGSL as it stands in the file, annotations included.
    pub text: &'static str,
    /// The entry points that may be dispatched.
    pub entries: &'static [Entry],
    /// Bytes of its `Params` uniform.
    pub params_size: u32,
}

/// A file is equal to itself alone: two may have the same name.
impl PartialEq for KernelFile {
    fn eq(&self, other: &KernelFile) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for KernelFile {}

impl Hash for KernelFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self, state);
    }
}

/// An entry point and the storage buffers that it uses.
pub struct Entry {
    /// As in the `.wgsl`.
    pub name: &'static str,
    /// By rising number.
    pub bindings: &'static [Binding],
}

/// A storage binding, by the name it has in the `.wgsl`.
pub struct Binding {
    /// Number of the binding in group 0.
    pub index: u32,
    /// As in the `.wgsl`.
    pub name: &'static str,
    /// Whether the kernel may write to it (`read_write`).
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
    /// Whether it is one of `shaders/`.
    pub(super) fn is_built_in(&self) -> bool {
        KERNEL_FILES.contains(self)
    }

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
