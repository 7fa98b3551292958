// out = a + b, elementwise over [layers, rows, cols4].
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/elementwise.wgsl

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    out[here.group.z * p.out_layer + i] = a[here.group.z * p.a_layer + i] + b[here.group.z * p.b_layer + i];
}
