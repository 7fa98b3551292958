//! The gradient of an adversarial loss, subtracted from that of a step. Not an operation of the graph but programs over
//! whole chunks. Shader: `shaders/adversary.wgsl`.

use crate::gpu::{Buffer, Count, Dispatch, Grid};

/// The factor -λ on the adversarial gradient, 0 from the ceiling on, and the step's log line (loss, factor, bad, step).
///
/// `tally` holds (Σ weight · loss, Σ weight, ..) of the batch, `head` the state of the head's optimiser; λ is the step's
/// `optimizer[4]`.
pub fn bound(tally: &Buffer, head: &Buffer, factor: &Buffer, log: &Buffer, ring: u32, ceiling: f32) -> Dispatch {
    Dispatch {
        label: "bound".into(),
        kernel: "adversary",
        entry: "bound",
        constants: vec![],
        buffers: vec![
            ("tally", tally.clone()),
            ("head", head.clone()),
            ("factor", factor.clone()),
            ("log", log.clone()),
        ],
        params: vec![("ring", ring), ("ceiling", ceiling.to_bits())],
        grid: Grid { count: Count::Fixed(1), unit: 1, columns: 1, layers: 1 },
    }
}

/// What [`bound`] reads of a step in which the adversarial loss has this weight λ.
pub fn numbers(weight: f64) -> [f32; 8] {
    [0.0, 0.0, 0.0, 0.0, weight as f32, 0.0, 0.0, 0.0]
}

/// gradient += factor · adversarial over one chunk.
pub fn blend(adversarial: &Buffer, factor: &Buffer, gradient: &Buffer, size4: u32) -> Dispatch {
    Dispatch {
        label: "blend".into(),
        kernel: "adversary",
        entry: "blend",
        constants: vec![],
        buffers: vec![("a", adversarial.clone()), ("bounded", factor.clone()), ("g", gradient.clone())],
        params: vec![("size4", size4)],
        grid: Grid { count: Count::Fixed(size4), unit: 64, columns: 1, layers: 1 },
    }
}
