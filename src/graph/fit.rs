//! Whether an adapter can bind every tensor of a graph, and where it cannot, which one and what would help.

use super::{Graph, TensorId};
pub use crate::gpu::Excess;
use crate::gpu::{Count, Gpu, GpuError};
pub use crate::ops::excess::{largest_binding, most_sentences};
pub use crate::ops::windows::Room;
use crate::ops::{Dims, Emit, Role, Sizes, Variants};

/// Refuses a graph with a tensor that an adapter cannot bind.
///
/// # Errors
/// [`GpuError::Limit`] with the tensor's name, its size and the limit.
pub fn check(gpu: &Gpu, graph: &Graph, dims: &Dims, variants: &Variants) -> Result<(), GpuError> {
    excess(graph, dims, variants, &Room::of(gpu)).map_or(Ok(()), |e| Err(e.into()))
}

/// The same batch cut down to fewer sentences.
fn fewer(dims: &Dims, sentences: u32) -> Dims {
    let of = |n: u32| (u64::from(n) * u64::from(sentences)).div_ceil(u64::from(dims.sentences.max(1))) as u32;
    Dims { rows: of(dims.rows), masked: of(dims.masked), sentences, ..*dims }
}

/// Something that a node reads or writes and that is too large.
struct TooLarge {
    tensor: TensorId,
    /// Whether its node's scratch memory is meant.
    scratch: bool,
    bytes: u64,
    /// What it may take.
    limit: u64,
}

/// The largest of what a graph's nodes read and write that is above what an adapter binds, or, where a node takes it by
/// windows of rows, above what it allocates.
pub fn excess(graph: &Graph, dims: &Dims, variants: &Variants, room: &Room) -> Option<Excess> {
    let TooLarge { tensor: id, scratch, bytes, limit } = largest(graph, dims, variants, room)?;
    let tensor = graph.tensor(id);
    let (rows, cols) = (dims.capacity(tensor.rows), tensor.cols);
    let layers = if tensor.probes && dims.probes > 1 { format!(" x {}", dims.probes) } else { String::new() };
    let kind = match (scratch, tensor.role) {
        (true, _) => "scratch memory for the tensor",
        (false, Role::Parameter) => "the matrix",
        (false, _) => "the tensor",
    };
    let fits = |sentences: u32| largest(graph, &fewer(dims, sentences), variants, room).is_none();
    Some(Excess {
        what: format!("{kind} `{}` ({rows} x {cols}{layers})", tensor.name),
        bytes,
        limit,
        bound: limit == room.binding,
        sentences: dims.sentences,
        most: most_sentences(dims.sentences, fits),
        fixed: match tensor.rows {
            Count::Fixed(rows) if !scratch => Some([rows, cols]),
            _ => None,
        },
    })
}

/// The tensor, or scratch memory, that takes most of all that are too large; of several as large a parameter.
fn largest(graph: &Graph, dims: &Dims, variants: &Variants, room: &Room) -> Option<TooLarge> {
    let of_node = |node: &super::Node| {
        let tensors = node.reads().chain(&node.outputs).map(|id| {
            let tensor = graph.tensor(*id);
            let windows = node.operation().in_windows(node, *id) && room.windows(dims, tensor).is_some();
            let limit = if windows { room.buffer } else { room.binding };
            TooLarge { tensor: *id, scratch: false, bytes: dims.bytes(tensor), limit }
        });
        let scratch = node.scratch(&Sizes { graph, dims, variants }).into_iter();
        let scratch =
            scratch.map(|(_, bytes)| TooLarge { tensor: node.outputs[0], scratch: true, bytes, limit: room.binding });
        tensors.chain(scratch).filter(|found| found.bytes > found.limit).collect::<Vec<_>>()
    };
    let rank = |found: &TooLarge| (found.bytes, graph.tensor(found.tensor).role == Role::Parameter);
    graph.nodes().iter().flat_map(of_node).max_by_key(rank)
}
