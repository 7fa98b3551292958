// Sums over rows: out[c] = Σ_rows x[row, c], the gradient of a bias. Frame and blocks: common/blocks.wgsl.
//@variants LANES=16
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/blocks.wgsl

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(LANES)
fn forward(here: Place) {
    let b = block_of(here);
    if b.column >= p.cols4 { return; }
    var total = vec4<f32>(0.0);
    for (var row = b.first; row < b.end; row++) {
        total += x[here.group.z * p.in_layer + row * p.cols4 + b.column];
    }
    out[here.group.z * p.out_layer + b.block * p.cols4 + b.column] = total;
}
