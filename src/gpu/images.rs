//! Linear images over the memory of buffers.
//!
//! On software Vulkan drivers a buffer can also be read as a linear image (`rgba32float`, 4096 texels per row) that
//! lies over the same memory: an image load there costs a twentieth of a buffer load (`docs/performance.md`). Such
//! drivers run the dispatches of a queue one after another, so a write through the buffer is seen by the next read
//! through the image; on real GPUs images are never used.
//!
//! Whatever lies over memory keeps it. wgpu keeps a bind group's texture views, a view's texture and a buffer for as
//! long as a bind group or a submission uses them, but of memory that was allocated here it knows nothing: so each
//! buffer and each image carries a share of its memory into wgpu, in the callback that destroys it, and the memory is
//! freed with the last of them.

#[cfg(any(target_arch = "wasm32", target_vendor = "apple"))]
mod possible {
    use super::super::device::Gpu;
    use super::super::error::GpuError;
    use super::super::memory::Block;

    /// There is none: memory comes from wgpu.
    pub(in super::super) enum Memory {}

    pub(in super::super) fn images_possible(_: &wgpu::Adapter) -> bool {
        false
    }

    pub(in super::super) fn images_fit(_: &wgpu::Device, _: u64) -> bool {
        false
    }

    impl Gpu {
        pub(in super::super) fn block(&self, label: &str, bytes: u64) -> Result<Block, GpuError> {
            self.plain_block(label, bytes)
        }

        pub(in super::super) fn lay_images(
            &self,
            memory: &std::sync::Arc<Memory>,
            _: &[(u64, u64)],
        ) -> Result<Vec<wgpu::TextureView>, GpuError> {
            match **memory {}
        }
    }
}

#[cfg(not(any(target_arch = "wasm32", target_vendor = "apple")))]
mod possible {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use ash::vk;
    use wgpu::hal::api::Vulkan;
    use wgpu::hal::vulkan::TextureMemory;

    use super::super::device::Gpu;
    use super::super::error::GpuError;
    use super::super::limit::Limit;
    use super::super::memory::{Block, Counted, USAGE};
    use super::super::shader_text::IMAGE_WIDTH;

    const ROW_BYTES: u64 = IMAGE_WIDTH as u64 * 16;
    /// Rows that a driver may want of an image beyond its own (lavapipe rounds up to blocks of 4).
    const SPARE_ROWS: u64 = 3;
    const FORMAT: vk::Format = vk::Format::R32G32B32A32_SFLOAT;

