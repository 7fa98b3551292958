//! How much an adapter binds, and how many sentences fit.

use crate::gpu::Gpu;

/// Bytes that an adapter binds at most.
pub fn largest_binding(gpu: &Gpu) -> u64 {
    gpu.capabilities().largest_binding.min(gpu.capabilities().largest_buffer)
}

/// The largest number of sentences at once, below `asked`, that passes; `fits` holds for all below one that it holds
/// for.
pub fn most_sentences(asked: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut low, mut high) = (0, asked);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    (low > 0).then_some(low)
}
