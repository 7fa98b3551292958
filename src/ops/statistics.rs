//! The sum of a batch's losses, kept on the adapter. Not an operation of the graph. Shader: `shaders/statistics.wgsl`.

use crate::gpu::{Buffer, Count, Dispatch, Grid, Kernel};
use crate::kernels::statistics as kernel;

/// tally ← (Σ weight · loss, Σ weight, Σ weight · divergence, 0), added to what is there after the first micro-batch.
pub fn tally(stat: &Buffer, weight: &Buffer, tally: &Buffer) -> Dispatch {
    let grid = Grid { count: Count::Fixed(1), unit: 1, columns: 1, layers: 1 };
    let (stat, weight, tally) = (stat.clone(), weight.clone(), tally.clone());
    kernel::Forward { stat, weight, tally, params: Default::default() }.dispatch("tally".into(), grid)
}