    /// Vulkan memory, freed when nothing lies over it any more.
    pub(in super::super) struct Memory {
        device: ash::Device,
        raw: vk::DeviceMemory,
        /// Size and type, for what is to be laid over it.
        bytes: u64,
        kind: u32,
        counted: Counted,
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: every buffer and image over this memory owns a share of it, so they are gone; the last of them
            // was destroyed by wgpu, which does that while its device lives and after all submissions that use it.
            unsafe { self.device.free_memory(self.raw, None) };
            self.counted.tally().memories.destroyed.fetch_add(1, Ordering::Relaxed);
        }
    }

    enum Handle {
        Buffer(vk::Buffer),
        Image(vk::Image),
    }

    /// A buffer or an image over memory, with its share of the memory.
    struct Overlay {
        handle: Handle,
        memory: Arc<Memory>,
    }

    impl Overlay {
        fn new(handle: Handle, memory: &Arc<Memory>) -> Overlay {
            memory.counted.tally().overlays.made.fetch_add(1, Ordering::Relaxed);
            Overlay { handle, memory: memory.clone() }
        }
    }

    impl Drop for Overlay {
        fn drop(&mut self) {
            let device = &self.memory.device;
            // SAFETY: made on this device and destroyed here only. wgpu drops an overlay where it would destroy the
            // object itself: after views, bind groups and submissions that use it, and before its device.
            unsafe {
                match self.handle {
                    Handle::Buffer(buffer) => device.destroy_buffer(buffer, None),
                    Handle::Image(image) => device.destroy_image(image, None),
                }
            }
            self.memory.counted.tally().overlays.destroyed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether this is a Vulkan driver that can use a linear `rgba32float` image as a read-only storage image.
    pub(in super::super) fn images_possible(adapter: &wgpu::Adapter) -> bool {
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
        // SAFETY: `hal` is a guard that keeps the adapter, and with it the instance, while properties are asked for;
        // the raw handles do not leave this block.
        unsafe {
            let Some(hal) = adapter.as_hal::<Vulkan>() else { return false };
            let raw = hal.shared_instance().raw_instance();
            let properties = raw.get_physical_device_format_properties(hal.raw_physical_device(), FORMAT);
            properties.linear_tiling_features.contains(vk::FormatFeatureFlags::STORAGE_IMAGE)
        }
    }

    /// Whether an opened driver lays linear images out as the kernels expect: rows of 64 KiB from the first byte on, in
    /// memory that buffers have, at every offset that buffers have (multiples of `align`), with few rows behind the
    /// last.
    pub(in super::super) fn images_fit(device: &wgpu::Device, align: u64) -> bool {
        // SAFETY: `hal` keeps the device; buffer and images are made on it, only asked for what they need, and
        // destroyed.
        unsafe {
            let Some(hal) = device.as_hal::<Vulkan>() else { return false };
            let device = hal.raw_device();
            let Ok(buffer) = device.create_buffer(&buffer_info(ROW_BYTES), None) else { return false };
            let buffer_needs = device.get_buffer_memory_requirements(buffer);
            device.destroy_buffer(buffer, None);
            [1, 2, 5].into_iter().all(|rows| {
                let Ok(image) = device.create_image(&image_info(rows), None) else { return false };
                let needs = device.get_image_memory_requirements(image);
                let fits = rows_fit(device, image)
                    && align.is_multiple_of(needs.alignment)
                    && needs.memory_type_bits & (1 << buffer_needs.memory_type_bits.trailing_zeros()) != 0
                    && needs.size <= (u64::from(rows) + SPARE_ROWS) * ROW_BYTES;
                device.destroy_image(image, None);
                fits
            })
        }
    }

    fn buffer_info(bytes: u64) -> vk::BufferCreateInfo<'static> {
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER
            | vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST;
        vk::BufferCreateInfo::default().size(bytes).usage(usage)
    }

    fn image_info(rows: u32) -> vk::ImageCreateInfo<'static> {
        vk::ImageCreateInfo::default()
            .image_type(vk::ImageType::TYPE_2D)
            .format(FORMAT)
            .extent(vk::Extent3D { width: IMAGE_WIDTH, height: rows, depth: 1 })
            .mip_levels(1)
            .array_layers(1)
            .samples(vk::SampleCountFlags::TYPE_1)
            .tiling(vk::ImageTiling::LINEAR)
            .usage(vk::ImageUsageFlags::STORAGE)
            .initial_layout(vk::ImageLayout::UNDEFINED)
    }

    /// # Safety
    /// `image` is a linear image of `device`.
    unsafe fn rows_fit(device: &ash::Device, image: vk::Image) -> bool {
        let part = vk::ImageSubresource { aspect_mask: vk::ImageAspectFlags::COLOR, mip_level: 0, array_layer: 0 };
        // SAFETY: promised by the caller.
        let layout = unsafe { device.get_image_subresource_layout(image, part) };
        layout.offset == 0 && layout.row_pitch == ROW_BYTES
    }

    impl Gpu {
        /// Memory with a buffer over all of it, plus room behind it for the last image's last row and what the driver
        /// wants of rows behind that.
        pub(in super::super) fn block(&self, label: &str, bytes: u64) -> Result<Block, GpuError> {
            if !self.capabilities().images {
                return self.plain_block(label, bytes);
            }
            let refused = |e: vk::Result| GpuError::OutOfMemory {
                doing: format!("allocating {label} ({bytes} bytes)"),
                detail: e.to_string(),
            };
            // SAFETY: `hal` keeps the device. The buffer has the usages of USAGE and lies over memory of a type that it
            // may have and at least as large as it needs; it and the memory go to wgpu in the callback that destroys
            // them, or are destroyed here when something is refused.
            let wrapped = unsafe {
                let hal = self.device.as_hal::<Vulkan>().ok_or(GpuError::Lost("the Vulkan device is gone".into()))?;
                let device = hal.raw_device();
                let buffer = device.create_buffer(&buffer_info(bytes), None).map_err(refused)?;
                let needs = device.get_buffer_memory_requirements(buffer);
                let size = needs.size.max(bytes).next_multiple_of(ROW_BYTES) + (1 + SPARE_ROWS) * ROW_BYTES;
                let kind = needs.memory_type_bits.trailing_zeros();
                let allocate = vk::MemoryAllocateInfo::default().allocation_size(size).memory_type_index(kind);
                let raw = match device.allocate_memory(&allocate, None) {
                    Ok(raw) => raw,
                    Err(e) => {
                        device.destroy_buffer(buffer, None);
                        return Err(refused(e));
                    }
                };
                let counted = Counted::new(&self.tally, bytes);
                self.tally.memories.made.fetch_add(1, Ordering::Relaxed);
                let memory = Arc::new(Memory { device: device.clone(), raw, bytes: size, kind, counted });
                let overlay = Overlay::new(Handle::Buffer(buffer), &memory);
                device.bind_buffer_memory(buffer, raw, 0).map_err(refused)?;
                let gone = Box::new(move || drop(overlay));
                (wgpu::hal::vulkan::Buffer::from_raw_externally_owned(buffer, gone), memory)
            };
            let (wrapped, memory) = wrapped;
            let descriptor =
                wgpu::BufferDescriptor { label: Some(label), size: bytes, usage: USAGE, mapped_at_creation: false };
            // SAFETY: made above on this device, as the descriptor says; zeros are written before anything reads it.
            let raw = self.scoped(&format!("allocating {label} ({bytes} bytes)"), || unsafe {
                self.device.create_buffer_from_hal::<Vulkan>(wrapped, &descriptor)
            })?;
            Ok(Block { raw, memory: Some(memory), _counted: None })
        }

        /// Lays an image over each range (offset and size in bytes) of memory.
        ///
        /// Vulkan lets a driver lose what the memory held when an image gets its first layout. Images are laid over
        /// new memory before anything is written, but for windows of large buffers: the software drivers that have
        /// images know of no layouts, so that nothing is lost, which a test sees to.
        pub(in super::super) fn lay_images(
            &self,
            memory: &Arc<Memory>,
            ranges: &[(u64, u64)],
        ) -> Result<Vec<wgpu::TextureView>, GpuError> {
            let textures: Vec<wgpu::Texture> = ranges
                .iter()
                .map(|(offset, bytes)| self.lay_image(memory, *offset, *bytes))
                .collect::<Result<_, _>>()?;
            // Into the layout that kernels read, in a submission of its own: the writes that follow come after it.
            let state = wgpu::wgt::TextureUses::STORAGE_READ_ONLY;
            let of = |texture| wgpu::wgt::TextureTransition { texture, selector: None, state };
            let mut encoder = self.encoder();
            encoder.transition_resources(std::iter::empty(), textures.iter().map(of));
            self.submit(encoder);
            let view = wgpu::TextureViewDescriptor::default();
            Ok(textures.into_iter().map(|texture| texture.create_view(&view)).collect())
        }

        fn lay_image(&self, memory: &Arc<Memory>, offset: u64, bytes: u64) -> Result<wgpu::Texture, GpuError> {
            let rows = bytes.div_ceil(ROW_BYTES) as u32;
            if rows > self.limits().max_texture_dimension_2d {
                return Err(Limit::Image { bytes, rows: self.limits().max_texture_dimension_2d }.into());
            }
            let doing = format!("laying an image over {bytes} bytes");
            let refused = |e: vk::Result| GpuError::OutOfMemory { doing: doing.clone(), detail: e.to_string() };
            let size = wgpu::Extent3d { width: IMAGE_WIDTH, height: rows, depth_or_array_layers: 1 };
            // SAFETY: `hal` keeps the device. The image is linear and its rows lie 64 KiB apart, so with a layout of
            // GENERAL it sees what the buffer over the same bytes wrote; only reads go through it. It ends inside the
            // memory, has a type of memory that it may have, and goes to wgpu in the callback that destroys it, with
            // its share of the memory. `images_fit` saw that this holds of the driver; an image that does not fit is
            // refused.
            let wrapped = unsafe {
                let hal = self.device.as_hal::<Vulkan>().ok_or(GpuError::Lost("the Vulkan device is gone".into()))?;
                let device = hal.raw_device();
                let image = device.create_image(&image_info(rows), None).map_err(refused)?;
                let overlay = Overlay::new(Handle::Image(image), memory);
                let needs = device.get_image_memory_requirements(image);
                let fits = rows_fit(device, image)
                    && offset.is_multiple_of(needs.alignment)
                    && needs.memory_type_bits & (1 << memory.kind) != 0
                    && offset + needs.size <= memory.bytes;
                if !fits {
                    return Err(refused(vk::Result::ERROR_FORMAT_NOT_SUPPORTED));
                }
                device.bind_image_memory(image, memory.raw, offset).map_err(refused)?;
                let descriptor = wgpu::hal::TextureDescriptor {
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
                let gone: wgpu::hal::DropCallback = Box::new(move || drop(overlay));
                hal.texture_from_raw(image, &descriptor, Some(gone), TextureMemory::External)
            };
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
            // SAFETY: made above on this device, as the descriptor says, and in no layout yet.
            self.scoped(&doing, || unsafe {
                self.device.create_texture_from_hal::<Vulkan>(wrapped, &descriptor, wgpu::TextureUses::UNINITIALIZED)
            })
        }
    }
}

