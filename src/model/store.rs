//! Parameters, gradients and moments on an adapter: matrices packed into chunks, none larger than a binding may be,
//! those with weight decay before those without, so that an optimiser runs over whole chunks. A matrix that is larger
//! is one buffer with several chunks over it.

use super::encoder::Encoder;
use super::parameters::Weights;
use crate::gpu::{Buffer, Gpu, GpuError};
use crate::graph::fit::{Excess, largest_binding};

/// One chunk: its memory as a whole.
#[derive(Clone)]
pub struct Chunk {
    /// Its matrices one after another.
    pub buffer: Buffer,
    /// vec4 in it.
    pub size4: u32,
    /// To how many vec4 from its begin weight decay applies.
    pub decayed4: u32,
}

/// Memory for one number per parameter: the parameters themselves, their gradients, a moment.
#[derive(Clone)]
pub struct Arena {
    /// Those with weight decay first.
    pub chunks: Vec<Chunk>,
    /// Memory of each matrix.
    pub matrices: Vec<Buffer>,
}

/// Matrices in one allocation.
struct Group {
    members: Vec<usize>,
    bytes: u64,
    /// Bytes of those with weight decay, which come first.
    decayed: u64,
}

/// Which matrices share an allocation: as many as a binding holds.
fn groups(encoder: &Encoder, limit: u64, align: u64) -> Vec<Group> {
    let mut made: Vec<Group> = Vec::new();
    for decay in [true, false] {
        for (i, matrix) in encoder.matrices.iter().enumerate().filter(|(_, m)| m.decay == decay) {
            let bytes = (matrix.padded_len() as u64 * 4).next_multiple_of(align);
            if made.last().is_none_or(|group| group.bytes + bytes > limit) {
                made.push(Group { members: vec![], bytes: 0, decayed: 0 });
            }
            let group = made.last_mut().expect("just made");
            group.members.push(i);
            group.bytes += bytes;
            group.decayed += if decay { bytes } else { 0 };
        }
    }
    made
}

/// Bytes of a chunk at most: what can be bound, in whole steps of where a binding may begin.
fn most_of_chunk(gpu: &Gpu) -> u64 {
    largest_binding(gpu) / gpu.alignment() * gpu.alignment()
}

/// The vec4 with weight decay in some bytes from `first` on of an allocation whose first `decayed` bytes have it.
fn decayed4(decayed: u64, first: u64, bytes: u64) -> u32 {
    (decayed.saturating_sub(first).min(bytes) / 16) as u32
}

impl Arena {
    /// Zeroed memory for a model.
    pub fn new(gpu: &Gpu, encoder: &Encoder, label: &str) -> Result<Arena, GpuError> {
        Arena::filled(gpu, encoder, label, &mut |_, _| {})
    }

    /// The same with `fill` called with each matrix's number and memory before the next chunk is allocated.
    fn filled(
        gpu: &Gpu,
        encoder: &Encoder,
        label: &str,
        fill: &mut dyn FnMut(usize, &Buffer),
    ) -> Result<Arena, GpuError> {
        Arena::check(gpu, encoder)?;
        let limit = largest_binding(gpu);
        let mut matrices: Vec<Option<Buffer>> = vec![None; encoder.matrices.len()];
        let mut made = Vec::new();
        let most = most_of_chunk(gpu);
        for Group { members, decayed, .. } in groups(encoder, limit, gpu.alignment()) {
            let sizes: Vec<u64> = members.iter().map(|m| encoder.matrices[*m].padded_len() as u64 * 4).collect();
            let (whole, parts) = gpu.arena(label, &sizes)?;
            for (member, part) in members.into_iter().zip(parts) {
                fill(member, &part);
                matrices[member] = Some(part);
            }
            for first in (0..whole.bytes()).step_by(most as usize) {
                let buffer = whole.window(first..(first + most).min(whole.bytes()));
                let decayed4 = decayed4(decayed, first, buffer.bytes());
                made.push(Chunk { size4: (buffer.bytes() / 16) as u32, buffer, decayed4 });
            }
        }
        Ok(Arena { chunks: made, matrices: matrices.into_iter().flatten().collect() })
    }

    /// Refuses a model with a matrix that an adapter cannot allocate at once. One that it can allocate and not bind is
    /// refused where a graph is planned with a node that does not take it in windows.
    ///
    /// # Errors
    /// [`GpuError::Limit`] with its name, its size and the limit.
    pub fn check(gpu: &Gpu, encoder: &Encoder) -> Result<(), GpuError> {
        let limit = gpu.capabilities().largest_buffer;
        let largest = encoder.matrices.iter().max_by_key(|m| m.padded_len());
        match largest.map(|m| (m, m.padded_len() as u64 * 4)) {
            Some((m, bytes)) if bytes > limit => Err(Excess::of_matrix(&m.name, m.rows, m.cols, bytes, limit).into()),
            _ => Ok(()),
        }
    }

    /// No memory at all: for what is planned and not run.
    pub fn nowhere() -> Arena {
        Arena { chunks: vec![], matrices: vec![] }
    }

