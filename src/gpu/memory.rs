//! Buffers of `f32` and `u32`, several of them in one block where they belong together, and their way to and from the
//! host.
//!
//! On software Vulkan drivers a buffer can also be read as a linear image (`rgba32float`, 4096 texels a row) that lies
//! over the same memory: an image load there costs a twentieth of a buffer load (`docs/performance.md`). Such drivers
//! run the dispatches of a queue one after another, so a write through the buffer is seen by the next read through the
//! image; on real GPUs images are never used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::device::Gpu;
use super::error::GpuError;
use super::shader_text::IMAGE_WIDTH;

const IMAGE_ROW_BYTES: u64 = IMAGE_WIDTH as u64 * 16;

/// Bytes on the adapter: what is allocated now, and the most that ever was. Counts the buffers that kernels see; not
/// the driver's own memory, nor what the host maps to read and write.
#[derive(Debug, Default)]
pub(super) struct Tally {
    live: AtomicU64,
    peak: AtomicU64,
}

impl Tally {
    fn add(&self, bytes: u64) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }

    /// (now, most).
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.live.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed))
    }
}

/// A number of bytes that are allocated for as long as it lives.
pub(super) struct Counted {
    tally: Arc<Tally>,
    bytes: u64,
}

impl Counted {
    pub(super) fn new(tally: &Arc<Tally>, bytes: u64) -> Counted {
        tally.add(bytes);
        Counted { tally: tally.clone(), bytes }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.live.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One allocation.
struct Block {
    raw: wgpu::Buffer,
    _counted: Counted,
    #[cfg(not(any(target_arch = "wasm32", target_vendor = "apple")))]
    vulkan: Option<ash::vk::DeviceMemory>,
}

/// A range of device memory, bound and copied as one. Clones share the memory.
#[derive(Clone)]
pub struct Buffer {
    block: Arc<Block>,
    offset: u64,
    bytes: u64,
    image: Arc<OnceLock<wgpu::TextureView>>,
}

impl Buffer {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.block.raw,
            offset: self.offset,
            size: wgpu::BufferSize::new(self.bytes),
        })
    }

    pub(super) fn image(&self) -> Option<&wgpu::TextureView> {
        self.image.get()
    }

    /// Whether both lie in the same allocation (one dispatch must not read one and write the other).
    pub fn same_block(&self, other: &Buffer) -> bool {
        Arc::ptr_eq(&self.block, &other.block)
    }
}

