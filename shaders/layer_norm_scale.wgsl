// Gradients of layer norm's scale and shift: γ̄ = Σ_rows ȳ x̂, β̄ = Σ_rows ȳ. One invocation owns a vec4 of columns in
// one block of rows; where there is more than one block, the blocks' sums go to a workspace and `reduce.wgsl` adds them
// up. Without SHIFT there is no β̄.
//@variants LANES=16 SHIFT=1
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/blocks.wgsl

const SHIFT: u32 = 0u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> stat: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> y_bar: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> gamma_bar: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> beta_bar: array<vec4<f32>>;

@compute @workgroup_size(LANES)
fn vjp(here: Place) {
    let b = block_of(here);
    if b.column >= p.cols4 { return; }
    var scale = vec4<f32>(0.0);
    var shift = vec4<f32>(0.0);
    for (var row = b.first; row < b.end; row++) {
        let s = stat[row];
        let y = y_bar[here.group.z * p.in_layer + row * p.cols4 + b.column];
        scale += y * ((x[row * p.cols4 + b.column] - s.x) * s.y);
        if SHIFT != 0u { shift += y; }
    }
    let at = here.group.z * p.out_layer + b.block * p.cols4 + b.column;
    gamma_bar[at] = scale;
//@if SHIFT
    beta_bar[at] = shift;
//@end
}
