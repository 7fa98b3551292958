//! What an operation has at hand when it turns itself into dispatches.

use std::collections::HashMap;
use std::iter::once;
use std::ops::Range;

use super::late_sums::LateSum;
use super::windows::Room;
use super::{BatchBuffers, Dims, Emit, Node, TensorId, Variants};
use crate::gpu::{Buffer, Count, Dispatch, Grid, Kernel, KernelFile, Launch};

/// A piece of memory that a node needs while it runs, by the name that its operation gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scratch(pub &'static str);

/// The place where dispatches are made: buffers of tensors, sizes, variants.
pub struct Lowering<'a> {
    /// Names and shapes of tensors.
    pub graph: &'a dyn Emit,
    /// The largest batch.
    pub dims: &'a Dims,
    /// How kernels run.
    pub variants: &'a Variants,
    /// The batch's memory.
    pub batch: &'a BatchBuffers,
    pub(crate) strides: &'a HashMap<TensorId, u32>,
    pub(crate) room: Room,
    pub(crate) buffers: &'a dyn Fn(TensorId) -> Buffer,
    /// The range of a buffer's bytes; a stand-in stands for each.
    pub(crate) window: &'a dyn Fn(&Buffer, Range<u64>) -> Buffer,
    pub(crate) scratch: &'a dyn Fn(Scratch) -> Option<Buffer>,
    /// First byte of a piece of this node's scratch memory among the sums that wait to the end of the plan, if it does.
    pub(crate) late: &'a dyn Fn(Scratch) -> Option<u64>,
    /// Those that this node leaves.
    pub(crate) sums: Vec<LateSum>,
    pub(crate) out: Vec<Dispatch>,
}

impl Lowering<'_> {
    /// The memory of a tensor.
    pub fn buffer(&self, id: TensorId) -> Buffer {
        (self.buffers)(id)
    }

    /// The rows of a matrix in windows that the adapter binds, one where it binds the whole.
    pub fn windows(&self, id: TensorId) -> Vec<Range<u32>> {
        let tensor = self.graph.tensor(id);
        // Where windows do not help, binding the whole is refused by name.
        let whole = || once(0..self.dims.capacity(tensor.rows)).collect();
        self.room.windows(self.dims, tensor).unwrap_or_else(whole)
    }

    /// The memory of some rows of a tensor.
    pub fn rows_of(&self, id: TensorId, rows: &Range<u32>) -> Buffer {
        let tensor = self.graph.tensor(id);
        let buffer = self.buffer(id);
        if *rows == (0..self.dims.capacity(tensor.rows)) {
            return buffer;
        }
        let row = u64::from(tensor.cols4()) * 16;
        (self.window)(&buffer, u64::from(rows.start) * row..u64::from(rows.end) * row)
    }

    /// vec4 between two probes of a tensor; 0 when it has none.
    pub fn layer(&self, id: TensorId) -> u32 {
        let tensor = self.graph.tensor(id);
        if tensor.probes { self.dims.capacity(tensor.rows) * self.stride4(id) } else { 0 }
    }

    /// Probes of a tensor, 1 when it has none.
    pub fn layers(&self, id: TensorId) -> u32 {
        if self.graph.tensor(id).probes { self.dims.probes } else { 1 }
    }

    /// vec4 in a row of a tensor.
    pub fn cols4(&self, id: TensorId) -> u32 {
        self.graph.tensor(id).cols4()
    }

    /// vec4 from one row of a tensor to the next: those in a row, and room between rows where all of its operations
    /// are [`strided`](super::Operation::strided).
    pub fn stride4(&self, id: TensorId) -> u32 {
        self.strides.get(&id).copied().unwrap_or_else(|| self.cols4(id))
    }

    /// The name of a tensor: the label of the dispatch that makes it.
    pub fn name(&self, id: TensorId) -> String {
        self.graph.tensor(id).name.clone()
    }

    /// A piece of this node's scratch memory.
    ///
    /// # Panics
    /// When the operation did not ask for it.
    pub fn scratch(&self, piece: Scratch) -> Buffer {
        (self.scratch)(piece).unwrap_or_else(|| panic!("the scratch memory `{}` was not asked for", piece.0))
    }

    /// The code and the fixed number of a count of rows (`count_of` in `shaders/common/step.wgsl`).
    pub fn count(&self, id: TensorId) -> (u32, u32) {
        let rows = self.graph.tensor(id).rows;
        (rows.code(), rows.fixed())
    }

    /// A grid of one invocation per vec4 of a tensor, 64 per workgroup.
    pub fn elementwise(&self, id: TensorId) -> Grid {
        let tensor = self.graph.tensor(id);
        match tensor.rows {
            Count::Fixed(n) => {
                let total = n * tensor.cols4();
                Grid { count: Count::Fixed(total), unit: 64, columns: 1, layers: self.layers(id) }
            }
            // 64 vec4 per workgroup: rows x cols4 / 64 workgroups, rounded up for blocks of rows.
            rows => {
                let cols4 = tensor.cols4();
                let common = gcd(cols4, 64);
                Grid { count: rows, unit: 64 / common, columns: cols4 / common, layers: self.layers(id) }
            }
        }
    }

    /// Lanes of a subgroup where an elementwise kernel stores a lane's results of a tensor after another's
    /// (`shaders/common/blocks_apart.wgsl`): where there are many. Its grid is that of [`elementwise`](Self::elementwise).
    pub fn apart(&self, id: TensorId) -> Option<u32> {
        let size4 = self.dims.size4(self.graph.tensor(id).rows, self.graph.tensor(id).cols);
        self.variants.lanes_apart().filter(|(_, least)| size4 >= *least).map(|(lanes, _)| lanes)
    }

    /// A grid of `lanes` invocations per row, 64 per workgroup.
    pub fn rowwise(&self, rows: Count, lanes: u32, layers: u32) -> Grid {
        Grid { count: rows, unit: 64 / lanes, columns: 1, layers }
    }

    /// Appends an elementwise kernel of your own, in the frame of `shaders/common/elementwise.wgsl`. Its entry point is
    /// called as the [rule](super::Rule::name), its storage bindings are the node's inputs (four at most), then its
    /// first output; `p.scale` is `scale`.
    pub fn push_elementwise(&mut self, file: &'static KernelFile, node: &Node, scale: f32) {
        let (out, entry) = (node.outputs[0], node.rule.name());
        let (code, fixed) = self.count(out);
        let [a, b, c, d] = std::array::from_fn(|i| node.inputs.get(i).map_or(0, |id| self.layer(*id)));
        let params = vec![code, fixed, self.cols4(out), a, b, c, d, self.layer(out), scale.to_bits(), 0, 0, 0];
        let buffers = node.inputs.iter().chain([&out]).map(|id| self.buffer(*id)).collect();
        self.push(Launch { file, entry, buffers, params }, self.name(out), self.elementwise(out));
    }

    /// Appends a dispatch.
    pub fn push(&mut self, kernel: impl Kernel, label: String, grid: Grid) {
        self.out.push(kernel.dispatch(label, grid));
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