impl Gpu {
    /// A zeroed buffer of its own, a multiple of 16 bytes and at least 256.
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        let mut made = self.buffers(label, &[bytes])?;
        Ok(made.remove(0))
    }

    /// Zeroed buffers that share one allocation, in order.
    ///
    /// # Errors
    /// [`GpuError::Limit`] when one is larger than a binding may be, or all together larger than a buffer may be.
    pub fn buffers(&self, label: &str, sizes: &[u64]) -> Result<Vec<Buffer>, GpuError> {
        Ok(self.allocate(label, sizes, false)?.1)
    }

    /// The same, with a buffer over all of them first, which must not be larger than a binding may be either.
    pub fn arena(&self, label: &str, sizes: &[u64]) -> Result<(Buffer, Vec<Buffer>), GpuError> {
        let (whole, parts) = self.allocate(label, sizes, true)?;
        Ok((whole.expect("asked for"), parts))
    }

    /// Bytes that buffers of one allocation are aligned to.
    pub fn alignment(&self) -> u64 {
        u64::from(self.limits().min_storage_buffer_offset_alignment).max(256)
    }

    fn allocate(&self, label: &str, sizes: &[u64], whole: bool) -> Result<(Option<Buffer>, Vec<Buffer>), GpuError> {
        // What is allocated now is for work that would not be done any more.
        self.go_on()?;
        let align = self.alignment();
        let mut offsets = Vec::with_capacity(sizes.len());
        let mut total = 0u64;
        for size in sizes {
            let size = size.max(&16).next_multiple_of(16);
            offsets.push((total, size));
            total += size.next_multiple_of(align);
            if size > self.capabilities().largest_binding {
                return Err(GpuError::Limit(format!(
                    "{label} needs a binding of {size} bytes, this adapter binds at most {}. Use a smaller model or `train.micro_batch`.",
                    self.capabilities().largest_binding
                )));
            }
        }
        if total > self.capabilities().largest_buffer {
            return Err(GpuError::Limit(format!(
                "{label} needs a buffer of {total} bytes, this adapter has at most {}",
                self.capabilities().largest_buffer
            )));
        }
        let block = Arc::new(self.block(label, total.max(256))?);
        let mut encoder = self.encoder();
        encoder.clear_buffer(&block.raw, 0, None);
        self.submit(encoder);
        let make = |(offset, bytes)| {
            let buffer = Buffer { block: block.clone(), offset, bytes, image: Arc::default() };
            self.lay_image(&buffer)?;
            Ok::<_, GpuError>(buffer)
        };
        let all = if whole { Some(make((0, total))?) } else { None };
        Ok((all, offsets.into_iter().map(make).collect::<Result<_, _>>()?))
    }

    /// Writes before the next submission. `data` may be shorter than the buffer.
    pub fn write<T: bytemuck::NoUninit>(&self, buffer: &Buffer, data: &[T]) {
        self.write_at(buffer, 0, data);
    }

    /// Writes at an offset in bytes (a multiple of 4).
    pub fn write_at<T: bytemuck::NoUninit>(&self, buffer: &Buffer, offset: u64, data: &[T]) {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        assert!(
            offset + bytes.len() as u64 <= buffer.bytes,
            "a write of {} bytes at {offset} into {}",
            bytes.len(),
            buffer.bytes
        );
        if !bytes.is_empty() {
            self.queue.write_buffer(&buffer.block.raw, buffer.offset + offset, bytes);
        }
    }

    /// Copies between buffers of different blocks.
    pub fn copy(&self, encoder: &mut wgpu::CommandEncoder, from: &Buffer, to: &Buffer) {
        let bytes = from.bytes.min(to.bytes);
        encoder.copy_buffer_to_buffer(&from.block.raw, from.offset, &to.block.raw, to.offset, bytes);
    }

    /// Fills with zeros.
    pub fn clear(&self, encoder: &mut wgpu::CommandEncoder, buffer: &Buffer) {
        encoder.clear_buffer(&buffer.block.raw, buffer.offset, Some(buffer.bytes));
    }

    /// Waits and reads the first `count` values.
    pub fn read<T: bytemuck::Pod>(&self, buffer: &Buffer, count: usize) -> Result<Vec<T>, GpuError> {
        let mut all = self.read_many(&[(buffer, count * size_of::<T>())])?;
        Ok(bytemuck::pod_collect_to_vec(&all.remove(0)))
    }

    /// Waits and reads the first bytes of several buffers in one go.
    pub fn read_many(&self, parts: &[(&Buffer, usize)]) -> Result<Vec<Vec<u8>>, GpuError> {
        let mut encoder = self.encoder();
        let staged: Vec<Staging> =
            parts.iter().map(|(buffer, bytes)| self.stage(&mut encoder, buffer, *bytes)).collect::<Result<_, _>>()?;
        let submission = self.submit(encoder);
        for staging in &staged {
            staging.map();
        }
        self.wait(submission)?;
        staged.iter().map(|s| s.take(self)).collect()
    }

    /// Records a copy of the first bytes of a buffer into memory that the host can map.
    pub(crate) fn stage(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffer: &Buffer,
        bytes: usize,
    ) -> Result<Staging, GpuError> {
        let size = (bytes as u64).next_multiple_of(4).max(4);
        let raw = self.scoped("allocating a staging buffer", || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let staging = Staging { raw, bytes, ready: Arc::default() };
        self.restage(encoder, buffer, &staging);
        Ok(staging)
    }

    /// Records the copy into a staging buffer that is not mapped.
    pub(crate) fn restage(&self, encoder: &mut wgpu::CommandEncoder, buffer: &Buffer, staging: &Staging) {
        let size = staging.raw.size().min(buffer.bytes);
        encoder.copy_buffer_to_buffer(&buffer.block.raw, buffer.offset, &staging.raw, 0, size);
    }

    /// Submits commands and reads a raw buffer that they fill.
    pub(super) fn read_raw(
        &self,
        mut encoder: wgpu::CommandEncoder,
        from: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<Vec<u8>, GpuError> {
        let raw = self.scoped("allocating a staging buffer", || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        encoder.copy_buffer_to_buffer(from, 0, &raw, 0, bytes);
        let staging = Staging { raw, bytes: bytes as usize, ready: Arc::default() };
        let submission = self.submit(encoder);
        staging.map();
        self.wait(submission)?;
        staging.take(self)
    }

    fn plain_block(&self, label: &str, bytes: u64) -> Result<Block, GpuError> {
        let raw = self.scoped(&format!("allocating {label} ({bytes} bytes)"), || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: bytes,
                usage: USAGE,
                mapped_at_creation: false,
            })
        })?;
        Ok(Block {
            raw,
            _counted: Counted::new(&self.tally, bytes),
            #[cfg(not(any(target_arch = "wasm32", target_vendor = "apple")))]
            vulkan: None,
        })
    }
}

const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// A copy on its way to the host.
pub(crate) struct Staging {
    raw: wgpu::Buffer,
    bytes: usize,
    ready: Arc<OnceLock<bool>>,
}

