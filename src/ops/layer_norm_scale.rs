//! Layer norm's reverse rule for scale and shift: γ̄ = Σ_rows ȳ x̂ and β̄ = Σ_rows ȳ. Shader:
//! `shaders/layer_norm_scale.wgsl`.

use super::{Lowering, Scratch, TensorId, reduce};
use crate::gpu::Grid;
use crate::kernels::layer_norm_scale as kernel;

/// The blocks' sums of γ̄, where there is more than one block.
pub(super) const GAMMA_SUMS: Scratch = Scratch("sums of the scale's gradient");
/// Those of β̄.
pub(super) const BETA_SUMS: Scratch = Scratch("sums of the shift's gradient");

/// The dispatches of (x, stat, ȳ) to (γ̄, β̄).
pub(super) fn lower_sums(cx: &mut Lowering<'_>, [x, stat, y_bar]: [TensorId; 3], outputs: [TensorId; 2]) {
    let (code, fixed) = cx.count(x);
    let (rows, cols4, block) = (cx.graph.tensor(x).rows, cx.cols4(x), cx.variants.sums().block);
    let gamma = reduce::blocks(cx, rows, block, u64::from(cols4), outputs[0], None, GAMMA_SUMS);
    let beta = reduce::blocks(cx, rows, block, u64::from(cols4), outputs[1], None, BETA_SUMS);
    let lanes = reduce::lanes(cx);
    let groups = cols4.div_ceil(lanes);
    let sums = kernel::Vjp {
        x: cx.buffer(x),
        stat: cx.buffer(stat),
        y_bar: cx.buffer(y_bar),
        gamma_bar: gamma.target.clone(),
        beta_bar: beta.target.clone(),
        params: kernel::Params { code, fixed, cols4, groups, block, in_layer: cx.layer(y_bar), out_layer: gamma.layer },
        constants: kernel::Constants { lanes },
    };
    let grid = Grid { count: rows, unit: block, columns: groups, layers: cx.layers(y_bar) };
    cx.push(sums, cx.name(outputs[0]), grid);
    gamma.finish_both(beta, cx);
}
