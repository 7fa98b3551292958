// y = sin(ω x), elementwise over [layers, rows, cols4]. One invocation a vec4; ω is p.scale.
//   forward   y = sin(ω x)        vjp   out = ω cos(ω x) ȳ
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/elementwise.wgsl

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> y_bar: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn forward(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    out[here.group.z * p.out_layer + i] = sin(p.scale * x[here.group.z * p.a_layer + i]);
}

@compute @workgroup_size(64)
fn vjp(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    let slope = p.scale * cos(p.scale * x[here.group.z * p.a_layer + i]);
    out[here.group.z * p.out_layer + i] = slope * y_bar[here.group.z * p.b_layer + i];
}
