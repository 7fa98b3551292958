//! Large values on their way to an adapter: a step at a time, since whatever is written waits in memory of the host
//! until it is submitted and done.

use super::device::Gpu;
use super::memory::Buffer;

/// Bytes on their way at most.
const STEP: usize = 32 << 20;

/// Writes of many large values, with little of them waiting at once.
pub struct Upload<'g> {
    gpu: &'g Gpu,
    waiting: usize,
}

impl Gpu {
    /// Begins such writes.
    pub fn upload(&self) -> Upload<'_> {
        Upload { gpu: self, waiting: 0 }
    }
}

impl Upload<'_> {
    /// Writes numbers at an offset in bytes (a multiple of 4).
    ///
    /// # Panics
    /// When the buffer ends before.
    pub fn write_at(&mut self, buffer: &Buffer, offset: u64, values: &[f32]) {
        let mut at = offset;
        for step in values.chunks(STEP / size_of::<f32>()) {
            let bytes = size_of_val(step);
            if self.waiting + bytes > STEP {
                self.gpu.submit(self.gpu.encoder());
                // What goes wrong here is said by the next wait too.
                let _ = self.gpu.finish();
                self.waiting = 0;
            }
            self.gpu.write_at(buffer, at, step);
            at += bytes as u64;
            self.waiting += bytes;
        }
    }
}
