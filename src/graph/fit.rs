//! Whether an adapter can bind every tensor of a graph, and where it cannot, which one and what would help.

use super::{Graph, TensorId};
use crate::gpu::{Count, Gpu, GpuError};
use crate::ops::{Dims, Emit, Sizes, Variants};

/// A tensor, or scratch memory, that is larger than an adapter binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Its name and shape.
    pub what: String,
    pub bytes: u64,
    /// Bytes that the adapter binds at most.
    pub limit: u64,
    /// Sentences at once that were asked for.
    pub sentences: u32,
    /// Sentences at once with which everything fits; `None` where a single one is too many.
    pub most: Option<u32>,
    /// Rows and columns where no batch changes the size.
    pub fixed: Option<[u32; 2]>,
}

/// Bytes that an adapter binds at most.
pub fn largest_binding(gpu: &Gpu) -> u64 {
    gpu.capabilities().largest_binding.min(gpu.capabilities().largest_buffer)
}

/// A size in MiB: `larger` than a limit is rounded up, a limit down.
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl Excess {
    /// A parameter that is too large, whatever the batch.
    pub fn of_matrix(name: &str, rows: u32, cols: u32, bytes: u64, limit: u64) -> Excess {
        let what = format!("the matrix `{name}` ({rows} x {cols})");
        Excess { what, bytes, limit, sentences: 1, most: None, fixed: Some([rows, cols]) }
    }

    /// What is too large and what would help; `knob` sets the sentences at once.
    pub fn text(&self, knob: &str) -> String {
        let said = format!(
            "{} takes {}, and this adapter binds at most {}.\n",
            self.what,
            mebibytes(self.bytes),
            mebibytes(self.limit)
        );
        let other = "another adapter (`lowland doctor` lists them and what the chosen one binds)";
        said + &match (self.most, self.fixed) {
            (Some(most), _) => format!("Set {knob} to {most} or less ({} now).", self.sentences),
            (None, Some([rows, cols])) => {
                let room = self.limit / 16;
                let (most_rows, most_cols) =
                    (room / u64::from(cols.div_ceil(4)) / 4 * 4, room / u64::from(rows.next_multiple_of(4)) * 4);
                format!(
                    "No batch changes its size. With {cols} columns at most {most_rows} rows fit, with {rows} rows at most {most_cols} \
                     columns: take a smaller vocabulary or `model.hidden_size`, or {other}."
                )
            }
            (None, None) => {
                format!(
                    "A single sentence is too much for it already: take shorter sentences, a smaller model, or {other}."
                )
            }
        }
    }
}

impl From<Excess> for GpuError {
    fn from(excess: Excess) -> GpuError {
        GpuError::Limit(excess.text("`train.micro_batch` (`--batch` of a command that has it)"))
    }
}

/// Refuses a graph with a tensor that an adapter cannot bind.
///
/// # Errors
/// [`GpuError::Limit`] with the tensor's name, its size, the limit, and what would help.
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

/// The largest number of sentences at once, below `asked`, that passes; `fits` holds for all below one that it holds for.
pub fn most_sentences(asked: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut low, mut high) = (0, asked);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    (low > 0).then_some(low)
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