impl Staging {
    /// Asks for the mapping; call after the submission that fills it.
    pub(crate) fn map(&self) {
        let ready = self.ready.clone();
        self.raw.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = ready.set(result.is_ok());
        });
    }

    /// The bytes, once the submission is done and the device was polled.
    pub(crate) fn take(&self, gpu: &Gpu) -> Result<Vec<u8>, GpuError> {
        if self.ready.get().is_none() {
            gpu.finish()?;
        }
        let refused = || GpuError::Lost("a read-back could not be mapped".into());
        if self.ready.get() != Some(&true) {
            return Err(refused());
        }
        let view = self.raw.get_mapped_range(..).map_err(|_| refused())?;
        let bytes = view[..self.bytes].to_vec();
        drop(view);
        self.raw.unmap();
        Ok(bytes)
    }
}

#[cfg(any(target_arch = "wasm32", target_vendor = "apple"))]
mod images {
    use super::{Block, Buffer, Gpu, GpuError};

    pub fn images_possible(_: &wgpu::Adapter) -> bool {
        false
    }

    impl Gpu {
        pub(super) fn block(&self, label: &str, bytes: u64) -> Result<Block, GpuError> {
            self.plain_block(label, bytes)
        }

        pub(super) fn lay_image(&self, _: &Buffer) -> Result<(), GpuError> {
            Ok(())
        }
    }
}

#[cfg(not(any(target_arch = "wasm32", target_vendor = "apple")))]
mod images {
    use super::{Block, Buffer, Counted, Gpu, GpuError, IMAGE_ROW_BYTES, IMAGE_WIDTH, USAGE};
    use ash::vk;
    use wgpu::hal::api::Vulkan;

    /// Whether this is a Vulkan driver that can use a linear `rgba32float` image as a read-only storage image.
    pub fn images_possible(adapter: &wgpu::Adapter) -> bool {
        let info = adapter.get_info();
        if info.backend != wgpu::Backend::Vulkan
            || info.device_type != wgpu::DeviceType::Cpu
            || !adapter.features().contains(wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES)
        {
            return false;
        }
        let format = adapter.get_texture_format_features(wgpu::TextureFormat::Rgba32Float);
        if !format.flags.contains(wgpu::TextureFormatFeatureFlags::STORAGE_READ_ONLY) {
            return false;
        }
        // SAFETY: the hal adapter is only asked for properties while the wgpu adapter is alive.
        unsafe {
            let Some(hal) = adapter.as_hal::<Vulkan>() else { return false };
            let raw = hal.shared_instance().raw_instance();
            let properties =
                raw.get_physical_device_format_properties(hal.raw_physical_device(), vk::Format::R32G32B32A32_SFLOAT);
            properties.linear_tiling_features.contains(vk::FormatFeatureFlags::STORAGE_IMAGE)
        }
    }

    impl Gpu {
        /// Memory with a buffer over all of it, plus room for the last image's last row.
        pub(super) fn block(&self, label: &str, bytes: u64) -> Result<Block, GpuError> {
            if !self.capabilities().images {
                return self.plain_block(label, bytes);
            }
            let refused = |e: vk::Result| GpuError::OutOfMemory {
                doing: format!("allocating {label} ({bytes} bytes)"),
                detail: e.to_string(),
            };
            // SAFETY: the buffer is made on this device with the usages of USAGE; its memory is host-visible or
            // device-local as the driver lists it first, at least as large as required, and goes to wgpu with it.
            unsafe {
                let hal = self.device.as_hal::<Vulkan>().ok_or(GpuError::Lost("the Vulkan device is gone".into()))?;
                let device = hal.raw_device();
                let usage = vk::BufferUsageFlags::STORAGE_BUFFER
                    | vk::BufferUsageFlags::TRANSFER_SRC
                    | vk::BufferUsageFlags::TRANSFER_DST;
                let create = vk::BufferCreateInfo::default().size(bytes).usage(usage);
                let buffer = device.create_buffer(&create, None).map_err(refused)?;
                let needs = device.get_buffer_memory_requirements(buffer);
                let allocate = vk::MemoryAllocateInfo::default()
                    .allocation_size((needs.size.max(bytes) + IMAGE_ROW_BYTES).next_multiple_of(IMAGE_ROW_BYTES))
                    .memory_type_index(needs.memory_type_bits.trailing_zeros());
                let memory = match device.allocate_memory(&allocate, None) {
                    Ok(memory) => memory,
                    Err(e) => {
                        device.destroy_buffer(buffer, None);
                        return Err(refused(e));
                    }
                };
                if let Err(e) = device.bind_buffer_memory(buffer, memory, 0) {
                    device.destroy_buffer(buffer, None);
                    device.free_memory(memory, None);
                    return Err(refused(e));
                }
                let wrapped = wgpu::hal::vulkan::Buffer::from_raw_managed(buffer, memory, 0, bytes);
                drop(hal);
                let descriptor =
                    wgpu::BufferDescriptor { label: Some(label), size: bytes, usage: USAGE, mapped_at_creation: false };
                let raw = self.device.create_buffer_from_hal::<Vulkan>(wrapped, &descriptor);
                Ok(Block { raw, _counted: Counted::new(&self.tally, bytes), vulkan: Some(memory) })
            }
        }