pub(super) use possible::{Memory, images_fit, images_possible};

#[cfg(all(test, not(any(target_arch = "wasm32", target_vendor = "apple"))))]
mod tests {
    use std::sync::atomic::Ordering;

    use crate::gpu::{AdapterChoice, Count, Gpu, Grid, Kernel, Options, Program, Step};
    use crate::kernels::add;

    fn gpu(images: bool) -> Gpu {
        let choice = std::env::var("LOWLAND_ADAPTER").map_or(AdapterChoice::Best, |c| c.parse().expect("a choice"));
        let options = Options { images: Some(images), ..Options::default() };
        Gpu::open(&choice, options).expect("an adapter; `make test` installs a software one")
    }

    /// out = a + b over `bytes` of f32, and the buffer of `out`. Nothing else of its buffers lives on but what it has
    /// bound.
    fn sum(gpu: &Gpu, bytes: u64) -> (Program, crate::gpu::Buffer) {
        let numbers: Vec<f32> = (0..bytes / 4).map(|i| i as f32).collect();
        let twos = vec![2.0f32; numbers.len()];
        let (a, b) = (gpu.buffer("a", bytes).unwrap(), gpu.buffer("b", bytes).unwrap());
        let out = gpu.buffer("out", bytes).unwrap();
        gpu.write(&a, &numbers);
        gpu.write(&b, &twos);
        let cols4 = (bytes / 16) as u32;
        let params = add::Params { fixed: 1, cols4, ..Default::default() };
        let grid = Grid { count: Count::Fixed(cols4), unit: 64, columns: 1, layers: 1 };
        let sum = add::Forward { a, b, out: out.clone(), params };
        (Program::new(gpu, vec![sum.dispatch("sum".into(), grid)]).unwrap(), out)
    }

