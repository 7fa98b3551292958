//! Pipelines: variants of kernels, compiled when a list of dispatches first asks for them.

use std::collections::HashSet;
use std::sync::Arc;

use rayon::prelude::*;

use super::Dispatch;
use super::device::{DIGITS_BYTES, Gpu};
use super::error::GpuError;
use super::shader::{Entry, KernelFile};

/// What tells pipelines apart.
#[derive(PartialEq, Eq, Hash, Clone)]
pub(super) struct PipelineKey {
    file: &'static KernelFile,
    entry: &'static str,
    constants: Vec<(&'static str, u32)>,
}

/// A compiled kernel variant.
pub struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) file: &'static KernelFile,
    pub(super) entry: &'static Entry,
    /// Whether it looks numbers up in the table of digits.
    pub(super) digits: bool,
}

impl Gpu {
    /// The compiled variants of a list of dispatches: those that were not made before are made now, on all cores at
    /// once.
    ///
    /// # Errors
    /// [`GpuError::Compile`] with the line in `shaders/` when the driver or naga refuses one;
    /// [`GpuError::Interrupted`].
    pub(super) fn pipelines(&self, dispatches: &[Dispatch]) -> Result<Vec<Arc<Pipeline>>, GpuError> {
        let key = |d: &Dispatch| PipelineKey { file: d.file, entry: d.entry, constants: d.constants.clone() };
        let mut missing: Vec<PipelineKey> = dispatches.iter().map(key).collect();
        {
            let made = self.pipelines.lock().unwrap_or_else(|e| e.into_inner());
            let mut seen = HashSet::new();
            missing.retain(|key| !made.contains_key(key) && seen.insert(key.clone()));
        }
        let made: Vec<Pipeline> =
            missing.par_iter().map(|key| self.go_on().and_then(|()| self.compile(key))).collect::<Result<_, _>>()?;
        let mut all = self.pipelines.lock().unwrap_or_else(|e| e.into_inner());
        all.extend(missing.into_iter().zip(made.into_iter().map(Arc::new)));
        Ok(dispatches.iter().map(|d| all[&key(d)].clone()).collect())
    }

    fn compile(&self, key: &PipelineKey) -> Result<Pipeline, GpuError> {
        let file = key.file;
        let entry = file.entry(key.entry)?;
        let text = file.expand(&key.constants, self.capabilities.images)?;
        let checks = match self.checks || !file.is_built_in() {
            true => wgpu::ShaderRuntimeChecks::checked(),
            false => wgpu::ShaderRuntimeChecks::unchecked(),
        };
        let label = format!("{}:{}", file.name, key.entry);
        let digits = text.text.contains("var<immediate>");
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(text.text.as_str().into()),
        };
        let kernel_error = |e: GpuError| GpuError::Compile { kernel: label.clone(), error: Box::new(e) };
        // SAFETY: only kernels of `shaders/` go without checks. They must not index out of bounds, loop for ever or
        // divide by zero. Indices of active lanes come from plans whose sizes are checked; what masked lanes read is
        // bound as long as the program lives. The suite runs the same kernels with all checks on, and they give the
        // same numbers; those that store a lane after another are not for checks, and are compared with those that do
        // not (`tests/model/strides.rs`).
        let module = self
            .scoped("making a shader module", || unsafe {
                self.device.create_shader_module_trusted(descriptor, checks)
            })
            .map_err(kernel_error)?;
        let mut entries: Vec<wgpu::BindGroupLayoutEntry> = entry
            .bindings
            .iter()
            .map(|b| wgpu::BindGroupLayoutEntry {
                binding: b.index,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: if self.capabilities.images && b.vec4 && !b.write {
                    wgpu::BindingType::StorageTexture {
                        access: wgpu::StorageTextureAccess::ReadOnly,
                        format: wgpu::TextureFormat::Rgba32Float,
                        view_dimension: wgpu::TextureViewDimension::D2,
                    }
                } else {
                    wgpu::BindingType::Buffer {
                        ty: wgpu::BufferBindingType::Storage { read_only: !b.write },
                        has_dynamic_offset: false,
                        min_binding_size: None,
                    }
                },
                count: None,
            })
            .collect();
        for binding in [8, 9] {
            entries.push(wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            });
        }
        self.cache.changed();
        self.scoped("making a pipeline", || {
            let layout = self
                .device
                .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
            let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: if digits { DIGITS_BYTES } else { 0 },
            });
            let raw = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(key.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.cache.raw(),
            });
            Pipeline { raw, layout, file, entry, digits }
        })
        .map_err(kernel_error)
    }
}
