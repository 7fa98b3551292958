//! AdamW's update of a chunk of parameters, one of the rules of [`optimizer`](super::optimizer). Shader:
//! `shaders/adamw.wgsl`.

use super::optimizer::{ChunkBuffers, Shared, flat};
use crate::gpu::{Dispatch, Kernel};
use crate::kernels::adamw as kernel;

pub(super) use kernel::Params;

/// The update of chunk number `i`; where it has many vec4, a lane's results are stored after another's.
///
/// # Panics
/// Where the chunk has not two moments.
pub(super) fn dispatch(i: usize, chunk: &ChunkBuffers, shared: &Shared, params: Params) -> Dispatch {
    let constants = match shared.apart.filter(|(_, least)| u64::from(chunk.size4) >= *least) {
        Some((lanes, _)) => kernel::Constants { uniform: true, lanes, blocks: 64 / lanes },
        None => kernel::Constants::default(),
    };
    let two = "AdamW has two moments";
    let adamw = kernel::Adamw {
        g: chunk.gradient.clone(),
        settled: shared.state.clone(),
        theta: chunk.theta.clone(),
        first_moment: chunk.first.clone().expect(two),
        second_moment: chunk.second.clone().expect(two),
        params,
        constants,
    };
    adamw.dispatch(format!("adamw {i}"), flat(chunk.size4))
}