    #[test]
    fn what_a_program_has_bound_lives_as_long_as_the_program() {
        // Sizes that the allocator keeps for itself and that it gives back to the system at once.
        for (images, bytes) in [(false, 1 << 12), (true, 1 << 12), (true, 1 << 18), (true, 1 << 25)] {
            let gpu = gpu(images);
            let (program, out) = sum(&gpu, bytes);
            gpu.finish().unwrap();
            // New memory in the place of what is gone.
            let others: Vec<_> = (0..4).map(|_| gpu.buffer("other", bytes).unwrap()).collect();
            for other in &others {
                gpu.write(other, &vec![-7.0f32; (bytes / 4) as usize]);
            }
            gpu.finish().unwrap();
            program.run(&gpu, &Step::default()).unwrap();
            let read: Vec<f32> = gpu.read(&out, (bytes / 4) as usize).unwrap();
            let wrong = read.iter().enumerate().find(|(i, v)| **v != *i as f32 + 2.0);
            assert_eq!(wrong, None, "{bytes} bytes, images {}", gpu.capabilities().images);
        }
    }

    #[test]
    fn an_image_laid_over_a_window_shows_what_the_memory_held() {
        let gpu = gpu(true);
        // Two windows of 3 rows of 64 KiB and some more, each at an offset that is no multiple of a row.
        let bytes = 200_704;
        let numbers: Vec<f32> = (0..3 * bytes / 4).map(|i| i as f32).collect();
        let (large, b) = (gpu.buffer("large", 3 * bytes).unwrap(), gpu.buffer("b", bytes).unwrap());
        gpu.write(&large, &numbers);
        gpu.finish().unwrap();
        for window in [1, 2] {
            let out = gpu.buffer("out", bytes).unwrap();
            let a = large.window(window * bytes..(window + 1) * bytes);
            let cols4 = (bytes / 16) as u32;
            let params = add::Params { fixed: 1, cols4, ..Default::default() };
            let grid = Grid { count: Count::Fixed(cols4), unit: 64, columns: 1, layers: 1 };
            let sum = add::Forward { a, b: b.clone(), out: out.clone(), params };
            Program::new(&gpu, vec![sum.dispatch("sum".into(), grid)]).unwrap().run(&gpu, &Step::default()).unwrap();
            let read: Vec<f32> = gpu.read(&out, (bytes / 4) as usize).unwrap();
            let first = (window * bytes / 4) as f32;
            assert_eq!(read.iter().enumerate().find(|(i, v)| **v != first + *i as f32), None, "window {window}");
        }
        assert_eq!(gpu.read::<f32>(&large, numbers.len()).unwrap(), numbers);
    }

