//! The sum of a batch's losses, kept on the adapter. Not an operation of the graph. Shader: `shaders/statistics.wgsl`.

use crate::gpu::{Buffer, Count, Dispatch, Grid};

/// tally ← (Σ weight · loss, Σ weight, Σ weight · divergence, 0), added to what is there after the first micro-batch.
pub fn tally(stat: &Buffer, weight: &Buffer, tally: &Buffer) -> Dispatch {
    Dispatch {
        label: "tally".into(),
        kernel: "statistics",
        entry: "forward",
        constants: vec![],
        buffers: vec![("stat", stat.clone()), ("weight", weight.clone()), ("tally", tally.clone())],
        params: vec![],
        grid: Grid { count: Count::Fixed(1), unit: 1, columns: 1, layers: 1 },
    }
}
