//! Values of a graph in one call: how an operation or a small graph of one's own is tried. What runs often has an
//! [`ExecutionPlan`] instead, which is made once.

use crate::ops::counts::{MASKED, ROWS, SENTENCES};
use std::collections::HashMap;

use super::{Count, Dims, Emit, ExecutionPlan, Graph, Tensor, TensorId};
use crate::gpu::GpuError;
use crate::ops::batch::{BatchLayout, Sentence};
use crate::ops::{Batch, BatchBuffers, Device};

impl Graph {
    /// The values of the tensors `wanted`, each row-major without padding, on a batch of one sentence of `rows` tokens
    /// that are all masked, with one probe. `given` has the values of parameters, inputs and probes in the same form.
    ///
    /// ```no_run
    /// use lowland::{graph::Graph, ops::{Activation, Device, counts::ROWS}};
    /// let mut graph = Graph::default();
    /// let x = graph.input("x", ROWS, 3);
    /// let y = graph.activation(Activation::Relu, x);
    /// let values = graph.evaluate(&Device::from_env()?, 2, &[(x, &[-1.0, 0.0, 1.0, 2.0, -2.0, 3.0])], &[y])?;
    /// assert_eq!(values, [[0.0, 0.0, 1.0, 2.0, 0.0, 3.0]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`ExecutionPlan::new`] and [`ExecutionPlan::run`].
    ///
    /// # Panics
    /// When a tensor is given more or fewer numbers than it has, or one that is read is not given.
    pub fn evaluate(
        &self,
        device: &Device,
        rows: u32,
        given: &[(TensorId, &[f32])],
        wanted: &[TensorId],
    ) -> Result<Vec<Vec<f32>>, GpuError> {
        let Device { gpu, variants } = device;
        let dims = Dims { rows, masked: rows, sentences: 1, probes: 1, longest: 0 };
        let layout = BatchLayout { tables: [1, rows, 1], first_position: 0, segment: variants.sums().segment };
        let masked = (0..rows).map(|position| (position, 0)).collect();
        let batch = Batch::new(&layout, &[Sentence { ids: vec![0; rows as usize], masked, ..Sentence::default() }]);
        let buffers = BatchBuffers::new(gpu, &dims, &layout, variants, 1, false)?;
        buffers.write(gpu, &batch, 1.0);
        let mut outside = HashMap::new();
        for (id, values) in given {
            let tensor = self.tensor(*id);
            assert_eq!(values.len(), height(tensor, rows) * tensor.cols as usize, "numbers for `{}`", tensor.name);
            let buffer = gpu.buffer(&tensor.name, dims.bytes(tensor))?;
            gpu.write(&buffer, &padded(values, tensor.cols as usize));
            outside.insert(*id, buffer);
        }
        let plan = ExecutionPlan::new(device, self, dims, &buffers, &outside, wanted)?;
        plan.run(gpu, &batch.step(1))?;
        wanted
            .iter()
            .map(|id| {
                let (tensor, buffer) = (self.tensor(*id), plan.buffer(*id).expect("it is kept"));
                let (cols, wide) = (tensor.cols as usize, tensor.cols.next_multiple_of(4) as usize);
                let values: Vec<f32> = gpu.read(buffer, height(tensor, rows) * wide)?;
                Ok(values.chunks_exact(wide).flat_map(|row| row[..cols].iter().copied()).collect())
            })
            .collect()
    }
}

/// Rows of a tensor with one sentence of `rows` tokens.
fn height(tensor: &Tensor, rows: u32) -> usize {
    match tensor.rows {
        Count::Fixed(n) => n as usize,
        ROWS | MASKED => rows as usize,
        SENTENCES => 1,
    }
}

/// Rows padded with zeros to a multiple of 4.
fn padded(values: &[f32], cols: usize) -> Vec<f32> {
    let wide = cols.next_multiple_of(4);
    let mut out = vec![0.0; values.len() / cols.max(1) * wide];
    for (to, row) in out.chunks_exact_mut(wide).zip(values.chunks_exact(cols)) {
        to[..cols].copy_from_slice(row);
    }
    out
}