    #[test]
    fn memories_and_what_lies_over_them_are_destroyed_with_their_last_reader() {
        let gpu = gpu(true);
        let tally = gpu.tally.clone();
        let alive = |lives: &super::super::memory::Lives| {
            lives.made.load(Ordering::Relaxed) - lives.destroyed.load(Ordering::Relaxed)
        };
        let (program, out) = sum(&gpu, 1 << 16);
        gpu.finish().unwrap();
        if gpu.capabilities().images {
            // a, b, out and the two allocations of stand-ins; an image over each of their 12 ranges, and a buffer over
            // each but a and b, which are only bound as images.
            assert_eq!((alive(&tally.memories), alive(&tally.overlays)), (5, 12 + 3));
        }
        program.run(&gpu, &Step::default()).unwrap();
        drop(out);
        let (whole, parts) = gpu.arena("arena", &[1000, 20, 70_000]).unwrap();
        drop((whole, parts));
        // The program is dropped while it runs.
        let mut encoder = gpu.encoder();
        program.encode(&gpu, &mut encoder, &Step::default()).unwrap();
        gpu.submit(encoder);
        drop(program);
        gpu.finish().unwrap();
        assert_eq!(gpu.memory().0, 0, "bytes");
        drop(gpu);
        assert_eq!((alive(&tally.memories), alive(&tally.overlays)), (0, 0));
        let made = tally.memories.made.load(Ordering::Relaxed);
        println!("{made} memories, {} overlays", tally.overlays.made.load(Ordering::Relaxed));
    }
}
