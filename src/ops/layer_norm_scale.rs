//! Layer norm's reverse rule for scale and shift: γ̄ = Σ_rows ȳ x̂ and β̄ = Σ_rows ȳ. Shader:
//! `shaders/layer_norm_scale.wgsl`.

use super::reduce::{self, Blocks};
use super::{Lowering, Scratch, TensorId};
use crate::gpu::Grid;
use crate::kernels::layer_norm_scale as kernel;

/// The blocks' sums of γ̄, where there is more than one block.
pub(super) const GAMMA_SUMS: Scratch = Scratch("sums of the scale's gradient");
/// Those of β̄.
pub(super) const BETA_SUMS: Scratch = Scratch("sums of the shift's gradient");

/// Sums over the rows of x in blocks, to γ̄ and, where there are two outputs, β̄.
pub(super) fn blocks(cx: &Lowering<'_>, x: TensorId, block: u32, outputs: &[TensorId]) -> (Blocks, Option<Blocks>) {
    let (rows, cols4) = (cx.graph.tensor(x).rows, u64::from(cx.cols4(outputs[0])));
    let sum = |out, scratch| reduce::blocks(cx, rows, block, cols4, out, None, scratch);
    (sum(outputs[0], GAMMA_SUMS), outputs.get(1).map(|beta| sum(*beta, BETA_SUMS)))
}

/// The dispatches of (x, stat, ȳ), whose rows fall into as many heads, to γ̄ and, where there are two outputs, β̄.
pub(super) fn lower_sums(cx: &mut Lowering<'_>, heads: u32, [x, stat, y_bar]: [TensorId; 3], outputs: &[TensorId]) {
    let (code, fixed) = cx.count(x);
    let (rows, cols4, block) = (cx.graph.tensor(x).rows, cx.cols4(outputs[0]), cx.variants.sums().block);
    let (gamma, beta) = blocks(cx, x, block, outputs);
    let lanes = reduce::lanes(cx);
    let groups = cols4.div_ceil(lanes);
    let sums = kernel::Vjp {
        x: cx.buffer(x),
        stat: cx.buffer(stat),
        y_bar: cx.buffer(y_bar),
        gamma_bar: gamma.target.clone(),
        beta_bar: beta.as_ref().map(|beta| beta.target.clone()),
        params: kernel::Params {
            code,
            fixed,
            cols4,
            groups,
            block: block * heads,
            in_layer: cx.layer(y_bar),
            out_layer: gamma.layer,
            heads,
        },
        constants: kernel::Constants { lanes, shift: beta.is_some() },
    };
    let grid = Grid { count: rows, unit: block, columns: groups, layers: cx.layers(y_bar) };
    cx.push(sums, cx.name(outputs[0]), grid);
    gamma.finish_with(beta, cx);
}
