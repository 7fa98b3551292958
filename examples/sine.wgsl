// f(x) = sin(ω x), elementwise over [layers, rows, cols4]. One invocation per vec4; ω is p.scale.
//   forward   f(x)               vjp      f'(x) a, of ȳ or of ẋ
//   vjp_jvp   f''(x) ȳ ẋ         second   f''(x) ȳ ẋ²
//@import common/entry.wgsl
//@import common/step.wgsl
//@import common/elementwise.wgsl

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> x_dot: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

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
    out[here.group.z * p.out_layer + i] = slope * a[here.group.z * p.b_layer + i];
}

// f''(x) ȳ ẋ
fn second_order(z: u32, i: u32) -> vec4<f32> {
    let f2 = -p.scale * p.scale * sin(p.scale * x[z * p.a_layer + i]);
    return f2 * a[z * p.b_layer + i] * x_dot[z * p.c_layer + i];
}

@compute @workgroup_size(64)
fn vjp_jvp(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    out[here.group.z * p.out_layer + i] = second_order(here.group.z, i);
}

@compute @workgroup_size(64)
fn second(here: Place) {
    let i = element(here);
    if i >= elements() { return; }
    out[here.group.z * p.out_layer + i] = second_order(here.group.z, i) * x_dot[here.group.z * p.c_layer + i];
}
