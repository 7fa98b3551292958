//! Buffers of `f32` and `u32`, several of them in one block where they belong together, and their way to and from the
//! host.
//!
//! On software Vulkan drivers a buffer can also be read as an image that lies over the same memory (`images.rs`).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::device::{Gpu, alignment};
use super::error::GpuError;
use super::host_memory;
use super::images::Memory;
use super::limit::Limit;

/// Bytes on the adapter: what is allocated now, and the most that ever was. Counts the buffers that kernels see; not
/// the driver's own memory, nor what the host maps to read and write.
#[derive(Debug, Default)]
pub(super) struct Tally {
    live: AtomicU64,
    peak: AtomicU64,
    /// Vulkan memories, and the buffers and images laid over them.
    pub(super) memories: Lives,
    pub(super) overlays: Lives,
}

/// Objects that this program makes and destroys itself: how many of each there were.
#[derive(Debug, Default)]
pub(super) struct Lives {
    pub(super) made: AtomicU64,
    pub(super) destroyed: AtomicU64,
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

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.live.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One allocation. Memory that images may lie over counts its bytes itself, for it may outlive the block.
pub(super) struct Block {
    // Before the buffer, which may be the last to hold the device: memory is freed through that.
    pub(super) memory: Option<Arc<Memory>>,
    pub(super) raw: wgpu::Buffer,
    pub(super) _counted: Option<Counted>,
}

/// A range of device memory, copied as one, and bound as one or, where it is larger than a binding may be, in
/// [windows](Buffer::window). Clones share the memory; whatever a program has bound of it lives on with the program
/// when all clones are gone.
#[derive(Clone)]
pub struct Buffer {
    block: Arc<Block>,
    offset: u64,
    bytes: u64,
    image: Option<wgpu::TextureView>,
}

impl Buffer {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where it begins in its allocation, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.block.raw,
            offset: self.offset,
            size: wgpu::BufferSize::new(self.bytes),
        })
    }

    pub(super) fn image(&self) -> Option<&wgpu::TextureView> {
        self.image.as_ref()
    }

    /// Tells it from every other that lives: its allocation, where it begins there, and its bytes.
    pub(super) fn place(&self) -> (*const (), Range<u64>) {
        (Arc::as_ptr(&self.block).cast(), self.offset..self.offset + self.bytes)
    }

    /// The memory under it, where images may lie over it and none lies over this range yet.
    pub(super) fn without_image(&self) -> Option<&Arc<Memory>> {
        if self.image.is_none() { self.block.memory.as_ref() } else { None }
    }

    /// A range of its bytes as a buffer of its own: what a kernel binds of a buffer that is larger than a binding may
    /// be. It begins at a multiple of the [alignment](Gpu::alignment).
    ///
    /// # Panics
    /// When the buffer ends before.
    pub fn window(&self, bytes: Range<u64>) -> Buffer {
        assert!(bytes.end <= self.bytes, "a window to byte {} of {}", bytes.end, self.bytes);
        if bytes == (0..self.bytes) {
            return self.clone();
        }
        let (offset, bytes) = (self.offset + bytes.start, bytes.end - bytes.start);
        Buffer { block: self.block.clone(), offset, bytes, image: None }
    }

    /// The least range of bytes that holds several buffers of one allocation; `None` where they lie in several, or
    /// where there are none.
    pub(crate) fn spanning(buffers: &[&Buffer]) -> Option<Buffer> {
        let first = buffers.first()?;
        if buffers.iter().any(|other| !first.same_block(other)) {
            return None;
        }
        let offset = buffers.iter().map(|b| b.offset).min()?;
        let end = buffers.iter().map(|b| b.offset + b.bytes).max()?;
        Some(Buffer { block: first.block.clone(), offset, bytes: end - offset, image: None })
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
    /// [`GpuError::Limit`] when all together are larger than a buffer may be, or, on a software adapter, than what the
    /// host has left.
    pub fn buffers(&self, label: &str, sizes: &[u64]) -> Result<Vec<Buffer>, GpuError> {
        Ok(self.allocate(label, sizes, false)?.1)
    }

    /// Zeroed buffers as above, with a buffer over all of them first.
    pub fn arena(&self, label: &str, sizes: &[u64]) -> Result<(Buffer, Vec<Buffer>), GpuError> {
        let (whole, parts) = self.allocate(label, sizes, true)?;
        Ok((whole.expect("asked for"), parts))
    }

    /// Bytes that buffers of one allocation are aligned to.
    pub fn alignment(&self) -> u64 {
        alignment(self.limits())
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
        }
        if total > self.capabilities().largest_buffer {
            let limit = self.capabilities().largest_buffer;
            return Err(Limit::Buffer { label: label.into(), bytes: total, limit }.into());
        }
        self.has_room(label, total)?;
        if self.capabilities().software {
            host_memory::check(label, total)?;
        }
        let block = Arc::new(self.block(label, total.max(256))?);
        let ranges: Vec<(u64, u64)> = whole.then_some((0, total)).into_iter().chain(offsets).collect();
        // Images before zeros: what was in the memory before need not outlive an image's first layout.
        let images = match &block.memory {
            Some(memory) => {
                // What is larger than a binding gets images over its windows, when a program binds them.
                let bound = |range: &(u64, u64)| range.1 <= self.capabilities().largest_binding;
                let bindable: Vec<(u64, u64)> = ranges.iter().copied().filter(bound).collect();
                let mut laid = self.lay_images(memory, &bindable)?.into_iter();
                ranges.iter().map(|range| if bound(range) { laid.next() } else { None }).collect()
            }
            None => vec![None; ranges.len()],
        };
        let mut encoder = self.encoder();
        encoder.clear_buffer(&block.raw, 0, None);
        self.submit(encoder);
        let make = |((offset, bytes), image)| Buffer { block: block.clone(), offset, bytes, image };
        let mut parts: Vec<Buffer> = ranges.into_iter().zip(images).map(make).collect();
        let all = whole.then(|| parts.remove(0));
        Ok((all, parts))
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
        let staging = self.stage_raw(&mut encoder, from, bytes)?;
        let submission = self.submit(encoder);
        staging.map();
        self.wait(submission)?;
        staging.take(self)
    }

    /// Records a copy of the first bytes of a raw buffer into memory that the host can map.
    pub(super) fn stage_raw(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        from: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<Staging, GpuError> {
        let raw = self.scoped("allocating a staging buffer", || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        encoder.copy_buffer_to_buffer(from, 0, &raw, 0, bytes);
        Ok(Staging { raw, bytes: bytes as usize, ready: Arc::default() })
    }

    pub(super) fn plain_block(&self, label: &str, bytes: u64) -> Result<Block, GpuError> {
        let raw = self.scoped(&format!("allocating {label} ({bytes} bytes)"), || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: bytes,
                usage: USAGE,
                mapped_at_creation: false,
            })
        })?;
        Ok(Block { raw, memory: None, _counted: Some(Counted::new(&self.tally, bytes)) })
    }
}

pub(super) const USAGE: wgpu::BufferUsages =
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
        // Another thread that waits may have taken the answer, and tell it in a moment.
        let asked = Instant::now();
        while self.ready.get().is_none() && asked.elapsed() < gpu.timeout {
            std::thread::sleep(Duration::from_micros(20));
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

#[cfg(test)]
mod tests {
    use crate::gpu::{AdapterChoice, Gpu, Options};

    #[test]
    fn threads_read_back_side_by_side() {
        let choice = std::env::var("LOWLAND_ADAPTER").map_or(AdapterChoice::Best, |c| c.parse().unwrap());
        let gpu = Gpu::open(&choice, Options::default()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let gpu = &gpu;
                scope.spawn(move || {
                    let buffer = gpu.buffer("own", 1024).unwrap();
                    for round in 0..200 {
                        let numbers = [thread * 1000 + round; 256];
                        gpu.write(&buffer, &numbers);
                        assert_eq!(gpu.read::<u32>(&buffer, 256).unwrap(), numbers);
                    }
                });
            }
        });
    }
}
