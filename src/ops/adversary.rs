//! The gradient of an adversarial loss, subtracted from that of a step. Not an operation of the graph but programs over
//! whole chunks. Shader: `shaders/adversary.wgsl`.

use crate::gpu::{Buffer, Count, Dispatch, Grid, Kernel};
use crate::kernels::adversary as kernel;

/// The factor -λ on the adversarial gradient, 0 from the ceiling on, and the step's log line (loss, factor, bad, step).
///
/// `tally` holds (Σ weight · loss, Σ weight, ..) of the batch, `head` the state of the head's optimiser; λ is the
/// step's `user[4]`.
pub fn bound(tally: &Buffer, head: &Buffer, factor: &Buffer, log: &Buffer, ring: u32, ceiling: f32) -> Dispatch {
    let bound = kernel::Bound {
        tally: tally.clone(),
        head: head.clone(),
        factor: factor.clone(),
        log: log.clone(),
        params: kernel::Params { ring, ceiling, ..Default::default() },
    };
    bound.dispatch("bound".into(), Grid { count: Count::Fixed(1), unit: 1, columns: 1, layers: 1 })
}

/// What [`bound`] reads of a step in which the adversarial loss has this weight λ.
pub fn numbers(weight: f64) -> [f32; 8] {
    [0.0, 0.0, 0.0, 0.0, weight as f32, 0.0, 0.0, 0.0]
}

/// gradient += factor · adversarial over one chunk.
pub fn blend(adversarial: &Buffer, factor: &Buffer, gradient: &Buffer, size4: u32) -> Dispatch {
    let blend = kernel::Blend {
        a: adversarial.clone(),
        bounded: factor.clone(),
        g: gradient.clone(),
        params: kernel::Params { size4, ..Default::default() },
    };
    blend.dispatch("blend".into(), Grid { count: Count::Fixed(size4), unit: 64, columns: 1, layers: 1 })
}
