//! Whether an adapter can bind every tensor of a graph, and where it cannot, which one and what would help.

use super::{Graph, TensorId};
pub use crate::gpu::Excess;
use crate::gpu::{Count, Gpu, GpuError};
pub use crate::ops::excess::{largest_binding, most_sentences};
use crate::ops::{Dims, Emit, Sizes, Variants};

/// Refuses a graph with a tensor that an adapter cannot bind.
///
/// # Errors
/// [`GpuError::Limit`] with the tensor's name, its size and the limit.
pub fn check(
    gpu: &Gpu,
    graph: &Graph,
    dims: &Dims,
    variants: &Variants,
    outside: &dyn Fn(TensorId) -> bool,
) -> Result<(), GpuError> {
    excess(graph, dims, variants, outside, largest_binding(gpu)).map_or(Ok(()), |e| Err(e.into()))
}

/// The same batch cut down to fewer sentences.
fn fewer(dims: &Dims, sentences: u32) -> Dims {
    let of = |n: u32| (u64::from(n) * u64::from(sentences)).div_ceil(u64::from(dims.sentences.max(1))) as u32;
    Dims { rows: of(dims.rows), masked: of(dims.masked), sentences, probes: dims.probes }
}

/// The largest of what a graph's nodes write that is above a limit, outside of the caller's memory.
pub fn excess(
    graph: &Graph,
    dims: &Dims,
    variants: &Variants,
    outside: &dyn Fn(TensorId) -> bool,
    limit: u64,
) -> Option<Excess> {
    let (id, scratch, bytes) = largest(graph, dims, variants, outside)?;
    if bytes <= limit {
        return None;
    }
    let tensor = graph.tensor(id);
    let (rows, cols) = (dims.capacity(tensor.rows), tensor.cols);
    let layers = if tensor.probes && dims.probes > 1 { format!(" x {}", dims.probes) } else { String::new() };
    let shape = format!("`{}` ({rows} x {cols}{layers})", tensor.name);
    let fits = |sentences: u32| {
        largest(graph, &fewer(dims, sentences), variants, outside).is_none_or(|(_, _, bytes)| bytes <= limit)
    };
    Some(Excess {
        what: if scratch { format!("scratch memory for the tensor {shape}") } else { format!("the tensor {shape}") },
        bytes,
        limit,
        sentences: dims.sentences,
        most: most_sentences(dims.sentences, fits),
        fixed: match tensor.rows {
            Count::Fixed(rows) if !scratch => Some([rows, cols]),
            _ => None,
        },
    })
}

/// The tensor that takes most, whether its node's scratch memory is meant, and the bytes.
fn largest(
    graph: &Graph,
    dims: &Dims,
    variants: &Variants,
    outside: &dyn Fn(TensorId) -> bool,
) -> Option<(TensorId, bool, u64)> {
    let of_node = |node: &super::Node| {
        let tensors = node.outputs.iter().filter(|id| !outside(**id));
        let mut all: Vec<(TensorId, bool, u64)> =
            tensors.map(|id| (*id, false, dims.bytes(graph.tensor(*id)))).collect();
        let scratch = node.scratch(&Sizes { graph, dims, variants });
        all.extend(scratch.into_iter().map(|(_, bytes)| (node.outputs[0], true, bytes)));
        all
    };
    graph.nodes().iter().flat_map(of_node).max_by_key(|(_, _, bytes)| *bytes)
}