        /// Lays a linear image over a buffer's range.
        pub(super) fn lay_image(&self, buffer: &Buffer) -> Result<(), GpuError> {
            let Some(memory) = buffer.block.vulkan else { return Ok(()) };
            let rows = buffer.bytes.div_ceil(IMAGE_ROW_BYTES) as u32;
            if rows > self.limits().max_texture_dimension_2d {
                return Err(GpuError::Limit(format!(
                    "a tensor of {} bytes is larger than an image of {} rows of 64 KiB; set LOWLAND_IMAGES=0 or use a smaller model",
                    buffer.bytes,
                    self.limits().max_texture_dimension_2d
                )));
            }
            let refused = |e: vk::Result| GpuError::OutOfMemory {
                doing: format!("laying an image over {} bytes", buffer.bytes),
                detail: e.to_string(),
            };
            let size = wgpu::Extent3d { width: IMAGE_WIDTH, height: rows, depth_or_array_layers: 1 };
            // SAFETY: the image is linear, so its rows lie 64 KiB apart (checked below) over the buffer's own memory,
            // which the block keeps alive for as long as any bind group holds the view; only reads go through it.
            unsafe {
                let hal = self.device.as_hal::<Vulkan>().ok_or(GpuError::Lost("the Vulkan device is gone".into()))?;
                let device = hal.raw_device();
                let create = vk::ImageCreateInfo::default()
                    .image_type(vk::ImageType::TYPE_2D)
                    .format(vk::Format::R32G32B32A32_SFLOAT)
                    .extent(vk::Extent3D { width: IMAGE_WIDTH, height: rows, depth: 1 })
                    .mip_levels(1)
                    .array_layers(1)
                    .samples(vk::SampleCountFlags::TYPE_1)
                    .tiling(vk::ImageTiling::LINEAR)
                    .usage(vk::ImageUsageFlags::STORAGE)
                    .initial_layout(vk::ImageLayout::PREINITIALIZED);
                let image = device.create_image(&create, None).map_err(refused)?;
                let subresource =
                    vk::ImageSubresource { aspect_mask: vk::ImageAspectFlags::COLOR, mip_level: 0, array_layer: 0 };
                let layout = device.get_image_subresource_layout(image, subresource);
                let needs = device.get_image_memory_requirements(image);
                let fits = layout.offset == 0
                    && layout.row_pitch == IMAGE_ROW_BYTES
                    && buffer.offset.is_multiple_of(needs.alignment);
                let bound = if fits {
                    device.bind_image_memory(image, memory, buffer.offset)
                } else {
                    Err(vk::Result::ERROR_FORMAT_NOT_SUPPORTED)
                };
                if let Err(e) = bound {
                    device.destroy_image(image, None);
                    return Err(refused(e));
                }
                let hal_descriptor = wgpu::hal::TextureDescriptor {
                    label: None,
                    size,
                    mip_level_count: 1,
                    sample_count: 1,
                    dimension: wgpu::TextureDimension::D2,
                    format: wgpu::TextureFormat::Rgba32Float,
                    usage: wgpu::TextureUses::STORAGE_READ_ONLY,
                    memory_flags: wgpu::hal::MemoryFlags::empty(),
                    view_formats: vec![],
                };
                let wrapped =
                    hal.texture_from_raw(image, &hal_descriptor, None, wgpu::hal::vulkan::TextureMemory::External);
                drop(hal);
                let descriptor = wgpu::TextureDescriptor {
                    label: None,
                    size,
                    mip_level_count: 1,
                    sample_count: 1,
                    dimension: wgpu::TextureDimension::D2,
                    format: wgpu::TextureFormat::Rgba32Float,
                    usage: wgpu::TextureUsages::STORAGE_BINDING,
                    view_formats: &[],
                };
                let texture = self.device.create_texture_from_hal::<Vulkan>(
                    wrapped,
                    &descriptor,
                    wgpu::TextureUses::STORAGE_READ_ONLY,
                );
                let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
                let _ = buffer.image.set(view);
            }
            Ok(())
        }
    }
}

pub(super) use images::images_possible;
