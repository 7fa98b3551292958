// Dropout: out = x · keep / (1 - p), keep from Philox by (element, stream, step), so that the backward pass draws the
// same mask again. Linear in x: vjp and jvp are the same kernel on ȳ and ẋ. `threshold` = p · 2³², `scale` = 1 / (1 -
// p).
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/elementwise.wgsl
//@import common/philox.wgsl

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    let draws = philox(vec4<u32>(i, p.stream, step.counter), step.seed);
    let kept = select(vec4<f32>(0.0), vec4<f32>(p.scale), draws >= vec4<u32>(p.threshold));
    out[here.group.z * p.out_layer + i] = x[here.group.z * p.a_layer + i] * kept;
}