    /// Memory with a model's weights in it.
    pub fn of(gpu: &Gpu, encoder: &Encoder, weights: &Weights) -> Result<Arena, GpuError> {
        let arena = Arena::new(gpu, encoder, "the parameters")?;
        arena.write(gpu, encoder, weights);
        Ok(arena)
    }

    /// The same, giving up the weights on the way: a large model is hardly there twice.
    pub fn of_moved(gpu: &Gpu, encoder: &Encoder, mut weights: Weights) -> Result<Arena, GpuError> {
        let mut upload = gpu.upload();
        Arena::filled(gpu, encoder, "the parameters", &mut |matrix, buffer| {
            upload.write_at(buffer, 0, &weights.leading(&encoder.parameters, &encoder.matrices, matrix));
            for (parameter, values) in encoder.parameters.iter().zip(&mut weights.0) {
                if parameter.matrix == matrix {
                    *values = Vec::new();
                }
            }
        })
    }

    /// The number of the allocation that each matrix lies in.
    pub(super) fn allocations(gpu: &Gpu, encoder: &Encoder) -> Vec<usize> {
        let mut numbers = vec![0; encoder.matrices.len()];
        for (number, group) in groups(encoder, largest_binding(gpu), gpu.alignment()).iter().enumerate() {
            group.members.iter().for_each(|member| numbers[*member] = number);
        }
        numbers
    }

    /// Chunks of an arena.
    pub fn chunk_count(gpu: &Gpu, encoder: &Encoder) -> u64 {
        let all = groups(encoder, largest_binding(gpu), gpu.alignment());
        all.iter().map(|group| group.bytes.div_ceil(most_of_chunk(gpu))).sum()
    }

    /// Bytes of an arena.
    pub fn bytes(encoder: &Encoder, align: u64) -> u64 {
        encoder.matrices.iter().map(|m| (m.padded_len() as u64 * 4).next_multiple_of(align)).sum()
    }

    /// Writes values.
    pub fn write(&self, gpu: &Gpu, encoder: &Encoder, weights: &Weights) {
        let mut upload = gpu.upload();
        for (i, buffer) in self.matrices.iter().enumerate() {
            upload.write_at(buffer, 0, &weights.leading(&encoder.parameters, &encoder.matrices, i));
        }
    }

    /// Waits and reads values.
    pub fn read(&self, gpu: &Gpu, encoder: &Encoder) -> Result<Weights, GpuError> {
        let parts: Vec<(&Buffer, usize)> =
            self.matrices.iter().zip(&encoder.matrices).map(|(b, m)| (b, m.padded_len() * 4)).collect();
        let packed: Vec<Vec<f32>> = gpu.read_many(&parts)?.iter().map(|b| bytemuck::pod_collect_to_vec(b)).collect();
        Ok(Weights::unpack(&packed, &encoder.parameters, &encoder.matrices))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;

    #[test]
    fn matrices_with_decay_come_first_and_no_group_is_larger_than_it_may_be() {
        let config = ModelConfig { vocab_size: 50, hidden_size: 12, num_hidden_layers: 2, ..ModelConfig::default() };
        let encoder = Encoder::new(&config).unwrap();
        let bytes = |i: usize| (encoder.matrices[i].padded_len() as u64 * 4).next_multiple_of(256);
        let all: u64 = (0..encoder.matrices.len()).map(bytes).sum();
        let decaying: u64 = (0..encoder.matrices.len()).filter(|i| encoder.matrices[*i].decay).map(bytes).sum();
        let largest = (0..encoder.matrices.len()).map(bytes).max().unwrap();
        assert!(0 < decaying && decaying < all && largest < all / 2, "{decaying} and {largest} of {all}");
        for limit in [all, all - 1, all / 2 + 100, largest, largest - 1, 256] {
            let found = groups(&encoder, limit, 256);
            let order: Vec<usize> = found.iter().flat_map(|group| group.members.clone()).collect();
            let decay: Vec<bool> = order.iter().map(|i| encoder.matrices[*i].decay).collect();
            assert!(decay.is_sorted_by(|a, b| a >= b), "{limit}: those without decay come last");
            let mut numbers = order;
            numbers.sort_unstable();
            assert_eq!(numbers, (0..encoder.matrices.len()).collect::<Vec<_>>(), "{limit}: each once");
            assert_eq!(found.iter().map(|group| group.decayed).sum::<u64>(), decaying, "{limit}");
            for group in &found {
                assert_eq!(group.bytes, group.members.iter().map(|i| bytes(*i)).sum::<u64>(), "{limit}");
                assert!(group.bytes <= limit || group.members.len() == 1, "{limit}: {}", group.bytes);
            }
            assert_eq!(found.len() == 1, limit == all, "{limit}: {} groups", found.len());
        }
    }

    #[test]
    fn a_window_has_as_much_decay_as_lies_in_it() {
        // 100 vec4 with decay, in windows of 64.
        assert_eq!([0, 64, 128].map(|first| decayed4(1600, 16 * first, 1024)), [64, 36, 0]);
        assert_eq!(decayed4(0, 0, 1024), 0);
    }
}
